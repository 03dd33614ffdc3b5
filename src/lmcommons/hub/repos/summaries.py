"""What columns of rows hold: how many values, which, how they are spread. Rows come in batches and are not kept.

Of numbers and of lengths all are kept, eight bytes each, so that medians and histograms are exact; of texts a hash of
64 bits each and, to find the most frequent, a summary of bounded size (Misra and Gries 1982, merged as in Agarwal et
al. 2012, "Mergeable summaries"): a value that is more than one in 2,000 is always found, and counted exactly.
For the five million values that are taken in at most, this is some 400 MiB.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmcommons.hub.repos.tabular import plain_type

COLUMNS_LIMIT = 100
VALUES_LIMIT = 5_000_000  # of all columns
ROWS_LIMIT = 1_000_000
BYTES_LIMIT = 1 << 30  # of the rows, as Arrow holds them
CANDIDATES = 2_000  # values of a column that may be among the most frequent
TOP = 10
SHOWN = 100  # characters of a frequent value
TYPE_LIMIT = 200  # characters
BINS = 20

Numbers = np.ndarray[Any, np.dtype[Any]]


class Summary:
    """The columns of rows that are added a batch at a time."""

    def __init__(self) -> None:
        self.rows = 0
        self._bytes = 0
        self._columns: dict[str, _Column] = {}
        self._left_out: set[str] = set()

    @property
    def full(self) -> bool:
        """Whether no more rows are taken in."""
        limit = min(ROWS_LIMIT, VALUES_LIMIT // max(1, len(self._columns)))
        return self.rows >= limit or self._bytes >= BYTES_LIMIT

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows."""
        self.rows += batch.num_rows
        self._bytes += batch.nbytes
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            if name not in self._columns:
                if len(self._columns) >= COLUMNS_LIMIT:
                    self._left_out.add(name)
                    continue
                self._columns[name] = _Column(values.type)
            self._columns[name].add(values)

    def as_dict(self) -> dict[str, Any]:
        """What was found, as JSON values: `rows` that were read, `columns`, and how many were left out of them.

        A column has `name`, `type`, `kind` (number, text, boolean, time, list, bytes, other, mixed, empty), `missing`
        (null, and numbers that are not finite); by kind `distinct`, `top` (value and count of those that occur twice or
        more), `min`, `max`, `mean`, `median`, `std` (of the sample), and a `histogram`: `edges` and, one fewer,
        `counts`. Of texts (in characters), bytes and lists these numbers are those of their lengths.
        """
        columns = [{"name": name, **column.as_dict(self.rows)} for name, column in self._columns.items()]
        return {"rows": self.rows, "columns": columns, "left_out": len(self._left_out)}


class _Column:
    def __init__(self, type_: pa.DataType) -> None:
        self._type, self._kind = type_, _kind(type_)
        self._present = 0
        self._numbers: list[Numbers] = []  # the values, or their lengths
        self._hashes: list[Numbers] = []
        self._frequent: Counter[int] = Counter()  # by hash; never above the true count
        self._shown: dict[int, str] = {}
        self._ends: list[pa.Array] = []  # of times: the first and the last of each batch

    def add(self, values: pa.Array) -> None:
        values = values.drop_null()
        kind = _kind(values.type)
        if self._kind == "empty":
            self._type, self._kind = values.type, kind
        if kind == "empty" or len(values) == 0:
            return
        if kind != self._kind or (kind == "time" and values.type != self._type):
            self._kind = "mixed"
        if kind == "number":
            values = _finite(values)
        self._present += len(values)
        match self._kind:
            case "number":
                self._numbers.append(_numpy(values))
            case "text":
                texts = _dictionary(values)
                self._numbers.append(_numpy(pc.utf8_length(texts.dictionary).take(texts.indices)))
                self._add_texts(texts)
            case "boolean":
                self._add_texts(_dictionary(pc.cast(values, pa.string())))
            case "bytes":
                parts = _dictionary(values)
                self._numbers.append(_numpy(pc.binary_length(parts.dictionary).take(parts.indices)))
            case "list":
                self._numbers.append(_numpy(pc.list_value_length(values)))
            case "time":
                ends = pc.min_max(values)
                self._ends.append(pa.array([ends["min"], ends["max"]], values.type))
                self._hashes.append(_numpy(values.view(pa.int64() if values.type.bit_width == 64 else pa.int32())))

    def as_dict(self, rows: int) -> dict[str, Any]:
        found: dict[str, Any] = {"type": str(plain_type(self._type))[:TYPE_LIMIT], "kind": self._kind}
        found["missing"] = rows - self._present
        if self._present == 0 or self._kind == "mixed":
            return found
        if self._hashes:
            hashes, counts = np.unique(np.concatenate(self._hashes), return_counts=True)
            found["distinct"] = len(hashes)
            if self._frequent:
                at = np.searchsorted(hashes, list(self._frequent))
                found["top"] = _top([self._shown[key] for key in self._frequent], counts[at].tolist())
        if self._ends:
            ends = pc.min_max(pa.concat_arrays(self._ends))
            found |= {"min": _written(ends["min"]), "max": _written(ends["max"])}
        if self._numbers:
            numbers = np.concatenate(self._numbers)
            if self._kind == "number":
                values, counts = np.unique(numbers, return_counts=True)
                often = np.argsort(-counts, kind="stable")[:TOP]
                found["distinct"] = len(values)
                found["top"] = _top([_short(value) for value in values[often].tolist()], counts[often].tolist())
            found |= _spread(numbers)
        return found

    def _add_texts(self, texts: pa.DictionaryArray) -> None:
        values, indices = texts.dictionary.to_pylist(), _numpy(texts.indices)
        hashes = [hash(value) for value in values]
        self._hashes.append(np.array(hashes, np.int64)[indices])
        for key, value, count in zip(hashes, values, np.bincount(indices, minlength=len(values)).tolist(), strict=True):
            if key not in self._shown:
                self._shown[key] = value[:SHOWN]
            self._frequent[key] += count
        if len(self._frequent) > CANDIDATES:
            cut = sorted(self._frequent.values(), reverse=True)[CANDIDATES]
            self._frequent = Counter({key: count - cut for key, count in self._frequent.items() if count > cut})
            self._shown = {key: self._shown[key] for key in self._frequent}


def _kind(type_: pa.DataType) -> str:
    types = pa.types
    if types.is_dictionary(type_):
        return _kind(type_.value_type)
    for kind, tests in {
        "empty": (types.is_null,),
        "boolean": (types.is_boolean,),
        "number": (types.is_integer, types.is_floating, types.is_decimal),
        "text": (types.is_string, types.is_large_string),
        "time": (types.is_timestamp, types.is_date, types.is_time, types.is_duration),
        "bytes": (types.is_binary, types.is_large_binary, types.is_fixed_size_binary),
        "list": (types.is_list, types.is_large_list, types.is_fixed_size_list),
    }.items():
        if any(test(type_) for test in tests):
            return kind
    return "other"


def _finite(values: pa.Array) -> pa.Array:
    """The numbers that are finite, whole ones as they are and all others in double precision."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_integer(values.type):
        return values
    values = pc.cast(values, pa.float64())
    return values.filter(pc.is_finite(values))


def _dictionary(values: pa.Array) -> pa.DictionaryArray:
    return values if pa.types.is_dictionary(values.type) else values.dictionary_encode()


def _numpy(values: pa.Array) -> Numbers:
    found: Numbers = values.to_numpy(zero_copy_only=False)
    return found


def _top(values: Sequence[str], counts: Sequence[int]) -> list[list[Any]]:
    """The values that occur most often, of those that occur more than once, with their counts."""
    often = sorted(zip(counts, values, strict=True), key=lambda pair: (-pair[0], pair[1]))
    return [[value, count] for count, value in often[:TOP] if count > 1]


def _spread(numbers: Numbers) -> dict[str, Any]:
    """Ends, mean, median, standard deviation of the sample, and a histogram of bins of equal width."""
    least, most = numbers.min().item(), numbers.max().item()
    found = {"min": least, "max": most}
    with np.errstate(over="ignore", invalid="ignore"):
        found["mean"] = _number(np.mean(numbers, dtype=np.float64))
        found["median"] = _number(np.median(numbers))
        found["std"] = _number(np.std(numbers, dtype=np.float64, ddof=1)) if len(numbers) > 1 else None
    if np.issubdtype(numbers.dtype, np.integer) and most - least < 1 << 62:
        width = -(-(most - least + 1) // BINS)
        counts = np.bincount(((numbers - least) // width).astype(np.int64))
        edges = [least + number * width for number in range(len(counts) + 1)]
        return found | {"histogram": {"edges": edges, "counts": counts.tolist()}}
    if not math.isfinite(float(most) - float(least)):
        return found
    ends = np.unique(np.linspace(least, most, BINS + 1))  # fewer where doubles lie no closer
    shares = np.histogram(numbers.astype(np.float64), ends)[0].tolist() if len(ends) > 1 else [len(numbers)]
    return found | {"histogram": {"edges": ends.tolist() if len(ends) > 1 else [least, most], "counts": shares}}


def _short(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.6g}"


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _written(value: Any) -> str:
    """A time as text."""
    try:
        return str(value.cast(pa.string()).as_py())
    except pa.ArrowException:
        return str(value)
