"""Reports: what members say should not be on the hub, and what the hub notices by itself; `moderation.py` decides.

All reports of one thing are one case, until it is closed.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, func, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_account
from lmcommons.hub.accounts.permissions import ANONYMOUS, Action, Actor, require
from lmcommons.hub.community.hiding import SHUT
from lmcommons.hub.community.own import own_account
from lmcommons.hub.community.returning import suspicion
from lmcommons.hub.community.threads import find, find_comment
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    AccountKind,
    CaseStatus,
    Event,
    ModerationCase,
    ModerationReport,
    ReportedKind,
    Repository,
)
from lmcommons.hub.errors import BadRequest, Conflict, TooLarge, TooManyRequests
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.words import Words

TEXT_LIMIT = 4_000  # characters of a reason, a note or an appeal
REPORTS_LIMIT = 50  # of one member, on which nobody has decided yet


@dataclass(frozen=True)
class Target:
    """Something that can be reported: what it is called, and whose it is."""

    kind: ReportedKind
    id: int
    name: str
    author_id: int | None


class Reports:
    """The reports of a hub."""

    def __init__(self, database: Database, repositories: Repositories) -> None:
        self._database = database
        self._repositories = repositories

    def report(
        self,
        actor: Actor,
        repository: Repository,
        reason: str,
        *,
        number: int | None = None,
        comment: int | None = None,
    ) -> ModerationCase:
        """Report a repository; with a `number` a discussion in it, and with the id of a `comment` that one there.

        Raises:
            Unauthorized, Forbidden: nobody is signed in, or the token may not take part. NotFound: no such thing.
            BadRequest, TooLarge: no reason, or too long a one. TooManyRequests: too many reports that wait.
            Conflict: it is hidden already.
        """
        require(actor, Action.SEE, repository)
        with self._database.write() as session:
            own_account(session, actor, Action.DISCUSS)
            return _report(session, actor, _target(session, repository, number, comment), reason)

    def report_account(self, actor: Actor, name: str, reason: str) -> ModerationCase:
        """Report a person or an organisation; raises as `report`."""
        with self._database.write() as session:
            own_account(session, actor, Action.DISCUSS)
            account = find_account(session, name)
            target = Target(ReportedKind.ACCOUNT, account.id, account.name, account.id)
            return _report(session, actor, target, reason)

    def watch(self, actor: Actor, repository: Repository, ref: str, before: str | None, after: str | None) -> None:
        """Report a repository to which files come that are hidden elsewhere: a listener of `Commits`."""
        if after is None or repository.hidden:
            return
        with self._database.read() as session:
            reason = suspicion(session, self._repositories, actor, repository, after)
        if reason is None:
            return
        said = select(ModerationReport.reason).join(ModerationCase).where(ModerationReport.reporter_id.is_(None))
        said = said.where(ModerationCase.kind == ReportedKind.REPOSITORY, ModerationCase.target_id == repository.id)
        with self._database.write() as session:
            if reason not in session.scalars(said).all():
                case = _case(session, _target(session, repository, None, None))
                case.reports.append(ModerationReport(reason=reason))
                record(session, "moderation.reported", ANONYMOUS, case)


def _target(session: Session, repository: Repository, number: int | None, comment: int | None) -> Target:
    if number is None:
        author_id = repository.account_id if repository.account.kind is AccountKind.USER else repository.creator_id
        return Target(ReportedKind.REPOSITORY, repository.id, repository.path, author_id)
    discussion = find(session, repository, number)
    name = f"{repository.path}#{number}"
    if comment is None:
        return Target(ReportedKind.DISCUSSION, discussion.id, name, discussion.author_id)
    event = find_comment(session, discussion, comment)
    return Target(ReportedKind.COMMENT, event.id, name, event.author_id)


def _report(session: Session, actor: Actor, target: Target, reason: str) -> ModerationCase:
    reason = checked(reason, Words("reason"), required=True) or ""
    case = _case(session, target)
    if case.status is not CaseStatus.OPEN:
        raise Conflict("{name} is hidden already", name=target.name)
    waiting = select(func.count()).join_from(ModerationReport, ModerationCase)
    mine = and_(ModerationReport.reporter_id == actor.account_id, ModerationCase.status == CaseStatus.OPEN)
    if (session.scalar(waiting.where(mine)) or 0) >= REPORTS_LIMIT:
        raise TooManyRequests(
            "{limit} reports of yours wait for a decision; wait until some are decided", limit=REPORTS_LIMIT
        )
    if any(report.reporter_id == actor.account_id for report in case.reports):
        raise Conflict("You have reported {name} already; an administrator will look at it", name=target.name)
    case.reports.append(ModerationReport(reporter=session.get(Account, actor.account_id), reason=reason))
    record(session, "moderation.reported", actor, case)
    return case


def _case(session: Session, target: Target) -> ModerationCase:
    """The case about something that is open, or by which it is hidden; a new one when there is none."""
    case: ModerationCase | None = session.scalar(
        latest_about(target.kind, target.id).where(ModerationCase.status.in_((CaseStatus.OPEN, *SHUT)))
    )
    if case is None:
        case = ModerationCase(
            kind=target.kind, target_id=target.id, name=target.name, status=CaseStatus.OPEN, author_id=target.author_id
        )
        session.add(case)
        session.flush()
    return case


def latest_about(kind: ReportedKind, target_id: int) -> Select[Any]:
    """The newest case about something, of those that are asked for."""
    chosen = select(ModerationCase).where(ModerationCase.kind == kind, ModerationCase.target_id == target_id)
    return chosen.order_by(ModerationCase.id.desc()).limit(1)


def checked(text: str, what: str, *, required: bool) -> str | None:
    """A text as it is kept; None for none.

    Raises:
        TooLarge: it is too long. BadRequest: there is none, and it is `required`.
    """
    text = text.strip()
    if len(text) > TEXT_LIMIT:
        raise TooLarge(
            "The {what} has {count:,} characters; at most {limit:,} are allowed",
            what=what,
            count=len(text),
            limit=TEXT_LIMIT,
        )
    if required and not text:
        raise BadRequest("Write a {what}: others need to understand it", what=what)
    return text or None


def record(session: Session, kind: str, actor: Actor, case: ModerationCase) -> None:
    """Note a step of a case in the log of events."""
    told = {"case": case.id, "kind": case.kind, "name": case.name, "status": case.status}
    repository_id = case.target_id if case.kind is ReportedKind.REPOSITORY else None
    session.add(Event(kind=kind, actor=actor.name, repository_id=repository_id, data=told))
