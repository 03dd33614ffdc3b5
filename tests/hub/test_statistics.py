"""Statistics of datasets in the background: asked for once, begun again after a death, told apart by commit."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_process import PATIENCE
from open_rooms import open_rooms
from sqlalchemy import delete, select, update

from lmcommons.hub import background
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.background import Claim, Interrupted
from lmcommons.hub.database.tables import Progress, Repository, RepositoryType, SplitStatistics, now
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.repos import datasets, statistics, summaries
from lmcommons.hub.repos.git import AddFile
from lmcommons.hub.repos.splits import Split
from lmcommons.hub.repos.summaries import Summary
from lmcommons.hub.rooms import Hub


def parquet(table: pa.Table, **options: object) -> bytes:
    file = BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


ROWS = pa.table({"n": range(2_500), "text": [f"Row {number} 行" for number in range(2_500)]})


class Rooms:
    """The rooms of a hub with one dataset."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.ann: Actor = hub.tokens.actor(hub.accounts.add_user("ann"))
        hub.commits.create_repository(self.ann, RepositoryType.DATASET, None, "d")

    @property
    def repository(self) -> Repository:
        return self.hub.repositories.find(self.ann, RepositoryType.DATASET, "ann/d")

    def write(self, **files: bytes) -> list[Split]:
        operations = [AddFile(path, content) for path, content in files.items()]
        self.hub.commits.commit(self.ann, self.repository, "main", operations, message="rows")
        return self.hub.datasets.splits(self.repository)[1]

    def of(self, split: Split) -> SplitStatistics:
        found = self.hub.statistics.of(self.repository, split)
        assert found is not None
        return found

    def computed(self, split: Split) -> SplitStatistics:
        self.of(split)
        assert self.hub.statistics.work()
        return self.of(split)


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    hub = open_rooms(tmp_path / "hub")
    yield Rooms(hub)
    hub.close()


@pytest.mark.parametrize("name", ["train.parquet", "train.jsonl", "train.csv"])
def test_statistics_of_a_split(rooms: Rooms, name: str):
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS.to_pylist())
    table = "n,text\n" + "".join(f"{row['n']},{row['text']}\n" for row in ROWS.to_pylist())
    content = {"parquet": parquet(ROWS, row_group_size=700), "jsonl": lines.encode(), "csv": table.encode()}
    [split] = rooms.write(**{name: content[name.partition(".")[2]]})
    assert rooms.of(split).progress is Progress.WAITING
    found = rooms.computed(split)
    assert (found.progress, found.rows, found.error) == (Progress.DONE, 2_500, None)
    assert found.found is not None
    assert (found.found["rows"], found.found["whole"]) == (2_500, True)
    number, text = found.found["columns"]
    assert (number["name"], number["mean"], number["median"], number["distinct"]) == ("n", 1249.5, 1249.5, 2_500)
    assert (text["name"], text["distinct"], text["missing"], text["max"]) == ("text", 2_500, 0, 10)
    assert not rooms.hub.statistics.work()


def test_several_files_are_one_split_and_a_limit_is_told(rooms: Rooms, monkeypatch: pytest.MonkeyPatch):
    files = {f"data/train-{number:05}-of-00003.parquet": parquet(ROWS) for number in range(3)}
    [split] = rooms.write(**files)
    assert rooms.computed(split).found["rows"] == 7_500
    monkeypatch.setattr(summaries, "ROWS_LIMIT", 4_000)
    [split] = rooms.write(**{"note.md": b"another commit"})
    found = rooms.computed(split).found
    assert (found["rows"], found["whole"]) == (4_500, False)  # whole batches


def test_a_commit_has_statistics_of_its_own_and_those_before_are_forgotten(rooms: Rooms):
    [split] = rooms.write(**{"train.jsonl": b'{"a": 1}\n'})
    assert rooms.computed(split).found["columns"][0]["max"] == 1
    rooms.write(**{"train.jsonl": b'{"a": 2}\n'})
    assert rooms.of(split).progress is Progress.WAITING
    assert rooms.computed(split).found["columns"][0]["max"] == 2
    with rooms.hub.database.read() as session:
        assert len(session.scalars(select(SplitStatistics)).all()) == 1


def test_what_waits_for_a_head_that_is_gone_is_not_computed(rooms: Rooms):
    [split] = rooms.write(**{"train.jsonl": b'{"a": 1}\n'})
    rooms.of(split)
    rooms.write(**{"train.jsonl": b'{"a": 2}\n'})
    assert rooms.hub.statistics.work()
    with rooms.hub.database.read() as session:
        assert session.scalars(select(SplitStatistics)).all() == []


@pytest.mark.parametrize("content", [b"", b"PAR1" + bytes(100) + b"PAR1", parquet(ROWS)[:-20]])
def test_a_corrupt_file_is_one_line(rooms: Rooms, content: bytes):
    [split] = rooms.write(**{"train.parquet": content, "more.txt": b"x"})
    found = rooms.computed(split)
    assert (found.progress, found.found) == (Progress.FAILED, None)
    assert found.error.startswith("train.parquet: cannot be read as parquet: ")
    assert "\n" not in found.error


def test_a_file_that_is_corrupt_in_its_midst_is_one_line(rooms: Rooms):
    whole = parquet(ROWS, row_group_size=500, compression="zstd")
    broken = whole[: len(whole) // 2] + bytes(64) + whole[len(whole) // 2 + 64 :]
    [split] = rooms.write(**{"train.parquet": broken})
    found = rooms.computed(split)
    assert found.progress is Progress.FAILED
    assert "\n" not in found.error


def test_whoever_died_at_it_leaves_it_to_others_and_not_for_ever(rooms: Rooms):
    [split] = rooms.write(**{"train.jsonl": b'{"a": 1}\n'})
    rooms.of(split)

    def die() -> bool:
        """Take what waits, as a process that then ends without a word; whether there was something."""
        taken = rooms.hub.statistics.take()
        expire(rooms)
        return taken is not None

    assert die()
    assert rooms.of(split).progress is Progress.WAITING
    assert die()
    assert not die()
    assert (rooms.of(split).progress, rooms.of(split).attempts) == (Progress.FAILED, statistics.ATTEMPTS)
    assert "never ended" in rooms.of(split).error


def test_two_at_once_take_a_split_once(rooms: Rooms):
    [split] = rooms.write(**{"train.parquet": parquet(ROWS)})
    rooms.of(split)
    assert rooms.hub.statistics.take() is not None
    assert rooms.hub.statistics.take() is None
    assert not rooms.hub.statistics.work()


def test_a_stop_leaves_the_work_to_the_next_start(rooms: Rooms):
    [split] = rooms.write(**{"train.parquet": parquet(ROWS)})
    rooms.of(split)
    rooms.hub.statistics.stop()
    rooms.hub.statistics.work()
    assert (rooms.of(split).progress, rooms.of(split).attempts) == (Progress.WAITING, 0)
    rooms.hub.statistics.start()
    wait_for(lambda: rooms.of(split).progress is not Progress.WAITING)
    rooms.hub.statistics.stop()
    assert rooms.of(split).progress is Progress.DONE


def test_a_stop_in_its_midst_does_not_count_as_a_death(rooms: Rooms, monkeypatch: pytest.MonkeyPatch):
    add = Summary.add

    def add_late(summary: Summary, rows: pa.RecordBatch) -> None:
        assert rooms.hub.statistics.stopping.wait(PATIENCE)
        add(summary, rows)

    monkeypatch.setattr(Summary, "add", add_late)
    [split] = rooms.write(**{"train.parquet": parquet(ROWS)})
    rooms.of(split)
    rooms.hub.statistics.start()
    wait_for(lambda: rooms.of(split).attempts == 1)
    rooms.hub.statistics.stop()
    wait_for(lambda: rooms.hub.statistics.join() is None and rooms.of(split).attempts == 0)
    assert rooms.of(split).progress is Progress.WAITING


def test_who_was_thought_dead_does_not_write_over_the_work_of_another(rooms: Rooms):
    [split] = rooms.write(**{"train.jsonl": b'{"a": 1}\n'})
    rooms.of(split)
    claim = taken(rooms)
    expire(rooms)
    assert rooms.hub.statistics.work()
    assert not claim.write(progress=Progress.FAILED)
    claim.remove()
    assert rooms.of(split).progress is Progress.DONE


def test_a_lease_is_renewed_while_the_work_waits_and_the_work_ends_when_nobody_wants_it(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(background, "REPORTED", 0.01)
    [split] = rooms.write(**{"train.jsonl": b'{"a": 1}\n'})
    rooms.of(split)
    claim = taken(rooms)
    expire(rooms)
    with claim.renewed():
        claim.tell(rows=7)
        wait_for(lambda: rooms.of(split).rows == 7)
        assert rooms.of(split).leased_until > now()
        assert rooms.hub.statistics.take() is None
        with rooms.hub.database.write() as session:
            session.execute(delete(SplitStatistics))

        def interrupted() -> bool:
            try:
                claim.tell()
            except Interrupted:
                return True
            return False

        wait_for(interrupted)


def taken(rooms: Rooms) -> Claim:
    """The work on what waits, as another process has it."""
    row = rooms.hub.statistics.take()
    assert row is not None
    return Claim(rooms.hub.database, row, threading.Event())


def expire(rooms: Rooms) -> None:
    """Half a minute passes."""
    with rooms.hub.database.write() as session:
        session.execute(update(SplitStatistics).values(leased_until=now() - timedelta(seconds=1)))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_only_so_many_wait(rooms: Rooms, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(statistics, "WAITING_LIMIT", 1)
    train, test = rooms.write(**{"train.jsonl": b'{"a": 1}\n', "test.jsonl": b'{"a": 1}\n'})
    rooms.of(train)
    assert rooms.hub.statistics.of(rooms.repository, test) is None
    assert rooms.computed(train).progress is Progress.DONE
    assert rooms.of(test).progress is Progress.WAITING


def test_many_who_ask_together_begin_it_once(rooms: Rooms):
    [split] = rooms.write(**{"train.jsonl": b'{"a": 1}\n'})
    threads = [threading.Thread(target=rooms.of, args=(split,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with rooms.hub.database.read() as session:
        assert len(session.scalars(select(SplitStatistics)).all()) == 1


def test_words_are_found_in_any_cell_and_the_search_goes_on(rooms: Rooms, monkeypatch: pytest.MonkeyPatch):
    table = ROWS.append_column("tags", pa.array([["Even" if number % 2 == 0 else "odd"] for number in range(2_500)]))
    [split] = rooms.write(**{"train.parquet": parquet(table, row_group_size=600)})

    def search(words: str, start: int = 0, limit: int = 5) -> tuple[list[int], int | None]:
        found = rooms.hub.datasets.search(rooms.repository, split, words, start, limit)
        return [number for number, _ in found.rows], found.following

    assert search("ROW 1234 ") == ([1234], None)
    assert search("2499") == ([2499], None)
    assert search("even", 3) == ([4, 6, 8, 10, 12], 13)
    assert search("even", 13) == ([14, 16, 18, 20, 22], 23)
    assert search("行", 2_498) == ([2498, 2499], None)
    assert search("nothing like it") == ([], None)
    assert search(".*") == ([], None)
    monkeypatch.setattr(datasets, "SEARCH_ROWS", 700)
    assert search("row 2000") == ([], 1_200)
    assert search("row 2000", 1_200) == ([2000], 2_400)


def test_a_search_in_a_corrupt_file_is_refused_in_one_line(rooms: Rooms):
    [split] = rooms.write(**{"train.parquet": b"PAR1" + bytes(100) + b"PAR1"})
    with pytest.raises(BadRequest, match=r"train\.parquet: cannot be read as parquet"):
        rooms.hub.datasets.search(rooms.repository, split, "x", 0, 5)
