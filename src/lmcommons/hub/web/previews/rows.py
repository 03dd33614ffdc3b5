"""Files of rows as a page of a table."""

import json
from dataclasses import dataclass
from typing import Any, BinaryIO

from lmcommons.hub.errors import Malformed

TABLES = frozenset((".parquet", ".csv", ".tsv", ".jsonl", ".ndjson"))
ROWS, MAX_COLUMNS, MAX_CELL = 50, 20, 300  # of a page; cells in characters


@dataclass(frozen=True)
class Column:
    """A column and its type, as Arrow names it."""

    name: str
    type: str
    is_number: bool


@dataclass(frozen=True)
class Table:
    """Rows from number `first` of `known`, of the `columns` that fit, among `width`.

    `total` counts all rows of the file; it is None where only the file's beginning was looked through.
    """

    columns: list[Column]
    rows: list[list[str]]
    first: int
    known: int
    total: int | None
    width: int

    @property
    def more(self) -> bool:
        """Whether rows follow that can be shown."""
        return self.first - 1 + len(self.rows) < self.known


def table(file: BinaryIO, suffix: str, page: int) -> Table:
    """A page of the rows of a file whose name ends in `suffix`.

    Raises:
        ValueError: it is damaged, or not what its name says.
    """
    import pyarrow as pa  # a tenth of a second and 30 MB, rarely needed

    from lmcommons.hub.repos.tabular import TEXT_LIMIT, cells, read_rows

    start = (page - 1) * ROWS
    found = read_rows(file, suffix, start, ROWS)
    if not found.known and found.total is None:
        raise Malformed("its first row is longer than {limit:,} bytes", limit=TEXT_LIMIT)
    fields = list(found.schema)[:MAX_COLUMNS]
    names = [field.name for field in fields]
    rows = [cells(row, names)[0] for row in found.rows]
    return Table(
        [Column(f.name, str(f.type), pa.types.is_integer(f.type) or pa.types.is_floating(f.type)) for f in fields],
        [[_cell(row[name]) for name in names] for row in rows],
        start + 1,
        found.known,
        found.total,
        len(found.schema),
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}…"
