"""The object store: whole, verified, or absent."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from lmcommons.hub.errors import BadRequest, EntryNotFound
from lmcommons.hub.objects.store import STALE, ObjectStore


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


def put(store: ObjectStore, content: bytes, name: str | None = None, size: int | None = None) -> str:
    name = name or sha256(content)
    with store.receive(name, len(content) if size is None else size) as incoming:
        for start in range(0, len(content), 1000):
            incoming.write(content[start : start + 1000])
    return name


def unfinished(store: ObjectStore) -> list[Path]:
    return list(store.path("0" * 64).parents[2].glob("incoming/*"))


def test_what_was_received_is_read_back(store: ObjectStore):
    content = os.urandom(12_345)
    name = put(store, content)
    assert store.size(name) == len(content)
    with store.open(name) as file:
        assert file.read() == content
    assert list(store) == [name]
    assert store.is_intact(name)
    assert unfinished(store) == []


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [(sha256(b"other"), None, "the content sent has sha256"), (None, 4, "5 bytes were sent and 4 announced")],
)
def test_other_content_or_another_size_is_refused_and_leaves_nothing(store: ObjectStore, name, size, reason):
    with pytest.raises(BadRequest, match=reason):
        put(store, b"bytes", name, size)
    assert list(store) == []
    assert unfinished(store) == []


def test_a_sender_that_breaks_off_leaves_nothing(store: ObjectStore):
    def break_off() -> None:
        with store.receive(sha256(b"ab"), 2) as incoming:
            incoming.write(b"a")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        break_off()
    assert list(store) == []
    assert unfinished(store) == []


def test_only_hashes_are_names(store: ObjectStore):
    for name in ("../../etc/passwd", "A" * 64, "", "0" * 63):
        with pytest.raises(BadRequest):
            store.path(name)
    with pytest.raises(EntryNotFound):
        store.open("0" * 64)


def test_parts_are_joined_in_order_and_can_be_sent_again(store: ObjectStore):
    content = os.urandom(2_500)
    for number in (3, 1, 2, 1):
        part = content[(number - 1) * 1000 : number * 1000]
        with store.receive_part("upload", number, len(part)) as incoming:
            incoming.write(part)
    store.join_parts("upload", 3, sha256(content), len(content))
    with store.open(sha256(content)) as file:
        assert file.read() == content
    assert unfinished(store) == []


def test_a_missing_part_is_named(store: ObjectStore):
    with store.receive_part("upload", 1, 1) as incoming:
        incoming.write(b"a")
    with pytest.raises(BadRequest, match="Part 2 of 2 was not uploaded"):
        store.join_parts("upload", 2, sha256(b"ab"), 2)
    assert list(store) == []


def test_uploads_that_were_left_a_week_ago_are_swept(store: ObjectStore):
    for upload in ("old", "new"):
        with store.receive_part(upload, 1, 1) as incoming:
            incoming.write(b"a")
    old = next(path for path in unfinished(store) if path.name.startswith("old"))
    long_ago = time.time() - STALE - 60
    os.utime(old, (long_ago, long_ago))
    store.sweep()
    assert [path.name for path in unfinished(store)] == ["new.1"]


def test_a_changed_object_is_not_intact(store: ObjectStore):
    name = put(store, b"content")
    store.path(name).write_bytes(b"kontent")
    assert not store.is_intact(name)
