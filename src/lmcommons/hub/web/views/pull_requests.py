"""What only pull requests have: commits, changes with comments on their lines, reviews, merging."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.permissions import Action, allowed
from lmcommons.hub.community.line_comments import Thread
from lmcommons.hub.community.pull_requests import Compared
from lmcommons.hub.database.tables import DiscussionStatus, Repository, RepositoryType
from lmcommons.hub.errors import HubError, RevisionNotFound
from lmcommons.hub.repos import patches
from lmcommons.hub.repos.git import Change, GitRepository
from lmcommons.hub.repos.patches import Side
from lmcommons.hub.web.comments import ATTACHED, Draft, Said, Speech, attaching, discussion_address, refused, take
from lmcommons.hub.web.lookup import neighbours, page_number, repository_of
from lmcommons.hub.web.rendering import page, wants_part
from lmcommons.hub.web.uploads import Files, long_form_handler
from lmcommons.hub.web.views.changes import counts
from lmcommons.hub.web.views.discussions import FORM_LIMIT, Place, line_threads, place_of, show
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

COMMITS = 500  # that are listed
PAGE_LINES, PAGE_FILES = 1_500, 50  # of the changes on one page


@dataclass(frozen=True)
class Writing:
    """A comment on a line that is being written."""

    path: str
    side: Side
    line: int
    draft: Draft


@dataclass(frozen=True)
class Row:
    """A line of the difference with what was said of it; `writing` where a comment is being written below it."""

    line: patches.Line
    said: Sequence[Said] = ()
    writing: Writing | None = None


@dataclass(frozen=True)
class Changed:
    """A file that a pull request changes."""

    change: Change
    rows: Sequence[Row] = field(default_factory=list)


def new(request: Request, kind: RepositoryType) -> Response:
    """The form of a new pull request."""
    _, repository, git = repository_of(request, kind, Action.DISCUSS)
    return _new(request, repository, git, Draft())


def open_new(request: Request, form: Form, files: Files, kind: RepositoryType) -> Response:
    """Open a pull request: with the commits of a branch, or a draft whose commits are pushed to it."""
    hub, repository, git = repository_of(request, kind, Action.DISCUSS)
    actor, branch, title = visitor(request), form.get("branch", ""), form.get("title", "")

    def act(text: str) -> str:
        if branch:
            base = form.get("base") or git.default_branch
            opened = hub.pull_requests.open_from(actor, repository, branch, base, title, text or title)
        else:
            opened = hub.pull_requests.open(actor, repository, title, text or title)
        return discussion_address(repository, opened.number)

    return take(request, repository, form, files, act, partial(_new, request, repository, git))


def commits(request: Request, kind: RepositoryType) -> Response:
    """The commits of a pull request."""
    place = place_of(request, kind)
    compared = _compared(place)
    found = place.git.log(compared.base, compared.head, limit=COMMITS + 1) if compared is not None else []
    return page(request, "discussions/commits.html", **place.values, commits=found[:COMMITS], more=len(found) > COMMITS)


def changes(request: Request, kind: RepositoryType) -> Response:
    """What a pull request changes, with what was said of its lines."""
    place, asked = place_of(request, kind, Action.READ), request.query_params
    writing = None
    if re.fullmatch("[0-9]{1,9}", asked.get("line", "")):
        empty = Draft(where=f"{place.base}/lines")
        writing = Writing(asked.get("path", ""), _side(asked.get("side")), int(asked["line"]), empty)
    return _changes(request, place, writing)


def comment_on_line(request: Request, form: Form, files: Files, kind: RepositoryType) -> Response:
    """Comment on a line."""
    place = place_of(request, kind, Action.DISCUSS)
    room, actor, number = place.hub.line_comments, visitor(request), place.discussion.number
    path, side, commit = form.get("path", ""), form.get("side", ""), form.get("commit")
    line = int(form["line"]) if re.fullmatch("[0-9]{1,9}", form.get("line", "")) else 0

    def act(text: str) -> str:
        event = room.comment(actor, place.repository, number, path, side, line, text, commit=commit)
        return f"{discussion_address(place.repository, number)}/changes?at={event.id}#{event.id:024x}"

    def shown(draft: Draft) -> Response:
        return _changes(request, place, Writing(path, _side(side), line, draft))

    return take(request, place.repository, form, files, act, shown)


def reply(request: Request, form: Form, files: Files, kind: RepositoryType) -> Response:
    """Answer a comment on a line."""
    place = place_of(request, kind, Action.DISCUSS)
    number, to = place.discussion.number, request.path_params["comment"]

    def act(text: str) -> str:
        event = place.hub.line_comments.reply(visitor(request), place.repository, number, to, text)
        return discussion_address(place.repository, number, event)

    def shown(draft: Draft) -> Response:
        has_form = to in line_threads(place)
        where = draft.where if has_form else f"{discussion_address(place.repository, number)}/comment"
        return show(request, place, replace(draft, where=where), at=str(to))

    return take(request, place.repository, form, files, act, shown)


def review(request: Request, form: Form, files: Files, kind: RepositoryType) -> Response:
    """Give a verdict."""
    place = place_of(request, kind, Action.DISCUSS)
    actor, number, verdict = visitor(request), place.discussion.number, form.get("verdict", "")

    def act(text: str) -> str:
        event = place.hub.reviews.review(actor, place.repository, number, verdict, text)
        return discussion_address(place.repository, number, event)

    return take(request, place.repository, form, files, act, partial(show, request, place))


def ask(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Ask somebody for a review, or take that back."""
    place = place_of(request, kind, Action.DISCUSS)
    room, name, number = place.hub.reviews, form.get("reviewer", "").strip().removeprefix("@"), place.discussion.number
    act = room.ask_no_more if form.get("do") == "remove" else room.ask
    try:
        act(visitor(request), place.repository, number, name)
    except HubError as error:
        return show(request, place, refused(request, form, error))
    return RedirectResponse(discussion_address(place.repository, number), 303)


def merge(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Merge."""
    place = place_of(request, kind, Action.WRITE)
    number, text = place.discussion.number, form.get("text", "").strip() or None
    try:
        event = place.hub.pull_requests.merge(
            visitor(request), place.repository, number, text, despite_reviews="despite" in form
        )
    except HubError as error:
        return show(request, place, refused(request, form, error))
    return RedirectResponse(discussion_address(place.repository, number, event), 303)


# ---------------------------------------------------------------- inside


def _new(request: Request, repository: Repository, git: GitRepository, draft: Draft) -> Response:
    return page(
        request,
        "discussions/new_pull_request.html",
        status=draft.status,
        section=repository.type,
        repository=repository,
        branch=git.default_branch,
        branches=[ref.name for ref in git.refs().branches],
        chosen=request.query_params.get("branch", ""),
        draft=draft,
    )


def _compared(place: Place) -> Compared | None:
    """What is compared; None where the branch it was for is gone."""
    try:
        return place.hub.pull_requests.compared(place.repository, place.discussion)
    except RevisionNotFound:
        return None


def _changes(request: Request, place: Place, writing: Writing | None) -> Response:
    compared = _compared(place)
    if writing is not None and wants_part(request) and not writing.draft.error and compared is not None:
        return page(request, "discussions/line_form.html", **place.values, writing=writing, compared=compared)
    threads = line_threads(place)
    found = place.git.changes(compared.head, compared.base) if compared is not None else []
    pages = _pages(found)
    number = _page_of(request, pages, threads, writing)
    shown = pages[number - 1] if number <= len(pages) else []
    speech = Speech(request, place.repository, place.git.default_branch, place.discussion)
    present = {
        key: thread
        for key, thread in threads.items()
        if (at := thread.present) is not None and any(change.path_on(at.side) == at.path for change in shown)
    }
    said: dict[tuple[str, str, int], list[Said]] = {}
    for line in speech.lines([thread.comments[0] for thread in present.values()], present):
        if line.thread is not None and (at := line.thread.present) is not None:
            said.setdefault((at.path, at.side, at.line), []).append(line)
    files = [_changed(change, said, writing) for change in shown]
    is_placed = any(row.writing for file in files for row in file.rows)
    return page(
        request,
        "discussions/changes.html",
        status=writing.draft.status if writing is not None else 200,
        **place.values,
        draft=Draft(),
        compared=compared,
        files=files,
        misplaced=None if is_placed else writing,
        **counts(found),
        outdated=sum(thread.outdated for thread in threads.values()),
        is_open=place.discussion.status in (DiscussionStatus.OPEN, DiscussionStatus.DRAFT),
        may_discuss=allowed(visitor(request), Action.DISCUSS, place.repository),
        number=number,
        **neighbours(request, number, more=number < len(pages)),
    )


def _pages(found: Sequence[Change]) -> list[list[Change]]:
    """The files of each page."""
    pages: list[list[Change]] = [[]]
    lines = 0
    for change in found:
        length = change.patch.count("\n") if change.patch is not None else 1
        if pages[-1] and (lines + length > PAGE_LINES or len(pages[-1]) == PAGE_FILES):
            pages.append([])
            lines = 0
        pages[-1].append(change)
        lines += length
    return pages


def _page_of(
    request: Request, pages: Sequence[Sequence[Change]], threads: dict[int, Thread], writing: Writing | None
) -> int:
    """The page that is asked for, or the one with the file that a comment is on."""
    sought = (writing.path, writing.side) if writing is not None else None
    at = request.query_params.get("at", "")
    for thread in threads.values():
        if any(str(comment.id) == at for comment in thread.comments):
            place = thread.present or thread.place
            sought = place.path, place.side
    if sought is None:
        return page_number(request)
    path, side = sought
    return next((number for number, some in enumerate(pages, 1) if any(c.path_on(side) == path for c in some)), 1)


def _changed(change: Change, said: dict[tuple[str, str, int], list[Said]], writing: Writing | None) -> Changed:
    rows = []
    for line in patches.marked(patches.lines(change.patch or "")):
        here = [
            each
            for side in get_args(Side)
            if (number := line.number(side)) is not None
            for each in said.get((change.path_on(side), side, number), ())
        ]
        rows.append(Row(line, here, writing if writing is not None and _is_at(change, line, writing) else None))
    return Changed(change, rows)


def _side(named: str | None) -> Side:
    return "old" if named == "old" else "new"


def _is_at(change: Change, line: patches.Line, writing: Writing) -> bool:
    return writing.path == change.path_on(writing.side) and line.number(writing.side) == writing.line


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The pull requests of the repository at `base`."""
    one = f"{base}/discussions/{{number:int}}"
    router.add_route(f"{base}/pulls/new", signed_in(partial(new, kind=kind)))
    for address, view in ((f"{one}/commits", commits), (f"{one}/changes", changes)):
        router.add_route(address, partial(view, kind=kind))
    long: tuple[tuple[str, Callable[..., Response]], ...] = (
        (f"{base}/pulls/new", open_new),
        (f"{one}/lines", comment_on_line),
        (f"{one}/comments/{{comment:int}}/reply", reply),
        (f"{one}/review", review),
    )
    for address, answer in long:
        handler = long_form_handler(partial(answer, kind=kind), attaching, files=ATTACHED, limit=FORM_LIMIT)
        router.add_route(address, handler, methods=["POST"])
    for address, acting in ((f"{one}/reviewers", ask), (f"{one}/merge", merge)):
        router.add_route(address, form_handler(partial(acting, kind=kind)), methods=["POST"])
