"""What it means that moderators hid something: nobody is given it, nor what is in nothing else that can be seen.

A row of the repository, discussion, comment or account is marked. The commits of a pull request go where readers name
nothing (`repos/hidden.py`), and the large files that only they have, and attachments that only hidden texts have, are
marked too. To show it again takes all of that back. Moving commits is repeated without harm: when a process dies
after it and before the decision is stored, deciding again completes both.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from lmcommons.hub.community.attachments import settle_attachments, texts_with_attachments
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    AccountKind,
    CaseStatus,
    CommentVersion,
    Discussion,
    DiscussionEvent,
    DiscussionEventKind,
    ModerationCase,
    ReportedKind,
    Repository,
    RepositoryObject,
)
from lmcommons.hub.errors import BadRequest, Conflict
from lmcommons.hub.repos import hidden
from lmcommons.hub.repos.git import GitRepository, RefChange
from lmcommons.hub.repos.repositories import Repositories

SHUT = (CaseStatus.HIDDEN, CaseStatus.APPEALED, CaseStatus.UPHELD)  # cases by which something is hidden
BATCH = 500  # values in one question to the database

Show = Callable[[ModerationCase, bool], None]  # hides what a case is about, or shows it
Move = Callable[[Sequence[RefChange]], None]


class Hiding:
    """Hides what is on a hub, and shows it again."""

    def __init__(self, database: Database, repositories: Repositories) -> None:
        self._database = database
        self._repositories = repositories

    @contextmanager
    def deciding(self, case_id: int) -> Iterator[tuple[Session, Show]]:
        """The transaction of a decision, and what hides in it what the case is about, or shows it.

        What it yields raises Conflict when that is gone, and BadRequest for an organisation.
        """
        with ExitStack() as held:
            git, move = None, None
            if (repository_id := self._changed_by(case_id)) is not None:
                # Before the database's turn, as whoever merges takes them.
                git = self._repositories.git(Repository(id=repository_id))
                move = held.enter_context(git.moving_refs())
            session = held.enter_context(self._database.write())
            yield session, partial(_show, session, git, move)

    def proposed(self, case: ModerationCase) -> str | None:
        """What a hidden pull request proposes, as git's text; None for what is none, or is not hidden."""
        with self._database.read() as session:
            discussion = session.get(Discussion, case.target_id) if case.kind is ReportedKind.DISCUSSION else None
        if discussion is None or discussion.start is None:
            return None
        git = self._repositories.git(Repository(id=discussion.repository_id))
        return hidden.proposed(git.path, discussion.number, discussion.start)

    def _changed_by(self, case_id: int) -> int | None:
        """The repository of the pull request that a case is about."""
        chosen = select(Discussion.repository_id).join(ModerationCase, ModerationCase.target_id == Discussion.id)
        chosen = chosen.where(ModerationCase.id == case_id, ModerationCase.kind == ReportedKind.DISCUSSION)
        with self._database.read() as session:
            return session.scalar(chosen.where(Discussion.base.is_not(None)))


def _show(session: Session, git: GitRepository | None, move: Move | None, case: ModerationCase, shown: bool) -> None:
    _mark(session, case, shown)
    session.flush()
    if git is not None and move is not None:
        _move_commits(session, git, move, case.target_id, shown)
    within = {
        ReportedKind.REPOSITORY: Discussion.repository_id,
        ReportedKind.DISCUSSION: Discussion.id,
        ReportedKind.COMMENT: DiscussionEvent.id,
    }
    if case.kind in within:
        settle_attachments(session, texts_with_attachments(session, within[case.kind] == case.target_id))


def _mark(session: Session, case: ModerationCase, shown: bool) -> None:
    if case.kind is ReportedKind.COMMENT:
        of_comment = CommentVersion.event_id == case.target_id
        session.execute(update(CommentVersion).where(of_comment).values(withheld=not shown))
        return
    tables = {
        ReportedKind.REPOSITORY: Repository,
        ReportedKind.DISCUSSION: Discussion,
        ReportedKind.ACCOUNT: Account,
    }
    found = session.get(tables[case.kind], case.target_id)
    if isinstance(found, Repository):
        found.hidden = not shown
    elif isinstance(found, Discussion):
        found.withheld = not shown
    elif isinstance(found, Account) and found.kind is AccountKind.USER:
        found.disabled = not shown
    elif isinstance(found, Account) and found.kind is AccountKind.ORGANISATION:
        raise BadRequest(
            "{name} is an organisation: hide its repositories one by one, or disable its members", name=found.name
        )
    else:
        raise Conflict("{name} is gone", name=case.name)


def _move_commits(session: Session, git: GitRepository, move: Move, discussion_id: int, shown: bool) -> None:
    """Move the refs of a pull request, and mark the large files of its repository that only hidden ones have."""
    discussion = session.get_one(Discussion, discussion_id)
    if shown:
        move(hidden.showing(git.path, discussion.number))
    else:
        came = select(DiscussionEvent).where(
            DiscussionEvent.discussion_id == discussion.id, DiscussionEvent.kind == DiscussionEventKind.COMMIT
        )
        former = [str(event.data["oid"]) for event in session.scalars(came.order_by(DiscussionEvent.id.desc()))]
        move(hidden.hiding(git.path, discussion.number, former))
    files = RepositoryObject.repository_id == discussion.repository_id
    session.execute(update(RepositoryObject).where(files).values(withheld=False))
    only_hidden = sorted(hidden.withheld_objects(git.path))
    for start in range(0, len(only_hidden), BATCH):
        these = RepositoryObject.sha256.in_(only_hidden[start : start + BATCH])
        session.execute(update(RepositoryObject).where(files, these).values(withheld=True))
