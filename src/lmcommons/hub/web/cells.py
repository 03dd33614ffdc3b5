"""Values of rows as a page shows them: what they are, in words that fit, and which of them are images."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmcommons.hub.repos.images import media_type
from lmcommons.hub.repos.tabular import Row, cells

PAGE_CHARACTERS = 24_000  # of all cells of a table
SHORTEST, LONGEST = 20, 300  # characters of a cell of a table
ROW_CHARACTERS = 40_000  # of all cells of one row's page
BYTES_SHOWN = 16


@dataclass(frozen=True)
class Cell:
    """A value: its words, cut where `cut`; of bytes, how many there are, and the first in hexadecimal digits."""

    kind: Literal["missing", "text", "number", "structure", "bytes", "image"]
    text: str = ""
    cut: bool = False
    size: int = 0


def table(rows: Sequence[Row], names: Sequence[str]) -> list[list[Cell]]:
    """The cells of rows in these columns, each as long as all of them can be."""
    longest = PAGE_CHARACTERS // max(1, len(rows) * len(names))
    return [[cell(row.get(name), max(SHORTEST, min(LONGEST, longest))) for name in names] for row in rows]


def whole_row(row: Row, names: Sequence[str]) -> list[Cell]:
    """The cells of one row, as much of each as a page can hold."""
    found, left = [], ROW_CHARACTERS
    for name in names:
        shown = cell(row.get(name), max(SHORTEST, left))
        left -= len(shown.text)
        found.append(shown)
    return found


def cell(value: Any, longest: int) -> Cell:
    """A value in at most `longest` characters."""
    content = image_content(value)
    if content is not None:
        return Cell("image", size=len(content))
    if value is None:
        return Cell("missing")
    if isinstance(value, bytes):
        return Cell("bytes", value[:BYTES_SHOWN].hex(" "), len(value) > BYTES_SHOWN, len(value))
    if isinstance(value, float) and not math.isfinite(value):
        return Cell("number", str(value))
    plain = cells({"": value}, [""], lambda content: f"<{len(content):,} B>")[0][""]
    if isinstance(plain, str):
        return _cut("text", plain, longest)
    if isinstance(plain, bool | int | float):
        return _cut("number", json.dumps(plain), longest)
    return Cell("missing") if plain is None else _cut("structure", json.dumps(plain, ensure_ascii=False), longest)


def image_content(value: Any) -> bytes | None:
    """The content of an image in a cell: bytes, or a mapping with `bytes`, as `datasets` writes images."""
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) and media_type(content) else None


def _cut(kind: Literal["text", "number", "structure"], text: str, longest: int) -> Cell:
    return Cell(kind, text[:longest], len(text) > longest, len(text))
