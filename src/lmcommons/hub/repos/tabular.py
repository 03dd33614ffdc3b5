"""Rows of a file: some of them, with their columns, without reading more of it than they need.

Parquet is read by row group through its footer; lines of JSON and CSV, compressed or not, from their beginning, up to a
limit.
"""

import base64
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from lmcommons.hub.errors import Malformed
from lmcommons.hub.repos.cards import printable
from lmcommons.hub.repos.parquet_pages import demand
from lmcommons.hub.repos.separated import read_separated
from lmcommons.hub.repos.splits import COMPRESSIONS

BATCH = 100  # rows decoded at a time
COLUMNS_LIMIT = 200  # also fields of a structure
LEVELS_LIMIT = 100  # of structures and lists in one another
EXACT = 1 << 53  # up to here every whole number is one in double precision
CELL_LIMIT = 10_000  # characters of a text
TEXT_LIMIT = 8 << 20  # bytes of JSON or CSV that are looked through
FOOTER_LIMIT = 32 << 20  # bytes
DECODED_LIMIT = 256 << 20  # bytes of a row group that are decompressed to reach its rows, and of pages at a time
SKIPPED_LIMIT = 100_000_000  # cells that are passed over to reach a row: about two seconds
VALUES_LIMIT = 1 << 25  # of a row group, that may be in one row or are unpacked before the first is read
BUFFER = 1 << 18  # bytes read at a time
# Of a file that is not what its name says.
FAILURES = (pa.ArrowException, OSError, UnicodeDecodeError, RecursionError, json.JSONDecodeError)

Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Some rows; `total` counts all of the file, and is None where only a beginning was read: of `known` rows.

    `schema` has the first of the `width` columns.
    """

    schema: pa.Schema
    rows: list[Row]
    known: int
    total: int | None
    width: int


def read_rows(file: BinaryIO, suffix: str, start: int, length: int) -> Rows:
    """Rows from `start` (the first is 0), at most `length`, of a file whose name ends in `suffix`.

    Args:
        suffix: as `splits.data_suffix` finds it: `.csv`, or `.csv.gz`.

    Raises:
        ValueError: it is not what its name says, or cannot be read in parts.
    """
    try:
        if suffix == ".parquet":
            return _parquet(file, start, length)
        content, whole = _beginning(file, suffix)
        if suffix.startswith((".csv", ".tsv")):
            return _separated(content, suffix, start, length, whole=whole)
        return _json(content, start, length, whole=whole)
    except FAILURES as error:
        raise unreadable(suffix, error) from error


def unreadable(suffix: str, error: Exception) -> ValueError:
    """One of FAILURES in one line."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return Malformed("cannot be read as {suffix}: {reason}", suffix=suffix.removeprefix("."), reason=reason)


def plain_type(type_: pa.DataType) -> pa.DataType:
    """A type without dictionaries: what the values are, however they are held."""
    if pa.types.is_dictionary(type_):
        return type_.value_type
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(plain_type(field.type)) for field in type_])
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(plain_type(type_.value_type)))
    return type_


def feature(type_: pa.DataType) -> Any:
    """A column's type as `datasets` writes its features."""
    if pa.types.is_struct(type_):
        return {field.name: feature(field.type) for field in type_}
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return {"feature": feature(type_.value_type), "_type": "List"}
    if pa.types.is_dictionary(type_):
        return feature(type_.value_type)
    names = {"double": "float64", "float": "float32", "halffloat": "float16"}
    return {"dtype": names.get(str(type_), str(type_)), "_type": "Value"}


def base64_words(content: bytes) -> str:
    """As much of bytes as a cell has room for, as base64."""
    return base64.b64encode(content[:CELL_LIMIT]).decode()


def cells(row: Row, names: Iterable[str], of_bytes: Callable[[bytes], str] = base64_words) -> tuple[Row, list[str]]:
    """A row as JSON values, with bytes written as `of_bytes` does, and the names of its columns that were cut."""
    shown, cut = {}, []
    for name in names:
        value = _plain(row.get(name), of_bytes)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if len(text) > CELL_LIMIT:
            cut.append(name)
            value = text[:CELL_LIMIT]
        shown[name] = value
    return shown, cut


def open_parquet(file: BinaryIO) -> Any:
    """A Parquet file, as pyarrow's `ParquetFile`: what it says of itself.

    Raises:
        ValueError, pa.ArrowException, OSError: it is none.
    """
    size = file.seek(0, 2)
    if size < 12:
        raise Malformed("cannot be read as parquet: {size} bytes", size=size)
    file.seek(-8, 2)
    footer = int.from_bytes(file.read(4), "little")
    if footer > min(FOOTER_LIMIT, size - 12):
        raise Malformed("cannot be read as parquet: a footer of {footer:,} bytes", footer=footer)
    return pa.parquet.ParquetFile(file)


def reading(parquet: Any, file: BinaryIO) -> Any:
    """An open Parquet file to read rows from, a page after the other: a row group need not fit into memory.

    Texts and bytes come as dictionaries: a long one that a small file has in every row stays one. See `values`.
    """
    leaves = map(parquet.schema.column, range(parquet.metadata.num_columns))
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type != "DECIMAL"]
    return pa.parquet.ParquetFile(
        file, metadata=parquet.metadata, buffer_size=BUFFER, pre_buffer=False, read_dictionary=texts
    )


def values(array: pa.Array) -> list[Any]:
    """The values of an array for Python, of lists the first 10,000; equal ones of a dictionary are one object."""
    type_ = array.type
    if pa.types.is_dictionary(type_):
        used = pc.unique(array.indices.drop_null())
        known = dict(zip(used.to_pylist(), array.dictionary.take(used).to_pylist(), strict=True))
        return [None if at is None else known[at] for at in array.indices.to_pylist()]
    if pa.types.is_struct(type_) and type_.num_fields:
        fields = zip(*(values(field) for field in array.flatten()), strict=True)
        names = [field.name for field in type_]
        there = array.is_valid().to_pylist()
        return [dict(zip(names, row, strict=True)) if ok else None for ok, row in zip(there, fields, strict=True)]
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        if (pc.max(pc.list_value_length(array)).as_py() or 0) > CELL_LIMIT:  # no more is shown
            array = pc.list_slice(array, 0, CELL_LIMIT, return_fixed_size_list=False)
        flat = iter(values(array.flatten()))
        lengths = pc.list_value_length(array).to_pylist()
        return [None if length is None else list(islice(flat, length)) for length in lengths]
    return list(array.to_pylist())


def _parquet(file: BinaryIO, start: int, length: int) -> Rows:
    opened = open_parquet(file)
    parquet = reading(opened, file)
    total = parquet.metadata.num_rows
    schema = pa.schema(list(opened.schema_arrow)[:COLUMNS_LIMIT])
    rows: list[Row] = []
    first = 0
    for group in range(parquet.num_row_groups):
        here = parquet.metadata.row_group(group)
        skipped = max(0, start - first)
        first += here.num_rows
        if skipped >= here.num_rows or len(rows) >= length:
            continue
        reached = skipped + length
        check_row_group(file, parquet, group, schema.names, start, reached, reached + BATCH)
        rows += _of_batches(parquet, group, schema.names, skipped, length - len(rows))
    return Rows(schema, rows, total, total, len(opened.schema_arrow))


def check_row_group(
    file: BinaryIO, parquet: Any, group: int, names: list[str], start: int, reached: int, needed: int
) -> None:
    """Return when the rows of a row group, from number `start` of the file, can be read in bounded time and memory.

    Args:
        names: of the columns that are read.
        reached: rows that are passed over before an answer.
        needed: rows whose pages may be unpacked.

    Raises:
        ValueError: they cannot.
    """
    here = parquet.metadata.row_group(group)
    if here.total_byte_size * reached > DECODED_LIMIT * here.num_rows:
        raise Malformed(
            "row {start:,} is too deep in a row group of {size:,} bytes; write smaller ones",
            start=start,
            size=here.total_byte_size,
        )
    if reached * len(names) > SKIPPED_LIMIT:
        raise Malformed(
            "row {start:,} is too deep in a row group of {rows:,} rows; write smaller ones",
            start=start,
            rows=here.num_rows,
        )
    paths = tuple(f"{name}." for name in names)
    demands = [
        demand(file, here.column(number), needed, repeated=parquet.schema.column(number).max_repetition_level > 0)
        for number in range(here.num_columns)
        if f"{here.column(number).path_in_schema}.".startswith(paths)
    ]
    if (unpacked := sum(size for size, _ in demands)) > DECODED_LIMIT:
        raise Malformed(
            "row {start:,} is in pages of {size:,} bytes when unpacked; write smaller ones", start=start, size=unpacked
        )
    if (held := sum(count for _, count in demands)) > VALUES_LIMIT:
        raise Malformed(
            "row {start:,} is in a row group with {count:,} values in lists or in one page, and at most {limit:,} are "
            "read; write smaller ones",
            start=start,
            count=held,
            limit=VALUES_LIMIT,
        )


def _of_batches(parquet: Any, group: int, names: list[str], skipped: int, length: int) -> list[Row]:
    rows: list[Row] = []
    for batch in parquet.iter_batches(batch_size=BATCH, row_groups=[group], columns=names, use_threads=False):
        if skipped < batch.num_rows:
            rows += batch_rows(batch.slice(skipped, length - len(rows)))
        skipped = max(0, skipped - batch.num_rows)
        if len(rows) >= length:
            break
    return rows


def batch_rows(batch: pa.RecordBatch) -> list[Row]:
    """The rows of a batch."""
    names = batch.schema.names
    rows = zip(*(values(column) for column in batch.columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _separated(content: bytes, suffix: str, start: int, length: int, *, whole: bool) -> Rows:
    table = read_separated(content, "\t" if suffix.startswith(".tsv") else ",", whole=whole)
    shown = table.select(range(min(table.num_columns, COLUMNS_LIMIT)))
    rows = shown.slice(start, length).to_pylist()
    return Rows(shown.schema, rows, table.num_rows, table.num_rows if whole else None, table.num_columns)


def _json(content: bytes, start: int, length: int, *, whole: bool) -> Rows:
    if content.lstrip()[:1] == b"[":
        if not whole:
            raise Malformed(
                "an array of more than {limit:,} bytes; write a line for each row (.jsonl)", limit=TEXT_LIMIT
            )
        found = json.loads(content)
        rows, known = found[start : start + length], len(found)
    else:
        end = len(content) if whole else content.rfind(b"\n") + 1
        lines = [line for line in content[:end].split(b"\n") if line.strip()]
        chosen = lines[start : start + length]
        rows, known = [_parsed(line, number) for number, line in enumerate(chosen, start)], len(lines)
    for number, row in enumerate(rows, start):
        if not isinstance(row, dict):
            raise Malformed("row {number} is not a JSON object", number=number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    schema = pa.schema([(name, _type([row.get(name) for row in rows])) for name in names[:COLUMNS_LIMIT]])
    return Rows(schema, rows, known, known if whole else None, len(names))


def _parsed(line: bytes, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise Malformed("row {number} is not JSON: {reason}", number=number, reason=error) from error


def _beginning(file: BinaryIO, suffix: str) -> tuple[bytes, bool]:
    """The content up to the limit, without the compression that a name may end in, and whether that is all."""
    packed: Any = SimpleNamespace(read=file.read, closed=False, close=lambda: None)  # Arrow closes what it has read
    compression = COMPRESSIONS.get(PurePosixPath(suffix).suffix)
    opened = pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), compression) if compression else file
    content = opened.read(TEXT_LIMIT + 1)
    return content[:TEXT_LIMIT], len(content) <= TEXT_LIMIT


def _type(values: list[Any]) -> pa.DataType:
    """The type of a column of JSON values; of mixed ones, text."""
    try:
        return _type_of_all(values, LEVELS_LIMIT)
    except ValueError:
        return pa.string()


def _type_of_all(values: list[Any], levels: int) -> pa.DataType:
    """The one type that all values have, found without making them an array: where pandas is installed, that loads it.

    Raises:
        ValueError: they have several, one that Arrow has none for, too many fields, or are nested too deep.
    """
    present = [value for value in values if value is not None]
    kinds = set(map(type, present))
    if not kinds:
        return pa.null()
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and min(present) >= -(1 << 63) and max(present) < 1 << 63:
        return pa.int64()
    if float in kinds <= {int, float} and all(abs(value) <= EXACT for value in present if isinstance(value, int)):
        return pa.float64()
    if kinds == {str}:
        "".join(present).encode()  # half characters are no text
        return pa.string()
    if kinds == {list} and levels:
        return pa.list_(_type_of_all([item for value in present for item in value], levels - 1))
    if kinds == {dict} and levels:
        names = dict.fromkeys(name for value in present for name in value)
        if len(names) <= COLUMNS_LIMIT:
            fields = {name: [value.get(name) for value in present] for name in names}
            return pa.struct([(name, _type_of_all(field, levels - 1)) for name, field in fields.items()])
    raise ValueError


def _plain(value: Any, of_bytes: Callable[[bytes], str], levels: int = LEVELS_LIMIT) -> Any:
    """As a JSON value, but for what no cell has room for: what JSON has no word for is written out."""
    if isinstance(value, dict | list | tuple) and not levels:
        return "…"
    if isinstance(value, dict):
        return {printable(str(key)): _plain(item, of_bytes, levels - 1) for key, item in value.items()}
    if isinstance(value, str):
        return printable(value[: CELL_LIMIT + 1])
    if isinstance(value, list | tuple):
        return [_plain(item, of_bytes, levels - 1) for item in value[:CELL_LIMIT]]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return of_bytes(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    return value
