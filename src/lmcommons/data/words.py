"""Words, and hashes of word n-grams: what near duplicates and overlap between splits are measured in."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Scripts written without spaces, a character of which stands for a word: Thai, Lao, Burmese, Khmer, kana, Han.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
MULTIPLIER = 0x9E3779B97F4A7C15  # odd, so that multiplication modulo 2**64 loses nothing


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; in scripts written without spaces, characters."""
    return WORD.findall(text.lower())


def ngram_hashes(words: Sequence[str], n: int) -> NDArray[np.uint64]:
    """64-bit hashes of the n-grams of `words`, in order: [max(number of words - n + 1, 0)].

    Polynomial over the words' own hashes, so that equal n-grams have equal hashes in every process.
    """
    hashes = np.array([_word_hash(word) for word in words], dtype=np.uint64)
    count = len(hashes) - n + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    found = np.zeros(count, dtype=np.uint64)
    for place in range(n):
        found = found * np.uint64(MULTIPLIER) + hashes[place : place + count]
    return found


def overlaps(train: Iterable[str], held_out: Sequence[str], n: int) -> list[bool]:
    """For each held-out text, whether it shares a word n-gram with a train text.

    Memory grows with the held-out texts only; `train` is streamed. A text of fewer than `n` words shares nothing.
    """
    hashes = [ngram_hashes(words(text), n) for text in held_out]
    known = np.unique(np.concatenate([*hashes, np.empty(0, dtype=np.uint64)]))
    shared = np.zeros(len(known), dtype=bool)
    if not len(known):
        return [False] * len(held_out)
    for text in train:
        found = ngram_hashes(words(text), n)
        places = np.minimum(np.searchsorted(known, found), len(known) - 1)
        shared[places[known[places] == found]] = True
    return [bool(shared[np.searchsorted(known, own)].any()) for own in hashes]


@lru_cache(maxsize=1 << 20)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
