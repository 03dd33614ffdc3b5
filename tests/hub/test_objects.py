"""The object store: whole, verified, or absent."""

import hashlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lmcommons.hub.errors import BadRequest, Busy, EntryNotFound
from lmcommons.hub.objects.blobs import DiskBlobs
from lmcommons.hub.objects.collection import collect_uploads
from lmcommons.hub.objects.store import ObjectStore, object_key


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def store(store_in: Callable, tmp_path: Path) -> ObjectStore:
    return store_in(DiskBlobs(tmp_path / "objects"))


def put(store: ObjectStore, content: bytes, name: str | None = None, size: int | None = None) -> str:
    name = name or sha256(content)
    with store.receive(name, len(content) if size is None else size) as incoming:
        for start in range(0, len(content), 1000):
            incoming.write(content[start : start + 1000])
    return name


def unfinished(store: ObjectStore) -> list[Path]:
    return list(store.blobs.staging.iterdir())


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
    [
        (sha256(b"other"), None, "5 bytes with sha256 .* were sent; nothing was stored"),
        (None, 6, "of 6 bytes: 5 bytes .* were sent; nothing was stored"),
        (None, 4, "More than the 4 bytes that were announced; nothing was stored"),
    ],
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
            store.size(name)
    with pytest.raises(EntryNotFound):
        store.open("0" * 64)


def send_part(store: ObjectStore, start: int, part: bytes, size: int | None = None) -> None:
    with store.receive_part("one", start, len(part) if size is None else size) as incoming:
        incoming.write(part)


def test_parts_are_joined_whatever_their_order_and_can_be_sent_again(store: ObjectStore):
    content = os.urandom(2_500)
    for number in (2, 0, 1, 0):
        send_part(store, number * 1000, content[number * 1000 : (number + 1) * 1000])
    store.join_parts("one", sha256(content), len(content))
    with store.open(sha256(content)) as file:
        assert file.read() == content
    assert unfinished(store) == []


def test_an_upload_without_all_of_its_parts_is_not_joined_and_can_go_on(store: ObjectStore):
    with pytest.raises(BadRequest, match="none of its parts was uploaded"):
        store.join_parts("one", sha256(b"ab"), 2)
    send_part(store, 0, b"a")
    with pytest.raises(BadRequest, match="1 of its 2 bytes were uploaded"):
        store.join_parts("one", sha256(b"ab"), 2)
    send_part(store, 1, b"b")
    store.join_parts("one", sha256(b"ab"), 2)
    assert store.is_intact(sha256(b"ab"))


@pytest.mark.parametrize(("size", "reason"), [(3, "2 bytes were sent and 3 expected"), (1, "More than the 1 bytes")])
def test_a_part_of_another_size_is_refused(store: ObjectStore, size: int, reason: str):
    with pytest.raises(BadRequest, match=reason):
        send_part(store, 0, b"ab", size)


def test_parts_of_other_content_are_removed_when_they_are_joined(store: ObjectStore):
    send_part(store, 0, b"xy")
    with pytest.raises(BadRequest, match="nothing was stored"):
        store.join_parts("one", sha256(b"ab"), 2)
    assert list(store) == []
    assert unfinished(store) == []


def test_a_part_that_comes_late_cannot_change_an_object(store: ObjectStore):
    send_part(store, 0, b"a")
    send_part(store, 1, b"b")
    with store.receive_part("one", 1, 1) as late:
        with pytest.raises(Busy, match="still being sent"):
            store.join_parts("one", sha256(b"ab"), 2)
        late.write(b"b")
    store.join_parts("one", sha256(b"ab"), 2)
    send_part(store, 1, b"x")  # to an upload of the same name that nobody will join
    assert store.is_intact(sha256(b"ab"))


def test_uploads_that_do_not_go_on_are_removed(store: ObjectStore):
    for upload in ("old", "new"):
        with store.receive_part(upload, 0, 1) as incoming:
            incoming.write(b"a")
    long_ago = time.time() - 60
    os.utime(store.blobs.staging / "upload-old", (long_ago, long_ago))
    assert collect_uploads(store, datetime.now(UTC) - timedelta(seconds=30)).size == 1
    assert [path.name for path in unfinished(store)] == ["upload-new"]


def test_a_changed_object_is_not_intact(store: ObjectStore):
    name = put(store, b"content")
    store.blobs.put(object_key(name), b"kontent")
    assert not store.is_intact(name)
