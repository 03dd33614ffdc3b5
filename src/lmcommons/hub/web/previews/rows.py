"""Files of rows as a page of a table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from lmcommons.hub.errors import Malformed
from lmcommons.hub.repos.splits import FORMATS

if TYPE_CHECKING:
    from lmcommons.hub.web.cells import Cell

TABLES = FORMATS.keys() - {".json"}  # which may be anything
ROWS, MAX_COLUMNS = 50, 20  # of a page


@dataclass(frozen=True)
class Column:
    """A column and its type, as Arrow names it."""

    name: str
    type: str
    is_number: bool


@dataclass(frozen=True)
class Table:
    """Rows from number `first` (that of a file is 0) of `known`, of the `columns` that fit, among `width`.

    `total` counts all rows of the file; it is None where only the file's beginning was looked through.
    """

    columns: list[Column]
    rows: list[list["Cell"]]
    first: int
    known: int
    total: int | None
    width: int

    @property
    def more(self) -> bool:
        """Whether rows follow that can be shown."""
        return self.first + len(self.rows) < self.known


def table(file: BinaryIO, suffix: str, page: int) -> Table:
    """A page of the rows of a file whose name ends in `suffix`.

    Raises:
        ValueError: it is damaged, or not what its name says.
    """
    import pyarrow as pa  # a tenth of a second and 30 MB, rarely needed

    from lmcommons.hub.repos.tabular import TEXT_LIMIT, read_rows
    from lmcommons.hub.web import cells

    start = (page - 1) * ROWS
    found = read_rows(file, suffix, start, ROWS)
    if not found.known and found.total is None:
        raise Malformed("its first row is longer than {limit:,} bytes", limit=TEXT_LIMIT)
    fields = list(found.schema)[:MAX_COLUMNS]
    return Table(
        [Column(f.name, str(f.type), pa.types.is_integer(f.type) or pa.types.is_floating(f.type)) for f in fields],
        cells.table(found.rows, [field.name for field in fields]),
        start,
        found.known,
        found.total,
        found.width,
    )
