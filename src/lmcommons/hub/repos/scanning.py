"""All rows of a file in batches, one after the other, in bounded memory.

Of Parquet a batch of a row group at a time; of JSON and CSV the beginning that `tabular.py` reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from lmcommons.hub.repos.tabular import (
    COLUMNS_LIMIT,
    FAILURES,
    check_row_group,
    open_parquet,
    read_rows,
    reading,
    unreadable,
)

BATCH_ROWS = 1_000
BATCH_BYTES = 8 << 20  # by what the file says of itself


@dataclass(frozen=True)
class Scan:
    """The rows of a file: `known` can be read, of `total`; None where only a beginning is looked through."""

    known: int
    total: int | None
    batches: Iterator[pa.RecordBatch]


def scan(file: BinaryIO, suffix: str, start: int = 0) -> Scan:
    """The rows of a file from `start` (the first is 0), of at most 200 columns.

    Raises:
        ValueError: it is not what its name says, or cannot be read in parts; also in the midst of the batches.
    """
    if suffix != ".parquet":
        read = read_rows(file, suffix, start, (1 << 63) - 1)
        return Scan(read.known, read.total, _of_rows(read.schema, read.rows))
    try:
        parquet = open_parquet(file)
        names = parquet.schema_arrow.names[:COLUMNS_LIMIT]
        batches = _of_parquet(reading(parquet, file), names, file, start)
    except FAILURES as error:
        raise unreadable(suffix, error) from error
    rows = parquet.metadata.num_rows
    return Scan(rows, rows, batches)


def _of_rows(schema: pa.Schema, rows: list[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    for first in range(0, len(rows), BATCH_ROWS):
        some = rows[first : first + BATCH_ROWS]
        columns = [[row.get(name) for row in some] for name in schema.names]
        arrays = [_array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema.names)


def _array(values: list[Any], type_: pa.DataType) -> pa.Array:
    """The values of a column; of one whose values are of several types, their texts."""
    try:
        return pa.array(values, type_)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _compact(column: pa.Array) -> pa.Array:
    """A dictionary without the values that these rows do not have."""
    if not pa.types.is_dictionary(column.type):
        return column
    used = pc.unique(column.indices.drop_null())
    return pa.DictionaryArray.from_arrays(pc.index_in(column.indices, used), column.dictionary.take(used))


def _text(value: Any) -> str:
    return str(value).encode(errors="replace").decode()


def _of_parquet(parquet: Any, names: list[str], file: BinaryIO, start: int) -> Iterator[pa.RecordBatch]:
    first = 0
    try:
        for group in range(parquet.num_row_groups):
            here = parquet.metadata.row_group(group)
            skipped = max(0, start - first)
            first += here.num_rows
            if skipped >= here.num_rows:
                continue
            check_row_group(file, parquet, group, names, start, skipped, here.num_rows)
            size = max(1, min(BATCH_ROWS, BATCH_BYTES * here.num_rows // max(1, here.total_byte_size)))
            for batch in parquet.iter_batches(batch_size=size, row_groups=[group], columns=names, use_threads=False):
                if skipped < batch.num_rows:
                    columns = [_compact(column) for column in batch.slice(skipped).columns]
                    yield pa.RecordBatch.from_arrays(columns, names)
                skipped = max(0, skipped - batch.num_rows)
    except FAILURES as error:
        raise unreadable(".parquet", error) from error
