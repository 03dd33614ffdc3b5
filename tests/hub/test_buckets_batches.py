"""What batches do to the books: counts, numbered changes, events, and what the garbage collector may take."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from lmcommons.hub.accounts.accounts import Accounts
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.buckets import batch
from lmcommons.hub.buckets.batch import Batches, DeleteFile, Failure, PutFile
from lmcommons.hub.buckets.buckets import Buckets
from lmcommons.hub.buckets.feed import Feed
from lmcommons.hub.buckets.files import BucketFiles
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Bucket, BucketChange, BucketFile, Event, TokenRole, XetFile, XetLink, now
from lmcommons.hub.errors import BadRequest, BucketNotFound, Busy
from lmcommons.hub.objects.blobs import DiskBlobs
from lmcommons.hub.objects.xet.store import XetStore
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.settings import Settings


class Rooms:
    """A hub's rooms that buckets need, with one user and one bucket."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database(settings)
        accounts = Accounts(self.database)
        self.xet = XetStore(self.database, DiskBlobs(settings.objects_dir))
        self.buckets = Buckets(self.database, accounts)
        self.files = BucketFiles(self.database)
        self.feed = Feed(self.database)
        repositories = Repositories(self.database, settings.repositories_dir)
        self.batches = Batches(self.database, self.buckets, self.files, repositories, accounts, self.xet)
        accounts.add_user("ann")
        self.ann = Actor(accounts.find("ann").id, "ann", token_role=TokenRole.WRITE)
        self.bucket = self.buckets.create(self.ann, "me", "logs")

    def upload(self, size: int) -> str:
        """The Xet hash of a file of so many bytes that was sent to the bucket; only the books know it."""
        xet_hash = f"{size:064x}"
        with self.database.write() as session:
            session.merge(XetFile(hash=xet_hash, sha256=hashlib.sha256(xet_hash.encode()).hexdigest(), size=size))
        self.xet.link(self.bucket.scope, [xet_hash])
        return xet_hash

    def apply(self, *operations: batch.Operation) -> list[Failure]:
        return self.batches.apply(self.ann, self.bucket, operations)

    def row(self) -> Bucket:
        with self.database.read() as session:
            return session.scalars(select(Bucket)).one()

    def changes(self) -> list[tuple[int, str, str]]:
        with self.database.read() as session:
            found = session.scalars(select(BucketChange).order_by(BucketChange.number))
            return [(change.number, change.kind, change.path) for change in found]


@pytest.fixture
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Rooms:
    return Rooms(Settings.make(tmp_path_factory.mktemp("data")))


def test_counts_are_right_when_many_write_at_once(rooms: Rooms):
    hashes = [rooms.upload(size) for size in range(1, 6)]

    def write(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(10):
            paths = [f"{choose.randrange(8)}.log" for _ in range(3)]
            rooms.apply(
                *(DeleteFile(path) if choose.random() < 0.4 else PutFile(path, choose.choice(hashes)) for path in paths)
            )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    with rooms.database.read() as session:
        size, files = session.execute(select(func.sum(BucketFile.size), func.count()).select_from(BucketFile)).one()
    bucket = rooms.row()
    assert (bucket.size, bucket.total_files) == (size or 0, files)
    assert [number for number, _, _ in rooms.changes()] == list(range(1, bucket.revision + 1))


def test_a_batch_is_one_line_in_the_log_and_a_number_for_each_file(rooms: Rooms):
    small, large = rooms.upload(1), rooms.upload(10)
    rooms.apply(PutFile("a", small), PutFile("b", small))
    rooms.apply(PutFile("a", large), DeleteFile("b"), DeleteFile("c"), PutFile("d", "f" * 64))
    rooms.apply(DeleteFile("c"))
    assert rooms.changes() == [(1, "add", "a"), (2, "add", "b"), (3, "update", "a"), (4, "delete", "b")]
    with rooms.database.read() as session:
        events = session.scalars(select(Event).where(Event.kind == "bucket.files").order_by(Event.id))
        lines = [(event.actor, event.data["name"], event.data["put"], event.data["deleted"]) for event in events]
    assert lines == [("ann", "ann/logs", 2, 0), ("ann", "ann/logs", 1, 1)]


def test_only_the_last_changes_are_kept_and_who_missed_some_is_told(rooms: Rooms, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch, "CHANGES_KEPT", 3)
    xet_hash = rooms.upload(1)
    before = now()
    for number in range(5):
        rooms.apply(PutFile(f"{number}", xet_hash))
    assert [path for _, _, path in rooms.changes()] == ["2", "3", "4"]
    news = rooms.feed.after(rooms.bucket, 2, limit=2)
    assert ([change.path for change in news.changes], news.number, news.lost) == (["2", "3"], 4, False)
    assert rooms.feed.after(rooms.bucket, 5, limit=2).changes == []
    assert rooms.feed.after(rooms.bucket, 1, limit=2).lost
    assert rooms.feed.after(rooms.bucket, rooms.feed.number_at(rooms.bucket, before), limit=2).lost
    assert rooms.feed.number_at(rooms.bucket, rooms.row().updated_at) == 5
    with pytest.raises(BadRequest, match="ann/logs has had 5 changes; the cursor names change 6"):
        rooms.feed.after(rooms.bucket, 6, limit=2)


def test_content_is_collected_once_no_file_needs_it(rooms: Rooms):
    kept, dropped, sent = rooms.upload(1), rooms.upload(2), rooms.upload(3)
    rooms.apply(PutFile("kept", kept), PutFile("dropped", dropped))
    rooms.apply(PutFile("also kept", kept), DeleteFile("dropped"), DeleteFile("kept"))
    rooms.xet.collect(now() - timedelta(hours=1))
    assert rooms.xet.in_scope(rooms.bucket.scope, [kept, dropped, sent]) == {kept, dropped, sent}
    rooms.xet.collect(now() + timedelta(seconds=1))
    assert rooms.xet.sha256_of([kept, dropped, sent]).keys() == {kept}
    assert rooms.apply(PutFile("again", dropped)) == [
        Failure("again", f"There is no file with the Xet hash {dropped} in what was uploaded to ann/logs")
    ]
    rooms.buckets.delete(rooms.ann, "ann/logs")
    rooms.xet.collect(now() + timedelta(seconds=1))
    assert rooms.xet.sha256_of([kept]) == {}


def test_content_that_is_collected_in_the_middle_of_a_batch_is_not_put(rooms: Rooms, monkeypatch: pytest.MonkeyPatch):
    xet_hash = rooms.upload(1)
    looked = rooms.batches._contents

    def look_then_collect(*arguments: Any) -> Any:
        found = looked(*arguments)
        rooms.xet.collect(now() + timedelta(seconds=1))
        return found

    monkeypatch.setattr(rooms.batches, "_contents", look_then_collect)
    with pytest.raises(Busy, match="removed as garbage just now; send it again"):
        rooms.apply(PutFile("late", xet_hash))
    assert (rooms.row().total_files, rooms.changes(), rooms.files.check()) == (0, [], [])


@pytest.mark.parametrize("count", [1, 1_000])
def test_a_batch_for_a_bucket_that_was_deleted_meanwhile_ends(rooms: Rooms, count: int):
    xet_hash = rooms.upload(1)
    rooms.buckets.delete(rooms.ann, "ann/logs")
    with pytest.raises(BucketNotFound):
        rooms.apply(*(PutFile(f"{number}", xet_hash) for number in range(count)))
    assert rooms.changes() == []


def test_what_is_wrong_in_the_books_is_found(rooms: Rooms):
    rooms.apply(PutFile("a", rooms.upload(1)), PutFile("b", rooms.upload(2)))
    assert rooms.files.check() == []
    with rooms.database.write() as session:
        session.execute(delete(XetLink).where(XetLink.file_hash == f"{2:064x}"))
        session.execute(delete(BucketFile).where(BucketFile.path == "a"))
    assert rooms.files.check() == [
        "buckets/ann/logs: the content of b is missing",
        "buckets/ann/logs: its size is not that of its files",
    ]
