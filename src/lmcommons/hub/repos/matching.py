"""Rows that have certain words in one of their cells."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lmcommons.hub.repos.tabular import cells, values


def matches(rows: pa.RecordBatch, words: str) -> list[int]:
    """The numbers of the rows in which a cell, written out, has `words`, in capitals or not; bytes have none.

    Of nested values what a cell shows is looked at: their beginning.
    """
    found: set[int] = set()
    for column in rows.columns:
        found.update(_in_column(column, words))
    return sorted(found)


def _in_column(column: pa.Array, words: str) -> list[int]:
    type_ = column.type
    if pa.types.is_dictionary(type_):
        known = set(_in_column(column.dictionary, words))
        return [number for number, at in enumerate(column.indices.to_pylist()) if at in known]
    if _is_binary(type_) or pa.types.is_null(type_):
        return []
    if pa.types.is_nested(type_):
        wanted = words.casefold()
        return [number for number, value in enumerate(values(column)) if wanted in _written(value).casefold()]
    if not pa.types.is_string(type_) and not pa.types.is_large_string(type_):
        column = pc.cast(column, pa.string())
    return _numbers(pc.match_substring(column, words, ignore_case=True))


def _numbers(hits: pa.Array) -> list[int]:
    return [int(number) for number in pc.indices_nonzero(hits).to_pylist()]


def _written(value: Any) -> str:
    shown = cells({"": value}, [""], lambda _: "")[0][""]
    return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)


def _is_binary(type_: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(type_) for test in tests)
