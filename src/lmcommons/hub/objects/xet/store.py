"""The Xet side of the object store: receives xorbs and files, verifies both, and answers what is made of what.

A file is in a scope: `repository:12` once that repository has its sha256 as an object, `bucket:3` once it is linked.
Knowing a hash gives nothing: a file may be made of chunks that its sender sent, or may read in some file (`Reach`).
"""

import io
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, select
from sqlalchemy.orm import InstrumentedAttribute

from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    XetChunk,
    XetFile,
    XetGeneration,
    XetLink,
    XetSender,
    XetTerm,
    XetXorb,
    now,
)
from lmcommons.hub.errors import BadRequest, Busy, EntryNotFound, TooLarge, storage_errors
from lmcommons.hub.objects.blobs import Blobs
from lmcommons.hub.objects.staged import staged
from lmcommons.hub.objects.xet.files import Registered, Step, Usable, hash_content, verify_terms
from lmcommons.hub.objects.xet.hashing import from_text, to_text
from lmcommons.hub.objects.xet.reach import Reach, is_readable, within
from lmcommons.hub.objects.xet.reader import FindXorb, Piece, StoredXorb, XetReader, trim
from lmcommons.hub.objects.xet.rows import (
    batches,
    insert_chunks,
    insert_files,
    is_unlinked,
    is_unreferenced,
    is_unused,
    link_files,
    select_pieces,
)
from lmcommons.hub.objects.xet.shard import ShardFile, known_chunks
from lmcommons.hub.objects.xet.xorb import BODY_LIMIT, ChunkTable, XorbParser

FOLDER = "xorbs"
BLOCK = 2 << 20  # bytes of a xorb that are written and verified at a time; more than a chunk has
WRITTEN = 256 << 10  # bytes that are written at a time: for more, Linux takes memory that is dear in a virtual machine
CONTENT_LIMIT = 1 << 40  # bytes of the files in one shard
TERMS_LIMIT = 10_000  # of the files that share a xorb, to see which of its chunks an account may read
XORBS_TOLD = 16  # in the answer to a question for a chunk: about 1 GiB of content
TABLES_KEPT = 64  # tables of chunks in memory at a time, of at most 320 KiB each


@dataclass(frozen=True)
class Run:
    """Chunks `start` to before `stop` of a xorb, which are its stored bytes `first` to before `end`."""

    xorb: StoredXorb
    start: int
    stop: int
    first: int
    end: int


@dataclass(frozen=True)
class Reconstruction:
    """How a range of a file is made: pieces, of the first of which `skip` bytes come before the range.

    `runs` hold every chunk of the pieces once, by xorb.
    """

    skip: int
    pieces: list[Piece]
    runs: dict[str, list[Run]]


@dataclass(frozen=True)
class Collected:
    """What was removed: files that were in no scope, xorbs that no file needed, and their stored bytes."""

    files: int
    xorbs: int
    size: int


class IncomingXorb:
    """A xorb that is being received; verified as it is written."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._parser = XorbParser()
        self._buffer = memoryview(bytearray(BLOCK))  # one for all blocks: new memory costs more than the copy into it
        self._filled = 0  # bytes of it
        self._kept = 0  # of these, the bytes of a chunk whose end did not come with the last block
        self.inserted = False  # at the end: whether it was not here before

    def write(self, parts: list[bytes]) -> None:
        """The next bytes, in as many parts as they come; wrong ones may be refused later.

        Raises:
            BadRequest: they are no chunk, or the xorb is past a limit.
        """
        for part in parts:
            rest = memoryview(part)
            while rest:
                taken = min(len(rest), len(self._buffer) - self._filled)
                self._buffer[self._filled : self._filled + taken] = rest[:taken]
                self._filled += taken
                rest = rest[taken:]
                if self._filled == len(self._buffer):
                    self._write_block()

    def finish(self, xet_hash: str) -> ChunkTable:
        """The chunks of the xorb, whose file ends with the last of them.

        Raises:
            BadRequest: it is not what its hash says.
        """
        self._write_block()
        table = self._parser.finish(from_text(xet_hash))
        self._file.truncate(table.stored(0, len(table))[1])  # without the footer of older clients
        return table

    def _write_block(self) -> None:
        """Write and verify what is in the buffer, and keep of it the begin of a chunk that is not whole yet."""
        new = self._buffer[self._kept : self._filled]
        if new:  # space that is asked for at once costs the file system less, and a full disk is told before
            os.posix_fallocate(self._file.fileno(), self._file.tell(), len(new))
        while new:
            new = new[self._file.write(new[:WRITTEN]) :]
        verified = self._parser.feed(self._buffer[: self._filled])
        self._kept = self._filled - verified
        self._buffer[: self._kept] = self._buffer[verified : self._filled]
        self._filled = self._kept


class XetStore:
    """Xorbs in `blobs`, below `xorbs/`; everything about them in the database."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    # ------------------------------------------------------------ reading

    def size(self, sha256: str) -> int | None:
        """Bytes of the file with this sha256; None when it is not here."""
        with self._database.read() as session:
            return session.scalar(select(XetFile.size).where(XetFile.sha256 == sha256).limit(1))

    def open(self, sha256: str) -> BinaryIO:
        """The content of the file with this sha256, seekable.

        Raises:
            EntryNotFound: it is not here.
        """
        found = self.hash_of([sha256]).get(sha256)
        if found is None:
            raise EntryNotFound(f"Object {sha256} is missing from the store")
        with self._database.read() as session:
            pieces = select_pieces(session, found)
        return cast(BinaryIO, io.BufferedReader(XetReader(self._blobs, self._finder(), pieces)))

    def hash_of(self, sha256s: Iterable[str], scope: str | None = None) -> dict[str, str]:
        """The Xet hashes of those files (by sha256) that are made of xorbs, and are in the scope if one is given."""
        chosen = select(XetFile.sha256, func.min(XetFile.hash)).group_by(XetFile.sha256)
        if scope is not None:
            chosen = within(chosen, scope)
        return dict(self._rows(chosen, XetFile.sha256, set(sha256s)))

    def sha256_of(self, xet_hashes: Iterable[str]) -> dict[str, tuple[str, int]]:
        """The sha256 and the bytes of files by their Xet hashes."""
        chosen = select(XetFile.hash, XetFile.sha256, XetFile.size)
        return {found: (sha256, size) for found, sha256, size in self._rows(chosen, XetFile.hash, set(xet_hashes))}

    def in_scope(self, scope: str, xet_hashes: Iterable[str]) -> set[str]:
        """Those of the files that are in the scope."""
        return {found for (found,) in self._rows(within(select(XetFile.hash), scope), XetFile.hash, set(xet_hashes))}

    def reconstruction(self, xet_hash: str, start: int = 0, stop: int | None = None) -> Reconstruction | None:
        """How bytes `start` to before `stop` (None: the end) of a file are made; None when it has no byte there."""
        with self._database.read() as session:
            pieces = select_pieces(session, xet_hash, start, stop)
        if not pieces:
            return None
        find = self._finder()
        last = pieces[-1].offset + pieces[-1].size
        pieces = [trim(find(piece.xorb_hash).chunks, piece, start, stop or last) for piece in pieces]
        by_xorb: dict[str, list[Piece]] = {}
        for piece in pieces:
            by_xorb.setdefault(piece.xorb_hash, []).append(piece)
        runs = {found: _merge(find(found), parts) for found, parts in by_xorb.items()}
        return Reconstruction(start - pieces[0].offset, pieces, runs)

    def is_whole(self, xorb_hash: str, reach: Reach) -> bool:
        """Whether all chunks of a xorb are within reach."""
        return bool(self._usable(reach)(xorb_hash).all())

    # ------------------------------------------------------------ receiving

    @contextmanager
    def receive_xorb(self, account_id: int, xet_hash: str) -> Iterator[IncomingXorb]:
        """Receive a xorb in the block; after it the xorb is stored if it is what its hash says, else nothing is.

        Raises:
            BadRequest: it is not. InsufficientStorage: the disk is full.
        """
        with storage_errors(), staged(self._blobs.staging) as path:
            with path.open("wb", buffering=0) as file:
                incoming = IncomingXorb(file)
                yield incoming
                table = incoming.finish(xet_hash)
            incoming.inserted = self._store_xorb(account_id, xet_hash, path, table)

    def _store_xorb(self, account_id: int, xet_hash: str, path: Path, table: ChunkTable) -> bool:
        with self._database.read() as session:
            present = session.get(XetXorb, xet_hash)
        new = None
        if present is None or self._blobs.size(present.key) is None:
            key = f"{FOLDER}/{xet_hash[:2]}/{xet_hash}.{secrets.token_hex(4)}"
            self._blobs.put(key, path)
            new = XetXorb(hash=xet_hash, key=key, size=table.stored(0, len(table))[1], chunks=table.to_bytes())
        with self._database.write() as session:
            row = session.get(XetXorb, xet_hash)
            if new is not None and (row is None or present is not None):
                row = session.merge(new)
                insert_chunks(session, xet_hash, table)
            if row is None:
                raise Busy(f"Xorb {xet_hash} was removed as garbage just now; send it again", seconds=1)
            row.sent_at = now()
            session.merge(XetSender(xorb_hash=xet_hash, account_id=account_id))
        return new is not None

    def register(
        self, scope: str, files: list[ShardFile], reach: Reach, step: Step = lambda size: None
    ) -> list[Registered]:
        """Verify the files of a shard and store them, all or none.

        Every chunk must be within `reach`, the hashes must be those of the chunks, and the content's sha256 the one in
        the shard. The files are put into a bucket's scope here; a repository has them once it has their objects.

        Raises:
            BadRequest: what is wrong, and in which file. TooLarge: too much for one shard.
        """
        if sum(term.size for file in files for term in file.terms) > CONTENT_LIMIT:
            raise TooLarge(f"The shard's files have more than {CONTENT_LIMIT:,} bytes; send several shards")
        find = self._finder()
        usable = self._usable(reach)
        checked = [(file, verify_terms(file, find, usable)) for file in files]
        known = self.sha256_of(to_text(file.digest) for file in files)
        registered = [self._verified(file, pieces, known, find, step) for file, pieces in checked]
        rows = [
            (found, pieces, _first_chunk(pieces, find)) for found, (_, pieces) in zip(registered, checked, strict=True)
        ]
        with self._database.write() as session:
            insert_files(session, rows)
            link_files(session, scope, {found.hash for found in registered})
        return registered

    def link(self, scope: str, xet_hashes: Collection[str]) -> None:
        """Put files into a bucket's scope, for copies within the hub; the caller has checked who may read them.

        Raises:
            BadRequest: the bucket was deleted, or a file is not here.
        """
        with self._database.write() as session:
            link_files(session, scope, xet_hashes)

    def known(self, chunk_hash: str, reach: Reach, key: bytes, valid: int) -> bytes | None:
        """A shard of what need not be sent: the xorbs of a file that has this chunk, from there on; None when there is
        no such file within `reach`. `key` and `valid` as in `shard.known_chunks`.
        """
        has_chunk = select(XetTerm.file_hash, XetTerm.position).join(XetChunk, XetChunk.xorb_hash == XetTerm.xorb_hash)
        has_chunk = has_chunk.where(
            XetChunk.hash == chunk_hash,
            XetChunk.position >= XetTerm.start,
            XetChunk.position < XetTerm.stop,
            is_readable(reach, XetTerm.file_hash),
        )
        with self._database.read() as session:
            found = session.execute(has_chunk.limit(1)).first()
            if found is None:
                return None
            after = select(XetTerm.xorb_hash).where(XetTerm.file_hash == found[0], XetTerm.position >= found[1])
            ordered = list(session.scalars(after.order_by(XetTerm.position).limit(TERMS_LIMIT)))
        find, usable = self._finder(), self._usable(reach)
        hashes = list(dict.fromkeys(ordered))[:XORBS_TOLD]
        return known_chunks([(from_text(name), find(name).chunks, usable(name)) for name in hashes], key, valid)

    # ------------------------------------------------------------ keeping

    def generation(self) -> int:
        """How often xorbs were deleted: what a client remembers from an earlier generation may be gone."""
        with self._database.read() as session:
            return session.scalar(select(XetGeneration.number)) or 0

    def unreferenced(self, before: datetime) -> list[XetXorb]:
        """The xorbs that `collect` would delete."""
        with self._database.read() as session:
            return list(session.scalars(select(XetXorb).where(is_unreferenced(before))))

    def collect(self, before: datetime) -> Collected:
        """Delete what nobody needs and nobody sent since `before`: links to files that their bucket no longer has,
        unlinked files, unreferenced xorbs, and blobs that are no xorb's.

        Safe while uploads run that began after `before`: a blob is deleted only once no row names it, and its key is
        never used again.
        """
        with self._database.write() as session:
            session.execute(delete(XetLink).where(is_unused(before)))
            files = list(session.scalars(delete(XetFile).where(is_unlinked(before)).returning(XetFile.hash)))
            xorbs = list(session.scalars(delete(XetXorb).where(is_unreferenced(before)).returning(XetXorb.hash)))
            if xorbs:
                session.merge(XetGeneration(id=1, number=(session.scalar(select(XetGeneration.number)) or 0) + 1))
        size = 0
        for blob in self._blobs.entries(FOLDER):
            if blob.modified < before and not self._is_named(blob.key):
                self._blobs.delete(blob.key)
                size += blob.size
        return Collected(len(files), len(xorbs), size)

    def check(self) -> list[str]:
        """What is wrong with stored xorbs, a line each; reads and hashes all of them."""
        with self._database.read() as session:
            hashes = list(session.scalars(select(XetXorb.hash).order_by(XetXorb.hash)))
        return [problem for xet_hash in hashes if (problem := self._problem(xet_hash))]

    # ------------------------------------------------------------ inside

    def _finder(self) -> FindXorb:
        """Looks xorbs up and keeps the last ones; for one request, because a xorb may be collected and sent again."""

        @lru_cache(TABLES_KEPT)
        def find(xet_hash: str) -> StoredXorb:
            with self._database.read() as session:
                row = session.get(XetXorb, xet_hash)
            if row is None:
                raise EntryNotFound(f"Xorb {xet_hash} is missing from the store")
            return StoredXorb(xet_hash, row.key, ChunkTable.from_bytes(row.chunks))

        return find

    def _usable(self, reach: Reach) -> Usable:
        """Which chunks of a xorb the account may make files of: all, if it sent the xorb, else what it may read."""

        @lru_cache(TABLES_KEPT)
        def usable(xet_hash: str) -> NDArray[np.bool_]:
            with self._database.read() as session:
                packed = session.scalar(select(func.length(XetXorb.chunks)).where(XetXorb.hash == xet_hash)) or 0
                mask = np.zeros(packed // ChunkTable.ROW_SIZE, np.bool_)
                if session.get(XetSender, (xet_hash, reach.account_id)) is not None:
                    mask[:] = True
                else:
                    terms = select(XetTerm.start, XetTerm.stop).where(
                        XetTerm.xorb_hash == xet_hash, is_readable(reach, XetTerm.file_hash)
                    )
                    for start, stop in session.execute(terms.distinct().limit(TERMS_LIMIT)):
                        mask[start:stop] = True
            return mask

        return usable

    def _verified(
        self, file: ShardFile, pieces: list[Piece], known: dict[str, tuple[str, int]], find: FindXorb, step: Step
    ) -> Registered:
        """The file, once its sha256 is the claimed one; the same Xet hash always has the same content."""
        name = to_text(file.digest)
        sha256 = known[name][0] if name in known else hash_content(self._blobs, find, pieces, step)
        if file.sha256 not in (None, sha256):
            raise BadRequest(f"File {name}: its content has sha256 {sha256}, not {file.sha256}")
        return Registered(name, sha256, sum(piece.size for piece in pieces))

    def _is_named(self, key: str) -> bool:
        with self._database.read() as session:
            name = key.rpartition("/")[2].partition(".")[0]
            return session.scalar(select(XetXorb.key).where(XetXorb.hash == name)) == key

    def _problem(self, xet_hash: str) -> str | None:
        with self._database.read() as session:
            row = session.get(XetXorb, xet_hash)
        if row is None:
            return None  # collected meanwhile
        try:
            parser = XorbParser()
            parser.feed(memoryview(self._blobs.read(row.key, 0, BODY_LIMIT)))
            table = parser.finish(from_text(xet_hash))
        except FileNotFoundError:
            return f"xorb {xet_hash}: its blob {row.key} is missing"
        except BadRequest as error:
            return f"xorb {xet_hash}: {error.message}"
        if table.to_bytes() != row.chunks:
            return f"xorb {xet_hash}: its table of chunks does not fit its blob {row.key}"
        return None

    def _rows(self, chosen: Any, column: InstrumentedAttribute[str], values: Collection[str]) -> list[Any]:
        """The rows chosen where `column` is one of `values`, asked in batches."""
        with self._database.read() as session:
            return [tuple(row) for some in batches(values) for row in session.execute(chosen.where(column.in_(some)))]


def _merge(xorb: StoredXorb, pieces: list[Piece]) -> list[Run]:
    """The runs of chunks that hold the pieces, none twice: clients fail on ranges that overlap."""
    merged: list[list[int]] = []
    for start, stop in sorted((piece.start, piece.stop) for piece in pieces):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(stop, merged[-1][1])
        else:
            merged.append([start, stop])
    return [Run(xorb, start, stop, *xorb.chunks.stored(start, stop)) for start, stop in merged]


def _first_chunk(pieces: list[Piece], find: FindXorb) -> str | None:
    return to_text(find(pieces[0].xorb_hash).chunks.hashes(pieces[0].start, pieces[0].start + 1)) if pieces else None
