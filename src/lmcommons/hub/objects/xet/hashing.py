"""The hashes of Xet: of chunks, of xorbs and files as trees of chunks, of runs of chunks.

All are keyed BLAKE3, 32 bytes. Source: https://huggingface.co/docs/xet/hashing
"""

import re
import struct
from collections.abc import Sequence

import numpy as np
from blake3 import blake3

SIZE = 32  # bytes of a hash

_CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
_FILE_KEY = bytes(SIZE)

_WORDS = struct.Struct("<4Q")
_SHOWN = struct.Struct(">4Q")
_TEXT = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BRANCHES = 4  # children of a node on average
_MOST_BRANCHES = 2 * _BRANCHES + 1

Node = tuple[bytes, int]  # a hash, and how many bytes of content are below it


def to_text(digest: bytes) -> str:
    """A hash as text: its four little-endian 64-bit words, each in hexadecimal; not the hexadecimal of its bytes."""
    return _SHOWN.pack(*_WORDS.unpack(digest)).hex()


def from_text(text: str) -> bytes:
    """The hash that `to_text` wrote.

    Raises:
        ValueError: the text is no hash.
    """
    if not _TEXT.fullmatch(text):
        raise ValueError(f"not a Xet hash: {text[:80]!r}; 64 lower-case hexadecimal digits are expected")
    return _WORDS.pack(*(int(text[start : start + 16], 16) for start in range(0, 64, 16)))


def chunk_hash(content: bytes | memoryview) -> bytes:
    """The hash of a chunk's content."""
    return blake3(content, key=_CHUNK_KEY).digest()


def tree_hash(chunks: Sequence[Node]) -> bytes:
    """The root over chunks in order: a xorb's hash. Of no chunks 32 zero bytes, of one chunk its own hash."""
    level = list(chunks)
    if not level:
        return bytes(SIZE)
    while len(level) > 1:
        above: list[Node] = []
        start = 0
        while start < len(level):
            stop = _cut(level, start)
            above.append(_node(level[start:stop]))
            start = stop
        level = above
    return level[0][0]


def file_hash(chunks: Sequence[Node]) -> bytes:
    """The hash of a file that consists of these chunks; 32 zero bytes for an empty one."""
    return blake3(tree_hash(chunks), key=_FILE_KEY).digest() if chunks else bytes(SIZE)


def range_hash(hashes: bytes) -> bytes:
    """The hash of a run of chunks, from their hashes one after the other: it shows that the sender knows them."""
    return blake3(hashes, key=_RANGE_KEY).digest()


def keyed_hash(digest: bytes, key: bytes) -> bytes:
    """A chunk's hash as it is told to somebody who may not know the chunk."""
    return blake3(digest, key=key).digest()


def search_starts(hashes: bytes) -> list[int]:
    """For which chunks clients ask when they look for content that the store has: one in 1,024.

    `hashes` are those of chunks, one after the other; the places of these chunks among them are returned.
    """
    last_words = np.frombuffer(hashes, "<u8")[3::4]
    return [int(place) for place in np.flatnonzero(last_words % 1024 == 0)]


def _cut(nodes: list[Node], start: int) -> int:
    """Where the group of siblings that begins at `start` ends: hashes decide it, so that an edit moves few groups."""
    last = min(start + _MOST_BRANCHES, len(nodes))
    for position in range(start + 2, last):
        if _last_word(nodes[position][0]) % _BRANCHES == 0:
            return position + 1
    return last


def _node(children: list[Node]) -> Node:
    text = "".join(f"{to_text(digest)} : {size}\n" for digest, size in children)
    return blake3(text.encode(), key=_NODE_KEY).digest(), sum(size for _, size in children)


def _last_word(digest: bytes) -> int:
    return int.from_bytes(digest[24:], "little")
