"""LFS locks: files that one account asks the others not to change, because nobody can merge them.

A lock is a word between people: git-lfs keeps the locked files of others read-only and asks before a push; the hub does
not refuse commits for it. Source: https://github.com/git-lfs/git-lfs/blob/main/docs/api/locking.md
"""

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import LfsLock, Repository
from lmcommons.hub.errors import BadRequest, Conflict, NotFound
from lmcommons.hub.repos.operations import path_names

LOCKS_LIMIT = 1_000  # locks on a page


class LockExists(Conflict):
    """Somebody, who may be the same account, holds `lock` on the path."""

    def __init__(self, lock: LfsLock) -> None:
        super().__init__("{path} is locked by {name} already", path=lock.path, name=lock.owner.name)
        self.lock = lock


class Locks:
    """The LFS locks of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lock(self, actor: Actor, repository: Repository, path: str) -> LfsLock:
        """Lock a path for the actor, whether or not there is a file.

        Raises:
            InvalidPath: no file may be called so. LockExists: it is locked. Unauthorized, Forbidden: not here.
        """
        require(actor, Action.WRITE, repository)
        path_names(path)
        try:
            with self._database.write() as session:
                lock = LfsLock(repository_id=repository.id, path=path, owner_id=actor.account_id)
                session.add(lock)
                session.flush()
                session.refresh(lock)
                return lock
        except IntegrityError as error:
            found = self.listing(repository, path=path)[0]
            if not found:
                raise
            raise LockExists(found[0]) from error

    def listing(
        self,
        repository: Repository,
        *,
        path: str | None = None,
        number: int | None = None,
        after: int = 0,
        limit: int = LOCKS_LIMIT,
    ) -> tuple[list[LfsLock], bool]:
        """Locks of a repository with ids past `after`, in that order, and whether there are more."""
        chosen = select(LfsLock).where(LfsLock.repository_id == repository.id, LfsLock.id > after)
        if path is not None:
            chosen = chosen.where(LfsLock.path == path)
        if number is not None:
            chosen = chosen.where(LfsLock.id == number)
        limit = max(1, min(limit, LOCKS_LIMIT))
        with self._database.read() as session:
            found = list(session.scalars(chosen.order_by(LfsLock.id).limit(limit + 1)))
        return found[:limit], len(found) > limit

    def unlock(self, actor: Actor, repository: Repository, number: int, *, force: bool) -> LfsLock:
        """Remove a lock; that of somebody else only with `force`, and by one who manages the repository.

        Raises:
            NotFound: there is none of this id. BadRequest: it is another's. Unauthorized, Forbidden: not here.
        """
        require(actor, Action.WRITE, repository)
        with self._database.write() as session:
            lock = session.get(LfsLock, number)
            if lock is None or lock.repository_id != repository.id:
                raise NotFound("{repository} has no lock {number}", repository=repository.full_name, number=number)
            if lock.owner_id != actor.account_id:
                if not force:
                    raise BadRequest(
                        "{path} is locked by {name}: ask them, or unlock it with --force",
                        path=lock.path,
                        name=lock.owner.name,
                    )
                require(actor, Action.MANAGE, repository)
            session.delete(lock)
        return lock
