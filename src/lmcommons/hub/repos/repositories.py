"""Which repositories exist, what they are called and who may see them."""

import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, literal, select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import check_name, find_account, require_room, stored_in
from lmcommons.hub.accounts.permissions import Action, Actor, allowed, operates, readable, require
from lmcommons.hub.database.events import record
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    FormerName,
    Gate,
    Repository,
    RepositoryObject,
    RepositoryType,
    UtcDateTime,
    now,
)
from lmcommons.hub.errors import (
    Busy,
    Conflict,
    InsufficientStorage,
    Moved,
    RepositoryNotFound,
    Unauthorized,
)
from lmcommons.hub.repos import downloads, index
from lmcommons.hub.repos.git import AddFile, GitRepository
from lmcommons.hub.repos.index import Description
from lmcommons.hub.repos.trees import Listings
from lmcommons.hub.words import Words

LOGGER = logging.getLogger(__name__)


class Repositories:
    """The repositories of a hub."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._directory = directory
        self._listings = Listings()
        self.removing: list[Callable[[Session, Repository], None]] = []  # called before a row goes

    # ------------------------------------------------------------ finding

    def find(self, actor: Actor, type_: RepositoryType, full_name: str, action: Action = Action.READ) -> Repository:
        """The repository called `namespace/name`, on which the actor may do `action`.

        Raises:
            RepositoryNotFound: there is none, or the actor may not know of it.
            Moved: it has another name now.
            Unauthorized, Forbidden: it may be read, but not this.
        """
        with self._database.read() as session:
            repository = _find(session, type_, full_name)
            if repository is None:
                repository = session.scalar(
                    select(Repository)
                    .join(FormerName, FormerName.repository_id == Repository.id)
                    .where(FormerName.type == type_, FormerName.full_name_key == full_name.lower())
                )
                if repository is not None and allowed(actor, Action.SEE, repository):
                    raise Moved(full_name, repository.full_name)
                raise RepositoryNotFound()
        require(actor, action, repository)
        return repository

    def all(self) -> list[Repository]:
        """Every repository, whoever owns it: for checks, never for answers."""
        with self._database.read() as session:
            return list(session.scalars(select(Repository).order_by(Repository.id)))

    def git(self, repository: Repository) -> GitRepository:
        """The repository's git directory; it is named by id, so that a rename moves nothing."""
        return GitRepository(self._git_path(repository.id), self._listings)

    # ------------------------------------------------------------ changing

    def create(
        self,
        actor: Actor,
        type_: RepositoryType,
        namespace: str | None,
        name: str,
        *,
        private: bool | None = None,
        first: Sequence[AddFile] = (),
    ) -> Repository:
        """Make a repository in a namespace, by default the actor's own.

        Args:
            private: None is the organisation's default.
            first: files of its first commit, beside the `.gitattributes` that sends large formats to LFS.

        Raises:
            BadRequest: the name is not allowed. Unauthorized, Forbidden: not here. Conflict: it exists.
        """

        def fill(path: Path, session: Session, made: Repository) -> None:
            GitRepository.create(path).initialise(first, author_name=actor.name or "", author_email=actor.email)
            _record(session, "repository.created", actor, made, private=made.private)

        return self._make(actor, type_, namespace, name, private, fill)

    def duplicate(
        self, actor: Actor, source: Repository, namespace: str | None, name: str, *, private: bool | None = None
    ) -> Repository:
        """Make a repository with the branches, tags and large objects of another, which the actor may read.

        `private` None is what the other one is. Raises as `create`, and Forbidden past the namespace's quota, and
        Conflict when moderators hid the other one.
        """
        require(actor, Action.READ, source)
        _require_shown(actor, source)

        def fill(path: Path, session: Session, made: Repository) -> None:
            require_room(session, made.account, stored_in(session, source.id))
            self.git(source).copy(path)
            objects = select(
                literal(made.id), RepositoryObject.sha256, RepositoryObject.size, literal(now(), UtcDateTime())
            )
            columns = ("repository_id", "sha256", "size", "created_at")
            chosen = objects.where(RepositoryObject.repository_id == source.id, RepositoryObject.withheld.is_(False))
            session.execute(insert(RepositoryObject).from_select(columns, chosen))
            _record(session, "repository.created", actor, made, source=source.full_name, private=made.private)

        return self._make(actor, source.type, namespace, name, source.private if private is None else private, fill)

    def _make(
        self,
        actor: Actor,
        type_: RepositoryType,
        namespace: str | None,
        name: str,
        private: bool | None,
        fill: Callable[[Path, Session, Repository], None],
    ) -> Repository:
        check_name(name, Words("Repository"))
        if actor.is_anonymous:
            raise Unauthorized("You must be signed in to create a repository; send a token with write access")
        try:
            with self._database.write() as session:
                owner = find_account(session, namespace or actor.name or "")
                require(actor, Action.CREATE, owner)
                found = _find(session, type_, f"{owner.name}/{name}")
                if found is not None:
                    raise _exists(found)
                repository = Repository(
                    type=type_,
                    account=owner,
                    creator_id=actor.account_id,
                    name=name,
                    name_key=name.lower(),
                    private=owner.private_by_default if private is None else private,
                )
                _forget_former(session, type_, f"{owner.name}/{name}")
                session.add(repository)
                session.flush()
                path = self._git_path(repository.id)
                shutil.rmtree(path, ignore_errors=True)  # of a process that died here
                fill(path, session, repository)
        except IntegrityError as error:
            raise _exists(repository) from error
        return repository

    def delete(self, actor: Actor, type_: RepositoryType, full_name: str) -> None:
        """Delete a repository and its git directory; objects that others share stay.

        Raises:
            Conflict: moderators hid it.
        """
        repository = self.find(actor, type_, full_name, Action.MANAGE)
        _require_shown(actor, repository)
        with self._database.write() as session:
            row = _present(session, repository.id)
            _record(session, "repository.deleted", actor, row)
            for listener in self.removing:
                listener(session, row)
            session.delete(row)
        shutil.rmtree(self._git_path(repository.id), ignore_errors=True)

    def move(self, actor: Actor, type_: RepositoryType, former: str, current: str) -> Repository:
        """Rename a repository or give it to another namespace; the former name redirects.

        Raises:
            BadRequest: the new name is not allowed. Conflict: it is taken, or moderators hid the repository.
            Forbidden: from here or to there, or there is no room in the quota there.
        """
        namespace, _, name = current.partition("/")
        check_name(name, Words("Repository"))
        found = self.find(actor, type_, former, Action.MANAGE)
        _require_shown(actor, found)
        try:
            with self._database.write() as session:
                owner = find_account(session, namespace)
                require(actor, Action.CREATE, owner)
                repository = _present(session, found.id)
                if owner.id != repository.account_id:
                    require_room(session, owner, stored_in(session, repository.id))
                previous = repository.full_name
                _forget_former(session, type_, current)
                repository.account, repository.name, repository.name_key = owner, name, name.lower()
                index.rename(session, repository)
                session.flush()
                if previous.lower() != current.lower():
                    session.add(FormerName(type=type_, full_name_key=previous.lower(), repository_id=repository.id))
                _record(session, "repository.moved", actor, repository, former=previous)
        except IntegrityError as error:
            raise Conflict(
                "A {type} repository called {current} already exists", type=Words(type_), current=current
            ) from error
        return repository

    def change(
        self,
        actor: Actor,
        type_: RepositoryType,
        full_name: str,
        *,
        private: bool | None = None,
        gated: Gate | None = None,
    ) -> Repository:
        """Hide a repository or show it to everybody, gate its files or open them; None leaves it as it is."""
        found = self.find(actor, type_, full_name, Action.MANAGE)
        with self._database.write() as session:
            repository = _present(session, found.id)
            if private is not None:
                repository.private = private
            if gated is not None:
                repository.gated = gated
            _record(
                session,
                "repository.settings",
                actor,
                repository,
                private=repository.private,
                gated=repository.gated,
            )
        return repository

    def count_download(self, repository: Repository) -> None:
        """One more download; when the database cannot take it, it is not counted, and the file is sent all the same."""
        try:
            with self._database.write() as session:
                downloads.count(session, repository.id)
        except (OperationalError, Busy, InsufficientStorage) as error:
            LOGGER.warning("%s: a download was not counted: %s", repository.path, error)

    def describe(self, repository: Repository, commit: str, description: Description) -> Repository:
        """Put what `commit`, now the head of main, says about the repository into the index."""
        with self._database.write() as session:
            row = _present(session, repository.id)
            index.write(session, row, commit, description)
        return row

    def record(self, kind: str, actor: Actor, repository: Repository, **data: Any) -> None:
        """Append an event."""
        with self._database.write() as session:
            _record(session, kind, actor, repository, **data)

    def require_room(self, repository: Repository, extra: int) -> None:
        """Return when `extra` more bytes may be stored in the repository's namespace.

        Raises:
            Forbidden: they are past its quota.
        """
        with self._database.read() as session:
            require_room(session, session.get_one(Account, repository.account_id), extra)

    # ------------------------------------------------------------ large objects

    def objects_of(self, repository: Repository) -> list[str]:
        """The sha256 of every object linked to a repository."""
        chosen = select(RepositoryObject.sha256).where(RepositoryObject.repository_id == repository.id)
        with self._database.read() as session:
            return list(session.scalars(chosen))

    def link_objects(self, repository_id: int, objects: dict[str, int]) -> None:
        """Note that these objects (sha256: bytes) were uploaded to the repository, at this time.

        Raises:
            RepositoryNotFound: it was deleted meanwhile.
        """
        if not objects:
            return
        rows = [
            {"repository_id": repository_id, "sha256": sha256, "size": size, "created_at": now()}
            for sha256, size in objects.items()
        ]
        with self._database.write() as session:
            _present(session, repository_id)
            _unlink(session, repository_id, objects)
            session.execute(insert(RepositoryObject), rows)

    def unlink_objects(self, repository_id: int, sha256s: Iterable[str], before: datetime | None = None) -> int:
        """Take objects from a repository, or those of them that were linked before a time; returns how many."""
        with self._database.write() as session:
            return _unlink(session, repository_id, sha256s, before)

    def linked_objects(self, repository_id: int, sha256s: Collection[str]) -> dict[str, int]:
        """Those of the objects that were uploaded to the repository and are not withheld, and their bytes."""
        return self._objects_where(sha256s, RepositoryObject.repository_id == repository_id)

    def known_objects(self, actor: Actor, sha256s: Collection[str]) -> dict[str, int]:
        """Those of the objects that are in any repository that the actor may read, and their bytes."""
        return self._objects_where(sha256s, readable(actor))

    def _objects_where(self, sha256s: Collection[str], condition: ColumnElement[bool]) -> dict[str, int]:
        found: dict[str, int] = {}
        with self._database.read() as session:
            for some in _batches(sha256s):
                chosen = select(RepositoryObject.sha256, RepositoryObject.size).join(Repository)
                there = RepositoryObject.sha256.in_(some) & RepositoryObject.withheld.is_(False)
                rows = session.execute(chosen.where(there, condition))
                found.update((sha256, size) for sha256, size in rows)
        return found

    def _git_path(self, repository_id: int) -> Path:
        return self._directory / f"{repository_id % 256:02x}" / f"{repository_id}.git"


def _find(session: Session, type_: RepositoryType, full_name: str) -> Repository | None:
    namespace, _, name = full_name.partition("/")
    return session.scalar(
        select(Repository)
        .join(Account, Account.id == Repository.account_id)
        .where(Repository.type == type_, Account.name_key == namespace.lower(), Repository.name_key == name.lower())
    )


def _unlink(session: Session, repository_id: int, sha256s: Iterable[str], before: datetime | None = None) -> int:
    count = 0
    for some in _batches(sha256s):
        chosen = delete(RepositoryObject).where(
            RepositoryObject.repository_id == repository_id, RepositoryObject.sha256.in_(some)
        )
        if before is not None:
            chosen = chosen.where(RepositoryObject.created_at < before)
        count += len(session.execute(chosen.returning(RepositoryObject.sha256)).all())
    return count


def _batches(values: Iterable[str]) -> Iterator[list[str]]:
    """As many values as one question to the database may hold, each time."""
    ordered = sorted(values)
    for start in range(0, len(ordered), 500):
        yield ordered[start : start + 500]


def _present(session: Session, repository_id: int) -> Repository:
    """A repository that was found before, and may have been deleted since."""
    repository = session.get(Repository, repository_id)
    if repository is None:
        raise RepositoryNotFound
    return repository


def _require_shown(actor: Actor, repository: Repository) -> None:
    """Return when a repository is not hidden by moderators, or the actor is one."""
    if repository.hidden and not operates(actor):
        raise Conflict(
            "{repository} was hidden by moderators: until it is shown again, its name and its content stay where they "
            "are; if they should be shown or deleted, say so in an appeal",
            repository=repository.full_name,
        )


def _exists(repository: Repository) -> Conflict:
    return Conflict(
        "You already created this {type} repo: {repository}",
        type=Words(repository.type),
        repository=repository.full_name,
        fields={"path": repository.path},
    )


def _forget_former(session: Session, type_: RepositoryType, full_name: str) -> None:
    former = session.get(FormerName, (type_, full_name.lower()))
    if former is not None:
        session.delete(former)


def _record(session: Session, kind: str, actor: Actor, repository: Repository, **data: Any) -> None:
    record(session, kind, actor.name, repository, **data)
