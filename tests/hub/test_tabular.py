"""Rows of Parquet, JSON and CSV, and of files that are none."""

import bz2
import csv
import datetime
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.repos import tabular
from lmcommons.hub.repos.matching import matches
from lmcommons.hub.repos.parquet_pages import demand
from lmcommons.hub.repos.scanning import scan
from lmcommons.hub.repos.tabular import batch_rows, cells, feature, read_rows


def parquet(table: pa.Table, **options: Any) -> bytes:
    file = BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


NUMBERS = pa.table({"n": list(range(1_000)), "text": [f"row {n}" for n in range(1_000)]})


class Counting(BytesIO):
    """A file that counts what is read from it."""

    total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.total += len(found)
        return found


@pytest.mark.parametrize(("start", "length"), [(0, 5), (95, 10), (995, 100), (1_000, 5), (10**15, 5), (5, 0)])
@pytest.mark.parametrize("row_group_size", [1_000, 7])
def test_rows_of_parquet(start: int, length: int, row_group_size: int):
    found = read_rows(BytesIO(parquet(NUMBERS, row_group_size=row_group_size)), ".parquet", start, length)
    assert [row["n"] for row in found.rows] == list(range(1_000))[start : start + length]
    assert (found.total, found.schema.names) == (1_000, ["n", "text"])


def test_parquet_is_read_in_parts():
    noise = [f"{n * 7919 % 1_000_003}" * 20 for n in range(200_000)]
    content = parquet(pa.table({"text": noise}), row_group_size=10_000, compression="none", use_dictionary=False)
    file = Counting(content)
    assert read_rows(file, ".parquet", 150_003, 2).rows == [{"text": text} for text in noise[150_003:150_005]]
    assert file.total < len(content) / 10


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".jsonl", "".join(json.dumps(row) + "\n" for row in NUMBERS.to_pylist())),
        (".jsonl", "\n\n".join(json.dumps(row) for row in NUMBERS.to_pylist())),
        (".json", json.dumps(NUMBERS.to_pylist())),
        (".csv", "n,text\n" + "".join(f"{n},row {n}\n" for n in range(1_000))),
        (".tsv", "n\ttext\r\n" + "".join(f"{n}\trow {n}\r\n" for n in range(1_000))),
        (".csv", "n;text\n" + "".join(f"{n};row {n}\n" for n in range(1_000))),
        (".csv", "n\ttext\n" + "".join(f"{n}\trow {n}\n" for n in range(1_000))),
        (".tsv", "n|text\n" + "".join(f"{n}|row {n}\n" for n in range(1_000))),
    ],
)
def test_rows_of_text(suffix: str, content: str):
    found = read_rows(BytesIO(content.encode()), suffix, 995, 100)
    assert found.rows == NUMBERS.slice(995).to_pylist()
    assert (found.total, found.schema) == (1_000, NUMBERS.schema)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_long_texts_are_read_from_their_beginning(suffix: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tabular, "TEXT_LIMIT", 105)
    line = b'{"a": 1}\n' if suffix == ".jsonl" else b"a,b,c,d,e\n"
    found = read_rows(BytesIO(line * 1_000), suffix, 0, 100)
    assert found.total is None
    assert found.known == len(found.rows) == (11 if suffix == ".jsonl" else 9)


def test_quoted_lines_of_csv_are_one_row():
    text = StringIO()
    csv.writer(text).writerows([["a", "b"], ["one\ntwo", 'say "hi", then'], ["名", ""]])
    found = read_rows(BytesIO(text.getvalue().encode()), ".csv", 0, 10)
    assert found.rows == [{"a": "one\ntwo", "b": 'say "hi", then'}, {"a": "名", "b": ""}]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a;b\n1,5;2\n2,5;3\n", [{"a": "1,5", "b": 2}, {"a": "2,5", "b": 3}]),
        ('a,b\n"x; y",1\n"z; w",2\n', [{"a": "x; y", "b": 1}, {"a": "z; w", "b": 2}]),
        ('a;b\n"x, ""y""\nz";1\n', [{"a": 'x, "y"\nz', "b": 1}]),
        ("text\none; two\nthree\n", [{"text": "one; two"}, {"text": "three"}]),
        ("a,a,b\n1,2,3\n", [{"a": 1, "a.1": 2, "b": 3}]),
    ],
)
def test_separated_values_are_told_apart_by_the_sign_that_fits_all_rows(text: str, rows: list[dict[str, Any]]):
    assert read_rows(BytesIO(text.encode()), ".csv", 0, 10).rows == rows


def test_of_a_long_csv_no_half_of_a_row_is_shown(monkeypatch: pytest.MonkeyPatch):
    content = b'a,b\n"one\ntwo",2\n' + b'"one\ntwo, three",2\n' * 20
    for limit in range(40, 90):
        monkeypatch.setattr(tabular, "TEXT_LIMIT", limit)
        found = read_rows(BytesIO(content), ".csv", 0, 100)
        assert {(row["a"], row["b"]) for row in found.rows} <= {("one\ntwo", 2), ("one\ntwo, three", 2)}
        assert found.known == len(found.rows) == 1 + (limit - 17) // 19
    monkeypatch.setattr(tabular, "TEXT_LIMIT", 60)
    with pytest.raises(ValueError, match="row 1: 1 values for 2 columns"):
        read_rows(BytesIO(b"a,b\n1,2\n3\n" + b"4,5\n" * 50), ".csv", 0, 10)


@pytest.mark.parametrize(
    ("packed", "compress"),
    [(".gz", gzip.compress), (".bz2", bz2.compress), (".zst", lambda text: pa.compress(text, "zstd", asbytes=True))],
)
def test_compressed_texts_are_read_from_their_beginning(
    packed: str, compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
):
    content = compress(b'{"a": 1}\n' * 1_000)
    found = read_rows(BytesIO(content), f".jsonl{packed}", 999, 5)
    assert (found.rows, found.total) == ([{"a": 1}], 1_000)
    assert read_rows(BytesIO(content + content), f".jsonl{packed}", 0, 5).total == 2_000
    with pytest.raises(ValueError, match=r"^cannot be read as jsonl\.\w+: [^\n]+$"):
        read_rows(BytesIO(content[:-8]), f".jsonl{packed}", 0, 5)
    monkeypatch.setattr(tabular, "TEXT_LIMIT", 100)
    assert (read_rows(BytesIO(content), f".jsonl{packed}", 0, 50).known, len(content) < 200) == (11, True)


def test_rows_of_json_that_differ():
    content = b'{"a": 1}\n{"b": "x", "a": "text"}\n{"a": null}\n{"a": [1]}\n'
    found = read_rows(BytesIO(content), ".jsonl", 0, 10)
    assert found.schema == pa.schema([("a", pa.string()), ("b", pa.string())])
    assert [row.get("a") for row in found.rows] == [1, "text", None, [1]]


def test_bytes_within_values_are_not_searched():
    rows = pa.RecordBatch.from_pylist([{"audio": {"bytes": b"abc", "path": "a.wav"}}])  # YWJj as base64
    assert (matches(rows, "ywj"), matches(rows, "a.wav")) == ([], [0])


TEXTS = st.none() | st.text(max_size=3)
NUMBERS_OF_JSON = st.none() | st.integers() | st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63]) | st.floats()


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """A column's values, of which some lie in lists and structures."""
    names = st.sampled_from("cab")
    values = st.recursive(leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(names, v, max_size=3))
    return st.lists(leaves, max_size=4) | st.lists(st.lists(leaves, max_size=3), max_size=4) | st.lists(values)


# Booleans and fractions in one column are not among them: pyarrow makes 0.0 of False there.
@given(nested(TEXTS | NUMBERS_OF_JSON) | nested(TEXTS | st.booleans()) | nested(NUMBERS_OF_JSON))
def test_columns_of_json_have_the_types_that_pyarrow_finds_for_them(values: list[Any]):
    content = "".join(json.dumps({"a": value}) + "\n" for value in values)
    try:
        expected = pa.array(values).type
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        expected = pa.string()
    found = read_rows(BytesIO(content.encode()), ".jsonl", 0, len(values))
    assert [field.type for field in found.schema] == ([expected] if values else [])


def test_columns_of_json_with_more_fields_or_levels_than_are_told_apart_are_texts():
    many = "".join(json.dumps({"a": {f"{row}-{field}": 1 for field in range(50)}}) + "\n" for row in range(5))
    deep = '{"a": ' + "[" * 900 + "]" * 900 + "}"
    for content in (many, deep, '{"a": 1}\n' + deep):
        found = read_rows(BytesIO(content.encode()), ".jsonl", 0, 10)
        assert found.schema.field("a").type == pa.string()
        shown, _ = cells(found.rows[-1], ["a"])
        assert len(json.dumps(shown)) < 1_000


def test_rows_are_read_without_pandas(tmp_path: Path):
    """It is there where `datasets` is, and takes four times as long to load as all else that a first look needs."""
    (tmp_path / "a.parquet").write_bytes(parquet(NUMBERS))
    (tmp_path / "a.csv").write_text("n,text\n1,x\n")
    (tmp_path / "a.jsonl").write_text('{"n": 1, "text": "x", "list": [{"a": null}]}\n')
    code = """if True:
        import sys
        from pathlib import Path
        from lmcommons.hub.repos.matching import matches
        from lmcommons.hub.repos.scanning import scan
        from lmcommons.hub.repos.tabular import read_rows
        from lmcommons.hub.web.cells import table
        for path in sorted(Path(sys.argv[1]).iterdir()):
            with path.open("rb") as file:
                read = read_rows(file, path.suffix, 0, 25)
            table(read.rows, read.schema.names)
        with open(sys.argv[1] + "/a.parquet", "rb") as file:
            assert [number for batch in scan(file, ".parquet").batches for number in matches(batch, "ROW 77")]
        sys.exit("pandas" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".parquet", b""),
        (".parquet", b"PAR1"),
        (".parquet", b"PAR1" + bytes(100) + b"PAR1"),
        (".parquet", b"PAR1" + b"\xff" * 100 + b"\x10\x00\x00\x00PAR1"),
        (".parquet", b"PAR1" + bytes(20) + b"\xff\xff\xff\xffPAR1"),
        (".parquet", b'{"a": 1}\n' * 10),
        (".parquet", parquet(NUMBERS)[:-20]),
        (".parquet", parquet(NUMBERS, compression="snappy")[4:]),
        (".parquet", bytes(64) + parquet(NUMBERS, compression="zstd")[64:]),
        (".jsonl", b"{"),
        (".jsonl", b"[1, 2]"),
        (".jsonl", b"5\n6"),
        (".jsonl", b'{"a": 1}\nnot json'),
        (".jsonl", b"\xff\xfe"),
        (".jsonl", b'{"a": ' + b"[" * 100_000),
        (".json", b"[" * 100_000),
        (".csv", b""),
        (".csv", b"a,b\n1\n2,3,4\n"),
        (".csv", b",".join([b"c"] * 30_000) + b"\n"),
        (".csv", b'"' + b"c" * 200_000 + b'",d\n1,2\n'),
        (".csv", b"a,b\n\xff\xfe,1\n\x00"),
    ],
)
def test_what_is_damaged_is_refused_in_one_line(suffix: str, content: bytes):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read_rows(BytesIO(content), suffix, 0, 10)


def test_no_part_of_parquet_that_is_damaged_stops_the_process():
    whole = parquet(NUMBERS.slice(0, 50))
    for at in range(0, len(whole), 3):
        broken = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        try:
            assert len(read_rows(BytesIO(broken), ".parquet", 0, 10).rows) <= 10
        except ValueError:
            continue


def test_a_row_deep_in_a_large_row_group_is_refused(monkeypatch: pytest.MonkeyPatch):
    content = parquet(NUMBERS, use_dictionary=False, data_page_size=100, write_batch_size=10)
    monkeypatch.setattr(tabular, "DECODED_LIMIT", 2_000)
    assert len(read_rows(BytesIO(content), ".parquet", 0, 10).rows) == 10
    with pytest.raises(ValueError, match="row 900 is too deep in a row group of"):
        read_rows(BytesIO(content), ".parquet", 900, 10)


def zigzag(number: int, length: int = 1) -> bytes:
    """Thrift's compact form of a number, in at least so many bytes."""
    number, form = number << 1, []
    while number > 127 or len(form) + 1 < length:
        form.append(number & 127 | 128)
        number >>= 7
    return bytes([*form, number])


def test_a_large_page_is_refused_by_its_own_header_whatever_the_footer_says(monkeypatch: pytest.MonkeyPatch):
    table = pa.table({"small": range(3), "large": [bytes(1_000_000)] * 3})
    content = parquet(table, compression="zstd", use_dictionary=False, data_page_size=1 << 30)
    said = pq.read_metadata(BytesIO(content)).row_group(0)
    for size in (said.total_byte_size, said.column(1).total_uncompressed_size):
        content = content.replace(zigzag(size), zigzag(100, len(zigzag(size))))
    assert pq.read_metadata(BytesIO(content)).row_group(0).total_byte_size == 100
    assert read_rows(BytesIO(content), ".parquet", 0, 1).rows == table.slice(0, 1).to_pylist()
    monkeypatch.setattr(tabular, "DECODED_LIMIT", 2_000_000)
    with pytest.raises(ValueError, match=r"row 0 is in pages of 3,\d{3},\d{3} bytes when unpacked"):
        read_rows(BytesIO(content), ".parquet", 0, 1)


@pytest.mark.parametrize("compression", ["none", "snappy"])
@pytest.mark.parametrize("dictionary", [False, True])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_of_all_kinds_are_measured(version: str, dictionary: bool, compression: str):
    table = NUMBERS.append_column("list", pa.array([[n] * (n % 4) for n in range(1_000)]))
    table = table.append_column("deep", pa.array([{"a": n, "b": [str(n)]} for n in range(1_000)]))
    for page_size in (100, 1 << 30):
        content = parquet(
            table,
            data_page_version=version,
            use_dictionary=dictionary,
            compression=compression,
            data_page_size=page_size,
            write_batch_size=50,
        )
        assert read_rows(BytesIO(content), ".parquet", 0, 1_000).rows == table.to_pylist()
        row_group = pq.read_metadata(BytesIO(content)).row_group(0)
        for column in map(row_group.column, range(row_group.num_columns)):
            largest = demand(BytesIO(content), column, 1_000, repeated=False).size
            assert 0 < largest < column.total_uncompressed_size
            if page_size > 100 and not dictionary:  # all of the column but the header
                assert column.total_uncompressed_size - largest < 100


def test_wide_tables_are_cut():
    wide = pa.table({f"c{number}": [1] for number in range(300)})
    assert len(read_rows(BytesIO(parquet(wide)), ".parquet", 0, 1).schema) == tabular.COLUMNS_LIMIT
    many = json.dumps(wide.to_pylist()[0]).encode()
    assert len(read_rows(BytesIO(many), ".jsonl", 0, 1).schema) == tabular.COLUMNS_LIMIT


def test_features_are_named_as_datasets_names_them():
    assert feature(pa.string()) == {"dtype": "string", "_type": "Value"}
    assert feature(pa.float64()) == {"dtype": "float64", "_type": "Value"}
    assert feature(pa.float32()) == {"dtype": "float32", "_type": "Value"}
    assert feature(pa.timestamp("us")) == {"dtype": "timestamp[us]", "_type": "Value"}
    assert feature(pa.list_(pa.int8())) == {"feature": {"dtype": "int8", "_type": "Value"}, "_type": "List"}
    assert feature(pa.struct([("a", pa.bool_())])) == {"a": {"dtype": "bool", "_type": "Value"}}
    assert feature(pa.dictionary(pa.int8(), pa.string())) == {"dtype": "string", "_type": "Value"}


def test_cells_are_json():
    row = {
        "nan": float("nan"),
        "bytes": b"\xff\x00",
        "when": datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC),
        "money": Decimal("1.10"),
        "deep": {"a": [float("inf"), b"x"]},
        "long": "x" * 20_000,
    }
    shown, cut = cells(row, row)
    assert json.loads(json.dumps(shown, allow_nan=False)) == {
        "nan": None,
        "bytes": "/wA=",
        "when": "2026-01-31T00:00:00+00:00",
        "money": "1.10",
        "deep": {"a": [None, "eA=="]},
        "long": "x" * tabular.CELL_LIMIT,
    }
    assert cut == ["long"]


def test_rows_with_gaps_and_of_all_shapes_are_those_that_were_written():
    table = pa.table(
        {
            "text": ["a", None, "a", "b"],
            "raw": [b"1", b"", None, b"1"],
            "lists": [["x", None], None, [], ["x"]],
            "fixed": pa.array([["a", "b"], None, ["c", "d"], [None, "a"]], pa.list_(pa.string(), 2)),
            "large": pa.array([["x"], None, [], ["y", "x"]], pa.large_list(pa.large_string())),
            "deep": [{"a": [{"b": "x"}], "c": None}, None, {"a": None, "c": "y"}, {"a": [], "c": "y"}],
            "map": pa.array([[("k", "v")], None, [], [("k", None)]], pa.map_(pa.string(), pa.string())),
            "price": pa.array([Decimal("1.5"), None, Decimal("2"), Decimal("3")], pa.decimal256(40, 2)),
            "choice": pa.array(["x", None, "y", "x"]).dictionary_encode(),
            "empty": pa.nulls(4),
        }
    )
    for size in (1, 3, 4):
        content = parquet(table, row_group_size=size)
        assert read_rows(BytesIO(content), ".parquet", 0, 10).rows == table.to_pylist()
        assert read_rows(BytesIO(content), ".parquet", 1, 2).rows == table.slice(1, 2).to_pylist()
        scanned = [row for batch in scan(BytesIO(content), ".parquet").batches for row in batch_rows(batch)]
        assert scanned == table.to_pylist()


def test_a_long_text_that_stands_in_every_row_is_held_once():
    long = pa.array(["x" * 1_000_000])
    table = pa.table(
        {
            "text": pa.DictionaryArray.from_arrays(pa.array([0] * 3_000, pa.int32()), long),
            "list": pa.ListArray.from_arrays(
                pa.array(range(3_001), pa.int32()), pa.DictionaryArray.from_arrays(pa.array([0] * 3_000), long)
            ),
        }
    )
    content = parquet(table, compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 30)
    assert len(content) < 2_000
    rows = read_rows(BytesIO(content), ".parquet", 0, 100).rows
    assert len(rows) == 100
    assert len({id(row["text"]) for row in rows}) == len({id(row["list"][0]) for row in rows}) == 1
    for batch in scan(BytesIO(content), ".parquet").batches:
        assert batch.nbytes < 5_000_000


def test_a_cell_of_many_long_texts_is_cut_before_it_is_written_out():
    shown, cut = cells({"a": ["x" * 1_000_000] * 1_000, "b": {"k": "y" * 1_000_000}}, ["a", "b"])
    assert cut == ["a", "b"]
    assert [len(shown[name]) for name in "ab"] == [tabular.CELL_LIMIT] * 2
