"""What the database holds of files: how they are written, linked to scopes, and found to be garbage."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, insert, select
from sqlalchemy.orm import Session

from lmcommons.hub.database.tables import Bucket, BucketFile, XetChunk, XetFile, XetLink, XetTerm, XetXorb, now
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.objects.xet.files import Registered
from lmcommons.hub.objects.xet.hashing import starts_search, to_text
from lmcommons.hub.objects.xet.reach import is_linked, parse_scope
from lmcommons.hub.objects.xet.reader import Piece
from lmcommons.hub.objects.xet.xorb import ChunkTable


def select_pieces(session: Session, xet_hash: str, start: int = 0, stop: int | None = None) -> list[Piece]:
    """The pieces of a file that have bytes of a range, in order."""
    columns = (XetTerm.xorb_hash, XetTerm.start, XetTerm.stop, XetTerm.offset, XetTerm.size)
    chosen = select(*columns).where(XetTerm.file_hash == xet_hash, XetTerm.offset + XetTerm.size > start)
    if stop is not None:
        chosen = chosen.where(XetTerm.offset < stop)
    return [Piece(*row) for row in session.execute(chosen.order_by(XetTerm.offset))]


def insert_file(session: Session, file: Registered, pieces: Sequence[Piece], first_chunk: str | None) -> None:
    """Store a verified file, or note that it was sent again. Clients always ask for a file's first chunk.

    Raises:
        BadRequest: a xorb was collected since the file was verified.
    """
    row = session.get(XetFile, file.hash)
    if row is not None:
        row.sent_at = now()
        return
    session.add(XetFile(hash=file.hash, sha256=file.sha256, size=file.size))
    session.flush()
    for xorb_hash in {piece.xorb_hash for piece in pieces}:
        if session.get(XetXorb, xorb_hash) is None:
            raise BadRequest(f"Xorb {xorb_hash} was removed meanwhile; send the file again")
    rows = [
        {
            "file_hash": file.hash,
            "position": position,
            "xorb_hash": piece.xorb_hash,
            "start": piece.start,
            "stop": piece.stop,
            "offset": piece.offset,
            "size": piece.size,
        }
        for position, piece in enumerate(pieces)
    ]
    if rows:
        session.execute(insert(XetTerm), rows)
    if first_chunk is not None:
        session.merge(XetChunk(hash=first_chunk, xorb_hash=pieces[0].xorb_hash, position=pieces[0].start))


def insert_chunks(session: Session, xorb_hash: str, table: ChunkTable) -> None:
    """Make those chunks of a xorb findable that clients ask for."""
    for position, (digest, _) in enumerate(table.nodes()):
        if starts_search(digest):
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
    for xet_hash in xet_hashes:
        if session.get(XetFile, xet_hash) is None:
            raise BadRequest(f"File {xet_hash} is not here; send it")
        session.merge(XetLink(bucket_id=number, file_hash=xet_hash, sent_at=now()))


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
