"""What a file's page shows of its content: text, Markdown, rows, tensors, curves, an image, or why there is nothing."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Literal

from markupsafe import Markup

from lmcommons.hub.errors import EntryNotFound, Malformed
from lmcommons.hub.repos import cards, curves, gguf, images
from lmcommons.hub.repos.encodings import decode
from lmcommons.hub.repos.git import Entry
from lmcommons.hub.repos.splits import data_suffix
from lmcommons.hub.web import highlight, markdown
from lmcommons.hub.web.front_matter import FrontMatter, fields_of, front_matter
from lmcommons.hub.web.previews.curves import Curves, draw
from lmcommons.hub.web.previews.notebooks import notebook
from lmcommons.hub.web.previews.rows import TABLES, Table, table
from lmcommons.hub.web.previews.tensors import Group, quantised, sharded, tensors
from lmcommons.hub.words import Words

MAX_TEXT = 512 << 10  # bytes of a text that are read
MAX_MARKDOWN = 4 * markdown.MAX_MARKDOWN + cards.METADATA_LIMIT  # bytes of a Markdown file that are read
MAX_LINE = 2_000  # characters of a line
LINES = 500  # of a page
MAX_IMAGE, MAX_PIXELS = 20 << 20, 50_000_000  # bytes, and width times height, that a page asks browsers to draw

CONTROLS = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")  # bytes that texts in any encoding hardly have

IMAGES = frozenset((".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".svg", ".webp"))

Kind = Literal["text", "markdown", "image", "rows", "tensors", "gguf", "curves", "empty", "binary", "absent"]


@dataclass(frozen=True)
class Preview:
    """What to show: `kind` says which of the other fields is filled.

    `problem` is why the file is not shown as what its name says; `partial`, that there is more than can be shown.
    """

    kind: Kind
    lines: Sequence[Markup] = ()
    first: int = 1  # the number of the first of the lines
    more: bool = False  # the file goes on at the next page
    html: Markup | None = None
    front: FrontMatter | None = None
    size: tuple[int, int] | None = None  # of an image, in pixels
    table: Table | None = None
    tensors: Group | None = None
    shards: Mapping[str, str] | None = None  # of an index, the path of the file that each tensor is in
    curves: Curves | None = None
    problem: str | None = None
    partial: bool = False


def preview(
    entry: Entry,
    open_content: Callable[[str], BinaryIO],
    place: markdown.Place,
    *,
    page: int = 1,
    query: Mapping[str, str] | None = None,
) -> Preview:
    """The preview of a file; a content that is missing or damaged is a preview that says so, never an error.

    Args:
        open_content: opens the file at a path, which is that of `entry` or, for an index of tensors, one that it names.
        query: what of the file to show: `within`, the beginning of names of tensors; `tag`, one curve; and `view`,
            which is `source` for the text of what would be shown otherwise.

    Raises:
        EntryNotFound: there is no such page of it.
    """
    found = _shown(entry, open_content, place, page, query or {})
    if page > 1 and not (found.lines or (found.table and found.table.rows)):
        raise EntryNotFound("{path} has no page {page}", path=entry.path, page=page)
    return found


def read_text(file: BinaryIO, limit: int) -> tuple[str | None, bool]:
    """The first `limit` bytes of a file as text, without half a character at the end, and whether that is all of it.

    None in the place of the text where it is neither UTF-8 nor UTF-16, or has a NUL.
    """
    content = file.read(limit + 1)
    is_whole = len(content) <= limit
    try:
        text = decode(content[:limit], whole=is_whole)
    except UnicodeDecodeError:
        return None, is_whole
    return None if "\0" in text else text, is_whole


def _shown(
    entry: Entry, open_content: Callable[[str], BinaryIO], place: markdown.Place, page: int, query: Mapping[str, str]
) -> Preview:
    if entry.size == 0:
        return Preview("empty")
    problem = None
    try:
        with open_content(entry.path) as file:
            if query.get("view") != "source":
                try:
                    found = _special(entry, file, open_content, place, page, query)
                except ValueError as error:
                    found, problem = None, str(error)
                if found is not None:
                    return found
            file.seek(0)
            return _text(file, PurePosixPath(entry.path).name, page, problem)
    except EntryNotFound:
        return Preview("absent")


def _special(
    entry: Entry,
    file: BinaryIO,
    open_content: Callable[[str], BinaryIO],
    place: markdown.Place,
    page: int,
    query: Mapping[str, str],
) -> Preview | None:
    """What is not shown as text; None for what is.

    Raises:
        ValueError: it is not what its name says.
    """
    name, suffix = PurePosixPath(entry.path).name, PurePosixPath(entry.path).suffix.lower()
    if suffix in IMAGES:
        return _image(entry, file)
    if suffix == ".safetensors":
        return Preview("tensors", tensors=tensors(file, query.get("within", "")))
    if name.endswith(".safetensors.index.json"):
        return _index(entry, file, open_content, query.get("within", ""))
    if curves.is_curves(name):
        return Preview("curves", curves=draw(curves.read(name, file), query.get("tag")))
    if suffix == ".gguf":
        return _gguf(gguf.read(file))
    if suffix == ".ipynb":
        html, is_whole = notebook(file, place)
        return Preview("markdown", html=html, partial=not is_whole)
    if (rows := data_suffix(name)) in TABLES:
        found = table(file, rows, page)
        return Preview("rows", table=found, more=found.more, partial=found.total is None)
    if suffix in markdown.SUFFIXES:
        return _markdown(file, place)
    return None


def _gguf(header: gguf.Header) -> Preview:
    said = {
        name: Words("an array of {count:,}", count=value.count) if isinstance(value, gguf.Values) else value
        for name, value in header.metadata.items()
    }
    return Preview("gguf", tensors=quantised(header), front=fields_of(said))


def _image(entry: Entry, file: BinaryIO) -> Preview:
    size = images.dimensions(file)
    file.seek(0)
    if size is None and not entry.path.lower().endswith(".svg") and images.media_type(file.read(32)) is None:
        raise Malformed("it is not the image that its name says")
    if entry.size > MAX_IMAGE:
        raise Malformed("an image of more than {limit:,} bytes is not shown here", limit=MAX_IMAGE)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise Malformed("an image of {width:,} × {height:,} pixels is not shown here", width=size[0], height=size[1])
    return Preview("image", size=size)


def _index(entry: Entry, file: BinaryIO, open_content: Callable[[str], BinaryIO], within: str) -> Preview:
    folder = PurePosixPath(entry.path).parent

    def open_shard(shard: str) -> BinaryIO:
        try:
            return open_content(str(folder / shard))
        except EntryNotFound as error:
            raise Malformed("it names {shard!a}, which is not here", shard=shard[:200]) from error

    tree, shards = sharded(file, open_shard, within)
    return Preview("tensors", tensors=tree, shards={name: str(folder / shard) for name, shard in shards.items()})


def _markdown(file: BinaryIO, place: markdown.Place) -> Preview | None:
    text, is_whole = read_text(file, MAX_MARKDOWN)
    if text is None:
        return None
    body = cards.split(text)[1]
    is_whole = is_whole and len(body) == len(markdown.beginning(body))
    return Preview("markdown", html=markdown.render(body, place), front=front_matter(text), partial=not is_whole)


def _text(file: BinaryIO, name: str, page: int, problem: str | None) -> Preview:
    """A page of a text's lines."""
    text, is_whole = read_text(file, MAX_TEXT)
    if text is None:
        file.seek(0)
        if problem is None and not CONTROLS.search(file.read(MAX_TEXT)):
            problem = Words("its text is not UTF-8")
        return Preview("binary", problem=problem)
    start = (page - 1) * LINES
    cut = (line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…" for line in text.removesuffix("\n").split("\n"))
    lines = highlight.lines("\n".join(cut), name)
    more = start + LINES < len(lines)
    return Preview(
        "text",
        lines=lines[start : start + LINES],
        first=start + 1,
        more=more,
        problem=problem,
        partial=not is_whole and not more,
    )
