"""Comments on lines of the files that a pull request changes.

Each is a line of the discussion that names its place: a path, a side of the difference, the number of a line, and the
commit in which that is so. Those at one place are a thread. It follows its line when lines before it come and go, and
is outdated when the difference shows that line no more. A renamed file has on the old side the path that it had.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import get_args

from lmcommons.hub.accounts.permissions import Action, Actor, allowed, require
from lmcommons.hub.community import notifications, threads
from lmcommons.hub.community.pull_requests import Compared, PullRequests
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Discussion, DiscussionEvent, DiscussionEventKind, Reason, Repository
from lmcommons.hub.errors import BadRequest, Conflict, HubError, RevisionNotFound
from lmcommons.hub.repos import patches
from lmcommons.hub.repos.git import GitRepository
from lmcommons.hub.repos.patches import Side
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.words import Words

EXCERPT = 4  # lines that end with the one that was commented on
EXCERPT_LIMIT = 1 << 20  # bytes of a file from which they are taken


@dataclass(frozen=True)
class Place:
    """A line of a file, in a commit that is on one side of the difference."""

    path: str
    side: Side
    line: int
    commit: str


@dataclass(frozen=True)
class Thread:
    """What was said of one place; `present` is where the difference shows that line by now, None where it is gone."""

    place: Place
    comments: Sequence[DiscussionEvent]
    present: Place | None

    @property
    def outdated(self) -> bool:
        """Whether the difference no longer shows the line."""
        return self.present is None


class LineComments:
    """The comments on lines of a hub's pull requests."""

    def __init__(self, database: Database, repositories: Repositories, pull_requests: PullRequests) -> None:
        self._database = database
        self._repositories = repositories
        self._pull_requests = pull_requests

    def comment(
        self,
        actor: Actor,
        repository: Repository,
        number: int,
        path: str,
        side: str,
        line: int,
        text: str,
        *,
        commit: str | None = None,
    ) -> DiscussionEvent:
        """Comment on a line that the difference shows.

        Args:
            side: "old" is before the pull request, "new" after it.
            commit: the one of that side in which the line was seen; None is the present one.

        Raises:
            BadRequest: no pull request, or no such line in what it changes. Conflict: the file changed since `commit`.
        """
        require(actor, Action.DISCUSS, repository)
        require(actor, Action.READ, repository)
        if side not in get_args(Side):
            raise BadRequest("Unknown side {side!r}: one of old, new", side=side[:20])
        text = threads.check_text(text)
        with self._database.read() as session:
            discussion = threads.find(session, repository, number)
        compared = self._pull_requests.compared(repository, discussion)
        place = Place(path, "old" if side == "old" else "new", line, compared.commit(side))
        git = self._repositories.git(repository)
        if commit is not None and _content(git, commit, path) != _content(git, place.commit, path):
            raise Conflict(
                "{path} changed in {repository}#{number} since you looked: load the page again",
                path=path,
                repository=repository.full_name,
                number=number,
            )
        if not any(each.number(place.side) == line for each in _lines(git, compared, place)):
            raise BadRequest(
                "{path}: {repository}#{number} shows no line {line} on the {side} side",
                path=path,
                repository=repository.full_name,
                number=number,
                line=line,
                side=Words(side),
            )
        return self._add(actor, repository, number, place, text)

    def reply(self, actor: Actor, repository: Repository, number: int, to: int, text: str) -> DiscussionEvent:
        """Answer a comment on a line, at its place.

        Raises:
            NotFound: no such comment. BadRequest: it is not on a line.
        """
        require(actor, Action.DISCUSS, repository)
        text = threads.check_text(text)
        with self._database.read() as session:
            event = threads.find_comment(session, threads.find(session, repository, number), to)
        if event.kind is not DiscussionEventKind.LINE:
            raise BadRequest("This comment is not on a line of a file: comment on the whole")
        return self._add(actor, repository, number, place_of(event), text)

    def threads(
        self, repository: Repository, discussion: Discussion, events: Iterable[DiscussionEvent]
    ) -> dict[int, Thread]:
        """The threads among the lines of a pull request, each by the id of its first comment."""
        grouped: dict[Place, list[DiscussionEvent]] = {}
        for event in events:
            if event.kind is DiscussionEventKind.LINE:
                grouped.setdefault(place_of(event), []).append(event)
        if not grouped:
            return {}
        present: dict[Place, Place | None] = {}
        with suppress(RevisionNotFound):  # the branch it was for was removed
            compared = self._pull_requests.compared(repository, discussion)
            follower = _Follower(self._repositories.git(repository), compared)
            present = {place: follower.present(place) for place in grouped}
        return {comments[0].id: Thread(place, comments, present.get(place)) for place, comments in grouped.items()}

    def excerpt(self, actor: Actor, repository: Repository, place: Place) -> Sequence[str]:
        """The line at a place and some before it; nothing for who may not read files, or where it is gone."""
        if not allowed(actor, Action.READ, repository):
            return ()
        git = self._repositories.git(repository)
        oid = _content(git, place.commit, place.path)
        if oid is None or git.blob_size(oid) > EXCERPT_LIMIT:
            return ()
        text = git.read(oid).decode(errors="replace").split("\n")
        return text[max(0, place.line - EXCERPT) : place.line]

    def _add(self, actor: Actor, repository: Repository, number: int, place: Place, text: str) -> DiscussionEvent:
        with self._database.write() as session:
            discussion = threads.find(session, repository, number)
            threads.check_room(session, discussion, text)
            data = {"path": place.path, "side": place.side, "line": place.line, "commit": place.commit}
            event = threads.add_event(session, actor, discussion, DiscussionEventKind.LINE, data)
            threads.add_version(session, discussion, event, text)
            threads.record_discussion(session, "commented", actor, repository, discussion, comment=event.id)
            notifications.tell(session, actor, repository, discussion, Reason.REPLY, event=event, text=text)
        return event


def place_of(event: DiscussionEvent) -> Place:
    """Where a comment on a line is."""
    return Place(event.data["path"], event.data["side"], event.data["line"], event.data["commit"])


class _Follower:
    """Finds out where lines are by now."""

    def __init__(self, git: GitRepository, compared: Compared) -> None:
        self._git = git
        self._compared = compared
        self._renames = cache(git.renames)

    def present(self, place: Place) -> Place | None:
        """Where the difference shows the line of a place; None where it shows it no more."""
        git, here = self._git, self._compared.commit(place.side)
        path = place.path
        if _content(git, here, path) is None:
            path = self._renamed(place.commit, here, path)
        then, now = _content(git, place.commit, place.path), _content(git, here, path)
        if then is None or now is None:
            return None
        line = place.line if then == now else patches.follow(patches.lines(git.patch(then, now)), place.line)
        before, after = self._sides(path, place.side)
        if before is not None and after is not None:  # else the whole file is shown
            shown = patches.lines(git.patch(before, after))
            line = line if any(each.number(place.side) == line for each in shown) else None
        return Place(path, place.side, line, here) if line is not None else None

    def _sides(self, path: str, side: Side) -> tuple[str | None, str | None]:
        """The contents before and after of the file that has a path on one side of the difference."""
        base, head = self._compared.base, self._compared.head
        renames = self._renames(base, head)
        if side == "new" and path in renames:
            return _content(self._git, base, renames[path].former), _content(self._git, head, path)
        present = path if side == "new" else self._renamed(base, head, path)
        return _content(self._git, base, path), _content(self._git, head, present)

    def _renamed(self, before: str, after: str, path: str) -> str:
        """The path in the commit `after` of the file that `before` has at a path."""
        renames = self._renames(before, after)
        return next((present for present, rename in renames.items() if rename.former == path), path)


def _lines(git: GitRepository, compared: Compared, place: Place) -> list[patches.Line]:
    changes = git.changes(compared.head, compared.base)
    patch = next((change.patch for change in changes if change.path_on(place.side) == place.path), None)
    return patches.lines(patch or "")


def _content(git: GitRepository, commit: str, path: str) -> str | None:
    """What names the content of a file; None where there is none."""
    try:
        return git.entry(commit, path).oid
    except HubError:
        return None
