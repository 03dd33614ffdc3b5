"""Xorbs: chunks one after the other, each behind a header of 8 bytes. Source: https://huggingface.co/docs/xet/xorb

The header: version 0, stored length (u24), compression, raw length (u24), little-endian.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import lz4.frame
import numpy as np
from numpy.typing import NDArray

from lmcommons.hub.errors import BadRequest
from lmcommons.hub.objects.xet.hashing import SIZE, chunk_hash, tree_hash

Buffer = bytes | memoryview

CHUNK_LIMIT = 128 << 10  # bytes of a chunk's content
CHUNKS_LIMIT = 8 << 10  # chunks in a xorb
XORB_LIMIT = 64 << 20  # bytes of content in a xorb
HEADER = 8  # bytes
_HEADER = struct.Struct("<BHBBHB")  # a length is a word and, above it, a byte
BODY_LIMIT = XORB_LIMIT + CHUNKS_LIMIT * (HEADER + 24)  # bytes as sent: what does not compress grows by its frames
FOOTER = b"XETBLOB"  # where older clients append a table of the chunks, which is made anew here

# A row a chunk: its hash, its bytes as stored with the header, its bytes of content.
_ROW = np.dtype([("hash", f"V{SIZE}"), ("stored", "<u4"), ("raw", "<u4")])


class Compression(IntEnum):
    """How a chunk is stored."""

    NONE = 0
    LZ4 = 1  # an LZ4 frame
    GROUPED_LZ4 = 2  # every fourth byte first, then those after them, and so on; then an LZ4 frame


@dataclass(frozen=True)
class ChunkTable:
    """The chunks of a xorb: enough to answer for it without reading it. `start` and `stop` below count chunks."""

    ROW_SIZE = _ROW.itemsize  # bytes of a chunk, packed

    rows: NDArray[np.void]

    @classmethod
    def from_bytes(cls, packed: bytes) -> "ChunkTable":
        """The table that `to_bytes` packed."""
        return cls(np.frombuffer(packed, _ROW))

    def to_bytes(self) -> bytes:
        """Packed for the database, 40 bytes a chunk."""
        return self.rows.tobytes()

    def __len__(self) -> int:
        return len(self.rows)

    def hashes(self, start: int, stop: int) -> bytes:
        """The hashes of some chunks, one after the other."""
        return self.rows["hash"][start:stop].tobytes()

    def nodes(self, start: int = 0, stop: int | None = None) -> list[tuple[bytes, int]]:
        """Hash and bytes of content of some chunks."""
        rows = self.rows[start:stop]
        return list(zip(map(bytes, rows["hash"]), map(int, rows["raw"]), strict=True))

    def size(self, start: int, stop: int) -> int:
        """Bytes of content in some chunks."""
        return int(self.rows["raw"][start:stop].sum(dtype=np.int64))

    def ends(self, start: int, stop: int) -> NDArray[np.int64]:
        """Where each of some chunks ends, in bytes of content from the first one's begin."""
        return np.cumsum(self.rows["raw"][start:stop], dtype=np.int64)

    def stored(self, start: int, stop: int) -> tuple[int, int]:
        """The bytes of the stored xorb that hold some chunks, from the first to the one after the last."""
        before = int(self.rows["stored"][:start].sum(dtype=np.int64))
        return before, before + int(self.rows["stored"][start:stop].sum(dtype=np.int64))


class XorbParser:
    """Verifies a xorb while it is read, chunk by chunk."""

    def __init__(self) -> None:
        self._rows: list[tuple[bytes, int, int]] = []
        self._content = 0  # bytes
        self._rest = 0  # bytes of a chunk whose end did not come yet
        self._ended = False

    def feed(self, data: memoryview) -> int:
        """Verify the whole chunks with which `data` begins; how many bytes these are. The others come again with the
        next call, before what follows them.

        Raises:
            BadRequest: they are no chunk, or the xorb is past a limit.
        """
        if self._ended:
            return len(data)
        position = 0
        while len(data) - position >= HEADER:
            if data[position : position + len(FOOTER)] == FOOTER:
                self._ended = True
                self._rest = 0
                return len(data)
            where = f"chunk {len(self._rows)}"
            stored, compression, raw = parse_header(data, position, where)
            start, stop = position + HEADER, position + HEADER + stored
            if stop > len(data):
                break
            self._add(chunk_hash(decode(data[start:stop], compression, raw, where)), HEADER + stored, raw)
            position = stop
        self._rest = len(data) - position
        return position

    def finish(self, digest: bytes) -> ChunkTable:
        """The chunks of the xorb; a footer comes after them.

        Raises:
            BadRequest: it is cut short, or has another hash than `digest`.
        """
        if self._rest:
            raise BadRequest(f"chunk {len(self._rows)}: is cut short after {self._rest:,} bytes")
        if not self._rows:
            raise BadRequest("The xorb has no chunk")
        if tree_hash([(hashed, raw) for hashed, _, raw in self._rows]) != digest:
            raise BadRequest("The xorb's content has another hash than its address names; nothing was stored")
        return ChunkTable(np.array(self._rows, _ROW))

    def _add(self, hashed: bytes, stored: int, raw: int) -> None:
        self._rows.append((hashed, stored, raw))
        self._content += raw
        if len(self._rows) > CHUNKS_LIMIT or self._content > XORB_LIMIT:
            raise BadRequest(f"The xorb has more than {CHUNKS_LIMIT:,} chunks or {XORB_LIMIT:,} bytes of content")


def read_chunks(stored: bytes) -> Iterator[Buffer]:
    """The contents of stored chunks, which were verified when they came."""
    view, position = memoryview(stored), 0
    while position < len(view):
        where = f"stored chunk at byte {position}"
        length, compression, raw = parse_header(stored, position, where)
        position += HEADER
        yield decode(view[position : position + length], compression, raw, where)
        position += length


def parse_header(data: Buffer, position: int, where: str) -> tuple[int, int, int]:
    """Stored length without the header, compression and raw length of the chunk at `position`.

    Raises:
        BadRequest: it is cut short, of another version, or names lengths past the limits.
    """
    if len(data) - position < HEADER:
        raise BadRequest(f"{where}: ends in its header")
    version, low, high, compression, raw_low, raw_high = _HEADER.unpack_from(data, position)
    stored, raw = low | high << 16, raw_low | raw_high << 16
    if version != 0:
        raise BadRequest(f"{where}: of version {version}; 0 is expected")
    if not 0 < raw <= CHUNK_LIMIT or not 0 < stored <= 2 * CHUNK_LIMIT:
        raise BadRequest(f"{where}: says it has {raw:,} bytes in {stored:,}; at most {CHUNK_LIMIT:,} are allowed")
    return stored, compression, raw


def decode(stored: memoryview, compression: int, raw: int, where: str) -> Buffer:
    """A chunk's content; never more than `raw` bytes are made of what is stored.

    Raises:
        BadRequest: it is not `raw` bytes, or the compression is not known.
    """
    if compression == Compression.NONE:
        content: Buffer = stored
    elif compression in (Compression.LZ4, Compression.GROUPED_LZ4):
        content = _decompress(stored, raw, where)
    else:
        raise BadRequest(f"{where}: compression {compression} is not known; 0, 1 and 2 are")
    if len(content) != raw:
        raise BadRequest(f"{where}: has {len(content):,} bytes of content and says {raw:,}")
    return _ungroup(content) if compression == Compression.GROUPED_LZ4 else content


def _decompress(stored: memoryview, raw: int, where: str) -> bytes:
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        content: bytes = decompressor.decompress(stored, max_length=raw)
    except RuntimeError as error:
        raise BadRequest(f"{where}: not an LZ4 frame ({error})") from error
    if not decompressor.eof or decompressor.unused_data:
        raise BadRequest(f"{where}: its LZ4 frame has more or less than the {raw:,} bytes it says")
    return content


def _ungroup(content: Buffer) -> bytes:
    """Bytes 0, 4, 8…, then 1, 5, 9… and so on, put in order."""
    grouped = np.frombuffer(content, np.uint8)
    ordered = np.empty_like(grouped)
    start = 0
    for offset in range(4):
        part = ordered[offset::4]
        part[:] = grouped[start : start + len(part)]
        start += len(part)
    return ordered.tobytes()
