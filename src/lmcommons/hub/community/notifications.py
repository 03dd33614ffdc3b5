"""Notifications: each tells one user of one thing that happened and concerns them.

They are written in the transaction of what they tell, and only for those who may see the repository; they are shown,
counted and sent by mail only while that is so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from sqlalchemy import ColumnElement, Select, and_, case, delete, func, or_, select, update
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import ANONYMOUS, Action, Actor, allowed, require, visible
from lmcommons.hub.accounts.tokens import load_actor
from lmcommons.hub.community import mentions
from lmcommons.hub.community.own import own_account
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    AccessRequest,
    AccessStatus,
    Account,
    AccountKind,
    Discussion,
    DiscussionEvent,
    DiscussionStatus,
    MailChoice,
    Membership,
    Notification,
    OrganisationInvitation,
    Reason,
    Repository,
    RepositoryFollow,
    Role,
    TokenRole,
    Watch,
    now,
)
from lmcommons.hub.errors import BadRequest

COUNTED = 100  # unread ones are counted up to this many
MENTIONS_LIMIT = 50  # users whom one text tells
KEPT = timedelta(days=90)  # how long those that were read are kept
MAIL_DELAY = timedelta(minutes=1)  # what is read in this time is not sent

Choice = Literal["default", "watch", "mute"]


@dataclass(frozen=True)
class Thread:
    """What a user was told of one discussion, or of the access to one repository: the last thing, and how many."""

    last: Notification
    first_unread: Notification | None
    unread: int

    @property
    def shown(self) -> Notification:
        """Where reading goes on."""
        return self.first_unread or self.last


class Notifications:
    """The notifications of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------ reading

    def unread(self, actor: Actor) -> int:
        """How many the actor has not read, counted up to `COUNTED`, and invitations that wait for an answer."""
        if actor.account_id is None:
            return 0
        some = _of(actor).where(Notification.read.is_(False)).limit(COUNTED).subquery()
        told = select(func.count()).select_from(some).scalar_subquery()
        invited = select(func.count()).where(OrganisationInvitation.user_id == actor.account_id).scalar_subquery()
        with self._database.read() as session:
            return session.scalar(select(told + invited)) or 0

    def threads(self, actor: Actor, *, unread: bool = False, offset: int = 0, limit: int = 50) -> list[Thread]:
        """What the actor was told, by thread, the latest first; with `unread`, of those where something is unread.

        Raises:
            Unauthorized: nobody is signed in. Forbidden: the token may not.
        """
        new = case((Notification.read.is_(False), Notification.id))
        last = func.max(Notification.id)
        chosen = (
            _of(actor)
            .with_only_columns(last, func.min(new), func.count(new))
            .group_by(Notification.repository_id, Notification.discussion_id)
            .order_by(last.desc())
        )
        if unread:
            chosen = chosen.having(func.count(new) > 0)
        with self._database.read() as session:
            own_account(session, actor, Action.DISCUSS)
            rows = session.execute(chosen.offset(offset).limit(limit)).all()
            wanted = {number for row in rows for number in row[:2] if number is not None}
            found = {each.id: each for each in session.scalars(select(Notification).where(Notification.id.in_(wanted)))}
            return [Thread(found[newest], found.get(first), count) for newest, first, count in rows]

    def mark(self, actor: Actor, notification: int | None = None) -> None:
        """Mark as read the thread that a notification of the actor's is of; all threads, when none is named.

        Raises:
            Unauthorized: nobody is signed in. Forbidden: the token may not.
        """
        with self._database.write() as session:
            account = own_account(session, actor, Action.DISCUSS)
            thread: list[ColumnElement[bool]] = []
            if notification is not None:
                one = session.get(Notification, notification)
                if one is None or one.account_id != account.id:
                    return
                thread = [
                    Notification.repository_id == one.repository_id,
                    Notification.discussion_id.is_not_distinct_from(one.discussion_id),
                ]
            _mark(session, account.id, *thread)

    def saw(self, actor: Actor, discussion: Discussion) -> None:
        """Mark as read what the actor was told of a discussion, having been shown it."""
        mine = (Notification.account_id == actor.account_id, Notification.discussion_id == discussion.id)
        with self._database.read() as session:
            waiting = session.scalar(select(Notification.id).where(*mine, Notification.read.is_(False)).limit(1))
        if waiting is not None and actor.account_id is not None:
            with self._database.write() as session:
                _mark(session, actor.account_id, Notification.discussion_id == discussion.id)

    # ------------------------------------------------------------ choosing

    def choice(self, actor: Actor, discussion: Discussion) -> Choice:
        """Whether the actor watches a discussion, muted it, or is told of it for taking part."""
        with self._database.read() as session:
            found = session.get(Watch, (discussion.id, actor.account_id)) if actor.account_id is not None else None
        return "default" if found is None else "mute" if found.muted else "watch"

    def choose(self, actor: Actor, repository: Repository, discussion: Discussion, choice: str) -> None:
        """Watch a discussion, mute it, or leave it at being told for taking part.

        Raises:
            BadRequest: no such choice. Unauthorized, Forbidden: the actor takes no part here.
        """
        require(actor, Action.DISCUSS, repository)
        if choice not in get_args(Choice):
            raise BadRequest(
                "Unknown choice {choice!r}: one of {choices}", choice=choice[:20], choices=", ".join(get_args(Choice))
            )
        with self._database.write() as session:
            account = own_account(session, actor, Action.DISCUSS)
            found = session.get(Watch, (discussion.id, account.id))
            if found is not None:
                session.delete(found)
                session.flush()
            if choice != "default":
                session.add(Watch(discussion_id=discussion.id, account_id=account.id, muted=choice == "mute"))

    def wants_mail(self, actor: Actor) -> bool:
        """Whether the actor is told by mail too, where the hub sends any."""
        with self._database.read() as session:
            found = session.get(MailChoice, actor.account_id) if actor.account_id is not None else None
            return found is None or found.wanted

    def choose_mail(self, actor: Actor, *, wanted: bool) -> None:
        """Be told by mail too, or not.

        Raises:
            Unauthorized: nobody is signed in. Forbidden: the token may not.
        """
        with self._database.write() as session:
            account = own_account(session, actor, Action.DISCUSS)
            session.merge(MailChoice(account_id=account.id, wanted=wanted))

    def forget(self, before: datetime) -> None:
        """Remove those that were read and are older than a time."""
        with self._database.write() as session:
            session.execute(delete(Notification).where(Notification.created_at < before, Notification.read.is_(True)))


# ---------------------------------------------------------------- inside the transaction of what is told


def tell(
    session: Session,
    actor: Actor,
    repository: Repository,
    discussion: Discussion,
    reason: Reason,
    *,
    event: DiscussionEvent | None = None,
    text: str = "",
) -> None:
    """Tell those whom a line of a discussion concerns, and those whom its text mentions.

    A new discussion concerns those who look after the repository or follow it, unless it is a draft; all else, who took
    part in it or watches it.
    """
    concerned = _participants(session, discussion) | _watching(session, discussion, muted=False)
    if reason is Reason.OPENED and discussion.status is not DiscussionStatus.DRAFT:
        concerned |= keepers(session, repository) | _following(session, repository)
    reasons = dict.fromkeys(concerned - _watching(session, discussion, muted=True), reason)
    reasons |= dict.fromkeys(_mentioned(session, mentions.mentioned(text)), Reason.MENTION)
    add(session, actor, repository, reasons, discussion=discussion, event=event)


def tell_mentioned(
    session: Session, actor: Actor, repository: Repository, discussion: Discussion, event: DiscussionEvent
) -> None:
    """Tell those whom the last version of a comment mentions and the one before did not."""
    before, after = (set(mentions.mentioned(version.text)) for version in event.versions[-2:])
    reasons = dict.fromkeys(_mentioned(session, after - before), Reason.MENTION)
    add(session, actor, repository, reasons, discussion=discussion, event=event)


def tell_of_access(session: Session, actor: Actor, repository: Repository, request: AccessRequest) -> None:
    """Tell those who decide that somebody asks for the files, and who asked of what was decided."""
    if request.status is AccessStatus.PENDING and request.user_id == actor.account_id:
        add(session, actor, repository, dict.fromkeys(keepers(session, repository), Reason.ACCESS_ASKED))
    elif request.status is not AccessStatus.PENDING:
        accepted = request.status is AccessStatus.ACCEPTED
        add(session, actor, repository, {request.user.id: Reason.ACCEPTED if accepted else Reason.REJECTED})


def add(
    session: Session,
    actor: Actor,
    repository: Repository,
    reasons: dict[int, Reason],
    *,
    discussion: Discussion | None = None,
    event: DiscussionEvent | None = None,
) -> None:
    """Tell these accounts, each for its reason, save the actor and those who may not see the repository."""
    when = now()
    wanted = [number for number in reasons if number != actor.account_id]
    users = select(Account).where(Account.id.in_(wanted), Account.kind == AccountKind.USER, Account.disabled.is_(False))
    for user in session.scalars(users).all() if wanted else ():
        if may_see(session, user, repository):
            session.add(
                Notification(
                    account_id=user.id,
                    repository_id=repository.id,
                    discussion_id=discussion.id if discussion is not None else None,
                    event_id=event.id if event is not None else None,
                    actor_id=actor.account_id,
                    reason=reasons[user.id],
                    mail_at=when + MAIL_DELAY if user.email else None,
                    created_at=when,
                )
            )


def may_see(session: Session, user: Account, repository: Repository) -> bool:
    """Whether a user may know of a repository."""
    if allowed(ANONYMOUS, Action.SEE, repository):
        return True
    return allowed(load_actor(session, user, TokenRole.READ, None), Action.SEE, repository)


def keepers(session: Session, repository: Repository) -> set[int]:
    """Who looks after a repository: its owner, or the organisation's members who may write all or made this one."""
    if repository.account.kind is AccountKind.USER:
        return {repository.account_id}
    chosen = select(Membership.user_id).where(
        Membership.organisation_id == repository.account_id,
        or_(
            Membership.role.in_((Role.WRITE, Role.ADMIN)),
            and_(Membership.role == Role.CONTRIBUTOR, Membership.user_id == repository.creator_id),
        ),
    )
    return set(session.scalars(chosen))


def _participants(session: Session, discussion: Discussion) -> set[int]:
    chosen = select(DiscussionEvent.author_id).where(DiscussionEvent.discussion_id == discussion.id).distinct()
    return {number for number in session.scalars(chosen) if number is not None}


def _watching(session: Session, discussion: Discussion, *, muted: bool) -> set[int]:
    chosen = select(Watch.account_id).where(Watch.discussion_id == discussion.id, Watch.muted.is_(muted))
    return set(session.scalars(chosen))


def _following(session: Session, repository: Repository) -> set[int]:
    chosen = select(RepositoryFollow.account_id).where(RepositoryFollow.repository_id == repository.id)
    return set(session.scalars(chosen))


def _mentioned(session: Session, names: Iterable[str]) -> list[int]:
    return [account.id for account in mentions.find(session, list(names)[:MENTIONS_LIMIT])]


def _of(actor: Actor) -> Select[int]:
    """The notifications of the actor, of what the actor may see."""
    return (
        select(Notification.id)
        .join(Repository, Repository.id == Notification.repository_id)
        .outerjoin(Discussion, Discussion.id == Notification.discussion_id)
        .where(Notification.account_id == actor.account_id, visible(actor), Discussion.withheld.is_not(True))
    )


def _mark(session: Session, account_id: int, *conditions: ColumnElement[bool]) -> None:
    chosen = (Notification.account_id == account_id, Notification.read.is_(False), *conditions)
    session.execute(update(Notification).where(*chosen).values(read=True))
