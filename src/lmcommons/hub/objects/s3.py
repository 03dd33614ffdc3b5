"""Blobs in an S3 bucket, and addresses by which clients send and fetch them without the hub.

obstore moves the hub's own bytes; the few requests that it has no call for (uploads in parts, copies on condition) are
made here. Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

import hashlib
import io
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote
from xml.etree import ElementTree

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from lmcommons.errors import CommandError
from lmcommons.hub.errors import BadRequest, StorageUnavailable
from lmcommons.hub.objects.blobs import STAGING, VALID, Blob
from lmcommons.hub.objects.location import Location

if TYPE_CHECKING:
    from obstore.store import S3Config
    from typing_extensions import Buffer

BLOCK = 8 << 20  # bytes of a request for a part of a blob
PUT_LIMIT = 5 << 30  # bytes of one request, by the protocol
COPY_PART = 1 << 30  # bytes that one request copies, so that each is answered soon
TIMEOUT = 60  # seconds without an answer
REQUESTS = 32  # at a time, for the sizes of many blobs
REFUSALS = ("InvalidPart", "InvalidPartOrder", "EntityTooSmall", "NoSuchUpload", "PreconditionFailed")
OWNER = "hub"  # the blob that says whose all others are


class _Reader(io.RawIOBase):
    """A blob of a known size as a file that is only read."""

    def __init__(self, blobs: "S3Blobs", key: str, size: int) -> None:
        self._blobs, self._key, self._size, self._position = blobs, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def readinto(self, buffer: "Buffer") -> int:
        stop = min(self._position + len(memoryview(buffer)), self._size)
        found = self._blobs.read(self._key, self._position, stop)
        memoryview(buffer)[: len(found)] = found
        self._position += len(found)
        return len(found)


class S3Blobs:
    """Blobs below a prefix of a bucket."""

    def __init__(self, location: Location, directory: Path) -> None:
        """Blobs at `location`; what is being received lies in `directory`, on this machine.

        Raises:
            StorageUnavailable: the bucket cannot be listed: wrong keys, wrong name, nobody there.
        """
        self._location = location
        self.staging = directory / STAGING
        self.staging.mkdir(parents=True, exist_ok=True)
        config: S3Config = {
            "endpoint": location.endpoint,
            "region": location.region,
            "access_key_id": location.key_id,
            "secret_access_key": location.secret,
        }
        if location.session_token:
            config["session_token"] = location.session_token
        self._store = S3Store(
            location.bucket,
            prefix=location.prefix,
            config=config,
            client_options={"allow_http": True, "timeout": timedelta(seconds=TIMEOUT)},
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=TIMEOUT)},
        )
        with self._failures():
            next(obstore.list(self._store, chunk_size=1), None)

    def claim(self, hub: str) -> None:
        """Note whose blobs these are: what one hub does not know of, its garbage collection removes.

        Raises:
            CommandError: they are another hub's.
        """
        if self.size(OWNER) is None:
            self.put(OWNER, hub.encode())
        if self.read(OWNER, 0, 100) != hub.encode():
            place = f"s3://{self._location.bucket}/{self._location.prefix}"
            raise CommandError(
                f"{place}: another hub keeps its objects there; choose another prefix, or restore that hub's secret"
            )

    def put(self, key: str, source: bytes | Path) -> None:
        """Store a blob under its key; a large one is sent in parts and appears when the last has come."""
        with self._failures():
            try:
                obstore.put(self._store, key, source, chunk_size=BLOCK, max_concurrency=4)
            except FileNotFoundError as error:
                raise self._unavailable(str(error)) from error
        if isinstance(source, Path):
            source.unlink()

    def size(self, key: str) -> int | None:
        """Bytes of a blob; None when there is none."""
        with self._failures():
            try:
                return obstore.head(self._store, key)["size"]
            except FileNotFoundError:
                return None

    def sizes(self, keys: Mapping[str, str]) -> dict[str, int]:
        """Bytes of those blobs (key: name) that are here, by name; several are asked for at a time."""
        with ThreadPoolExecutor(REQUESTS) as threads:
            found = zip(keys.values(), threads.map(self.size, keys), strict=True)
            return {name: size for name, size in found if size is not None}

    def open(self, key: str) -> BinaryIO:
        """A blob for reading: each stretch that is read is a request, of at least 1 MiB."""
        size = self.size(key)
        if size is None:
            raise FileNotFoundError(key)
        return io.BufferedReader(_Reader(self, key, size), 1 << 20)

    def read(self, key: str, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`."""
        if start >= stop:
            return b""
        with self._failures():
            return bytes(obstore.get_range(self._store, key, start=start, end=stop))

    def delete(self, *keys: str) -> None:
        """Remove blobs, in as few requests as can be."""
        if keys:
            with self._failures():
                obstore.delete(self._store, keys)

    def entries(self, folder: str = "") -> Iterator[Blob]:
        """All blobs below a folder."""
        return (blob for blob in self._list(folder) if blob.key != OWNER and not blob.key.startswith(f"{STAGING}/"))

    def _list(self, folder: str) -> Iterator[Blob]:
        with self._failures():
            for found in obstore.list(self._store, folder or None, chunk_size=1000):
                for blob in found:
                    key = blob["path"].removeprefix(self._location.prefix)
                    yield Blob(key, blob["size"], blob["last_modified"])

    def path(self, key: str) -> None:
        """None: blobs are not files here."""

    def address(self, key: str, headers: Mapping[str, str] | None = None) -> str:
        """Where anybody can GET a blob for five minutes; what the answer says of its type and name can be set."""
        query = {f"response-{name.lower()}": value for name, value in (headers or {}).items()}
        return self._location.address("GET", key, seconds=VALID, query=query)

    # Uploads that do not pass through the hub. They end in a place of their own: whoever holds an address could
    # send other content after it was verified, so what is verified is copied away from there.

    def upload_address(self, upload: str, size: int, seconds: int) -> str:
        """Where `size` bytes can be PUT in one request, at most 5 GiB."""
        return self._location.address("PUT", _incoming(upload), seconds=seconds, headers={"Content-Length": str(size)})

    def begin_parts(self, upload: str) -> str:
        """Begin an upload in parts; returns what the other requests call it by."""
        return self._begin(_incoming(upload))

    def part_address(self, upload: str, upload_id: str, number: int, size: int, seconds: int) -> str:
        """Where part `number` (from 1) of `size` bytes can be PUT."""
        return self._location.address(
            "PUT",
            _incoming(upload),
            seconds=seconds,
            query={"partNumber": str(number), "uploadId": upload_id},
            headers={"Content-Length": str(size)},
        )

    def join_parts(self, upload: str, upload_id: str, etags: Sequence[str]) -> None:
        """Make one blob of the parts, by the ETags that their senders were answered.

        Raises:
            BadRequest: a part is missing or another one.
        """
        self._join(_incoming(upload), upload_id, etags)

    def accept(self, upload: str, key: str, sha256: str, size: int) -> None:
        """Read what was uploaded once, and give it its key when it is what was announced; else remove it.

        Raises:
            BadRequest: other content or another size than announced, or it changed meanwhile.
            FileNotFoundError: nothing was uploaded.
        """
        source = _incoming(upload)
        with self._failures():
            found = obstore.get(self._store, source)
            digest, received = hashlib.sha256(), 0
            for block in found.stream(min_chunk_size=BLOCK):
                digest.update(block)
                received += len(block)
        try:
            if (received, digest.hexdigest()) != (size, sha256):
                raise BadRequest(
                    f"Object {sha256} of {size} bytes: the content sent has {received} bytes and sha256 "
                    f"{digest.hexdigest()}; nothing was stored"
                )
            self._copy(source, key, size, found.meta["e_tag"] or "")
        finally:
            self.delete(source)

    def left(self, before: datetime) -> Iterator[Blob]:
        """What was uploaded before a time and not accepted."""
        return (blob for blob in self._list(STAGING) if blob.modified < before)

    def abandoned(self, before: datetime) -> Iterator[tuple[str, str]]:
        """Uploads in parts that began before a time and were not joined: their keys and ids."""
        answer = self._request("GET", "", {"uploads": "", "prefix": self._location.prefix})
        for found in answer.findall("{*}Upload"):
            begun = datetime.fromisoformat(found.findtext("{*}Initiated") or "")
            if begun < before:
                key = (found.findtext("{*}Key") or "").removeprefix(self._location.prefix)
                yield key, found.findtext("{*}UploadId") or ""

    def abandon(self, key: str, upload_id: str) -> None:
        """Remove the parts of an upload."""
        self._request("DELETE", key, {"uploadId": upload_id})

    def _copy(self, source: str, target: str, size: int, etag: str) -> None:
        """Copy inside the bucket, if the source still has its ETag."""
        headers = {
            "x-amz-copy-source": quote(f"/{self._location.bucket}/{self._location.prefix}{source}"),
            "x-amz-copy-source-if-match": etag,
        }
        if size <= COPY_PART:
            self._request("PUT", target, headers=headers)
            return
        upload_id = self._begin(target)
        etags = []
        for number, start in enumerate(range(0, size, COPY_PART), 1):
            stretch = {"x-amz-copy-source-range": f"bytes={start}-{min(start + COPY_PART, size) - 1}"}
            query = {"partNumber": str(number), "uploadId": upload_id}
            etags.append(self._request("PUT", target, query, headers | stretch).findtext("{*}ETag") or "")
        self._join(target, upload_id, etags)

    def _begin(self, key: str) -> str:
        return self._request("POST", key, {"uploads": ""}).findtext("{*}UploadId") or ""

    def _join(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        body = ElementTree.Element("CompleteMultipartUpload")
        for number, etag in enumerate(etags, 1):
            part = ElementTree.SubElement(body, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = etag
        self._request("POST", key, {"uploadId": upload_id}, body=ElementTree.tostring(body))

    def _request(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> ElementTree.Element:
        """The XML that the bucket answers to a request of the hub's own."""
        address = self._location.address(method, key, seconds=TIMEOUT, query=query, headers=headers)
        request = urllib.request.Request(  # noqa: S310 - `parse` lets HTTP through alone
            address, body or None, dict(headers or {}), method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=5 * TIMEOUT) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
        except OSError as error:
            raise self._unavailable(str(error)) from error
        answer = ElementTree.fromstring(text) if text else ElementTree.Element("Nothing")  # noqa: S314 - our own service
        if not answer.tag.endswith("Error"):
            return answer
        code = answer.findtext("{*}Code") or answer.findtext("Code")
        if code in REFUSALS:
            raise BadRequest(f"The upload cannot be completed: {answer.findtext('{*}Message') or code}; send it again")
        raise self._unavailable(code or "an answer that is not XML of S3")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except BaseError as error:
            raise self._unavailable(str(error)) from error

    def _unavailable(self, cause: str) -> StorageUnavailable:
        """One line: the service's own code where there is one."""
        code = re.search(r"<Code>(\w+)</Code>", cause)
        return StorageUnavailable(code[1] if code else cause.split("\n", 1)[0][:200])


def _incoming(upload: str) -> str:
    return f"{STAGING}/{upload}"
