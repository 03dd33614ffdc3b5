"""What the database holds of files: how they are written, linked to scopes, and found to be garbage."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, exists, insert, select, update
from sqlalchemy.orm import Session

from lmcommons.hub.database.tables import Bucket, BucketFile, XetChunk, XetFile, XetLink, XetTerm, XetXorb, now
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.objects.xet.files import Registered
from lmcommons.hub.objects.xet.hashing import search_starts, to_text
from lmcommons.hub.objects.xet.reach import is_linked, parse_scope
from lmcommons.hub.objects.xet.reader import Piece
from lmcommons.hub.objects.xet.xorb import ChunkTable

BATCH = 500  # hashes in one question to the database

Verified = tuple[Registered, Sequence[Piece], str | None]  # a file, what it is made of, and its first chunk


def batches(hashes: Iterable[str]) -> Iterator[list[str]]:
    """As many hashes as one question to the database may hold, each time."""
    ordered = sorted(hashes)
    return (ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH))


def select_pieces(session: Session, xet_hash: str, start: int = 0, stop: int | None = None) -> list[Piece]:
    """The pieces of a file that have bytes of a range, in order."""
    columns = (XetTerm.xorb_hash, XetTerm.start, XetTerm.stop, XetTerm.offset, XetTerm.size)
    chosen = select(*columns).where(XetTerm.file_hash == xet_hash, XetTerm.offset + XetTerm.size > start)
    if stop is not None:
        chosen = chosen.where(XetTerm.offset < stop)
    return [Piece(*row) for row in session.execute(chosen.order_by(XetTerm.offset))]


def insert_files(session: Session, files: Iterable[Verified]) -> None:
    """Store verified files, or note that they were sent again. Clients always ask for a file's first chunk.

    Raises:
        BadRequest: a xorb was collected since the file was verified.
    """
    by_hash = {file[0].hash: file for file in files}
    for some in batches(by_hash):
        known = update(XetFile).where(XetFile.hash.in_(some)).values(sent_at=now()).returning(XetFile.hash)
        again = set(session.scalars(known))
        _insert_new(session, [by_hash[xet_hash] for xet_hash in some if xet_hash not in again])


def _insert_new(session: Session, files: Sequence[Verified]) -> None:
    for some in batches({piece.xorb_hash for _, pieces, _ in files for piece in pieces}):
        gone = set(some).difference(session.scalars(select(XetXorb.hash).where(XetXorb.hash.in_(some))))
        if gone:
            raise BadRequest(f"Xorb {min(gone)} was removed meanwhile; send the file again")
    rows = [{"hash": file.hash, "sha256": file.sha256, "size": file.size} for file, _, _ in files]
    terms = [
        {
            "file_hash": file.hash,
            "position": position,
            "xorb_hash": piece.xorb_hash,
            "start": piece.start,
            "stop": piece.stop,
            "offset": piece.offset,
            "size": piece.size,
        }
        for file, pieces, _ in files
        for position, piece in enumerate(pieces)
    ]
    chunks = {(first, pieces[0].xorb_hash): pieces[0].start for _, pieces, first in files if first is not None}
    for some in batches({first for first, _ in chunks}):
        found = select(XetChunk.hash, XetChunk.xorb_hash).where(XetChunk.hash.in_(some))
        for first, xorb_hash in session.execute(found):
            chunks.pop((first, xorb_hash), None)
    firsts = [{"hash": first, "xorb_hash": found, "position": at} for (first, found), at in chunks.items()]
    for table, values in ((XetFile, rows), (XetTerm, terms), (XetChunk, firsts)):
        if values:
            session.execute(insert(table), values)


def insert_chunks(session: Session, xorb_hash: str, table: ChunkTable) -> None:
    """Make those chunks of a xorb findable that clients ask for."""
    for position in search_starts(table.hashes(0, len(table))):
        digest = table.hashes(position, position + 1)
        session.merge(XetChunk(hash=to_text(digest), xorb_hash=xorb_hash, position=position))


def link_files(session: Session, scope: str, xet_hashes: Collection[str]) -> None:
    """Put files into a bucket's scope; a repository's objects say what is in it.

    Raises:
        BadRequest: the bucket was deleted, or a file is not here.
    """
    kind, number = parse_scope(scope)
    if kind == "repository":
        return
    if session.get(Bucket, number) is None:
        raise BadRequest("The bucket was deleted meanwhile")
    for some in batches(xet_hashes):
        absent = set(some).difference(session.scalars(select(XetFile.hash).where(XetFile.hash.in_(some))))
        if absent:
            raise BadRequest(f"File {min(absent)} is not here; send it")
        session.execute(delete(XetLink).where(XetLink.bucket_id == number, XetLink.file_hash.in_(some)))
        links = [{"bucket_id": number, "file_hash": xet_hash, "sent_at": now()} for xet_hash in some]
        session.execute(insert(XetLink), links)


def is_unused(before: datetime) -> ColumnElement[bool]:
    """Whether a row of links is to a file that its bucket no longer has, and nobody sent since `before`."""
    held = exists().where(BucketFile.bucket_id == XetLink.bucket_id, BucketFile.xet_hash == XetLink.file_hash)
    return and_(XetLink.sent_at < before, ~held)


def is_unlinked(before: datetime) -> ColumnElement[bool]:
    """Whether a row of files is in no scope, and nobody sent the file since `before`."""
    return and_(XetFile.sent_at < before, ~is_linked())


def is_unreferenced(before: datetime) -> ColumnElement[bool]:
    """Whether a row of xorbs is needed by no file that stays, and nobody sent the xorb since `before`."""
    needed = exists().where(XetTerm.xorb_hash == XetXorb.hash, XetFile.hash == XetTerm.file_hash, ~is_unlinked(before))
    return and_(XetXorb.sent_at < before, ~needed)
