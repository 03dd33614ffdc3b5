"""How many rows differ between two versions of a file."""

from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmcommons.hub.repos import row_changes as room
from lmcommons.hub.repos.row_changes import RowChanges, row_changes


def changes(before: bytes, after: bytes, suffix: str = ".jsonl") -> RowChanges:
    return row_changes(BytesIO(before), BytesIO(after), suffix)


def parquet(rows: int) -> bytes:
    file = BytesIO()
    pq.write_table(pa.table({"n": list(range(rows))}), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        (b"", b"", (0, 0, 0, 0)),
        (b"1\n2\n3\n", b"3\n1\n2", (3, 3, 0, 0)),
        (b"1\n1\n", b"1\n", (2, 1, 0, 1)),
        (b"", b"1\n\n1\n", (0, 3, 3, 0)),
        (b"1\n2\n", b"1\n5\n6\n", (2, 3, 2, 1)),
    ],
)
def test_lines_are_counted_in_any_order(before: bytes, after: bytes, counts: tuple[int, int, int, int]) -> None:
    assert changes(before, after) == RowChanges(*counts, is_whole=True)


def test_the_names_of_columns_are_no_row() -> None:
    assert changes(b"a,b\n1,2\n", b"a,c\n1,2\n3,4\n", ".csv") == RowChanges(1, 2, 1, 0, is_whole=True)


def test_rows_of_parquet_are_counted() -> None:
    assert changes(parquet(5), parquet(8), ".parquet") == RowChanges(5, 8, None, None, is_whole=True)
    with pytest.raises(ValueError, match="cannot be read as parquet"):
        changes(parquet(5), b"PAR1", ".parquet")


@pytest.mark.parametrize(("limit", "value"), [("TEXT_LIMIT", 21), ("LINES_LIMIT", 10)])
def test_of_long_files_the_beginnings_are_compared(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(room, limit, value)
    assert changes(b"1\n" * 50, b"2\n" * 5) == RowChanges(10, 5, 5, 10, is_whole=False)
