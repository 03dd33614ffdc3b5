"""Cards and other Markdown files as safe HTML.

A card is written by a stranger: its Markdown and raw HTML pass through a sanitiser that keeps only known tags, attributes
and classes, and its links and images are resolved inside the repository. Dialect: GitHub Flavored Markdown
(https://github.github.com/gfm/) with footnotes and alerts.
"""

import copy
import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markupsafe import Markup
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.gfm import gfm_plugin

from lmcommons.hub.web import highlight

MAX_MARKDOWN = 100_000  # characters; a longer file is shown as text
ID_PREFIX = "card-"  # keeps a card's anchors apart from the page's own
EMBEDDED_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]+")

ALERTS = ("note", "tip", "important", "warning", "caution")
CLASSES = {
    "span": set(highlight.CLASSES),
    "th": {"left", "center", "right"},
    "td": {"left", "center", "right"},
    "ul": {"contains-task-list"},
    "li": {"task-list-item"},
    "section": {"footnotes"},
    "p": {"markdown-alert-title"},
    "div": {"scroll", "markdown-alert", *(f"markdown-alert-{kind}" for kind in ALERTS)},
}
TAGS = (set(nh3.ALLOWED_TAGS) | {"input", "section"}) - {"area", "map"}
ATTRIBUTES = copy.deepcopy(nh3.ALLOWED_ATTRIBUTES)
for tag in ("a", "li", "h1", "h2", "h3", "h4", "h5", "h6"):
    ATTRIBUTES.setdefault(tag, set()).add("id")
ATTRIBUTES["input"] = {"checked"}
ATTRIBUTES["details"] = {"open"}


@dataclass(frozen=True)
class Place:
    """Where a Markdown file lies: page addresses of its repository at one revision, and the folder it is in."""

    blob: str  # prefix of file pages, such as /ada/model/blob/main
    resolve: str  # prefix of raw files, such as /ada/model/resolve/main
    folder: str = ""


@lru_cache(maxsize=128)
def render(markdown: str, place: Place) -> Markup:
    """Markdown as HTML without anything that runs, loads from another host or leaves the card's box."""

    def keep(tag: str, attribute: str, value: str) -> str | None:
        if (tag, attribute) == ("a", "href"):
            return _link(value, place)
        if (tag, attribute) == ("img", "src"):
            return _image(value, place)
        return value

    return Markup(  # noqa: S704 - sanitised here
        nh3.clean(
            _MARKDOWN.render(markdown),
            tags=TAGS,
            attributes=ATTRIBUTES,
            attribute_filter=keep,
            allowed_classes=CLASSES,
            set_tag_attribute_values={"input": {"type": "checkbox", "disabled": ""}},
            url_schemes={"http", "https", "mailto", "data"},
            link_rel="nofollow noopener",
            id_prefix=ID_PREFIX,
        )
    )


def _link(target: str, place: Place) -> str | None:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return target if parts.scheme != "data" else None
    if target.startswith("#"):
        return f"#{ID_PREFIX}{target[1:]}"
    return _inside(target, place.blob, place.folder)


def _image(target: str, place: Place) -> str | None:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        # An image of another host would tell that host who reads the card: its text is shown instead.
        return target if EMBEDDED_IMAGE.fullmatch(target) else None
    return _inside(target, place.resolve, place.folder)


def _inside(target: str, prefix: str, folder: str) -> str:
    """A relative `target` from `folder` under `prefix`; `..` stops at the repository's root, `/…` is the hub's root."""
    if target.startswith("/"):
        return target
    path, mark, rest = re.fullmatch(r"([^?#]*)([?#]?)(.*)", target, re.DOTALL).groups()
    absolute = posixpath.normpath(posixpath.join("/", folder, path)).lstrip("/")
    if mark == "#":
        rest = ID_PREFIX + rest
    return f"{prefix}/{absolute}{mark}{rest}"


def _slug(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def _arrange(state: StateCore) -> None:
    """Headings go one level down, below the page's own; alignment becomes a class, as inline style is not allowed."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
        elif token.type in ("th_open", "td_open") and (style := token.attrGet("style")):
            token.attrs = {"class": str(style).removeprefix("text-align:")}


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"highlight": lambda code, language, _: str(highlight.block(code, language))})
    parser.use(gfm_plugin).use(anchors_plugin, max_level=6, slug_func=_slug)
    parser.core.ruler.push("arrange", _arrange)
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


_MARKDOWN = _parser()
