"""Files of rows of two gigabytes: pages of them come quickly, take little memory, and say what part they show."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_process import PATIENCE, HubProcess
from huggingface_hub import HfApi
from test_files import peak_memory
from web_page import Page

from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.repos.git import AddLfs
from lmcommons.hub.repos.tabular import TEXT_LIMIT, read_rows

SIZE = 2 << 30  # bytes
NEEDED = 5 << 30  # bytes of free disk
MEMORY = 250 << 20  # bytes that the hub may take more
SECONDS = 60  # for a page; on a machine that does nothing else it is a tenth of one
LINE = "%09d,some words that stand in every row,0.5\n"


@pytest.fixture(scope="module")
def huge(hub: HubProcess, api: HfApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dataset with a CSV file of two gigabytes, all of it rows."""
    if shutil.disk_usage(tmp_path_factory.getbasetemp()).free < NEEDED:
        pytest.skip("less than 5 GB of disk are free")
    api.create_repo(name := "ann/huge", repo_type="dataset")
    rows = "".join(LINE % number for number in range(200_000)).encode()
    with hub.rooms() as rooms:
        with rooms.objects.receive_new(SIZE + len(rows)) as incoming:
            incoming.write(b"number,words,half\n")
            while incoming.size < SIZE:
                incoming.write(rows)
        ann = rooms.tokens.actor(api.token)
        repository = rooms.repositories.find(ann, RepositoryType.DATASET, name)
        assert not rooms.contents.link(repository.id, {incoming.sha256: incoming.size})
        file = AddLfs("train.csv", incoming.sha256, incoming.size)
        rooms.commits.commit(ann, repository, "main", [file], message="Add")
        yield f"/datasets/{name}"
        api.delete_repo(name, repo_type="dataset")
        rooms.objects.delete(incoming.sha256)


@pytest.mark.embedded("the memory of one process is looked at")
@pytest.mark.timeout(300)
def test_pages_of_two_gigabytes_of_csv_are_quick_and_small(hub: HubProcess, huge: str):
    process = Path("/proc", str(hub.process.pid))
    with httpx.Client(base_url=hub.endpoint) as client:
        client.get(huge)
        before = peak_memory(process)
        for path, words in (
            (f"{huge}/blob/main/train.csv", "can be looked through here. Download the file for the rest."),
            (f"{huge}/viewer", "can be shown: of JSON and CSV files the first 8 MiB"),
            (f"{huge}/tree/main", "2.2 GB"),
        ):
            began = time.monotonic()
            answer = client.get(path)
            assert time.monotonic() - began < SECONDS
            page = Page(answer.text)
            assert (answer.status_code, page.problems) == (200, [])
            assert words in page.text
        deadline = time.monotonic() + PATIENCE
        while "Of the first" not in (text := client.get(f"{huge}/viewer/statistics").text):
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
        took = peak_memory(process) - before
        assert took < MEMORY, f"{took >> 20} MiB"


def test_of_two_gigabytes_of_json_lines_the_beginning_is_read(tmp_path: Path):
    line = b'{"a": 1, "text": "some words"}\n'
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(line * (TEXT_LIMIT // len(line) + 1))
        file.truncate(SIZE)  # what follows takes no disk, and is not read
    with path.open("rb") as file:
        found = read_rows(file, ".jsonl", 100, 2)
        assert file.tell() < 2 * TEXT_LIMIT
    assert (len(found.rows), found.known, found.total) == (2, TEXT_LIMIT // len(line), None)


def test_of_two_gigabytes_of_parquet_the_row_groups_that_are_asked_for_are_read(tmp_path: Path):
    if shutil.disk_usage(tmp_path).free < NEEDED:
        pytest.skip("less than 5 GB of disk are free")
    path = tmp_path / "a.parquet"
    rows = 1 << 22
    group = pa.table({"n": np.arange(rows)})
    with pq.ParquetWriter(path, group.schema, compression="none", use_dictionary=False) as writer:
        for _ in range(SIZE // group.nbytes):
            writer.write_table(group)
    assert path.stat().st_size > SIZE
    with path.open("rb") as file:
        began = time.monotonic()
        found = read_rows(file, ".parquet", 50 * rows + 95_000, 2)
        assert time.monotonic() - began < SECONDS
    path.unlink()
    assert (found.rows, found.total) == ([{"n": 95_000}, {"n": 95_001}], SIZE // group.nbytes * rows)
