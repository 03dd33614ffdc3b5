"""Blobs by key: the same on a disk and in a bucket."""

import hashlib
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hub_process import PATIENCE
from s3_server import S3Server

from lmcommons.errors import CommandError, RequestError
from lmcommons.hub.errors import BadRequest, StorageUnavailable
from lmcommons.hub.objects.blobs import Blobs, DiskBlobs
from lmcommons.hub.objects.location import Location
from lmcommons.hub.objects.s3 import S3Blobs


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path) -> S3Blobs:
    return S3Blobs(Location.parse(s3.url(tmp_path.name), s3.environment), tmp_path / "objects")


@pytest.fixture(params=["disk", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return DiskBlobs(tmp_path / "objects") if request.param == "disk" else request.getfixturevalue("bucket")


def staged(blobs: Blobs, content: bytes) -> Path:
    path = blobs.staging / "a file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("source", [lambda _, content: content, staged], ids=["bytes", "file"])
def test_what_was_put_is_read_back(blobs: Blobs, source: Callable):
    content = os.urandom(3_000_000)
    blobs.put("ab/cd/x", source(blobs, content))
    assert blobs.size("ab/cd/x") == len(content)
    assert blobs.read("ab/cd/x", 1000, 2000) == content[1000:2000]
    assert blobs.read("ab/cd/x", 2_999_990, 4_000_000) == content[2_999_990:]
    assert blobs.read("ab/cd/x", 7, 7) == b""
    with blobs.open("ab/cd/x") as file:
        assert file.read() == content
        file.seek(-5, os.SEEK_END)
        assert file.read(100) == content[-5:]
        file.seek(10)
        assert file.read(5) == content[10:15]
    assert list(blobs.staging.iterdir()) == []


def test_another_put_replaces_and_a_delete_removes(blobs: Blobs):
    blobs.put("k", b"first")
    blobs.put("k", b"second")
    assert blobs.read("k", 0, 100) == b"second"
    blobs.delete("k")
    blobs.delete("k")
    assert blobs.size("k") is None
    with pytest.raises(FileNotFoundError):
        blobs.open("k")
    with pytest.raises(FileNotFoundError):
        blobs.read("k", 0, 1)


def test_entries_are_all_blobs_below_a_folder_and_nothing_unfinished(blobs: Blobs):
    for key in ("ab/cd/x", "ab/ce/y", "xorbs/ab/z"):
        blobs.put(key, key.encode())
    staged(blobs, b"unfinished")
    found = {blob.key: blob for blob in blobs.entries()}
    assert found.keys() == {"ab/cd/x", "ab/ce/y", "xorbs/ab/z"}
    assert found["xorbs/ab/z"].size == 10
    assert abs(found["ab/cd/x"].modified - datetime.now(UTC)) < timedelta(hours=1)
    assert [blob.key for blob in blobs.entries("xorbs")] == ["xorbs/ab/z"]
    assert list(blobs.entries("nowhere")) == []


def test_only_a_disk_has_paths_and_only_a_bucket_has_addresses(bucket: S3Blobs, tmp_path: Path):
    disk = DiskBlobs(tmp_path / "disk")
    for blobs in (disk, bucket):
        blobs.put("k", b"content")
    assert disk.path("k").read_bytes() == b"content"
    assert disk.address("k") is None
    assert bucket.path("k") is None
    assert urllib.request.urlopen(bucket.address("k")).read() == b"content"


def refused(address: str, method: str = "GET", body: bytes | None = None) -> int:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(urllib.request.Request(address, body, method=method))
    return refusal.value.code


def send(address: str, content: bytes) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, content, method="PUT")) as answer:
        return answer.headers["ETag"]


def test_an_address_is_for_one_blob_one_method_and_one_size(bucket: S3Blobs):
    for key in ("mine", "other"):
        bucket.put(key, b"content")
    address = bucket.address("mine")
    assert refused(address.replace("/mine?", "/other?")) == 403
    assert refused(address, "PUT", b"changed") == 403
    assert refused(address, "DELETE") == 403
    assert refused(bucket.upload_address("up", 5, 60), "PUT", b"more than five") == 403
    assert bucket.read("mine", 0, 10) == b"content"


def test_an_upload_is_accepted_when_it_is_what_was_announced(bucket: S3Blobs):
    content = os.urandom(100_000)
    sha256 = hashlib.sha256(content).hexdigest()
    send(bucket.upload_address("up", len(content), 60), content)
    assert bucket.size("ab/cd/x") is None
    bucket.accept("up", "ab/cd/x", sha256, len(content))
    assert bucket.read("ab/cd/x", 0, len(content)) == content
    assert [blob.key for blob in bucket.entries()] == ["ab/cd/x"]


def test_an_upload_of_other_content_is_removed(bucket: S3Blobs):
    send(bucket.upload_address("up", 5, 60), b"wrong")
    with pytest.raises(BadRequest, match="nothing was stored"):
        bucket.accept("up", "ab/cd/x", hashlib.sha256(b"right").hexdigest(), 5)
    assert list(bucket.entries()) == []
    with pytest.raises(FileNotFoundError):
        bucket.accept("up", "ab/cd/x", hashlib.sha256(b"right").hexdigest(), 5)


def test_an_upload_in_parts_is_joined_in_order(bucket: S3Blobs):
    content = os.urandom((11 << 20) + 5)
    step = 5 << 20  # the least that S3 allows
    parts = [content[start : start + step] for start in range(0, len(content), step)]
    upload_id = bucket.begin_parts("up")
    etags = [
        send(bucket.part_address("up", upload_id, number, len(part), 60), part) for number, part in enumerate(parts, 1)
    ]
    with pytest.raises(BadRequest, match="cannot be completed"):
        bucket.join_parts("up", upload_id, [etags[1], etags[0], etags[2]])
    bucket.join_parts("up", upload_id, etags)
    bucket.accept("up", "k", hashlib.sha256(content).hexdigest(), len(content))
    assert bucket.read("k", 0, len(content)) == content


def test_an_upload_in_parts_that_was_left_can_be_found_and_removed(bucket: S3Blobs):
    upload_id = bucket.begin_parts("up")
    assert list(bucket.abandoned(datetime.now(UTC) - timedelta(hours=1))) == []
    found = list(bucket.abandoned(datetime.now(UTC) + timedelta(hours=1)))
    assert found == [("incoming/up", upload_id)]
    bucket.abandon("incoming/up", upload_id)
    assert list(bucket.abandoned(datetime.now(UTC) + timedelta(hours=1))) == []


def test_content_that_changes_while_it_is_verified_is_refused(bucket: S3Blobs, monkeypatch: pytest.MonkeyPatch):
    sha256 = hashlib.sha256(b"right").hexdigest()
    address = bucket.upload_address("up", 5, 60)
    send(address, b"right")
    copy = bucket._copy

    def change_first(*arguments: object) -> None:
        send(address, b"wrong")
        copy(*arguments)

    monkeypatch.setattr(bucket, "_copy", change_first)
    with pytest.raises(BadRequest, match="cannot be completed"):
        bucket.accept("up", "k", sha256, 5)
    assert bucket.size("k") is None


def test_a_large_copy_is_made_in_parts(bucket: S3Blobs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lmcommons.hub.objects.s3.COPY_PART", 5 << 20)
    content = os.urandom((12 << 20) + 5)
    send(bucket.upload_address("up", len(content), 60), content)
    bucket.accept("up", "k", hashlib.sha256(content).hexdigest(), len(content))
    assert bucket.read("k", 0, len(content)) == content


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://Bad_Name/p", "write s3://BUCKET"),
        ("s3:///p", "write s3://BUCKET"),
        ("s3://commons/p?endpoint=ftp://x", "endpoint 'ftp://x' is not an address"),
        ("s3://commons/p?endpiont=https://x", "unknown option 'endpiont'"),
    ],
)
def test_a_location_that_cannot_be_is_said(url: str, reason: str):
    with pytest.raises(RequestError, match=reason):
        Location.parse(url, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})


def test_keys_come_from_the_environment_and_are_not_shown():
    with pytest.raises(RequestError, match="set AWS_SECRET_ACCESS_KEY in the environment"):
        Location.parse("s3://commons", {"AWS_ACCESS_KEY_ID": "a"})
    assert "hush" not in repr(
        Location.parse("s3://commons", dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "hush"))
    )


def test_a_wrong_bucket_or_key_is_said_when_it_is_opened(s3: S3Server, tmp_path: Path):
    absent = s3.url().replace("commons", "absent")
    with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
        S3Blobs(Location.parse(absent, s3.environment), tmp_path)
    with pytest.raises(StorageUnavailable, match="SignatureDoesNotMatch"):
        S3Blobs(Location.parse(s3.url(), s3.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}), tmp_path)


def test_two_hubs_do_not_share_a_place(bucket: S3Blobs):
    for _ in range(2):
        bucket.claim("one")
    with pytest.raises(CommandError, match="another hub keeps its objects there"):
        bucket.claim("other")
    assert list(bucket.entries()) == []


def test_the_sizes_of_many_blobs_are_asked_for_at_once(tmp_path: Path):
    together = threading.Barrier(8, timeout=PATIENCE)

    class Bucket(BaseHTTPRequestHandler):
        """Answers about a blob when eight are asked for."""

        def do_HEAD(self) -> None:
            together.wait()
            self._answer(b"", {"Content-Length": "7", "Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT", "ETag": '"e"'})

        def do_GET(self) -> None:
            self._answer(b"<ListBucketResult></ListBucketResult>", {"Content-Length": "37"})

        def _answer(self, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    location = Location.parse(f"s3://bucket?endpoint=http://127.0.0.1:{server.server_port}", keys)
    names = {f"k{number}": f"n{number}" for number in range(64)}
    assert S3Blobs(location, tmp_path).sizes(names) == dict.fromkeys(names.values(), 7)
    server.shutdown()
    server.server_close()
