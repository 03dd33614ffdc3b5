"""Likes of repositories. `Repository.likes` is their number, set in the transaction that changes it."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_user
from lmcommons.hub.accounts.permissions import Action, Actor, require, visible
from lmcommons.hub.database.events import record
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, Like, Repository, now
from lmcommons.hub.errors import RepositoryNotFound
from lmcommons.hub.repos import downloads


class Likes:
    """The likes of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def like(self, actor: Actor, repository: Repository) -> None:
        """Like a repository; again changes nothing."""
        require(actor, Action.DISCUSS, repository)
        with self._database.write() as session:
            row = _present(session, repository)
            if session.get(Like, (row.id, actor.account_id)) is None:
                when = now()
                session.add(Like(repository_id=row.id, account_id=actor.account_id, created_at=when))
                row.trending = downloads.added(row.trending, downloads.LIKE, when)
                _count(session, row)
                record(session, "repository.liked", actor.name, row)

    def unlike(self, actor: Actor, repository: Repository) -> None:
        """Take a like back; where there is none, nothing changes."""
        require(actor, Action.DISCUSS, repository)
        with self._database.write() as session:
            row = _present(session, repository)
            like = session.get(Like, (row.id, actor.account_id))
            if like is not None:
                session.delete(like)
                row.trending = downloads.added(row.trending, -downloads.LIKE, like.created_at)
                _count(session, row)
                record(session, "repository.unliked", actor.name, row)

    def likes(self, actor: Actor, repository: Repository) -> bool:
        """Whether the actor likes a repository."""
        if actor.account_id is None:
            return False
        found = select(Like.created_at).where(Like.repository_id == repository.id, Like.account_id == actor.account_id)
        with self._database.read() as session:
            return session.scalar(found) is not None

    def likers(self, repository: Repository, *, offset: int = 0, limit: int = 100) -> list[Account]:
        """Who likes a repository, the first to do so first."""
        chosen = (
            select(Account)
            .join(Like, Like.account_id == Account.id)
            .where(Like.repository_id == repository.id)
            .order_by(Like.created_at, Like.account_id)
        )
        with self._database.read() as session:
            return list(session.scalars(chosen.offset(offset).limit(limit)))

    def of_user(self, actor: Actor, user: str, *, offset: int = 0, limit: int = 100) -> list[Like]:
        """What a user likes, of the repositories that the actor may see, the last first.

        Raises:
            NotFound: no such user.
        """
        with self._database.read() as session:
            account = find_user(session, user)
            chosen = (
                select(Like)
                .join(Repository, Repository.id == Like.repository_id)
                .where(Like.account_id == account.id, visible(actor))
                .order_by(Like.created_at.desc(), Like.repository_id)
            )
            return list(session.scalars(chosen.offset(offset).limit(limit)))

    def number(self, actor: Actor, account: Account) -> int:
        """How many repositories an account likes, of those that the actor may see."""
        liked = select(func.count()).join_from(Like, Repository).where(Like.account_id == account.id, visible(actor))
        with self._database.read() as session:
            return session.scalar(liked) or 0


def _present(session: Session, repository: Repository) -> Repository:
    row = session.get(Repository, repository.id)
    if row is None:
        raise RepositoryNotFound
    return row


def _count(session: Session, row: Repository) -> None:
    session.flush()
    row.likes = session.scalar(select(func.count()).where(Like.repository_id == row.id)) or 0
