"""Whether a file is what its sender says: the chunks, the hashes over them, and the sha256 of the content."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from numpy import bool_
from numpy.typing import NDArray

from lmcommons.hub.errors import BadRequest
from lmcommons.hub.objects.blobs import Blobs
from lmcommons.hub.objects.xet.hashing import Node, file_hash, range_hash, to_text
from lmcommons.hub.objects.xet.reader import FindXorb, Piece, read_pieces
from lmcommons.hub.objects.xet.shard import ShardFile


@dataclass(frozen=True)
class Registered:
    """A verified file; `size` in bytes."""

    hash: str
    sha256: str
    size: int


Usable = Callable[[str], NDArray[bool_]]  # which chunks of a xorb the sender may make files of
Step = Callable[[int], None]  # told how many bytes were read; what it raises ends the work


def verify_terms(file: ShardFile, find: FindXorb, usable: Usable) -> list[Piece]:
    """The file's pieces, once their chunks, range hashes and the file's hash are what the sender says.

    Raises:
        BadRequest: which term is not, or that the file's hash is another.
    """
    pieces: list[Piece] = []
    nodes: list[Node] = []
    offset = 0
    for number, term in enumerate(file.terms):
        where, xorb_hash = f"File {to_text(file.digest)}, term {number}", to_text(term.xorb)
        mask = usable(xorb_hash)
        if not term.start < term.stop <= len(mask) or not mask[term.start : term.stop].all():
            # The same words for a xorb that is not here and one that the sender may not read.
            raise BadRequest(
                f"{where}: the chunks {term.start} to {term.stop} of xorb {xorb_hash} were not sent by this account "
                "and are in no file that it may read; delete the client's cache (HF_XET_CACHE) and send the file again"
            )
        chunks = find(xorb_hash).chunks
        if chunks.size(term.start, term.stop) != term.size:
            raise BadRequest(f"{where}: says it has {term.size:,} bytes and its chunks have others")
        if range_hash(chunks.hashes(term.start, term.stop)) != term.range_hash:
            raise BadRequest(f"{where}: its range hash is not that of its chunks")
        nodes += chunks.nodes(term.start, term.stop)
        pieces.append(Piece(xorb_hash, term.start, term.stop, offset, term.size))
        offset += term.size
    if file_hash(nodes) != file.digest:
        raise BadRequest(f"File {to_text(file.digest)}: its chunks make a file with another hash")
    return pieces


def hash_content(blobs: Blobs, find: FindXorb, pieces: list[Piece], step: Step) -> str:
    """The sha256 of the content of all pieces; reads all of it."""
    digest = hashlib.sha256()
    for content in read_pieces(blobs, find, pieces):
        digest.update(content)
        step(len(content))
    return digest.hexdigest()
