"""The object store on disk: `ab/cd/abcd…`, written whole, verified and synced before it has its name."""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lmcommons.files import sha256_file, sync_directory
from lmcommons.hub.errors import BadRequest, EntryNotFound, storage_errors

SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
STALE = 7 * 24 * 3600  # seconds after which an unfinished upload is removed
BLOCK = 1 << 20  # bytes


class Incoming:
    """A file that is being received; hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def write(self, block: bytes) -> None:
        """Append a block."""
        self._file.write(block)
        self._digest.update(block)
        self.size += len(block)


class ObjectStore:
    """Objects below one directory; unfinished ones are in `incoming/`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._incoming = directory / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the object lies, or would."""
        if not SHA256.fullmatch(sha256):
            raise BadRequest(f"Not a sha256: {sha256[:80]!r}; 64 lower-case hexadecimal digits are expected")
        return self._directory / sha256[:2] / sha256[2:4] / sha256

    def size(self, sha256: str) -> int | None:
        """Bytes of an object; None when it is not here."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, sha256: str) -> BinaryIO:
        """An object for reading.

        Raises:
            EntryNotFound: it is not here.
        """
        try:
            return self.path(sha256).open("rb")
        except FileNotFoundError as error:
            raise EntryNotFound(f"Object {sha256} is missing from the store") from error

    @contextmanager
    def receive(self, sha256: str, size: int) -> Iterator[Incoming]:
        """Receive an object in the block; after it the object is stored if it is what was announced, else nothing is.

        Raises:
            BadRequest: other content or another size than announced.
            InsufficientStorage: the disk is full.
        """
        with self._write(self.path(sha256)) as incoming:
            yield incoming
            if incoming.size != size:
                raise BadRequest(
                    f"Object {sha256}: {incoming.size} bytes were sent and {size} announced; nothing was stored"
                )
            if incoming.sha256 != sha256:
                raise BadRequest(f"Object {sha256}: the content sent has sha256 {incoming.sha256}; nothing was stored")

    @contextmanager
    def receive_part(self, upload: str, number: int, size: int) -> Iterator[Incoming]:
        """Receive part `number` (from 1) of a multipart upload; sending it again replaces it."""
        with self._write(self._part(upload, number)) as incoming:
            yield incoming
            if incoming.size != size:
                raise BadRequest(f"Part {number}: {incoming.size} bytes were sent and {size} expected")

    def join_parts(self, upload: str, count: int, sha256: str, size: int) -> None:
        """Make the object from its parts, verified like any other.

        Raises:
            BadRequest: a part is missing, or the whole is not what was announced.
        """
        parts = [self._part(upload, number) for number in range(1, count + 1)]
        with self.receive(sha256, size) as incoming:
            for number, part in enumerate(parts, 1):
                try:
                    file = part.open("rb")
                except FileNotFoundError as error:
                    raise BadRequest(f"Part {number} of {count} was not uploaded") from error
                with file:
                    while block := file.read(BLOCK):
                        incoming.write(block)
        for part in parts:
            part.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[str]:
        """The sha256 of every object."""
        for path in sorted(self._directory.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*")):
            yield path.name

    def is_intact(self, sha256: str) -> bool:
        """Whether the object's content still has its hash; reads all of it."""
        path = self.path(sha256)
        return path.exists() and sha256_file(path) == sha256

    def sweep(self) -> None:
        """Remove what uploads left unfinished a week ago."""
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE:
                    path.unlink()

    def _part(self, upload: str, number: int) -> Path:
        return self._incoming / f"{upload}.{number}"

    @contextmanager
    def _write(self, path: Path) -> Iterator[Incoming]:
        with storage_errors():
            handle, name = tempfile.mkstemp(dir=self._incoming)
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    yield Incoming(file)
                    file.flush()
                    os.fsync(handle)
                if not path.parent.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    sync_directory(path.parents[1])
                    sync_directory(path.parents[2])
                temporary.replace(path)
                sync_directory(path.parent)
            finally:
                temporary.unlink(missing_ok=True)
