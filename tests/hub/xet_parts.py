"""Xorbs and shards as a client would send them, made here so that tests can lie in them."""

import hashlib
import struct
from dataclasses import dataclass

import lz4.frame

from lmcommons.hub.objects.xet.hashing import chunk_hash, file_hash, range_hash, to_text, tree_hash
from lmcommons.hub.objects.xet.xorb import Compression

CHUNK = 10_000  # bytes; any size may be sent


@dataclass(frozen=True)
class Xorb:
    """Chunks, and the body that a client sends."""

    chunks: tuple[bytes, ...]
    body: bytes

    @property
    def digest(self) -> bytes:
        return tree_hash([(chunk_hash(chunk), len(chunk)) for chunk in self.chunks])

    @property
    def hash(self) -> str:
        return to_text(self.digest)


def cut(content: bytes, size: int = CHUNK) -> tuple[bytes, ...]:
    return tuple(content[start : start + size] for start in range(0, len(content), size))


def frame(chunk: bytes, compression: int = Compression.NONE, raw: int | None = None) -> bytes:
    """A stored chunk, which may say another raw length."""
    stored = chunk
    if compression == Compression.GROUPED_LZ4:
        stored = b"".join(chunk[offset::4] for offset in range(4))
    if compression != Compression.NONE:
        stored = lz4.frame.compress(stored)
    return header(len(stored), compression, len(chunk) if raw is None else raw) + stored


def header(stored: int, compression: int, raw: int, version: int = 0) -> bytes:
    return bytes([version]) + stored.to_bytes(3, "little") + bytes([compression]) + raw.to_bytes(3, "little")


def xorb(content: bytes, compression: int = Compression.NONE, size: int = CHUNK) -> Xorb:
    chunks = cut(content, size)
    return Xorb(chunks, b"".join(frame(chunk, compression) for chunk in chunks))


@dataclass(frozen=True)
class Term:
    """Chunks of a xorb; what a test wants to be wrong is given."""

    xorb: Xorb
    start: int = 0
    stop: int | None = None
    size: int | None = None
    range_hash: bytes | None = None

    @property
    def chunks(self) -> tuple[bytes, ...]:
        return self.xorb.chunks[self.start : self.stop]


@dataclass(frozen=True)
class File:
    """A file of terms; its hashes are right unless they are given."""

    terms: tuple[Term, ...]
    digest: bytes | None = None
    sha256: str | None = None
    without_sha256: bool = False

    @property
    def content(self) -> bytes:
        return b"".join(chunk for term in self.terms for chunk in term.chunks)

    @property
    def hash(self) -> str:
        return to_text(self.true_digest)

    @property
    def true_digest(self) -> bytes:
        return file_hash([(chunk_hash(chunk), len(chunk)) for term in self.terms for chunk in term.chunks])

    @property
    def true_sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def shard(*files: File) -> bytes:
    """The shard of some files, with an empty list of xorbs."""
    tag = b"HFRepoMetaData\0" + bytes((85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169))
    body = struct.pack("<32sQQ", tag, 2, 0)
    for file in files:
        flags = (1 << 31) | (0 if file.without_sha256 else 1 << 30)
        body += struct.pack("<32sII8x", file.digest or file.true_digest, flags, len(file.terms))
        for term in file.terms:
            size = sum(map(len, term.chunks)) if term.size is None else term.size
            stop = len(term.xorb.chunks) if term.stop is None else term.stop
            body += struct.pack("<32sIIII", term.xorb.digest, 0, size, term.start, stop)
        for term in file.terms:
            hashes = b"".join(map(chunk_hash, term.chunks))
            body += struct.pack("<32s16x", term.range_hash or range_hash(hashes))
        if not file.without_sha256:
            words = bytes.fromhex(file.sha256 or file.true_sha256)
            body += struct.pack("<32s16x", b"".join(words[at : at + 8][::-1] for at in range(0, 32, 8)))
    end = b"\xff" * 32 + bytes(16)
    return body + end + end
