"""Discussions: their list, one of them with all that was said, and what can be done in it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from lmcommons.hub.accounts.permissions import Action, allowed
from lmcommons.hub.community.discussions import HIDING, Listing
from lmcommons.hub.community.line_comments import Thread
from lmcommons.hub.database.tables import (
    Discussion,
    DiscussionEvent,
    DiscussionEventKind,
    Repository,
    RepositoryType,
)
from lmcommons.hub.repos.git import GitRepository
from lmcommons.hub.repos.terms import SEARCH_LIMIT
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.comments import (
    ATTACHED,
    SYMBOLS,
    Draft,
    Speech,
    attaching,
    attachment,
    discussion_address,
    reacted,
    take,
)
from lmcommons.hub.web.lookup import neighbours, page_number, repository_of
from lmcommons.hub.web.rendering import page, wants_part
from lmcommons.hub.web.uploads import Files, long_form_handler
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

PAGE = 30  # discussions
LINES = 60  # of a discussion
FORM_LIMIT = 64 << 20  # bytes of a comment with its files


@dataclass(frozen=True)
class Place:
    """The repository and discussion that an address names."""

    hub: Hub
    repository: Repository
    git: GitRepository
    discussion: Discussion

    @property
    def base(self) -> str:
        """The address of its page."""
        return discussion_address(self.repository, self.discussion.number)

    @property
    def values(self) -> dict[str, Any]:
        """What the templates of all its pages need."""
        return {
            "section": self.repository.type,
            "repository": self.repository,
            "branch": self.git.default_branch,
            "discussion": self.discussion,
            "base": self.base,
            "empty": Draft(),  # of texts that nobody is writing
            "symbols": SYMBOLS,
            "hiding": HIDING,
        }


def place_of(request: Request, kind: RepositoryType, action: Action = Action.SEE) -> Place:
    """Where the address leads, for who may do `action` there."""
    hub, repository, git = repository_of(request, kind, action)
    return Place(hub, repository, git, hub.discussions.find(repository, request.path_params["number"]))


# ---------------------------------------------------------------- reading


def listing(request: Request, kind: RepositoryType) -> Response:
    """The discussions and pull requests of a repository."""
    hub, repository, git = repository_of(request, kind)
    number = page_number(request)
    asked = request.query_params
    status, what = asked.get("status", "open"), asked.get("type", "all")
    search = asked.get("search", "").strip()[:SEARCH_LIMIT]
    query = Listing(what, status, asked.get("author") or None, search, (number - 1) * PAGE, PAGE)
    found, counts = hub.discussions.listing(repository, query)
    return page(
        request,
        "discussions/list.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        discussions=found,
        counts=counts,
        query=query,
        search_limit=SEARCH_LIMIT,
        **neighbours(request, number, more=number * PAGE < counts[status]),
    )


def thread(request: Request, kind: RepositoryType) -> Response:
    """A discussion, and what was said in it; in the box for an answer, the comment that the address asks to quote."""
    place = place_of(request, kind)
    quoted = _quoted(request, place)
    return show(request, place, Draft(quoted, where=f"{place.base}/comment") if quoted else Draft())


def show(request: Request, place: Place, draft: Draft, at: str = "") -> Response:
    """A page of a discussion's lines, that of the line `at`, with a text that is being written in one of its forms."""
    hub, discussion = place.hub, place.discussion
    threads = line_threads(place)
    outline = hub.discussions.outline(discussion)
    shown = [number for number, kind in outline if kind is not DiscussionEventKind.LINE or number in threads]
    number = _page_of(request, shown, threads, at or request.query_params.get("at", ""))
    events = hub.discussions.events(discussion, only=shown[(number - 1) * LINES : number * LINES])
    speech = Speech(request, place.repository, place.git.default_branch, discussion)
    hub.notifications.saw(visitor(request), discussion)
    return page(
        request,
        "discussions/thread.html",
        status=draft.status,
        **place.values,
        lines=speech.lines(events, threads),
        first=shown[0],
        more=len(shown) - number * LINES,
        last=(len(shown) - 1) // LINES + 1,
        people=hub.discussions.people(discussion),
        checks=hub.checking.of(visitor(request), place.repository, discussion) if discussion.is_pull_request else None,
        watching=hub.notifications.choice(visitor(request), discussion),
        may_discuss=allowed(visitor(request), Action.DISCUSS, place.repository),
        may_change=_may_change(request, place),
        draft=draft,
        **neighbours(request, number, more=len(shown) > number * LINES),
    )


def line_threads(place: Place) -> dict[int, Thread]:
    """What was said of lines of files, by the first comment."""
    said = place.hub.discussions.events(place.discussion, kind=DiscussionEventKind.LINE)
    return place.hub.line_comments.threads(place.repository, place.discussion, said)


def versions(request: Request, kind: RepositoryType) -> Response:
    """What a comment said before it was edited."""
    place = place_of(request, kind)
    event = _event(request, place)
    speech = Speech(request, place.repository, place.git.default_branch, place.discussion)
    texts = list(zip(event.versions, speech.versions(event), strict=True))
    return page(request, "discussions/versions.html", **place.values, event=event, texts=texts[::-1])


# ---------------------------------------------------------------- writing


def new(request: Request, kind: RepositoryType) -> Response:
    """The form of a new discussion."""
    _, repository, git = repository_of(request, kind, Action.DISCUSS)
    return _new(request, repository, git, Draft())


def open_new(request: Request, form: Form, files: Files, kind: RepositoryType) -> Response:
    """Open a discussion."""
    hub, repository, git = repository_of(request, kind, Action.DISCUSS)

    def act(text: str) -> str:
        opened = hub.discussions.open(visitor(request), repository, form.get("title", ""), text)
        return discussion_address(repository, opened.number)

    return take(request, repository, form, files, act, partial(_new, request, repository, git))


def comment(request: Request, form: Form, files: Files, kind: RepositoryType) -> Response:
    """Add a comment; with another button, close or open the discussion too."""
    place = place_of(request, kind, Action.DISCUSS)
    room, actor, number = place.hub.discussions, visitor(request), place.discussion.number

    def act(text: str) -> str:
        if form.get("do") in ("open", "closed"):
            event = room.set_status(actor, place.repository, number, form["do"], text if text.strip() else None)
        else:
            event = room.comment(actor, place.repository, number, text)
        return discussion_address(place.repository, number, event)

    return take(request, place.repository, form, files, act, partial(show, request, place))


def editor(request: Request, kind: RepositoryType) -> Response:
    """The form in which one changes one's own comment."""
    place = place_of(request, kind, Action.DISCUSS)
    event = _event(request, place)
    return _editor(request, place, event, Draft(event.versions[-1].text if event.versions else ""))


def edit(request: Request, form: Form, files: Files, kind: RepositoryType) -> Response:
    """Change one's own comment."""
    place = place_of(request, kind, Action.DISCUSS)
    event, number = _event(request, place), place.discussion.number

    def act(text: str) -> str:
        place.hub.discussions.edit(visitor(request), place.repository, number, event.id, text)
        return discussion_address(place.repository, number, event)

    return take(request, place.repository, form, files, act, partial(_editor, request, place, event))


def hide(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Hide a comment."""
    place = place_of(request, kind, Action.DISCUSS)
    event = _event(request, place)
    reason = form.get("reason") or None
    place.hub.discussions.hide(visitor(request), place.repository, place.discussion.number, event.id, reason)
    return RedirectResponse(discussion_address(place.repository, place.discussion.number, event), 303)


def react(request: Request, form: Form, kind: RepositoryType) -> Response:
    """React to a comment, or take a reaction back."""
    place = place_of(request, kind, Action.DISCUSS)
    event, given = _event(request, place), "give" in form
    emoji = form.get("give") or form.get("take", "")
    number = place.discussion.number
    found = place.hub.reactions.set(visitor(request), place.repository, number, event.id, emoji, given=given)
    if not wants_part(request):
        return RedirectResponse(discussion_address(place.repository, number, event), 303)
    return page(
        request,
        "discussions/reactions.html",
        **place.values,
        event=event,
        reactions=reacted(visitor(request), found),
        may_discuss=True,
    )


def rename(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Change the title."""
    place = place_of(request, kind, Action.DISCUSS)
    number, title = place.discussion.number, form.get("title", "")
    if " ".join(title.split()) != place.discussion.title:
        place.hub.discussions.rename(visitor(request), place.repository, number, title)
    return RedirectResponse(discussion_address(place.repository, number), 303)


def watch(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Watch or mute a discussion."""
    place = place_of(request, kind, Action.DISCUSS)
    place.hub.notifications.choose(visitor(request), place.repository, place.discussion, form.get("choice", ""))
    return RedirectResponse(discussion_address(place.repository, place.discussion.number), 303)


def attach(request: Request, form: Form, files: Files, kind: RepositoryType) -> Response:
    """Keep the files that were dropped on a text; the answer is the Markdown for them."""
    repository_of(request, kind, Action.DISCUSS)
    for _, sink in files:
        if sink.error is not None:
            raise sink.error
    return PlainTextResponse("\n\n".join(attachment(name, sink.kept) for name, sink in files))


# ---------------------------------------------------------------- inside


def _new(request: Request, repository: Repository, git: GitRepository, draft: Draft) -> Response:
    return page(
        request,
        "discussions/new.html",
        status=draft.status,
        section=repository.type,
        repository=repository,
        branch=git.default_branch,
        draft=draft,
    )


def _editor(request: Request, place: Place, event: DiscussionEvent, draft: Draft) -> Response:
    return page(request, "discussions/edit.html", status=draft.status, **place.values, event=event, draft=draft)


def _event(request: Request, place: Place) -> DiscussionEvent:
    return place.hub.discussions.comment_of(place.discussion, request.path_params["comment"])


def _quoted(request: Request, place: Place) -> str:
    """The comment that the address asks to quote, as Markdown quotes."""
    asked = request.query_params.get("quote", "")
    if not re.fullmatch("[0-9]{1,10}", asked):
        return ""
    event = place.hub.discussions.comment_of(place.discussion, int(asked))
    lines = event.versions[-1].text.splitlines() if event.versions else []
    return "".join(f"> {line}\n" for line in lines) + "\n"


def _page_of(request: Request, shown: Sequence[int], threads: Mapping[int, Thread], at: str) -> int:
    """The page that is asked for, or the one that the line `at` is on."""
    if "page" in request.query_params or not re.fullmatch("[0-9]{1,10}", at):
        return page_number(request)
    wanted = int(at)
    for first, thread in threads.items():
        if any(answer.id == wanted for answer in thread.comments):
            wanted = first
    return shown.index(wanted) // LINES + 1 if wanted in shown else 1


def _may_change(request: Request, place: Place) -> bool:
    """Whether the visitor may close and rename: the author may, and writers."""
    own = place.discussion.author_id is not None and place.discussion.author_id == visitor(request).account_id
    return allowed(visitor(request), Action.DISCUSS if own else Action.WRITE, place.repository)


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The discussions of the repository at `base`."""
    one = f"{base}/discussions/{{number:int}}"
    said = f"{one}/comments/{{comment:int}}"
    for address, view in ((f"{base}/discussions", listing), (one, thread), (said, versions)):
        router.add_route(address, partial(view, kind=kind))
    for address, view in ((f"{base}/discussions/new", new), (f"{said}/edit", editor)):
        router.add_route(address, signed_in(partial(view, kind=kind)))
    long: tuple[tuple[str, Callable[..., Response]], ...] = (
        (f"{base}/discussions/new", open_new),
        (f"{base}/discussions/attach", attach),
        (f"{one}/comment", comment),
        (f"{said}/edit", edit),
    )
    for address, answer in long:
        handler = long_form_handler(partial(answer, kind=kind), attaching, files=ATTACHED, limit=FORM_LIMIT)
        router.add_route(address, handler, methods=["POST"])
    short: tuple[tuple[str, Callable[..., Response]], ...] = (
        (f"{said}/hide", hide),
        (f"{said}/react", react),
        (f"{one}/title", rename),
        (f"{one}/watch", watch),
    )
    for address, answer in short:
        router.add_route(address, form_handler(partial(answer, kind=kind)), methods=["POST"])
