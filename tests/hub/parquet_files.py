"""Parquet files of a few hundred bytes that say they have billions of values, as no library writes them.

Sources: https://github.com/apache/parquet-format: `parquet.thrift`, Encodings.md (runs); Thrift's compact protocol.
"""

from io import BytesIO

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12  # types of fields
PLAIN, RLE, DELTA_LENGTH_BYTE_ARRAY, RLE_DICTIONARY = 0, 3, 6, 8
INT64, BYTE_ARRAY = 2, 6
REQUIRED, REPEATED = 0, 2

Field = tuple[int, bytes]


def flat(rows: int) -> bytes:
    """A column `a` of integers, in every row a seven, written as one run."""
    return _file(rows, rows, [_element("a", REQUIRED, INT64)], b"\1" + _run(0, rows), INT64, RLE_DICTIONARY)


def lists(rows: int, values: int) -> bytes:
    """A column `a` of lists of sevens: all rows have one, the last one has the rest of the values."""
    schema = [_element("a", REPEATED, INT64)]
    levels = _run(0, rows) + _run(1, values - rows), _run(1, values)
    page = b"".join(len(level).to_bytes(4, "little") + level for level in levels)
    return _file(rows, values, schema, page + b"\1" + _run(0, values), INT64, RLE_DICTIONARY)


def texts(rows: int) -> bytes:
    """A column `a` of empty texts, the lengths of which come first: blocks of deltas of no bits."""
    deltas = _varint(128) + _varint(4) + _varint(rows) + _integer(0) + (_integer(0) + bytes(4)) * 10
    schema = [_element("a", REQUIRED, BYTE_ARRAY)]
    return _file(rows, rows, schema, deltas, BYTE_ARRAY, DELTA_LENGTH_BYTE_ARRAY)


def _file(rows: int, values: int, schema: list[bytes], page: bytes, type_: int, encoding: int) -> bytes:
    out = BytesIO()
    out.write(b"PAR1")
    places: dict[int, Field] = {}
    start = out.tell()
    if encoding == RLE_DICTIONARY:
        places[11] = I64, _integer(start)
        counted = _struct({1: (I32, _integer(1)), 2: (I32, _integer(PLAIN))})
        out.write(_page(2, 7, counted, (7).to_bytes(8, "little")))
    places[9] = I64, _integer(out.tell())
    described = ((1, values), (2, encoding), (3, RLE), (4, RLE))
    counted = _struct({number: (I32, _integer(value)) for number, value in described})
    out.write(_page(0, 5, counted, page))
    size = I64, _integer(out.tell() - start)
    column = {
        1: (I32, _integer(type_)),
        2: _list(I32, [_integer(encoding)]),
        3: _list(BINARY, [_text("a")]),
        4: (I32, _integer(0)),  # not compressed
        5: (I64, _integer(values)),
        6: size,
        7: size,
        **places,
    }
    chunk = _struct({2: places[9], 3: (STRUCT, _struct(column))})
    group = _struct({1: _list(STRUCT, [chunk]), 2: size, 3: (I64, _integer(rows))})
    root = _struct({4: (BINARY, _text("root")), 5: (I32, _integer(1))})
    footer = _struct(
        {
            1: (I32, _integer(2)),
            2: _list(STRUCT, [root, *schema]),
            3: (I64, _integer(rows)),
            4: _list(STRUCT, [group]),
        }
    )
    out.write(footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return out.getvalue()


def _page(kind: int, field: int, counted: bytes, content: bytes) -> bytes:
    size = I32, _integer(len(content))
    return _struct({1: (I32, _integer(kind)), 2: size, 3: size, field: (STRUCT, counted)}) + content


def _element(name: str, repetition: int, type_: int) -> bytes:
    return _struct({1: (I32, _integer(type_)), 3: (I32, _integer(repetition)), 4: (BINARY, _text(name))})


def _run(value: int, count: int) -> bytes:
    """A value of one bit, `count` times."""
    return _varint(count << 1) + bytes([value])


def _struct(fields: dict[int, Field]) -> bytes:
    out, last = b"", 0
    for number, (kind, body) in sorted(fields.items()):
        out += bytes([(number - last) << 4 | kind]) + body
        last = number
    return out + b"\0"


def _list(kind: int, items: list[bytes]) -> Field:
    return LIST, bytes([len(items) << 4 | kind]) + b"".join(items)


def _text(value: str) -> bytes:
    return _varint(len(value)) + value.encode()


def _integer(value: int) -> bytes:
    return _varint(value << 1)


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
