"""Listing what is in a bucket, against a plain reading of the rules."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, event, insert

from lmcommons.hub.accounts.accounts import Accounts
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.buckets.buckets import Buckets
from lmcommons.hub.buckets.files import BucketFiles, BucketFolder
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, AccountKind, Bucket, BucketFile, TokenRole
from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.settings import Settings

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return Database(Settings.make(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def bucket(database: Database) -> Bucket:
    with database.write() as session:
        ann = Account(kind=AccountKind.USER, name="ann", name_key="ann", fullname="")
        session.add(ann)
    return Buckets(database, Accounts(database)).create(Actor(ann.id, "ann", token_role=TokenRole.WRITE), "me", "logs")


def fill(database: Database, bucket: Bucket, paths: Iterable[str]) -> None:
    """Make the bucket hold these paths, each a second newer than the one before."""
    rows = [
        {
            "bucket_id": bucket.id,
            "path": path,
            "xet_hash": f"{number:064}",
            "sha256": f"{number:064}",
            "size": number,
            "uploaded_at": MOMENT + timedelta(seconds=number),
        }
        for number, path in enumerate(paths)
    ]
    with database.write() as session:
        session.execute(delete(BucketFile).where(BucketFile.bucket_id == bucket.id))
        if rows:
            session.execute(insert(BucketFile), rows)


def walk(files: BucketFiles, bucket: Bucket, prefix: str, *, recursive: bool, limit: int) -> list[tuple[str, bool]]:
    """All pages of a listing: paths, and whether each is a folder."""
    found, start = [], ""
    while True:
        page = files.tree(bucket, prefix, recursive=recursive, start=start, limit=limit)
        assert len(page.entries) <= limit
        found += [(entry.path, isinstance(entry, BucketFolder)) for entry in page.entries]
        if page.following is None:
            return found
        assert len(page.entries) == limit
        start = page.following


def expected(paths: Iterable[str], prefix: str, *, recursive: bool) -> list[tuple[str, bool]]:
    """What a listing shows, read from its description."""
    shown = []
    for path in sorted(path for path in paths if path.startswith(prefix)):
        rest = path[len(prefix) :]
        skipped = len(prefix) + rest.startswith("/")
        folder, slash, _ = path[skipped:].partition("/")
        below = bool(slash) and not recursive
        shown.append((path[:skipped] + folder if below else path, below))
    return list(dict.fromkeys(shown))


names = st.text(st.sampled_from("ab./0-é\U0001f600"), min_size=1, max_size=3).filter(lambda name: "/" not in name)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@settings(max_examples=150, deadline=None)
@given(held=st.sets(paths, max_size=12), prefix=st.text("ab./0-é\U0001f600", max_size=4), limit=st.integers(1, 4))
def test_pages_of_a_listing_show_what_begins_with_the_prefix(
    database: Database, bucket: Bucket, held: set[str], prefix: str, limit: int
):
    fill(database, bucket, held)
    files = BucketFiles(database)
    for recursive in (True, False):
        found = walk(files, bucket, prefix, recursive=recursive, limit=limit)
        assert found == expected(held, prefix, recursive=recursive)


def test_a_folder_is_as_new_as_the_newest_file_in_it(database: Database, bucket: Bucket):
    fill(database, bucket, ["run/1/a", "run/2/b", "run.txt", "run/1/c"])
    page = BucketFiles(database).tree(bucket, "run/", recursive=False, limit=10)
    assert page.entries == [
        BucketFolder("run/1", MOMENT + timedelta(seconds=3)),
        BucketFolder("run/2", MOMENT + timedelta(seconds=1)),
    ]


def test_a_folder_is_shown_without_reading_what_lies_in_it(database: Database, bucket: Bucket):
    fill(database, bucket, [f"checkpoints/{number:04}.bin" for number in range(5_000)] + ["README.md", "z.txt"])
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        page = BucketFiles(database).tree(bucket, "", recursive=False, limit=10)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert [entry.path for entry in page.entries] == ["README.md", "checkpoints", "z.txt"]
    assert 0 < len(asked) < 10  # 5,000 paths would be 20 questions


def test_files_are_found_by_path(database: Database, bucket: Bucket):
    fill(database, bucket, ["a", "b/c"])
    files = BucketFiles(database)
    assert [file.path for file in files.existing(bucket, ["b/c", "b", "", "a", "a"])] == ["b/c", "a"]
    assert files.file(bucket, "b/c").size == 1
    with pytest.raises(EntryNotFound, match="'b' is not in the bucket ann/logs"):
        files.file(bucket, "b")
    assert files.with_content(bucket, [f"{1:064}", f"{9:064}"]) == {f"{1:064}"}
