"""What the pages of a Parquet file unpack to, by their own headers: pyarrow makes room for whatever a header claims.

A few bytes can stand for billions of values: runs of one value, and of list items in one row, have only their length
written down. So bytes and values are both counted before any is read.

A page's header is a struct of Thrift's compact protocol before it. Sources: `PageHeader` in
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from typing import Any, BinaryIO, NamedTuple

from lmcommons.hub.errors import Malformed

UNPACKED, PACKED, DATA_PAGE, DATA_PAGE_V2 = 2, 3, 5, 8  # fields of a page's header
COUNT = 1  # the field of a data page's own header that counts its values
ENCODINGS = {DATA_PAGE: 2, DATA_PAGE_V2: 4}  # the field of such a header that says how they are written
WITH_LENGTHS = (6, 7)  # DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY: the lengths of all values of a page come first
PAGES_LIMIT = 10_000  # of a column in a row group that are looked at


class Demand(NamedTuple):
    """What reading a column takes: bytes of its largest page, unpacked, and values that may be in memory at once."""

    size: int
    values: int


def demand(file: BinaryIO, column: Any, rows: int, *, repeated: bool) -> Demand:
    """What it takes to read the first rows of a column one batch after the other.

    Args:
        column: pyarrow's `ColumnChunkMetaData`.
        rows: how many.
        repeated: a row may have several values, and one row may have nearly all: all pages are looked at.

    Raises:
        ValueError: a header cannot be read, or there are too many.
    """
    position = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    end = position + column.total_compressed_size
    largest, held, left = 0, 0, column.num_values if repeated else rows
    for _ in range(PAGES_LIMIT):
        if left <= 0 or position >= end:
            return Demand(largest, held)
        file.seek(position)
        header = _struct(file)
        unpacked, packed = header.get(UNPACKED), header.get(PACKED)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or packed < 0:
            raise Malformed("cannot be read as parquet: a page without a size")
        largest = max(largest, unpacked)
        for kind, encoding in ENCODINGS.items():
            data = header.get(kind)
            if isinstance(data, dict):
                count = data.get(COUNT) or 0
                left -= count
                if repeated:
                    held += count
                elif data.get(encoding) in WITH_LENGTHS:
                    held = max(held, count)
        position = file.tell() + packed
    raise Malformed("cannot be shown: a column of more than {limit:,} pages in a row group", limit=PAGES_LIMIT)


def _struct(file: BinaryIO) -> dict[int, Any]:
    """The fields of a struct by their numbers; texts are passed over, and no page's header has lists."""
    found: dict[int, Any] = {}
    number = 0
    while head := _byte(file):
        number = number + (head >> 4) if head >> 4 else _integer(file)
        match head & 15:
            case 1 | 2:  # true and false
                found[number] = head & 15 == 1
            case 3:
                found[number] = _byte(file)
            case 4 | 5 | 6:
                found[number] = _integer(file)
            case 8:
                file.seek(_varint(file), 1)
            case 12:
                found[number] = _struct(file)
            case kind:
                raise Malformed("cannot be read as parquet: a page's header with a field of type {kind}", kind=kind)
    return found


def _integer(file: BinaryIO) -> int:
    value = _varint(file)
    return (value >> 1) ^ -(value & 1)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = _byte(file)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise Malformed("cannot be read as parquet: a page's header with a number of more than 64 bits")


def _byte(file: BinaryIO) -> int:
    found = file.read(1)
    if not found:
        raise Malformed("cannot be read as parquet: it ends in a page's header")
    return found[0]
