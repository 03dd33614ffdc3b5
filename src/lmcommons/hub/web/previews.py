"""What a file's page shows of its content: text, Markdown, rows, tensors, an image, or why there is nothing to see."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal

from markupsafe import Markup

from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.repos import cards, safetensors
from lmcommons.hub.repos.git import Entry
from lmcommons.hub.web import highlight, markdown

MAX_TEXT = 512 << 10  # bytes
MAX_LINES = 10_000
MAX_ROWS, MAX_COLUMNS, MAX_CELL = 50, 20, 300  # cells in characters
MAX_TENSORS = 2_000

IMAGES = frozenset((".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg"))
ROWS = frozenset((".jsonl", ".ndjson"))


@dataclass(frozen=True)
class Tensor:
    """A tensor of a safetensors file; `parameters` is how many numbers it holds."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Preview:
    """What to show: `kind` says which of the other fields is filled."""

    kind: Literal["text", "markdown", "image", "rows", "tensors", "empty", "binary", "long", "absent"]
    lines: Sequence[Markup] = ()
    html: Markup | None = None
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    tensors: Sequence[Tensor] = ()
    partial: bool = False  # there is more than is shown


def preview(entry: Entry, open_content: Callable[[], BinaryIO], place: markdown.Place) -> Preview:
    """The preview of a file; a content that is missing or damaged is a preview that says so, never an error."""
    suffix = PurePosixPath(entry.path).suffix.lower()
    if entry.size == 0:
        return Preview("empty")
    if suffix in IMAGES:
        return Preview("image")
    try:
        with open_content() as file:
            if suffix == ".safetensors":
                return _tensors(file)
            content = file.read(MAX_TEXT + 1)
    except EntryNotFound:
        return Preview("absent")
    if suffix in ROWS and (rows := _rows(content[:MAX_TEXT])):
        return rows
    return _text(content, suffix, PurePosixPath(entry.path).name, place)


def _text(content: bytes, suffix: str, name: str, place: markdown.Place) -> Preview:
    if b"\0" in content:
        return Preview("binary")
    if len(content) > MAX_TEXT or content.count(b"\n") > MAX_LINES:
        return Preview("long")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return Preview("binary")
    if suffix in markdown.SUFFIXES and len(text) <= markdown.MAX_MARKDOWN:
        return Preview("markdown", html=markdown.render(cards.split(text)[1], place))
    return Preview("text", lines=highlight.lines(text, name))


def _rows(content: bytes) -> Preview | None:
    """The first rows of JSON lines; None when the first line is not a whole JSON object."""
    lines = content.split(b"\n")
    rows: list[dict[str, Any]] = []
    for line in lines[: MAX_ROWS + 1]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    if not rows:
        return None
    shown = rows[:MAX_ROWS]
    columns = list(dict.fromkeys(name for row in shown for name in row))[:MAX_COLUMNS]
    cells = [[_cell(row[name]) if name in row else "" for name in columns] for row in shown]
    whole = len(rows) <= MAX_ROWS and not any(lines[len(rows) :])
    return Preview("rows", columns=columns, rows=cells, partial=not whole)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}…"


def _tensors(file: BinaryIO) -> Preview:
    try:
        header = safetensors.header(file)
        header.pop("__metadata__", None)
        found = [
            Tensor(name, str(tensor["dtype"]), shape := tuple(map(int, tensor["shape"])), math.prod(shape))
            for name, tensor in list(header.items())[:MAX_TENSORS]
        ]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Preview("binary")
    return Preview("tensors", tensors=found, partial=len(header) > len(found))
