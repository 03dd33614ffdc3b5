"""What columns hold, by other means: the standard library's statistics, and counting."""

import datetime
import json
import math
import random
import statistics
import tracemalloc
from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.repos import summaries
from lmcommons.hub.repos.summaries import Summary


def summary(table: pa.Table, rows: int = 100) -> dict[str, Any]:
    found = Summary()
    for batch in table.to_batches(max_chunksize=rows):
        found.add(batch)
    result = found.as_dict()
    json.dumps(result, allow_nan=False)
    return result


def column(values: Any, type_: pa.DataType | None = None, rows: int = 100) -> dict[str, Any]:
    return summary(pa.table({"c": pa.array(values, type_)}), rows)["columns"][0]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**40), 2**40)), min_size=1, max_size=60), st.integers(1, 9))
def test_whole_numbers(values: list[int | None], rows: int):
    found = column(values, pa.int64(), rows)
    present = [value for value in values if value is not None]
    assert found["missing"] == len(values) - len(present)
    if present:
        check_spread(found, present)
        assert found["distinct"] == len(set(present))


@given(st.lists(st.floats(width=64), min_size=1, max_size=60), st.integers(1, 9))
def test_numbers_that_are_not_finite_are_missing(values: list[float], rows: int):
    found = column(values, pa.float64(), rows)
    present = [value for value in values if math.isfinite(value)]
    assert found["missing"] == len(values) - len(present)
    if present and max(map(abs, present)) < 1e100:
        check_spread(found, present)


def check_spread(found: dict[str, Any], values: list[Any]) -> None:
    assert (found["min"], found["max"]) == (min(values), max(values))
    size = max(map(abs, values))
    assert found["mean"] == pytest.approx(statistics.mean(values), abs=1e-9 * size)
    assert found["median"] == pytest.approx(statistics.median(values), abs=1e-9 * size)
    if len(values) > 1:
        assert found["std"] == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6 * size)
    edges, counts = found["histogram"]["edges"], found["histogram"]["counts"]
    assert (len(edges), sum(counts)) == (len(counts) + 1, len(values))
    assert len(counts) <= summaries.BINS
    assert edges[0] <= min(values)
    assert max(values) <= edges[-1]


def test_a_histogram_of_few_whole_numbers_has_a_bin_for_each():
    found = column([1, 1, 2, 4])
    assert found["histogram"] == {"edges": [1, 2, 3, 4, 5], "counts": [2, 1, 0, 1]}
    assert found["top"] == [["1", 2]]


def test_texts_are_measured_in_characters_and_counted():
    found = column(["中文", "b", "b", "", None], rows=2)
    assert (found["kind"], found["missing"], found["distinct"], found["top"]) == ("text", 1, 3, [["b", 2]])
    assert (found["min"], found["max"], found["mean"]) == (0, 2, 1.0)


def test_frequent_values_are_found_among_many_others():
    values = [f"once {number}" for number in range(20_000)] + ["often"] * 30 + ["more often"] * 40 + ["x" * 300] * 50
    random.Random(0).shuffle(values)
    found = column(values, rows=1_000)
    assert found["distinct"] == 20_003
    assert found["top"] == [["x" * 100, 50], ["more often", 40], ["often", 30]]


def test_numbers_count_their_most_frequent_values():
    values = [number % 37 for number in range(1_000)] + [5] * 10
    found = column(values)
    assert found["top"] == [[str(value), count] for value, count in Counter(values).most_common(10)]


def test_kinds_of_columns():
    day, moment = datetime.date(2026, 11, 22), datetime.datetime(2026, 11, 22, 5, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "flag": [True, False, True],
            "day": [day, None, day],
            "moment": pa.array([moment, moment, None], pa.timestamp("ns", "UTC")),
            "price": [Decimal("1.50"), Decimal("2.50"), None],
            "words": [["a"], [], ["b", "c"]],
            "raw": [b"12", b"", None],
            "deep": [{"a": 1}, None, {"a": 2}],
            "none": pa.nulls(3),
            "choice": pa.array(["x", "y", "x"]).dictionary_encode(),
        }
    )
    found = {one["name"]: one for one in summary(table)["columns"]}
    kinds = {name: (one["kind"], one["missing"]) for name, one in found.items()}
    assert kinds == {
        "flag": ("boolean", 0),
        "day": ("time", 1),
        "moment": ("time", 1),
        "price": ("number", 1),
        "words": ("list", 0),
        "raw": ("bytes", 1),
        "deep": ("other", 1),
        "none": ("empty", 3),
        "choice": ("text", 0),
    }
    assert found["flag"]["top"] == [["true", 2]]
    assert (found["day"]["min"], found["day"]["max"], found["day"]["distinct"]) == ("2026-11-22", "2026-11-22", 1)
    assert found["moment"]["min"].startswith("2026-11-22 05:00:00")
    assert (found["price"]["mean"], found["words"]["mean"], found["raw"]["max"]) == (2.0, 1.0, 2)
    assert found["choice"]["top"] == [["x", 2]]


def test_a_column_whose_kind_changes_is_mixed():
    found = Summary()
    found.add(pa.record_batch({"a": [1, None], "b": ["x", "y"]}))
    found.add(pa.record_batch({"a": ["text", None], "late": [1.5, 2.5]}))
    found.add(pa.record_batch({"a": pa.nulls(1), "b": pa.nulls(1)}))
    one = {column["name"]: column for column in found.as_dict()["columns"]}
    assert (one["a"]["kind"], one["a"]["missing"]) == ("mixed", 3)
    assert (one["b"]["kind"], one["b"]["missing"], one["b"]["distinct"]) == ("text", 3, 2)
    assert (one["late"]["kind"], one["late"]["missing"]) == ("number", 3)


@pytest.mark.parametrize("values", [[2**63, 2**64 - 1], [0, 2**64 - 1]])
def test_large_unsigned_numbers(values: list[int]):
    found = column(values, pa.uint64())
    assert (found["min"], found["max"]) == tuple(values)


@pytest.mark.parametrize("values", [[-1.7e308, 1.7e308], [1e308] * 9, [5e-324, 0.0]])
def test_numbers_at_the_ends_of_what_a_float_holds(values: list[float]):
    assert column(values)["max"] == max(values)


def test_no_more_columns_and_rows_than_the_limits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(summaries, "COLUMNS_LIMIT", 3)
    monkeypatch.setattr(summaries, "VALUES_LIMIT", 30)
    found = Summary()
    batch = pa.record_batch({f"c{number}": [1, 2] for number in range(5)})
    while not found.full:
        found.add(batch)
    assert (found.rows, found.as_dict()["left_out"], len(found.as_dict()["columns"])) == (10, 2, 3)


def test_memory_is_bounded_where_every_text_is_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(summaries, "VALUES_LIMIT", 200_000)
    batches = [
        pa.record_batch({"c": [f"{number:06} " + "x" * 500 for number in range(start, start + 1_000)]})
        for start in range(0, 200_000, 1_000)
    ]
    tracemalloc.start()
    found = Summary()
    for batch in batches:
        found.add(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.full
    assert found.as_dict()["columns"][0]["distinct"] == 200_000
    assert peak < 200_000 * 16 + 4_000_000  # 16 bytes a value, and the candidates
