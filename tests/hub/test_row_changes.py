"""How many rows differ between two versions of a file."""

from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmcommons.hub.repos import row_changes as room
from lmcommons.hub.repos.row_changes import RowChanges, row_changes


def changes(before: bytes, after: bytes, suffix: str = ".jsonl") -> RowChanges:
    return row_changes(BytesIO(before), BytesIO(after), suffix)


def written(table: pa.Table) -> bytes:
    file = BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def parquet(rows: int) -> bytes:
    return written(pa.table({"n": list(range(rows))}))


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
    assert counted(changes(before, after)) == (*counts, True)


def counted(found: RowChanges) -> tuple[int, int, int, int, bool]:
    return found.before, found.after, found.added, found.removed, found.is_whole


def test_the_names_of_columns_are_no_row() -> None:
    found = changes(b"a,b\n1,2\n", b"a,c\n1,2\n3,4\n", ".csv")
    assert found == RowChanges(1, 2, 1, 0, is_whole=True, added_shown=("3,4",))


def test_the_first_rows_of_either_alone_are_shown_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHOWN_LIMIT", 2)
    monkeypatch.setattr(room, "ROW_LIMIT", 3)
    found = changes(b"same\none\none\n", b"\xffab\nlonger\nsame\nmore\n")
    assert (found.removed_shown, found.added_shown) == (("one", "one"), ("\ufffdab", "lon…"))


def test_rows_and_columns_of_parquet_are_compared() -> None:
    found = changes(parquet(5), parquet(8), ".parquet")
    assert counted(found) == (5, 8, 3, 0, True)
    assert (found.added_shown, found.columns) == (('{"n": 5}', '{"n": 6}', '{"n": 7}'), ())
    with pytest.raises(ValueError, match="cannot be read as parquet"):
        changes(parquet(5), b"PAR1", ".parquet")
    other = changes(parquet(1), written(pa.table({"n": [0.0], "b": [b"\xff"]})), ".parquet")
    assert other.columns == (room.Column("n", "int64", "double"), room.Column("b", None, "binary"))
    assert (other.removed_shown, other.added_shown) == (('{"n": 0}',), ('{"n": 0.0, "b": "/w=="}',))


def test_of_long_parquet_the_beginnings_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PARQUET_LIMIT", 20)
    monkeypatch.setattr(room, "PARQUET_STEP", 10)
    assert counted(changes(parquet(15), parquet(40), ".parquet")) == (15, 40, 5, 0, False)
    monkeypatch.setattr(room, "TEXT_LIMIT", 20)
    assert counted(changes(parquet(15), parquet(40), ".parquet")) == (15, 40, 0, 0, False)  # three rows of each


@pytest.mark.parametrize(("limit", "value"), [("TEXT_LIMIT", 21), ("LINES_LIMIT", 10)])
def test_of_long_files_the_beginnings_are_compared(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(room, limit, value)
    assert counted(changes(b"1\n" * 50, b"2\n" * 5)) == (10, 5, 5, 10, False)
