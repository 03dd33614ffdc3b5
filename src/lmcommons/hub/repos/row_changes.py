"""How the rows of a file differ from those of another version of it."""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

TEXT_LIMIT = 16 << 20  # bytes of each file that are compared; of Parquet, of its rows as JSON
LINES_LIMIT = 200_000
PARQUET_LIMIT = 10_000  # rows of Parquet, which take longer
PARQUET_STEP = 1_000  # of them that are in memory at a time

SHOWN_LIMIT = 20  # rows of each kind
ROW_LIMIT = 500  # characters

HEADED = frozenset((".csv", ".tsv"))  # the first line names the columns
SUFFIXES = HEADED | {".jsonl", ".ndjson", ".parquet"}


@dataclass(frozen=True)
class Column:
    """A column of Parquet that differs: its type before and after, None where there is no such column."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class RowChanges:
    """Rows of both versions, and how many are only in one of them, in whatever order they stand.

    The first of the latter are shown, as the text has them, rows of Parquet as JSON. Where `is_whole` is false, single
    rows were compared at the beginning of the files alone.
    """

    before: int
    after: int
    added: int
    removed: int
    is_whole: bool
    added_shown: tuple[str, ...] = ()
    removed_shown: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()


def row_changes(before: BinaryIO, after: BinaryIO, suffix: str) -> RowChanges:
    """How the rows of `after` differ from those of `before`, two files whose names end in `suffix`.

    In texts a row is a line, also where CSV has quoted ends of lines in a row.

    Raises:
        ValueError: one of them is not what its name says.
    """
    if suffix == ".parquet":
        (old, old_types), (new, new_types) = (_parquet(file) for file in (before, after))
        (former, all_of_one), (present, all_of_other) = (_parquet_rows(file) for file in (before, after))
        names = [name for name in {**old_types, **new_types} if old_types.get(name) != new_types.get(name)]
        columns = tuple(Column(name, old_types.get(name), new_types.get(name)) for name in names)
    else:
        (former, all_of_one), (present, all_of_other) = (
            _lines(file, int(suffix in HEADED)) for file in (before, after)
        )
        old, new, columns = former.total(), present.total(), ()
    added, removed = present - former, former - present
    return RowChanges(
        before=old,
        after=new,
        added=added.total(),
        removed=removed.total(),
        is_whole=all_of_one and all_of_other,
        added_shown=_shown(added),
        removed_shown=_shown(removed),
        columns=columns,
    )


def _shown(rows: Counter[bytes]) -> tuple[str, ...]:
    texts = (row.decode(errors="replace") for row in islice(rows.elements(), SHOWN_LIMIT))
    return tuple(text if len(text) <= ROW_LIMIT else f"{text[:ROW_LIMIT]}…" for text in texts)


def _lines(file: BinaryIO, first: int) -> tuple[Counter[bytes], bool]:
    """How often each line from number `first` is in a file, up to the limits, and whether that is all of it."""
    content = file.read(TEXT_LIMIT + 1)
    is_whole = len(content) <= TEXT_LIMIT
    if not is_whole:
        content = content[: content.rfind(b"\n", 0, TEXT_LIMIT) + 1]
    lines = content.removesuffix(b"\n").split(b"\n", LINES_LIMIT) if content else []
    return Counter(lines[first:LINES_LIMIT]), is_whole and len(lines) <= LINES_LIMIT


def _parquet(file: BinaryIO) -> tuple[int, dict[str, str]]:
    """How many rows a file has, and the types of its columns."""
    from lmcommons.hub.repos.tabular import FAILURES, open_parquet, unreadable  # pyarrow, rarely needed

    try:
        opened = open_parquet(file)
        return int(opened.metadata.num_rows), {field.name: str(field.type) for field in opened.schema_arrow}
    except FAILURES as error:
        raise unreadable(".parquet", error) from error


def _parquet_rows(file: BinaryIO) -> tuple[Counter[bytes], bool]:
    """How often each row is in a file, up to the limits, and whether that is all of it."""
    from lmcommons.hub.repos.tabular import cells, read_rows

    found: Counter[bytes] = Counter()
    size = 0
    for start in range(0, PARQUET_LIMIT, PARQUET_STEP):
        some = read_rows(file, ".parquet", start, PARQUET_STEP)
        for row in some.rows:
            text = json.dumps(cells(row, row)[0], ensure_ascii=False).encode(errors="replace")
            found[text] += 1
            size += len(text)
            if size > TEXT_LIMIT:
                return found, False
        if start + PARQUET_STEP >= some.known:
            return found, some.width == len(some.schema)
    return found, False
