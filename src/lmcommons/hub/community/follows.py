"""Who follows what: users follow users, organisations and repositories.

Who follows a repository is told of what is opened in it (`notifications.py`).
"""

from sqlalchemy import func, select

from lmcommons.hub.accounts.accounts import find_account
from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.community.own import own_account
from lmcommons.hub.database.events import record
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, AccountKind, Event, Follow, Repository, RepositoryFollow
from lmcommons.hub.errors import BadRequest, RepositoryNotFound


class Follows:
    """The follows of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def follow(self, actor: Actor, name: str, kind: AccountKind) -> None:
        """Follow an account; again changes nothing.

        Raises:
            BadRequest: it is the actor's own. NotFound: no such account. Unauthorized, Forbidden: not with this token.
        """
        with self._database.write() as session:
            follower, followed = own_account(session, actor, Action.DISCUSS), find_account(session, name, kind)
            if follower.id == followed.id:
                raise BadRequest("Nobody follows their own account")
            if session.get(Follow, (follower.id, followed.id)) is None:
                session.add(Follow(follower_id=follower.id, followed_id=followed.id))
                session.add(Event(kind="account.followed", actor=actor.name, data={"name": followed.name}))

    def unfollow(self, actor: Actor, name: str, kind: AccountKind) -> None:
        """Follow an account no more; where it was not followed, nothing changes."""
        with self._database.write() as session:
            follower, followed = own_account(session, actor, Action.DISCUSS), find_account(session, name, kind)
            found = session.get(Follow, (follower.id, followed.id))
            if found is not None:
                session.delete(found)
                session.add(Event(kind="account.unfollowed", actor=actor.name, data={"name": followed.name}))

    def followers(self, name: str, kind: AccountKind, *, offset: int = 0, limit: int = 100) -> list[Account]:
        """Who follows an account, the last to begin first."""
        with self._database.read() as session:
            account = find_account(session, name, kind)
            chosen = select(Account).join(Follow, Follow.follower_id == Account.id)
            chosen = chosen.where(Follow.followed_id == account.id).order_by(Follow.created_at.desc(), Account.id)
            return list(session.scalars(chosen.offset(offset).limit(limit)))

    def following(self, name: str, *, offset: int = 0, limit: int = 100) -> list[Account]:
        """The users that a user follows, the last first."""
        with self._database.read() as session:
            account = find_account(session, name, AccountKind.USER)
            chosen = select(Account).join(Follow, Follow.followed_id == Account.id)
            chosen = chosen.where(Follow.follower_id == account.id, Account.kind == AccountKind.USER)
            chosen = chosen.order_by(Follow.created_at.desc(), Account.id)
            return list(session.scalars(chosen.offset(offset).limit(limit)))

    def numbers(self, account: Account) -> tuple[int, int]:
        """How many follow an account, and how many it follows."""
        with self._database.read() as session:
            followers, following = (
                session.scalar(select(func.count()).select_from(Follow).where(side == account.id)) or 0
                for side in (Follow.followed_id, Follow.follower_id)
            )
            return followers, following

    def is_following(self, actor: Actor, account: Account) -> bool:
        """Whether the actor follows an account."""
        with self._database.read() as session:
            return actor.account_id is not None and session.get(Follow, (actor.account_id, account.id)) is not None

    # ------------------------------------------------------------ repositories

    def follow_repository(self, actor: Actor, repository: Repository) -> None:
        """Follow a repository; again changes nothing.

        Raises:
            RepositoryNotFound: it was deleted meanwhile. Unauthorized, Forbidden: not with this token.
        """
        require(actor, Action.DISCUSS, repository)
        with self._database.write() as session:
            if session.get(Repository, repository.id) is None:
                raise RepositoryNotFound
            if session.get(RepositoryFollow, (repository.id, actor.account_id)) is None:
                session.add(RepositoryFollow(repository_id=repository.id, account_id=actor.account_id))
                record(session, "repository.followed", actor.name, repository)

    def unfollow_repository(self, actor: Actor, repository: Repository) -> None:
        """Follow a repository no more; where it was not followed, nothing changes."""
        require(actor, Action.DISCUSS, repository)
        with self._database.write() as session:
            found = session.get(RepositoryFollow, (repository.id, actor.account_id))
            if found is not None:
                session.delete(found)
                record(session, "repository.unfollowed", actor.name, repository)

    def repository_followers(self, repository: Repository, *, offset: int = 0, limit: int = 100) -> list[Account]:
        """Who follows a repository, the last to begin first."""
        chosen = (
            select(Account)
            .join(RepositoryFollow, RepositoryFollow.account_id == Account.id)
            .where(RepositoryFollow.repository_id == repository.id)
            .order_by(RepositoryFollow.created_at.desc(), Account.id)
        )
        with self._database.read() as session:
            return list(session.scalars(chosen.offset(offset).limit(limit)))

    def of_repository(self, actor: Actor, repository: Repository) -> tuple[int, bool]:
        """How many follow a repository, and whether the actor does."""
        following = select(RepositoryFollow.account_id).where(RepositoryFollow.repository_id == repository.id)
        with self._database.read() as session:
            number = session.scalar(select(func.count()).select_from(following.subquery())) or 0
            own = following.where(RepositoryFollow.account_id == actor.account_id)
            return number, number > 0 and session.scalar(own) is not None
