"""Writing git objects: one durable pack for a commit, so that a thousand new files cost two files and two syncs.

Source: gitformat-pack(5), pack version 2 and index version 2.
"""

import hashlib
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

from lmcommons.files import sync_directory

ObjectKind = Literal["commit", "tree", "blob", "tag"]

PACK_KINDS: dict[ObjectKind, int] = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
OBJECT_KINDS = {number: kind for kind, number in PACK_KINDS.items()}
COMPRESSION_LEVEL = 1  # uploads wait for this; `git repack` compresses better later
LARGE_OFFSET = 1 << 31  # from here on an offset is stored in 64 bits, and LARGE_FLAG says where
LARGE_FLAG = 1 << 31
TEMPORARY_PREFIX = "tmp_commit_"


class PackWriter:
    """Collects new objects in a temporary pack; `install` makes them part of the repository, all or none.

    Only one writer may work on a repository at a time: entering removes what a killed writer left.
    """

    def __init__(self, pack_directory: Path) -> None:
        self._directory = pack_directory
        self._objects: dict[bytes, tuple[int, int]] = {}  # object id -> crc32 and offset in the pack

    def __enter__(self) -> Self:
        self._directory.mkdir(exist_ok=True)
        self._clear()
        self._temporary = self._directory / f"{TEMPORARY_PREFIX}{os.getpid()}"
        self._file = self._temporary.open("w+b")
        self._write(struct.pack(">4sII", b"PACK", 2, 0))
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()  # on a full disk this fails too
        finally:
            self._clear()

    def add(self, kind: ObjectKind, data: bytes) -> bytes:
        """Add one object and return its id, 20 bytes."""
        oid = object_id(kind, data)
        if oid not in self._objects:
            record = _record_header(PACK_KINDS[kind], len(data)) + zlib.compress(data, COMPRESSION_LEVEL)
            self._objects[oid] = (zlib.crc32(record), self._file.tell())
            self._write(record)
        return oid

    def install(self) -> None:
        """Sync the pack and its index to disk and give them their final names."""
        if not self._objects:
            return
        self._file.seek(8)
        self._write(struct.pack(">I", len(self._objects)))
        self._file.seek(0)
        checksum = hashlib.file_digest(self._file, _sha1).digest()
        self._write(checksum)
        self._sync(self._temporary)
        index = self._temporary.with_suffix(".idx")
        self._file.close()
        self._file = index.open("w+b")
        self._write(_index(self._objects, checksum))
        self._sync(index)
        name = self._directory / f"pack-{checksum.hex()}"
        self._temporary.rename(name.with_suffix(".pack"))
        index.rename(name.with_suffix(".idx"))  # last: git looks for a pack where it finds an index
        sync_directory(self._directory)

    def _write(self, data: bytes) -> None:
        self._file.write(data)

    def _sync(self, path: Path) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        path.chmod(0o444)

    def _clear(self) -> None:
        for leftover in self._directory.glob(f"{TEMPORARY_PREFIX}*"):
            with suppress(FileNotFoundError):
                leftover.unlink()


def install_packs(source: Path, pack_directory: Path) -> None:
    """Move packs that git wrote, and synced, elsewhere on this file system into a repository."""
    for pack in source.glob("*.pack"):
        for suffix in (".pack", ".rev", ".idx"):  # the index last: git looks for a pack where it finds one
            with suppress(FileNotFoundError):
                pack.with_suffix(suffix).rename(pack_directory / pack.with_suffix(suffix).name)
    sync_directory(pack_directory)


def object_id(kind: ObjectKind, data: bytes) -> bytes:
    """Git's name for this content, 20 bytes."""
    return _sha1(b"%s %d\0" % (kind.encode(), len(data)) + data).digest()


def _sha1(data: bytes = b"") -> "hashlib._Hash":
    return hashlib.sha1(data, usedforsecurity=False)


def _record_header(kind: int, size: int) -> bytes:
    """Three bits of kind, then the size seven bits a byte, lowest first (four in the first byte)."""
    byte = kind << 4 | size & 0x0F
    size >>= 4
    header = bytearray()
    while size:
        header.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    header.append(byte)
    return bytes(header)


def _index(objects: dict[bytes, tuple[int, int]], pack_checksum: bytes) -> bytes:
    ordered = sorted(objects.items())
    fanout = [0] * 256
    for oid, _ in ordered:
        fanout[oid[0]] += 1
    for byte in range(1, 256):
        fanout[byte] += fanout[byte - 1]
    offsets: list[int] = []
    large_offsets: list[int] = []
    for _, (_, offset) in ordered:
        if offset < LARGE_OFFSET:
            offsets.append(offset)
        else:
            offsets.append(LARGE_FLAG | len(large_offsets))
            large_offsets.append(offset)
    body = b"".join(
        [
            b"\xfftOc",
            struct.pack(">I256I", 2, *fanout),
            *(oid for oid, _ in ordered),
            struct.pack(f">{len(ordered)}I", *(crc for _, (crc, _) in ordered)),
            struct.pack(f">{len(ordered)}I", *offsets),
            struct.pack(f">{len(large_offsets)}Q", *large_offsets),
            pack_checksum,
        ]
    )
    return body + _sha1(body).digest()
