"""Moderation: of what was reported (`reports.py`) administrators decide, authors appeal, and another one decides that.

What is hidden stays whole and can be shown again: a repository is there for those alone who manage it
(`permissions.allowed`), a discussion is not found, a comment has no text that anybody reads, a person cannot sign in;
`hiding.py` says what goes with them. Every step is in the log of events.
"""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import ANONYMOUS, Action, Actor, allowed, operates
from lmcommons.hub.community import notifications
from lmcommons.hub.community.hiding import SHUT, Hiding
from lmcommons.hub.community.own import own_account
from lmcommons.hub.community.reports import checked, latest_about, record
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    CaseStatus,
    CommentVersion,
    Discussion,
    DiscussionEvent,
    ModerationCase,
    Reason,
    ReportedKind,
    Repository,
    now,
)
from lmcommons.hub.errors import Conflict, Forbidden, NotFound
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.words import Words

WAITING = (CaseStatus.OPEN, CaseStatus.APPEALED)  # for an administrator


class Moderation:
    """The cases of a hub and the decisions on them."""

    def __init__(self, database: Database, repositories: Repositories) -> None:
        self._database = database
        self._repositories = repositories
        self._hiding = Hiding(database, repositories)

    # ------------------------------------------------------------ looking

    def queue(
        self, actor: Actor, status: CaseStatus | None = None, *, offset: int = 0, limit: int = 30
    ) -> tuple[Sequence[ModerationCase], int]:
        """The cases that wait for an administrator, or all that stand so, the oldest first; and how many there are.

        Raises:
            Forbidden: the actor is no administrator.
        """
        _require_operator(actor)
        chosen = ModerationCase.status.in_(WAITING if status is None else (status,))
        with self._database.read() as session:
            total = session.scalar(select(func.count()).select_from(ModerationCase).where(chosen)) or 0
            rows = select(ModerationCase).where(chosen).order_by(ModerationCase.id)
            return session.scalars(rows.offset(offset).limit(limit)).all(), total

    def waiting(self, actor: Actor) -> int:
        """How many cases wait for an administrator; 0 for others."""
        if not operates(actor):
            return 0
        with self._database.read() as session:
            return session.scalar(select(func.count()).where(ModerationCase.status.in_(WAITING))) or 0

    def find(self, actor: Actor, case_id: int) -> ModerationCase:
        """A case, for administrators; for those who answer for what was hidden, from the decision on.

        Raises:
            NotFound: there is none, or it is nothing of the actor's.
        """
        with self._database.read() as session:
            found = _find(session, case_id)
            decided = found.decided_at is not None and found.status is not CaseStatus.DISMISSED
            if not operates(actor) and not (decided and _answers_for(session, actor, found)):
                raise NotFound("There is no case {case_id}", case_id=case_id)
            return found

    def about(self, actor: Actor) -> Sequence[ModerationCase]:
        """What was decided about the actor's own repositories, discussions and comments, the latest first."""
        chosen = select(ModerationCase).where(
            ModerationCase.author_id == actor.account_id,
            ModerationCase.kind != ReportedKind.ACCOUNT,
            ModerationCase.status.in_((*SHUT, CaseStatus.RESTORED)),
        )
        with self._database.read() as session:
            return session.scalars(chosen.order_by(ModerationCase.id.desc())).all()

    def hiding(self, repository: Repository) -> ModerationCase | None:
        """The case that a hidden repository is hidden by."""
        with self._database.read() as session:
            found: ModerationCase | None = session.scalar(
                latest_about(ReportedKind.REPOSITORY, repository.id).where(ModerationCase.status.in_(SHUT))
            )
            return found

    def deciders(self, case: ModerationCase) -> int:
        """How many administrators could decide an appeal: neither who decided first nor the author."""
        with self._database.read() as session:
            ids = session.scalars(select(Account.id).where(Account.is_admin, Account.disabled.is_(False)))
            return sum(id_ not in (case.decided_by_id, case.author_id) for id_ in ids)

    def text(self, actor: Actor, case: ModerationCase) -> str | None:
        """What was reported: the title of a discussion, or the present text of a comment, hidden or not.

        Raises:
            Forbidden: the actor is no administrator.
        """
        _require_operator(actor)
        with self._database.read() as session:
            if case.kind is ReportedKind.DISCUSSION:
                return session.scalar(select(Discussion.title).where(Discussion.id == case.target_id))
            if case.kind is ReportedKind.COMMENT:
                versions = select(CommentVersion.text).where(CommentVersion.event_id == case.target_id)
                return session.scalar(versions.order_by(CommentVersion.id.desc()).limit(1))
        return None

    def proposed(self, actor: Actor, case: ModerationCase) -> str | None:
        """The changes that a hidden pull request proposes, as git's text; None for anything else.

        Raises:
            Forbidden: the actor is no administrator.
        """
        _require_operator(actor)
        return self._hiding.proposed(case)

    # ------------------------------------------------------------ deciding

    def decide(self, actor: Actor, case_id: int, *, hide: bool, note: str) -> ModerationCase:
        """Hide what was reported, or leave it; the author reads the note.

        Raises:
            Forbidden: the actor is no administrator, or the author. Conflict: it was decided before, or is gone.
            BadRequest: an organisation was reported, whose repositories are hidden one by one; or no note.
        """
        with self._hiding.deciding(case_id) as (session, show):
            case = _of_others(session, actor, case_id)
            if case.status is not CaseStatus.OPEN:
                raise Conflict(
                    "Case {case} was decided before: it is {status}", case=case.id, status=Words(case.status)
                )
            if hide:
                show(case, False)
            case.status = CaseStatus.HIDDEN if hide else CaseStatus.DISMISSED
            case.decided_by, case.decided_at = session.get(Account, actor.account_id), now()
            case.note = checked(note, Words("note"), required=hide)
            record(session, "moderation.decided", actor, case)
            if hide:
                _tell(session, case)
        return case

    def restore(self, actor: Actor, case_id: int, *, note: str) -> ModerationCase:
        """Show again what was hidden.

        Raises:
            Forbidden: the actor is no administrator, or the author.
            Conflict: it is not hidden, or an appeal waits, which decides it.
        """
        with self._hiding.deciding(case_id) as (session, show):
            case = _of_others(session, actor, case_id)
            if case.status not in (CaseStatus.HIDDEN, CaseStatus.UPHELD):
                raise Conflict(
                    "Case {case} is {status}; only what is hidden can be restored",
                    case=case.id,
                    status=Words(case.status),
                )
            show(case, True)
            case.status = CaseStatus.RESTORED
            case.note = checked(note, Words("note"), required=False) or case.note
            record(session, "moderation.restored", actor, case)
            _tell(session, case)
        return case

    def appeal(self, actor: Actor, case_id: int, text: str) -> ModerationCase:
        """Ask once that another administrator looks at it again.

        Raises:
            NotFound: no such case about something of the actor's. Conflict: it is not hidden, or was appealed before.
            BadRequest, TooLarge: no text, or too long a one.
        """
        with self._database.write() as session:
            own_account(session, actor, Action.DISCUSS)
            case = _find(session, case_id)
            if not _answers_for(session, actor, case):
                raise NotFound("There is no case {case_id}", case_id=case_id)
            if case.status is not CaseStatus.HIDDEN or case.appeal is not None:
                raise Conflict(
                    "Case {case} is {status}; what is hidden can be appealed once",
                    case=case.id,
                    status=Words(case.status),
                )
            case.appeal, case.appealed_at = checked(text, Words("appeal"), required=True), now()
            case.status = CaseStatus.APPEALED
            record(session, "moderation.appealed", actor, case)
        return case

    def decide_appeal(self, actor: Actor, case_id: int, *, restore: bool, note: str) -> ModerationCase:
        """Show again what was hidden, or keep it hidden for good.

        Raises:
            Forbidden: the actor is no administrator, the author, or decided first. Conflict: no appeal waits.
            BadRequest: no note.
        """
        with self._hiding.deciding(case_id) as (session, show):
            case = _of_others(session, actor, case_id)
            if case.status is not CaseStatus.APPEALED:
                raise Conflict("Case {case} is {status}; no appeal waits", case=case.id, status=Words(case.status))
            if case.decided_by_id == actor.account_id:
                raise Forbidden("An appeal is decided by another administrator than the one who decided first")
            if restore:
                show(case, True)
            case.status = CaseStatus.RESTORED if restore else CaseStatus.UPHELD
            case.appeal_decided_by, case.appeal_decided_at = session.get(Account, actor.account_id), now()
            case.appeal_note = checked(note, Words("note"), required=True)
            record(session, "moderation.appeal_decided", actor, case)
            _tell(session, case)
        return case


def _find(session: Session, case_id: int) -> ModerationCase:
    found = session.get(ModerationCase, case_id)
    if found is None:
        raise NotFound("There is no case {case_id}", case_id=case_id)
    return found


def _of_others(session: Session, actor: Actor, case_id: int) -> ModerationCase:
    """A case that the actor may decide on."""
    _require_operator(actor)
    found = _find(session, case_id)
    if found.author_id == actor.account_id:
        raise Forbidden("Nobody decides about what is their own; another administrator does")
    return found


def _require_operator(actor: Actor) -> None:
    if not operates(actor):
        raise Forbidden("Reports are for administrators of the hub")


def _answers_for(session: Session, actor: Actor, case: ModerationCase) -> bool:
    if case.kind is ReportedKind.REPOSITORY:
        repository = session.get(Repository, case.target_id)
        return repository is not None and allowed(actor, Action.MANAGE, repository)
    return actor.account_id is not None and case.author_id == actor.account_id


def _tell(session: Session, case: ModerationCase) -> None:
    """Tell the author of a decision; who shut somebody out cannot tell them here."""
    repository_id: int | None = None
    if case.kind is ReportedKind.REPOSITORY:
        repository_id = case.target_id
    elif case.kind is not ReportedKind.ACCOUNT:
        discussions = select(Discussion.repository_id)
        if case.kind is ReportedKind.DISCUSSION:
            discussions = discussions.where(Discussion.id == case.target_id)
        else:
            discussions = discussions.join(DiscussionEvent).where(DiscussionEvent.id == case.target_id)
        repository_id = session.scalar(discussions)
    repository = session.get(Repository, repository_id) if repository_id is not None else None
    if repository is not None and case.author_id is not None:
        session.flush()
        notifications.add(session, ANONYMOUS, repository, {case.author_id: Reason.MODERATED})
