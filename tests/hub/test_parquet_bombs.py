"""Parquet files of a few bytes that say they have billions of values: refused by their count, or read in part."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import parquet_files
import pyarrow.parquet as pq
import pytest

from lmcommons.hub.repos.row_changes import row_changes
from lmcommons.hub.repos.scanning import scan
from lmcommons.hub.repos.summaries import ROWS_LIMIT, Summary
from lmcommons.hub.repos.tabular import VALUES_LIMIT, read_rows

BILLIONS = 2_000_000_000  # what a page's header can count

# Reads the first rows and scans a batch, and prints what it took: in a process of its own, whose memory is all its own.
READER = """
import json, resource, sys, time
from lmcommons.hub.repos.tabular import read_rows
from lmcommons.hub.repos.scanning import scan
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
with open(sys.argv[1], "rb") as file:
    rows = read_rows(file, ".parquet", 0, 100).rows
    batch = next(scan(file, ".parquet").batches)
took = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([len(rows), batch.num_rows, took >> 10, time.process_time() - began]))
"""


def test_the_files_are_what_parquet_says_they_should_be():
    assert pq.read_table(BytesIO(parquet_files.flat(300))).to_pylist() == [{"a": 7}] * 300
    assert pq.read_table(BytesIO(parquet_files.lists(3, 20))).to_pylist() == [{"a": [7]}, {"a": [7]}, {"a": [7] * 18}]
    assert pq.read_table(BytesIO(parquet_files.texts(300))).num_rows == 300
    assert len(parquet_files.lists(3, BILLIONS)) < 300


@pytest.mark.parametrize("content", [parquet_files.lists(5, BILLIONS), parquet_files.texts(BILLIONS)])
def test_billions_of_values_that_would_be_in_memory_at_once_are_refused(content: bytes):
    for read in (
        lambda: read_rows(BytesIO(content), ".parquet", 0, 100),
        lambda: list(scan(BytesIO(content), ".parquet").batches),
    ):
        began = time.process_time()
        with pytest.raises(ValueError, match=r"2,000,000,000 values in lists or in one page, and at most 33,554,432"):
            read()
        assert time.process_time() - began < 10


@pytest.mark.parametrize("make", [lambda: parquet_files.lists(5, VALUES_LIMIT), lambda: parquet_files.flat(BILLIONS)])
def test_what_is_read_takes_bounded_memory_and_time(make: Callable[[], bytes], tmp_path: Path):
    path = tmp_path / "a.parquet"
    path.write_bytes(make())
    done = subprocess.run([sys.executable, "-c", READER, path], capture_output=True, text=True, timeout=240, check=True)
    rows, scanned, mebibytes, seconds = json.loads(done.stdout)
    assert (rows, scanned) in ((5, 5), (100, 1_000))
    assert mebibytes < 1_000
    assert seconds < 120


def test_of_billions_of_rows_the_first_are_shown_and_one_too_deep_is_refused():
    content = parquet_files.flat(BILLIONS)
    found = read_rows(BytesIO(content), ".parquet", 1_000_000, 3)
    assert (found.rows, found.total) == ([{"a": 7}] * 3, BILLIONS)
    for read in (
        lambda: read_rows(BytesIO(content), ".parquet", 1_999_999_990, 3),
        lambda: next(scan(BytesIO(content), ".parquet", 1_999_999_990).batches),
    ):
        began = time.process_time()
        with pytest.raises(ValueError, match=r"row 1,999,999,990 is too deep in a row group of 2,000,000,000 rows"):
            read()
        assert time.process_time() - began < 10


def test_statistics_of_billions_of_rows_end():
    summary = Summary()
    for batch in scan(BytesIO(parquet_files.flat(BILLIONS)), ".parquet").batches:
        summary.add(batch)
        if summary.full:
            break
    assert summary.rows == ROWS_LIMIT
    assert summary.as_dict()["columns"][0]["top"] == [["7", ROWS_LIMIT]]


def test_the_rows_of_two_versions_are_counted_without_reading_them():
    before, after = (BytesIO(parquet_files.flat(count)) for count in (10, BILLIONS))
    assert row_changes(before, after, ".parquet").after == BILLIONS


def test_of_a_long_list_as_many_items_are_read_as_can_be_shown():
    rows = read_rows(BytesIO(parquet_files.lists(2, 50_000)), ".parquet", 0, 2).rows
    assert [len(row["a"]) for row in rows] == [1, 10_000]
