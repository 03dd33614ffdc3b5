"""Where bytes lie, by key: a directory here, a bucket in `s3.py`. Keys are `a/b/c`, made by the rooms from hashes.

A blob is whole or absent: nobody sees one that is half written, and one that `put` returned from survives a power cut.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from lmcommons.files import sync_directory
from lmcommons.hub.errors import storage_errors

STAGING = "incoming"  # in the directory: files that are being received
VALID = 300  # seconds in which a download from a bucket must begin: nothing ends its address before


@dataclass(frozen=True)
class Blob:
    """A blob in a list: `size` in bytes, and when it was last put."""

    key: str
    size: int
    modified: datetime


class Blobs(Protocol):
    """A place for blobs. `staging` is a local directory: a file made there is put without a copy where that can be."""

    staging: Path

    def put(self, key: str, source: bytes | Path) -> None:
        """Store a blob under its key, replacing what was there; a file is moved or removed.

        Raises:
            InsufficientStorage: the disk is full; nothing was stored.
            StorageUnavailable: the place cannot be reached.
        """

    def size(self, key: str) -> int | None:
        """Bytes of a blob; None when there is none."""

    def sizes(self, keys: Mapping[str, str]) -> dict[str, int]:
        """Bytes of those blobs (key: name) that are here, by name."""

    def open(self, key: str) -> BinaryIO:
        """A blob for reading, seekable.

        Raises:
            FileNotFoundError: there is none.
        """

    def read(self, key: str, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`, fewer at the end.

        Raises:
            FileNotFoundError: there is none.
        """

    def delete(self, *keys: str) -> None:
        """Remove blobs; one that is not there is no error."""

    def entries(self, folder: str = "") -> Iterator[Blob]:
        """All blobs below a folder, in no order."""

    def path(self, key: str) -> Path | None:
        """The file that holds a blob, or would; None where blobs are not files."""

    def address(self, key: str, headers: Mapping[str, str] | None = None) -> str | None:
        """Where anybody can GET a blob for five minutes, answered with these headers; None where only the hub can."""


class DiskBlobs:
    """Blobs as files below a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.staging = directory / STAGING
        self.staging.mkdir(parents=True, exist_ok=True)

    def put(self, key: str, source: bytes | Path) -> None:
        """Store a blob under its key: synced first, then named, then its directory synced."""
        path = self.path(key)
        with storage_errors():
            temporary = source if isinstance(source, Path) else self._write(source)
            try:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                self._make_directory(path.parent)
                temporary.replace(path)
                sync_directory(path.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def size(self, key: str) -> int | None:
        """Bytes of a blob; None when there is none."""
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return None

    def sizes(self, keys: Mapping[str, str]) -> dict[str, int]:
        """Bytes of those blobs (key: name) that are here, by name."""
        return {name: size for key, name in keys.items() if (size := self.size(key)) is not None}

    def open(self, key: str) -> BinaryIO:
        """A blob for reading."""
        return self.path(key).open("rb")

    def read(self, key: str, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`."""
        with self.path(key).open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(stop - start)

    def delete(self, *keys: str) -> None:
        """Remove blobs."""
        for key in keys:
            self.path(key).unlink(missing_ok=True)

    def entries(self, folder: str = "") -> Iterator[Blob]:
        """All blobs below a folder."""
        for directory, directories, files in os.walk(self._directory / folder):
            if directory == str(self._directory):
                directories.remove(STAGING)
            for name in files:
                path = Path(directory, name)
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue  # removed since the directory was read
                modified = datetime.fromtimestamp(found.st_mtime, UTC)
                yield Blob(path.relative_to(self._directory).as_posix(), found.st_size, modified)

    def path(self, key: str) -> Path:
        """The file that holds a blob, or would."""
        return self._directory / key

    def address(self, key: str, headers: Mapping[str, str] | None = None) -> None:
        """None: only the hub reads its disk."""

    def _write(self, content: bytes) -> Path:
        handle, name = tempfile.mkstemp(dir=self.staging)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _make_directory(self, directory: Path) -> None:
        """Make a directory and those above it, each durable before anything is named in it."""
        if directory.exists():
            return
        self._make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)
