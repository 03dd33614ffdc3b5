"""Shards: which chunks of which xorbs make a file, and which chunks a xorb has.

Source: https://huggingface.co/docs/xet/shard. Records of 48 bytes behind a header, little-endian.
"""

import secrets
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from numpy import bool_
from numpy.typing import NDArray

from lmcommons.hub.errors import BadRequest, TooLarge
from lmcommons.hub.objects.xet.hashing import SIZE, keyed_hash
from lmcommons.hub.objects.xet.xorb import ChunkTable

SHARD_LIMIT = 64 << 20  # bytes
TERMS_LIMIT = 500_000  # in the files of a shard

_TAG = b"HFRepoMetaData\0" + bytes((85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169))
_HEADER = struct.Struct("<32sQQ")  # tag, version, bytes of the footer
_FILE = struct.Struct("<32sII8x")  # file hash, flags, terms
_TERM = struct.Struct("<32sIIII")  # xorb hash, flags, bytes, first chunk, chunk after the last
_HASH = struct.Struct("<32s16x")  # range hash, or sha256
_XORB = struct.Struct("<32sIIII")  # xorb hash, flags, chunks, bytes of content, bytes stored
_CHUNK = struct.Struct("<32sIIII")  # chunk hash, its begin in the content, bytes, flags, unused
_FOOTER = struct.Struct("<QQQ6Q32sQQ6Q3QQ")
_END = b"\xff" * SIZE + bytes(16)  # ends a section

_VERSION, _FOOTER_VERSION = 2, 1
_HAS_RANGES, _HAS_SHA256 = 1 << 31, 1 << 30


@dataclass(frozen=True)
class Term:
    """Chunks `start` to `stop` of a xorb; `size` in bytes, and the hash over the chunks' hashes."""

    xorb: bytes
    start: int
    stop: int
    size: int
    range_hash: bytes


@dataclass(frozen=True)
class ShardFile:
    """A file as its sender describes it; `sha256` is None when it was not computed."""

    digest: bytes
    terms: tuple[Term, ...]
    sha256: str | None


def parse_files(shard: bytes) -> list[ShardFile]:
    """The files in a shard; what else is in it is known from the xorbs themselves.

    Raises:
        BadRequest: it is no shard, is cut short, or a term has no range hash. TooLarge: too many terms.
    """
    if len(shard) < _HEADER.size:
        raise BadRequest("The shard ends in its header")
    tag, version, _ = _HEADER.unpack_from(shard)
    if tag != _TAG or version != _VERSION:
        raise BadRequest(f"Not a shard of version {_VERSION}")
    try:
        return list(_files(shard))
    except struct.error as error:
        raise BadRequest("The shard ends in its list of files") from error


def _files(shard: bytes) -> Iterator[ShardFile]:
    position, terms_seen = _HEADER.size, 0
    while not shard.startswith(_END[:SIZE], position):
        digest, flags, count = _FILE.unpack_from(shard, position)
        position += _FILE.size
        terms_seen += count
        if terms_seen > TERMS_LIMIT:
            raise TooLarge(f"The shard's files have more than {TERMS_LIMIT:,} terms; send several shards")
        if count and not flags & _HAS_RANGES:
            raise BadRequest("The shard has a file without the hashes of its ranges")
        ranges = position + count * _TERM.size
        terms = []
        for number in range(count):
            xorb, _, size, start, stop = _TERM.unpack_from(shard, position + number * _TERM.size)
            (range_hash,) = _HASH.unpack_from(shard, ranges + number * _HASH.size)
            terms.append(Term(xorb, start, stop, size, range_hash))
        position = ranges + count * _HASH.size if flags & _HAS_RANGES else ranges
        sha256 = None
        if flags & _HAS_SHA256:
            sha256 = _swap(_HASH.unpack_from(shard, position)[0]).hex()
            position += _HASH.size
        yield ShardFile(digest, tuple(terms), sha256)


def _swap(digest: bytes) -> bytes:
    """A sha256 as four words, like all hashes in a shard; see `hashing.to_text`."""
    return b"".join(digest[start : start + 8][::-1] for start in range(0, SIZE, 8))


def known_chunks(xorbs: Iterable[tuple[bytes, ChunkTable, NDArray[bool_]]], key: bytes, valid: int) -> bytes:
    """A shard that tells a sender which chunks need not be sent.

    Args:
        xorbs: hash, chunks, and which of these may be told; the others get a random hash, so that places stay right.
        key: 32 bytes that the chunks' hashes are keyed with, so that only those who have a chunk recognise it.
        valid: seconds that the sender may use the shard.
    """
    body = bytearray(_END)
    materialised = stored = 0
    for digest, table, told in xorbs:
        raw = table.size(0, len(table))
        on_disk = table.stored(0, len(table))[1]
        body += _XORB.pack(digest, 0, len(table), raw, on_disk)
        begin = 0
        for (hashed, size), tell in zip(table.nodes(), told, strict=True):
            shown = keyed_hash(hashed, key) if tell else secrets.token_bytes(SIZE)
            body += _CHUNK.pack(shown, begin, size, 0, 0)
            begin += size
        materialised += raw
        stored += on_disk
    body += _END
    xorbs_at = _HEADER.size + len(_END)
    footer_at = _HEADER.size + len(body)
    now = int(time.time())
    footer = _FOOTER.pack(
        _FOOTER_VERSION, _HEADER.size, xorbs_at,
        footer_at, 0, footer_at, 0, footer_at, 0,  # no tables for look-ups: the reader makes its own
        key, now, now + valid,
        0, 0, 0, 0, 0, 0,
        stored, materialised, stored, footer_at,
    )  # fmt: skip
    return _HEADER.pack(_TAG, _VERSION, len(footer)) + bytes(body) + footer
