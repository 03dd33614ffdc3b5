"""How many rows of a file differ from those of another version of it."""

from collections import Counter
from dataclasses import dataclass
from typing import BinaryIO

TEXT_LIMIT = 16 << 20  # bytes of each file that are compared
LINES_LIMIT = 200_000

HEADED = frozenset((".csv", ".tsv"))  # the first line names the columns
SUFFIXES = HEADED | {".jsonl", ".ndjson", ".parquet"}


@dataclass(frozen=True)
class RowChanges:
    """Rows of both versions, and how many are only in one of them, in whatever order they stand.

    The latter is not counted for Parquet. Where `is_whole` is false, all of it speaks of the beginning of the files.
    """

    before: int
    after: int
    added: int | None
    removed: int | None
    is_whole: bool


def row_changes(before: BinaryIO, after: BinaryIO, suffix: str) -> RowChanges:
    """How the rows of `after` differ from those of `before`, two files whose names end in `suffix`.

    In texts a row is a line, also where CSV has quoted ends of lines in a row.

    Raises:
        ValueError: one of them is not what its name says.
    """
    if suffix == ".parquet":
        old, new = (_parquet_rows(file) for file in (before, after))
        return RowChanges(old, new, None, None, is_whole=True)
    (former, all_of_one), (present, all_of_other) = (_lines(file, int(suffix in HEADED)) for file in (before, after))
    return RowChanges(
        former.total(),
        present.total(),
        (present - former).total(),
        (former - present).total(),
        is_whole=all_of_one and all_of_other,
    )


def _lines(file: BinaryIO, first: int) -> tuple[Counter[bytes], bool]:
    """How often each line from number `first` is in a file, up to the limits, and whether that is all of it."""
    content = file.read(TEXT_LIMIT + 1)
    is_whole = len(content) <= TEXT_LIMIT
    if not is_whole:
        content = content[: content.rfind(b"\n", 0, TEXT_LIMIT) + 1]
    lines = content.removesuffix(b"\n").split(b"\n", LINES_LIMIT) if content else []
    return Counter(lines[first:LINES_LIMIT]), is_whole and len(lines) <= LINES_LIMIT


def _parquet_rows(file: BinaryIO) -> int:
    from lmcommons.hub.repos.tabular import FAILURES, open_parquet, unreadable  # pyarrow, rarely needed

    try:
        return int(open_parquet(file).metadata.num_rows)
    except FAILURES as error:
        raise unreadable(".parquet", error) from error
