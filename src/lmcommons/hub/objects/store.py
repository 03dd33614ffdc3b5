"""Objects by sha256: plain blobs `ab/cd/abcd…`, or made of Xet xorbs; each was verified before it is here.

Readers do not know which of the two an object is.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lmcommons.hub.errors import BadRequest, Busy, EntryNotFound, storage_errors
from lmcommons.hub.objects.blobs import Blob, Blobs
from lmcommons.hub.objects.s3 import S3Blobs
from lmcommons.hub.objects.staged import staged
from lmcommons.hub.objects.xet.store import XetStore

SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
KEY = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{60})", re.ASCII)
BLOCK = 1 << 20  # bytes


class Incoming:
    """A file that is being received, of at most `limit` bytes; hashed as it is written."""

    def __init__(self, file: BinaryIO, limit: int, digest: "hashlib._Hash | None" = None) -> None:
        self._file = file
        self._limit = limit
        self._digest = digest
        self.size = 0

    def write(self, block: bytes) -> None:
        """Append a block.

        Raises:
            BadRequest: it goes past the limit.
        """
        self.size += len(block)
        if self.size > self._limit:
            raise BadRequest(f"More than the {self._limit} bytes that were announced; nothing was stored")
        self._file.write(block)
        if self._digest is not None:
            self._digest.update(block)

    @property
    def sha256(self) -> str:
        """Of what was received so far; of a part of an object it is not known."""
        assert self._digest is not None
        return self._digest.hexdigest()


class ObjectStore:
    """Plain objects in `blobs` and those of `xet`; unfinished ones are files in the staging directory of `blobs`."""

    def __init__(self, blobs: Blobs, xet: XetStore) -> None:
        self.blobs = blobs
        self.xet = xet

    @property
    def direct(self) -> S3Blobs | None:
        """Where clients send objects and fetch them without the hub; None where the hub does it."""
        return self.blobs if isinstance(self.blobs, S3Blobs) else None

    def size(self, sha256: str) -> int | None:
        """Bytes of an object; None when it is not here."""
        size = self.blobs.size(object_key(sha256))
        return self.xet.size(sha256) if size is None else size

    def sizes(self, sha256s: Collection[str]) -> dict[str, int]:
        """Bytes of those of the objects that are here."""
        found = self.blobs.sizes({object_key(sha256): sha256 for sha256 in sha256s})
        composed = self.xet.sha256_of(self.xet.hash_of(set(sha256s) - found.keys()).values())
        return found | dict(composed.values())

    def open(self, sha256: str) -> BinaryIO:
        """An object for reading, seekable.

        Raises:
            EntryNotFound: it is not here.
        """
        try:
            return self.blobs.open(object_key(sha256))
        except FileNotFoundError:
            return self.xet.open(sha256)

    @contextmanager
    def receive(self, sha256: str, size: int) -> Iterator[Incoming]:
        """Receive an object in the block; after it the object is stored if it is what was announced, else nothing is.

        Raises:
            BadRequest: other content or another size than announced.
            InsufficientStorage: the disk is full.
        """
        with storage_errors(), staged(self.blobs.staging) as path:
            digest = hashlib.sha256()
            with path.open("wb") as file:
                incoming = Incoming(file, size, digest)
                yield incoming
            self._put(path, sha256, size, incoming.size, digest.hexdigest())

    @contextmanager
    def receive_new(self, limit: int) -> Iterator[Incoming]:
        """Receive an object of at most `limit` bytes that nobody has hashed; after the block it is stored.

        Raises:
            BadRequest: it is larger. InsufficientStorage: the disk is full.
        """
        with storage_errors(), staged(self.blobs.staging) as path:
            with path.open("wb") as file:
                incoming = Incoming(file, limit, hashlib.sha256())
                yield incoming
            self.blobs.put(object_key(incoming.sha256), path)

    @contextmanager
    def receive_part(self, upload: str, start: int, size: int) -> Iterator[Incoming]:
        """Receive `size` bytes, from byte `start`, of an object that is sent in parts; a part can be sent again.

        Raises:
            BadRequest: another size. InsufficientStorage: the disk is full.
        """
        path = self._upload(upload)
        with storage_errors(), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if not _is_at(path, file):
                raise BadRequest("The upload that this part belongs to was completed; begin another one")
            file.seek(start)
            incoming = Incoming(file, size)
            yield incoming
            if incoming.size != size:
                raise BadRequest(f"{incoming.size} bytes were sent and {size} expected, from byte {start}")

    def join_parts(self, upload: str, sha256: str, size: int) -> None:
        """Make the object of its parts, verified like any other; nobody can write to it any more.

        Raises:
            BadRequest: a part is missing, or the whole is not what was announced.
            Busy: a part is being sent.
        """
        with storage_errors(), staged(self.blobs.staging) as path:
            try:
                file = self._upload(upload).open("rb")
            except FileNotFoundError as error:
                raise BadRequest(f"Object {sha256}: none of its parts was uploaded") from error
            with file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise Busy(f"Object {sha256}: one of its parts is still being sent", seconds=1) from error
                received = os.fstat(file.fileno()).st_size
                if received != size:
                    raise BadRequest(f"Object {sha256}: {received} of its {size} bytes were uploaded")
                self._upload(upload).replace(path)
                fcntl.flock(file, fcntl.LOCK_SH)  # who waits to write a part goes on, and finds no file
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                self._put(path, sha256, size, received, digest)

    def delete(self, *sha256s: str) -> None:
        """Remove plain objects; one that is not there is no error."""
        self.blobs.delete(*map(object_key, sha256s))

    def plain(self) -> Iterator[tuple[str, Blob]]:
        """Every plain object: its sha256 and its blob."""
        for blob in self.blobs.entries():
            if match := KEY.fullmatch(blob.key):
                yield match[3], blob

    def __iter__(self) -> Iterator[str]:
        """The sha256 of every plain object."""
        return (sha256 for sha256, _ in self.plain())

    def is_intact(self, sha256: str) -> bool:
        """Whether the object's content still has its hash; reads all of it."""
        try:
            with self.open(sha256) as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256  # type: ignore[arg-type]
        except EntryNotFound:
            return False

    def _upload(self, upload: str) -> Path:
        return self.blobs.staging / f"upload-{upload}"

    def _put(self, path: Path, sha256: str, size: int, received: int, digest: str) -> None:
        if (received, digest) != (size, sha256):
            raise BadRequest(
                f"Object {sha256} of {size} bytes: {received} bytes with sha256 {digest} were sent; nothing was stored"
            )
        self.blobs.put(object_key(sha256), path)


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def object_key(sha256: str) -> str:
    """The key of a plain object.

    Raises:
        BadRequest: this is no sha256.
    """
    if not SHA256.fullmatch(sha256):
        raise BadRequest(f"Not a sha256: {sha256[:80]!r}; 64 lower-case hexadecimal digits are expected")
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"
