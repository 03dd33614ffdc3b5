"""Cards and other Markdown files as safe HTML.

A card is written by a stranger: its Markdown and raw HTML pass through a sanitiser that keeps only known tags,
attributes and classes, and its links and images are resolved inside the repository. Dialect: GitHub Flavored Markdown
(https://github.github.com/gfm/) with footnotes, alerts and formulas.
"""

import copy
import hashlib
import posixpath
import re
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape, unescape
from itertools import islice
from threading import Lock
from urllib.parse import SplitResult, urlsplit, urlunsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup
from mdit_py_plugins.footnote import footnote_plugin

from lmcommons.hub.web import highlight, math

SUFFIXES = (".md", ".markdown")  # of files that are shown rendered
MAX_MARKDOWN = 500_000  # characters; of a longer text, or one with more marks or tags, the beginning is shown
MAX_MARKS = 80_000  # signs that may mean something in Markdown: each can cost 10 µs, whatever it comes to mean
MAX_TAGS = 20_000  # of raw HTML: the parser's time for elements within each other grows with the square
MAX_PARAGRAPH = 5_000  # characters; links and emphasis in more would cost time that grows with the square
CACHE_LIMIT = 32_000_000  # characters of HTML that are kept
ID_PREFIX = "card-"  # keeps a card's anchors apart from the page's own
BARE_ADDRESS = re.compile(  # ends before 。 and the like
    r"(?<![A-Za-z0-9])(?:https?://|(?P<www>www\.(?=[A-Za-z0-9])))[!#-;=?-~]*[A-Za-z0-9/#=&%+_~-]"
    r"|(?<![A-Za-z0-9.+_-])(?P<mail>[A-Za-z0-9.+_-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?![A-Za-z0-9@])"
)
SIDES = ("left", "center", "right")
RAW_SIDE = re.compile(r"(<[a-z][a-z0-9]*\b[^<>]*?)\salign\s*=\s*[\"']?(left|center|right)\b[\"']?", re.IGNORECASE)
RAW_HEADING = re.compile(r"(</?h)([1-5])\b", re.IGNORECASE)
# As the sanitiser writes them.
NOT_SHOWN = re.compile(r'<img(?: (?:alt="([^"]*)"|(?!src=)[a-z]+="[^"]*"))*>')
HEADING = re.compile(r'(<(h[2-6])(?: class="[a-z]*")? id="([^"]*)".*?)(</\2>)', re.DOTALL)
MARK, TAG = re.compile(r"[!-/:-@\[-`{-~\n]"), re.compile("<")
EMBEDDED_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]+")

ALERTS = ("note", "tip", "important", "warning", "caution")
CLASSES = {
    **{tag: set(SIDES) for tag in ("h1", "h2", "h3", "h4", "h5", "h6", "img", "table", "th", "td", "tr")},
    "span": {"elsewhere", *highlight.CLASSES},
    "ul": {"contains-task-list"},
    "li": {"task-list-item"},
    "section": {"footnotes"},
    "p": {"markdown-alert-title", *SIDES},
    "div": {"scroll", "markdown-alert", *(f"markdown-alert-{kind}" for kind in ALERTS), *SIDES},
}
TAGS = (set(nh3.ALLOWED_TAGS) | {"input", "section"} | math.ATTRIBUTES.keys()) - {"area", "map"}
ATTRIBUTES = copy.deepcopy(nh3.ALLOWED_ATTRIBUTES) | math.ATTRIBUTES
for tag in ("a", "li", "h1", "h2", "h3", "h4", "h5", "h6"):
    ATTRIBUTES.setdefault(tag, set()).add("id")
ATTRIBUTES["input"] = {"checked"}
ATTRIBUTES["details"] = {"open"}


@dataclass(frozen=True)
class Place:
    """Where a Markdown file lies: page addresses of its repository at one revision, its folder, and its hub."""

    blob: str  # prefix of file pages, such as /ada/model/blob/main
    resolve: str  # prefix of raw files, such as /ada/model/resolve/main
    folder: str = ""
    hub: str = ""  # as others see it, such as https://hub.example.org
    ids: str = ID_PREFIX  # with which its ids begin; of several texts on one page, each has its own


class _Cache:
    """HTML that was made before, the last used, by what it was made of."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, Place], Markup] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, markdown: str, place: Place) -> Markup:
        key = hashlib.sha256(markdown.encode(errors="surrogatepass")).digest(), place
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = _render(markdown, place)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._size += len(made)
            while self._size > CACHE_LIMIT:
                self._size -= len(self._kept.popitem(last=False)[1])
        return made


_CACHE = _Cache()


def render(markdown: str, place: Place) -> Markup:
    """Markdown as HTML without anything that runs, loads from another host or leaves the card's box.

    Of a text past the limit, its beginning; `beginning` says which part that is.
    """
    return _CACHE.get(beginning(markdown), place)


def beginning(markdown: str) -> str:
    """The text, or as many whole lines of it as are rendered."""
    end = min(len(markdown), MAX_MARKDOWN)
    for sign, limit in ((MARK, MAX_MARKS), (TAG, MAX_TAGS)):
        if end > limit and (first_too_many := next(islice(sign.finditer(markdown, 0, end), limit, None), None)):
            end = first_too_many.start()
    if end == len(markdown):
        return markdown
    return markdown[: markdown.rfind("\n", 0, end) + 1] or markdown[:end]


def _render(markdown: str, place: Place) -> Markup:
    def keep(tag: str, attribute: str, value: str) -> str | None:
        try:
            if (tag, attribute) == ("a", "href"):
                return _link(value, place)
            if (tag, attribute) == ("img", "src"):
                return _image(value, place)
        except ValueError:  # not an address
            return None
        return value

    clean = nh3.clean(
        _MARKDOWN.render(markdown),
        tags=TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=keep,
        allowed_classes=CLASSES,
        set_tag_attribute_values={"input": {"type": "checkbox", "disabled": "", "aria-label": "✓"}},
        url_schemes={"http", "https", "mailto", "data"},
        link_rel="nofollow noopener",
        id_prefix=place.ids,
    )
    named = NOT_SHOWN.sub(
        lambda found: f'<span class="elsewhere">{escape(unescape(found[1]))}</span>' if found[1] else "", clean
    )
    linked = HEADING.sub(r'\1<a class="anchor" href="#\3" aria-hidden="true" tabindex="-1"></a>\4', named)
    return Markup(linked)  # noqa: S704 - sanitised here


def _link(target: str, place: Place) -> str | None:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return target if parts.scheme != "data" else None
    return _inside(parts, place.blob, place.folder) if parts.path else f"#{place.ids}{parts.fragment}"


def _image(target: str, place: Place) -> str | None:
    if place.hub and target.startswith(f"{place.hub}/"):
        target = target.removeprefix(place.hub)
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        # An image of another host would tell that host who reads the card: its text is shown instead.
        return target if EMBEDDED_IMAGE.fullmatch(target) else None
    return _inside(parts, place.resolve, place.folder)


def _inside(target: SplitResult, prefix: str, folder: str) -> str:
    """A relative address from `folder` under `prefix`; `..` stops at the repository's root, `/…` is the hub's root."""
    path, fragment = target.path, target.fragment
    if not path.startswith("/"):
        path = prefix + posixpath.normpath(posixpath.join("/", folder, path))
    if fragment and path.endswith(SUFFIXES):
        fragment = ID_PREFIX + fragment
    return urlunsplit(("", "", path, target.query, fragment))


def _leave_long_paragraphs(state: StateCore) -> None:
    """Paragraphs past the limit stay plain text."""
    for token in state.tokens:
        if token.type == "inline" and len(token.content) > MAX_PARAGRAPH:
            token.type = "text"


def _arrange(state: StateCore) -> None:
    """Headings go below the page's own and get ids; alignment becomes a class, as inline style is not allowed.

    Blocks of code in the language `math` are formulas, as on GitHub.
    """
    anchors: Counter[str] = Counter()
    for position, token in enumerate(state.tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
        if token.type == "heading_open":
            slug = _slug(state.tokens[position + 1])
            anchor = f"{slug}-{anchors[slug]}" if anchors[slug] else slug
            anchors.update({slug, anchor})
            token.attrSet("id", anchor)
        elif token.type in ("th_open", "td_open") and (style := token.attrGet("style")):
            token.attrs = {"class": str(style).removeprefix("text-align:")}
        elif token.type == "inline":
            token.children = list(_link_addresses(token.children or []))
            for child in token.children:
                if child.type == "html_inline":
                    child.content = _plain_html(child.content)
        elif token.type == "html_block":
            token.content = _plain_html(token.content)
        elif token.type == "fence" and token.info.strip() == "math":
            token.type, token.markup = "math_block", "$$"


def _plain_html(html: str) -> str:
    """Raw HTML with headings below the page's own, and classes for alignment, which HTML has no attribute for now."""
    lowered = RAW_HEADING.sub(lambda found: f"{found[1]}{int(found[2]) + 1}", html)
    return RAW_SIDE.sub(lambda found: f'{found[1]} class="{found[2].lower()}"', lowered)


def _slug(heading: Token) -> str:
    """The anchor of a heading, as GitHub makes it: `## How to use it` is `#how-to-use-it`."""
    title = "".join(child.content for child in heading.children or [])
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def _link_addresses(children: list[Token]) -> Iterator[Token]:
    """Make bare addresses, of pages and of mail, links, outside of links."""
    depth = 0
    for token in children:
        depth += token.nesting if token.type in ("link_open", "link_close") else 0
        if token.type != "text" or depth:
            yield token
            continue
        start = 0
        for found in BARE_ADDRESS.finditer(token.content):
            scheme = "http://" if found["www"] else "mailto:" if found["mail"] else ""
            yield Token("text", "", 0, content=token.content[start : found.start()])
            yield Token("link_open", "a", 1, attrs={"href": scheme + found[0]})
            yield Token("text", "", 0, content=found[0])
            yield Token("link_close", "a", -1)
            start = found.end()
        yield Token("text", "", 0, content=token.content[start:])


def parser() -> MarkdownIt:
    """A parser of the dialect."""
    parser = MarkdownIt(
        "commonmark",
        {
            "highlight": lambda code, language, _: str(highlight.block(code, language)),
            "tasklists": True,
            "alerts": True,
        },
    )
    parser.enable(["table", "strikethrough"]).use(footnote_plugin, inline=False).use(math.math_plugin)
    parser.core.ruler.before("inline", "leave_long_paragraphs", _leave_long_paragraphs)
    parser.core.ruler.push("arrange", _arrange)
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


_MARKDOWN = parser()
