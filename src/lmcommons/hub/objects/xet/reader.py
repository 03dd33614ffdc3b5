"""The content of files that are made of xorbs."""

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.objects.blobs import Blobs
from lmcommons.hub.objects.xet.xorb import Buffer, ChunkTable, read_chunks

RUN = 1 << 20  # bytes of content that are read at a time, and up to a chunk more


@dataclass(frozen=True)
class StoredXorb:
    """A xorb, where its bytes lie, and its chunks."""

    hash: str
    key: str
    chunks: ChunkTable


@dataclass(frozen=True)
class Piece:
    """The part of a file that begins at byte `offset`: `size` bytes, the chunks `start` to before `stop` of a xorb."""

    xorb_hash: str
    start: int
    stop: int
    offset: int
    size: int


FindXorb = Callable[[str], StoredXorb]


def read_run(blobs: Blobs, xorb: StoredXorb, start: int, stop: int, wanted: int) -> tuple[int, list[Buffer]]:
    """The contents of chunks from `start`, as many as `wanted` bytes need, and the chunk after the last of them.

    Raises:
        EntryNotFound: the xorb's bytes are missing from the store.
    """
    ends = xorb.chunks.ends(start, stop)
    after = min(stop, start + int(np.searchsorted(ends, wanted)) + 1)
    try:
        stored = blobs.read(xorb.key, *xorb.chunks.stored(start, after))
    except FileNotFoundError as error:
        raise EntryNotFound(f"Xorb {xorb.hash} is missing from the store") from error
    return after, list(read_chunks(stored))


def read_pieces(blobs: Blobs, find: FindXorb, pieces: Sequence[Piece]) -> Iterator[Buffer]:
    """The content of all pieces, in order, chunk by chunk."""
    for piece in pieces:
        xorb, start = find(piece.xorb_hash), piece.start
        while start < piece.stop:
            start, contents = read_run(blobs, xorb, start, piece.stop, RUN)
            yield from contents


class XetReader(io.RawIOBase):
    """A file's content as a file: reads the chunks that are asked for, and nothing else."""

    def __init__(self, blobs: Blobs, find: FindXorb, pieces: Sequence[Piece]) -> None:
        self._blobs = blobs
        self._find = find
        self._pieces = pieces
        self._offsets = [piece.offset for piece in pieces]
        self._size = pieces[-1].offset + pieces[-1].size if pieces else 0
        self._position = 0
        self._run, self._run_at = b"", 0  # content that was read, and where in the file it begins

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte, from the begin, from here or from the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"no byte {base + offset} to go to")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` as far as one run of chunks goes; 0 at the end."""
        if self._position >= self._size:
            return 0
        at = self._position - self._run_at
        if not 0 <= at < len(self._run):
            self._load(len(buffer))
            at = self._position - self._run_at
        found = memoryview(self._run)[at : at + len(buffer)]
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def _load(self, wanted: int) -> None:
        piece = self._pieces[bisect_right(self._offsets, self._position) - 1]
        xorb, inside = self._find(piece.xorb_hash), self._position - piece.offset
        ends = xorb.chunks.ends(piece.start, piece.stop)
        first = int(np.searchsorted(ends, inside, side="right"))
        begin = int(ends[first - 1]) if first else 0
        needed = inside - begin + min(wanted, RUN)
        _, contents = read_run(self._blobs, xorb, piece.start + first, piece.stop, needed)
        self._run, self._run_at = b"".join(contents), piece.offset + begin


def trim(chunks: ChunkTable, piece: Piece, start: int, stop: int) -> Piece:
    """The piece with only those of its chunks that have bytes of the file's range `start` to before `stop`."""
    ends = chunks.ends(piece.start, piece.stop)
    first = int(np.searchsorted(ends, start - piece.offset, side="right"))
    last = int(np.searchsorted(ends, stop - piece.offset)) + 1
    last = min(last, len(ends))
    before = int(ends[first - 1]) if first else 0
    return Piece(
        piece.xorb_hash, piece.start + first, piece.start + last, piece.offset + before, int(ends[last - 1]) - before
    )
