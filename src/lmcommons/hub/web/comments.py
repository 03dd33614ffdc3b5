"""What is said in discussions, ready for their templates; texts that are being written, and the files they bring."""

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import IO

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action, Actor, allowed
from lmcommons.hub.community.attachments import VIDEO_LIMIT, file_name
from lmcommons.hub.community.line_comments import Thread
from lmcommons.hub.community.mentions import MENTION
from lmcommons.hub.community.threads import COMMENTS
from lmcommons.hub.database.tables import (
    Attachment,
    Discussion,
    DiscussionEvent,
    DiscussionEventKind,
    Emoji,
    Repository,
)
from lmcommons.hub.errors import HubError, TooLarge, storage_errors
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web import markdown
from lmcommons.hub.web.lookup import place
from lmcommons.hub.web.rendering import page, wants_part
from lmcommons.hub.web.uploads import Files
from lmcommons.hub.web.visitors import Form, visitor
from lmcommons.hub.words import Words

MEMORY = 1 << 20  # bytes of a file that are kept in memory
ATTACHED = 10  # files that one comment brings
TAG = re.compile(r"<(?:\"[^\"]*\"|[^\">])*>")
NOT_LINKED = ("a", "code", "pre")  # elements in which names stay as they are
SYMBOLS = {
    Emoji.PLUS_ONE: "👍",
    Emoji.MINUS_ONE: "👎",
    Emoji.LAUGH: "😄",
    Emoji.HOORAY: "🎉",
    Emoji.CONFUSED: "😕",
    Emoji.HEART: "❤️",
    Emoji.ROCKET: "🚀",
    Emoji.EYES: "👀",
}


# ---------------------------------------------------------------- what was said


@dataclass(frozen=True)
class Reacted:
    """A reaction to a comment: whose it is, and whether the visitor's is among them."""

    emoji: Emoji
    symbol: str
    names: Sequence[str]
    mine: bool


@dataclass(frozen=True)
class Said:
    """A line of a discussion; of one with a text its HTML, and what the visitor may do with it."""

    event: DiscussionEvent
    html: Markup | None = None
    own: bool = False
    may_hide: bool = False
    reactions: Sequence[Reacted] = ()
    thread: Thread | None = None  # on a line of a file: where, what stands there, and the answers
    excerpt: Sequence[str] = ()
    answers: Sequence["Said"] = ()


class Speech:
    """Turns lines of one discussion into what its pages show to one visitor."""

    def __init__(self, request: Request, repository: Repository, branch: str, discussion: Discussion) -> None:
        self._hub: Hub = request.app.state.hub
        self._actor = visitor(request)
        self._repository = repository
        self._branch = branch
        self._writes = allowed(self._actor, Action.WRITE, repository)
        self._discusses = allowed(self._actor, Action.DISCUSS, repository)
        self._reactions = self._hub.reactions.of(discussion)

    def lines(self, events: Iterable[DiscussionEvent], threads: Mapping[int, Thread]) -> list[Said]:
        """The lines, each as it is shown; of comments on lines of files the first, with the answers to it."""
        chosen = [event for event in events if event.kind is not DiscussionEventKind.LINE or event.id in threads]
        spoken = [
            *chosen,
            *(answer for event in chosen if event.id in threads for answer in threads[event.id].comments),
        ]
        known = self._hub.mentions.known(event.versions[-1].text for event in spoken if event.versions)
        return [self._said(event, known, threads.get(event.id)) for event in chosen]

    def said(self, event: DiscussionEvent) -> Said:
        """One line."""
        known = self._hub.mentions.known(version.text for version in event.versions[-1:])
        return self._said(event, known, None)

    def versions(self, event: DiscussionEvent) -> list[Markup]:
        """The texts that a comment had and has, the first one first."""
        known = self._hub.mentions.known(version.text for version in event.versions)
        return [self._html(version.text, known, f"text-{event.id}-{version.id}-") for version in event.versions]

    def _html(self, text: str, known: Mapping[str, str], ids: str) -> Markup:
        return html(self._hub, text, self._repository, self._branch, known, ids)

    def _said(self, event: DiscussionEvent, known: Mapping[str, str], thread: Thread | None) -> Said:
        if event.kind not in COMMENTS:
            return Said(event)
        shown = bool(event.versions)
        own = shown and self._discusses and event.author_id is not None and event.author_id == self._actor.account_id
        return Said(
            event,
            self._html(event.versions[-1].text, known, f"text-{event.id}-") if shown else None,
            own,
            own or (shown and self._writes),
            reacted(self._actor, self._reactions.get(event.id, {})),
            thread,
            self._hub.line_comments.excerpt(self._actor, self._repository, thread.place) if thread is not None else (),
            [self._said(answer, known, None) for answer in thread.comments[1:]] if thread is not None else (),
        )


def reacted(actor: Actor, found: Mapping[Emoji, Sequence[str]]) -> list[Reacted]:
    """The reactions to a comment, in their order."""
    return [Reacted(emoji, SYMBOLS[emoji], names, actor.name in names) for emoji, names in found.items()]


def html(hub: Hub, text: str, repository: Repository, branch: str, known: Mapping[str, str], ids: str) -> Markup:
    """A comment's Markdown as HTML, its ids with a beginning of their own; the `known` names that it has are links."""
    rendered = markdown.render(text, replace(place(hub, repository, branch, ""), ids=ids))
    return _with_mentions(rendered, known) if known else rendered


def _with_mentions(rendered: Markup, known: Mapping[str, str]) -> Markup:
    """Sanitised HTML in which names after an @ lead to their pages; what is in tags, links and code stays."""
    found: list[str] = []
    depth = start = 0

    def linked(mention: re.Match[str]) -> str:
        name = known.get(mention[1].lower())
        return mention[0] if name is None else f'<a href="/{name}">{mention[0]}</a>'

    for tag in TAG.finditer(rendered):
        text = rendered[start : tag.start()]
        found += (text if depth else MENTION.sub(linked, text), tag[0])
        name = tag[0].strip("</>").partition(" ")[0]
        if name in NOT_LINKED:
            depth += -1 if tag[0].startswith("</") else 1
        start = tag.end()
    text = rendered[start:]
    return Markup("".join([*found, MENTION.sub(linked, text)]))  # noqa: S704 - sanitised, and names are no HTML


# ---------------------------------------------------------------- what is being written


@dataclass
class Attached:
    """A file that comes with a comment: what was kept of it, or why it was not taken."""

    file: IO[bytes]
    size: int = 0
    kept: Attachment | None = None
    error: HubError | None = None

    def write(self, block: bytes) -> None:
        """Take the next part."""
        self.size += len(block)
        if self.size > VIDEO_LIMIT:
            raise TooLarge("An attachment has at most {limit} MiB", limit=VIDEO_LIMIT >> 20)
        self.file.write(block)


@contextmanager
def attaching(request: Request, name: str) -> Iterator[Attached]:
    """The sink of a file that a form brings; afterwards it is an attachment of the visitor's."""
    hub: Hub = request.app.state.hub
    hub.attachments.require(visitor(request))
    with storage_errors(), tempfile.SpooledTemporaryFile(MEMORY, dir=str(hub.objects.blobs.staging)) as file:
        sink = Attached(file)
        yield sink
        try:
            sink.kept = hub.attachments.add(visitor(request), file, sink.size)
        except HubError as error:  # what was written with it must not be lost
            sink.error = error


def attachment(name: str, kept: Attachment) -> str:
    """The Markdown that shows an attachment, or leads to it."""
    label = re.sub(r"[\[\]\\\x00-\x1f]", "", name).strip()[:100] or "file"
    sign = "!" if kept.media_type.startswith("image/") else ""
    return f"{sign}[{label}](/uploads/{file_name(kept)})"


@dataclass(frozen=True)
class Draft:
    """A text that is being written: what there is of it, how it would look, and why it was not taken.

    `where` is the address that its form goes to: of the forms of a page, one has it.
    """

    text: str = ""
    preview: Markup | None = None
    error: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    where: str = ""

    @property
    def status(self) -> int:
        """Of the page that shows it."""
        return 400 if self.error else 200


def take(
    request: Request,
    repository: Repository,
    form: Form,
    files: Files,
    act: Callable[[str], str],
    shown: Callable[[Draft], Response],
) -> Response:
    """The answer to a form with a text: the way to the address that `act` returns for the text.

    Where a preview was asked for, or the text is not taken, it is the page that `shown` makes of what was written; of a
    preview that a script asked for, the preview alone.
    """
    draft = _written(request, repository, form, files)
    if draft.preview is not None and wants_part(request):
        return page(request, "discussions/preview.html", draft=draft)
    if draft.preview is not None or draft.error:
        return shown(draft)
    try:
        return RedirectResponse(act(draft.text), 303)
    except HubError as error:
        return shown(replace(draft, error=error.message))


def refused(request: Request, form: Form, error: HubError) -> Draft:
    """What a short form brought, and why it was not taken."""
    return Draft(form.get("text", ""), None, error.message, form, request.url.path)


def _written(request: Request, repository: Repository, form: Form, files: Files) -> Draft:
    """What a form brings: its text with the files that came with it; `preview` only where that was asked for."""
    text = form.get("text", "").replace("\r\n", "\n")
    for name, sink in files:
        if sink.kept is not None:
            text = f"{text.rstrip()}\n\n{attachment(name, sink.kept)}\n".lstrip("\n")
    error = next(
        (Words("{file}: {reason}", file=name, reason=sink.error) for name, sink in files if sink.error is not None),
        None,
    )
    preview = None
    if form.get("do") == "preview":
        hub: Hub = request.app.state.hub
        branch = hub.repositories.git(repository).default_branch
        preview = (
            html(hub, text, repository, branch, hub.mentions.known([text]), "preview-") if text.strip() else Markup()
        )
    return Draft(text, preview, error, form, request.url.path)


def discussion_address(repository: Repository, number: int, event: DiscussionEvent | None = None) -> str:
    """The page of a discussion; of a line of it, where that is."""
    address = f"{addresses.repository(repository)}/discussions/{number}"
    return address if event is None else f"{address}?at={event.id}#{event.id:024x}"
