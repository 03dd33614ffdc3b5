"""Tables in files of separated values, by whatever sign they are separated.

Source: RFC 4180, and what programs write besides: a semicolon where the comma is the decimal sign, a tab, a bar.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from io import BytesIO, StringIO
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.csv

from lmcommons.hub.errors import Malformed
from lmcommons.hub.repos.encodings import decode

SEPARATORS = (",", ";", "\t", "|")
SAMPLE_CHARACTERS, SAMPLE_ROWS = 1 << 16, 100  # by which the separator is recognised
HEADER_CHARACTERS, COLUMNS_LIMIT = 1 << 20, 20_000  # each column costs as much time as many rows


def read_separated(content: bytes, usual: str, *, whole: bool) -> pa.Table:
    """A file, or its beginning without the row in which it ends, as a table; the first row names the columns.

    Args:
        usual: the separator that files of its name have.

    Raises:
        ValueError: its text is not UTF-8, its rows differ in length, or it has too many columns.
        pa.ArrowException: it has no rows.
    """
    try:
        text = decode(content, whole=whole)
    except UnicodeDecodeError as error:
        raise Malformed("its text is not UTF-8") from error
    sign = _separator(text, usual, whole=whole)
    _check_width(text, sign)
    uneven: list[Any] = []

    def leave_out(row: Any) -> str:
        uneven.append(row)
        return "skip" if len(uneven) == 1 else "error"

    parsing = pa.csv.ParseOptions(delimiter=sign, newlines_in_values=True, invalid_row_handler=leave_out)
    try:
        table = pa.csv.read_csv(BytesIO(text.encode()), pa.csv.ReadOptions(use_threads=False), parsing)
    except pa.ArrowInvalid:
        if len(uneven) < 2:  # more than one are an error by themselves
            raise
    if uneven and (whole or len(uneven) > 1 or uneven[0].number != table.num_rows + 2):  # the first, 1, has the names
        raise Malformed(
            "row {number}: {count} values for {width} columns",
            number=uneven[0].number - 2,
            count=uneven[0].actual_columns,
            width=uneven[0].expected_columns,
        )
    if not whole and not uneven:
        table = table.slice(0, max(0, table.num_rows - 1))
    return table.rename_columns(_distinct(table.column_names))


def _separator(text: str, usual: str, *, whole: bool) -> str:
    """The first of the usual separator and the others by which all rows have the same number of values, above one."""
    sample = text[:SAMPLE_CHARACTERS]
    ends_in_a_row = len(sample) < len(text) or not whole
    for sign in dict.fromkeys((usual, *SEPARATORS)):
        try:
            rows = list(islice(csv.reader(StringIO(sample, newline=""), delimiter=sign), SAMPLE_ROWS))
        except csv.Error:
            continue
        if ends_in_a_row and len(rows) < SAMPLE_ROWS:
            del rows[-1:]
        widths = {len(row) for row in rows if row}
        if len(widths) == 1 and max(widths) > 1:
            return sign
    return usual


def _check_width(text: str, sign: str) -> None:
    try:
        header = next(csv.reader(StringIO(text[:HEADER_CHARACTERS], newline=""), delimiter=sign), [])
    except csv.Error as error:
        raise Malformed("cannot be read as {suffix}: {reason}", suffix="csv", reason=error) from error
    if len(header) > COLUMNS_LIMIT:
        raise Malformed("more than {limit:,} columns", limit=COLUMNS_LIMIT)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, each another, as pandas tells equal ones apart: a, a.1."""
    met: Counter[str] = Counter()
    found = []
    for name in names:
        new = name
        while met[new]:
            new = f"{name}.{met[name]}"
            met[name] += 1
        met[new] += 1
        found.append(new)
    return found
