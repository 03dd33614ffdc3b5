"""Pull requests: discussions that propose the commits at `refs/pr/NUMBER` for a branch.

The ref is made first and the discussion after it, so that a pull request that is seen has its commits, and one that
could not be made leaves nothing but an unused number (and a ref for the garbage collection, when its process died). A
merge moves the branch while it holds the change of status, which nobody sees before: when the process dies between
the two, merging again finds the commits in the branch and sets the status.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Action, Actor, allowed, require
from lmcommons.hub.community import reviews, threads
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Discussion,
    DiscussionEvent,
    DiscussionEventKind,
    DiscussionStatus,
    Repository,
)
from lmcommons.hub.errors import BadRequest, Conflict, HubError, NotFound, PreconditionFailed, RevisionNotFound
from lmcommons.hub.repos.commits import Commits
from lmcommons.hub.repos.git import BRANCHES, PULL_REQUESTS, GitRepository, Operation
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.words import Words

PULL_REQUEST = re.compile(r"refs/pr/([1-9][0-9]{0,8})")
COMMITS_LIMIT = 100  # of one push that are shown as lines


@dataclass(frozen=True)
class Proposal:
    """What a pull request changes: files that its base changed in another way, and git's text of the difference."""

    conflicts: list[str]
    diff: str | None  # None: the reader may not read the contents of files


@dataclass(frozen=True)
class Compared:
    """The commits between which a pull request differs: where it left its base, and its last one."""

    base: str
    head: str

    def commit(self, side: str) -> str:
        """The commit of the side "old" or "new"."""
        return self.base if side == "old" else self.head


class PullRequests:
    """The pull requests of a hub."""

    def __init__(self, database: Database, repositories: Repositories, commits: Commits) -> None:
        self._database = database
        self._repositories = repositories
        self._commits = commits
        commits.listeners.append(self._moved)

    # ------------------------------------------------------------ opening

    def open(self, actor: Actor, repository: Repository, title: str, text: str) -> Discussion:
        """Open a draft at the head of the default branch; its commits follow.

        Raises:
            BadRequest, TooLarge: no title or no text, or one past its limit. Unauthorized, Forbidden: not here.
        """
        base = self._repositories.git(repository).default_branch
        with self._opening(actor, repository, title, text, base) as discussion:
            discussion.status = DiscussionStatus.DRAFT
        return discussion

    def open_from(
        self, actor: Actor, repository: Repository, branch: str, base: str, title: str, text: str
    ) -> Discussion:
        """Open a pull request for the branch `base` with the commits that another branch has by now.

        Raises:
            BadRequest: `branch` has no commits that `base` lacks, or shares none with it. RevisionNotFound: there is no
                such branch. What `open` raises.
        """
        require(actor, Action.READ, repository)
        git = self._repositories.git(repository)
        head = git.branch(branch)
        start = git.merge_base(head, _start(git, base, None))
        if start is None:
            raise BadRequest(
                "{branch} and {base} share no commit: nothing of one can be merged into the other",
                branch=branch,
                base=base,
            )
        if start == head:
            raise BadRequest(
                "{base} has all the commits of {branch}: there is nothing to merge", base=base, branch=branch
            )
        with self._opening(actor, repository, title, text, base, start, head) as discussion:
            pass
        return discussion

    def propose(
        self,
        actor: Actor,
        repository: Repository,
        base: str,
        operations: Sequence[Operation],
        *,
        title: str,
        description: str = "",
        parent: str | None = None,
    ) -> tuple[Discussion, str]:
        """Open a pull request for the branch `base` with one commit on it; returns both.

        Args:
            parent: the commit of `base` to begin at; None is its head.

        Raises:
            RevisionNotFound: there is no branch `base`. What `Commits.commit` raises; then nothing is opened.
        """
        shown = title[: threads.TITLE_LIMIT]
        with self._opening(actor, repository, shown, description or title, base, parent) as discussion:
            message = f"{title}\n\n{description}"
            head = self._commits.write(actor, repository, discussion.ref, operations, message=message)
        return discussion, head

    @contextmanager
    def _opening(
        self,
        actor: Actor,
        repository: Repository,
        title: str,
        text: str,
        base: str,
        parent: str | None = None,
        head: str | None = None,
    ) -> Iterator[Discussion]:
        """A new pull request: its ref is there in the block, and it is seen, and told of, after it."""
        require(actor, Action.DISCUSS, repository)
        require(actor, Action.READ, repository)
        title, text = threads.check_title(title), threads.check_text(text)
        git = self._repositories.git(repository)
        start = _start(git, base, parent)
        present = max((_number(ref.ref) or 0 for ref in git.refs().pull_requests), default=0)
        with self._database.write() as session:
            number = threads.take_number(session, repository, above=present)
        discussion = Discussion(number=number, title=title, status=DiscussionStatus.OPEN, base=base, start=start)
        git.create_ref(discussion.ref, head or start)
        try:
            yield discussion
            head = git.resolve(discussion.ref)
            with self._database.write() as session:
                threads.create(session, actor, repository, discussion, text)
        except BaseException:
            git.delete_ref(discussion.ref)
            raise
        self._commits.moved(actor, repository, discussion.ref, None, head)

    # ------------------------------------------------------------ reading and merging

    def proposal(self, actor: Actor, repository: Repository, discussion: Discussion, *, diff: bool) -> Proposal:
        """What a pull request changes, or changed when it was merged; the contents of files only for their readers."""
        git = self._repositories.git(repository)
        conflicts: list[str] = []
        try:
            if discussion.status in (DiscussionStatus.DRAFT, DiscussionStatus.OPEN):
                conflicts = git.conflicts(discussion.ref, BRANCHES + str(discussion.base))
            text = None
            if diff and allowed(actor, Action.READ, repository):
                compared = self.compared(repository, discussion)
                text = git.diff(compared.base, compared.head)
        except RevisionNotFound:  # the branch it was for was removed
            text = "" if diff else None
        return Proposal(conflicts, text)

    def compared(self, repository: Repository, discussion: Discussion) -> Compared:
        """What a pull request changes, or changed when it was merged.

        Raises:
            BadRequest: it is none. RevisionNotFound: the branch it is for was removed.
        """
        if not discussion.is_pull_request:
            raise BadRequest(
                "{repository}#{number} is a discussion: it changes no files",
                repository=repository.full_name,
                number=discussion.number,
            )
        git = self._repositories.git(repository)
        head, base = discussion.ref, BRANCHES + str(discussion.base)
        if discussion.merge_commit is not None:
            head = discussion.merge_commit
            base = next(iter(git.describe(head).parents), str(discussion.start))
        head, base = git.resolve(head), git.resolve(base)
        return Compared(git.merge_base(base, head) or base, head)

    def distance(self, repository: Repository, discussion: Discussion) -> tuple[int, int]:
        """How many commits a pull request has that its base lacks, and its base that it lacks.

        Raises:
            RevisionNotFound: the branch it is for was removed.
        """
        return self._repositories.git(repository).distance(BRANCHES + str(discussion.base), discussion.ref)

    def merge(
        self,
        actor: Actor,
        repository: Repository,
        number: int,
        text: str | None = None,
        *,
        despite_reviews: bool = False,
    ) -> DiscussionEvent:
        """Merge a pull request into its base; `text` is a comment made with it.

        Args:
            despite_reviews: also when a reviewer asked for changes and did not approve since.

        Raises:
            Conflict: it was merged or closed, is a draft, or a reviewer waits for changes. MergeConflict: files that
                both changed, named.
            NotFound: there is none. RevisionNotFound: its base was removed.
        """
        require(actor, Action.WRITE, repository)
        if text is not None:
            text = threads.check_text(text)
        with self._database.read() as session:
            discussion = threads.find(session, repository, number)
            _check_open(repository, discussion)
            if not despite_reviews:
                reviews.require_answered(session, repository, discussion)
            if text is not None:
                threads.check_room(session, discussion, text)
        git = self._repositories.git(repository)
        base, head = str(discussion.base), git.resolve(discussion.ref)
        if head == discussion.start:
            raise BadRequest(
                "{repository}#{number} has no commits yet: there is nothing to merge",
                repository=repository.full_name,
                number=number,
            )
        recorded: list[tuple[str, DiscussionEvent]] = []

        @contextmanager
        def moving(commit: str) -> Iterator[None]:
            # Whoever closes the pull request meanwhile is first, and the branch stays; or is told that it was merged.
            with self._database.write() as session:
                if not despite_reviews:
                    reviews.require_answered(session, repository, discussion)
                recorded.append((commit, _set_merged(session, actor, repository, number, commit, text)))
                yield

        git.merge(
            discussion.ref,
            base,
            message=f"Merge pull request #{number}: {discussion.title}",
            author_name=actor.name or "",
            author_email=actor.email,
            moving=moving,
        )
        if not recorded:  # the branch had it all: a process died when it had moved it
            with moving(_merge_commit(git, head, base)):
                pass
        commit, event = recorded[0]
        before = next(iter(git.describe(commit).parents), None)
        self._commits.moved(actor, repository, BRANCHES + base, before, commit)
        return event

    # ------------------------------------------------------------ commits to pull requests

    def require_write(self, actor: Actor, repository: Repository, revision: str) -> None:
        """Return when the actor may commit to `revision`: writers to all, others to their own pull requests.

        Raises:
            Conflict: the pull request was merged. Unauthorized, Forbidden: somebody else's, or a branch.
            RevisionNotFound: no such pull request.
        """
        if not revision.startswith(PULL_REQUESTS):
            require(actor, Action.WRITE, repository)
            return
        try:
            with self._database.read() as session:
                discussion = threads.find(session, repository, _number(revision) or 0)
        except NotFound as error:
            raise RevisionNotFound("revision {revision!r}: no such pull request", revision=revision) from error
        own = discussion.author_id is not None and discussion.author_id == actor.account_id
        require(actor, Action.DISCUSS if own else Action.WRITE, repository)
        if discussion.status is DiscussionStatus.MERGED:
            raise Conflict(
                "{repository}#{number} was merged; open another pull request",
                repository=repository.full_name,
                number=discussion.number,
            )

    def may_write(self, actor: Actor, repository: Repository, revision: str) -> bool:
        """Whether `require_write` would return."""
        try:
            self.require_write(actor, repository, revision)
        except HubError:
            return False
        return True

    def remove_unfinished(self, repository: Repository, before: datetime, *, dry_run: bool = False) -> int:
        """Remove the refs of pull requests that were never opened, their process having died; returns how many."""
        git = self._repositories.git(repository)
        with self._database.read() as session:
            chosen = select(Discussion.number).where(Discussion.repository_id == repository.id)
            opened = {f"{PULL_REQUESTS}{number}" for number in session.scalars(chosen)}
        unfinished = [
            ref
            for file in (git.path / PULL_REQUESTS).glob("*")
            if _number(ref := f"{PULL_REQUESTS}{file.name}") is not None
            and ref not in opened
            and file.stat().st_mtime < before.timestamp()
        ]
        for ref in unfinished if not dry_run else ():
            git.delete_ref(ref)
        return len(unfinished)

    def _moved(self, actor: Actor, repository: Repository, ref: str, before: str | None, after: str | None) -> None:
        """Show the commits that came to a pull request as its lines."""
        number = _number(ref)
        if number is None or after is None:
            return
        chosen = select(Discussion).where(Discussion.repository_id == repository.id, Discussion.number == number)
        with self._database.read() as session:
            discussion = session.scalar(chosen)
        if discussion is None:  # whoever opened it died before it was seen
            return
        git = self._repositories.git(repository)
        commits = git.log(before or str(discussion.start), after, limit=COMMITS_LIMIT)
        with self._database.write() as session:
            room = max(0, threads.EVENTS_LIMIT - threads.count_events(session, discussion))
            for commit in reversed(commits[:room]):
                data = {"subject": commit.title, "oid": commit.oid}
                threads.add_event(session, actor, discussion, DiscussionEventKind.COMMIT, data)


def _set_merged(
    session: Session, actor: Actor, repository: Repository, number: int, commit: str, text: str | None
) -> DiscussionEvent:
    discussion = threads.find(session, repository, number)
    _check_open(repository, discussion)
    if text is not None:
        threads.add_comment(session, actor, repository, discussion, text)
    discussion.merge_commit = commit
    return threads.change_status(session, actor, repository, discussion, DiscussionStatus.MERGED)


def _start(git: GitRepository, base: str, parent: str | None) -> str:
    """The commit that a pull request for the branch `base` begins at."""
    try:
        head = git.resolve(BRANCHES + base)
    except RevisionNotFound as error:
        raise RevisionNotFound(
            "revision {base!r}: no such branch; pull requests are made for a branch", base=base
        ) from error
    if parent is None or head.startswith(parent):
        return head
    start = git.resolve(parent)
    if git.merge_base(start, head) != start:
        raise PreconditionFailed("The commit {parent} is not in the history of {base}", parent=parent, base=base)
    return start


def _merge_commit(git: GitRepository, head: str, base: str) -> str:
    """The commit that brought `head` into the branch `base`; `head` itself where the branch was moved to it."""
    return next((commit.oid for commit in git.log(head, base) if head in commit.parents), head)


def _number(ref: str) -> int | None:
    """The number in `refs/pr/NUMBER`; None in any other ref."""
    named = PULL_REQUEST.fullmatch(ref)
    return int(named[1]) if named else None


def _check_open(repository: Repository, discussion: Discussion) -> None:
    name = f"{repository.full_name}#{discussion.number}"
    if not discussion.is_pull_request:
        raise BadRequest("{name} is a discussion, not a pull request: there is nothing to merge", name=name)
    if discussion.status is DiscussionStatus.DRAFT:
        raise Conflict("{name} is a draft; set its status to open, then merge it", name=name)
    if discussion.status is not DiscussionStatus.OPEN:
        raise Conflict("{name} is {status}: it cannot be merged", name=name, status=Words(discussion.status))
