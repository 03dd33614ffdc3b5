"""Removal of exact and near duplicates: of each group of equal or similar documents the first one stays."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from lmcommons.data.step import Document, Step
from lmcommons.data.words import ngram_hashes, words
from lmcommons.recipe import DeduplicateRecipe

RECALL_AT_THRESHOLD = 0.99  # chance that the bands find a pair that is exactly as similar as the threshold
BATCH_DOCUMENTS = 512
SIGNATURE_SEED = 1


class ExactDuplicates(Step):
    """Removes every document whose text occurred before. Memory: 16 bytes (and a set's overhead) a document."""

    name = "exact duplicates"

    def apply(self, documents: Iterable[Document]) -> Iterator[Document]:
        seen: set[bytes] = set()
        for document in documents:
            digest = hashlib.blake2b(document.text.encode(), digest_size=16).digest()
            if digest in seen:
                self.remove(document, "exact")
            else:
                seen.add(digest)
                yield document


class NearDuplicates(Step):
    """Removes every document that resembles an earlier one that was kept.

    The Jaccard similarity of two documents' shingle sets is estimated by MinHash (Broder 1997): the share of equal
    signature entries. Only documents whose signatures agree in a whole band are compared (locality-sensitive hashing,
    Leskovec et al. 2014, §3.4). Memory: one signature and its bands a kept document.
    """

    name = "near duplicates"

    def __init__(self, recipe: DeduplicateRecipe) -> None:
        super().__init__()
        self._recipe = recipe
        self._rows = band_rows(recipe.near_threshold, recipe.permutations)
        self._signatures: list[NDArray[np.uint32]] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}

    def apply(self, documents: Iterable[Document]) -> Iterator[Document]:
        iterator = iter(documents)
        while batch := list(islice(iterator, BATCH_DOCUMENTS)):
            for document, signature in zip(batch, self._sign(batch), strict=True):
                if self._is_known(signature):
                    self.remove(document, "near")
                else:
                    yield document

    def _sign(self, batch: list[Document]) -> NDArray[np.uint32]:
        """MinHash signatures: [document, permutation]."""
        shingles = [_shingles(document.text, self._recipe.shingle_size) for document in batch]
        offsets = np.cumsum([0, *map(len, shingles)], dtype=np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            np.concatenate(shingles), offsets, self._recipe.permutations, SIGNATURE_SEED
        )
        return np.array(matrix.to_rows(), dtype=np.uint32)

    def _is_known(self, signature: NDArray[np.uint32]) -> bool:
        """Whether a kept document resembles this signature; if not, it is kept from now on."""
        bands = len(signature) // self._rows
        keys = [(band, signature[band * self._rows : (band + 1) * self._rows].tobytes()) for band in range(bands)]
        candidates = {candidate for key in keys for candidate in self._bands.get(key, ())}
        for candidate in candidates:
            if np.mean(self._signatures[candidate] == signature) >= self._recipe.near_threshold:
                return True
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._signatures))
        self._signatures.append(signature)
        return False


def band_rows(threshold: float, permutations: int) -> int:
    """The longest bands, in signature entries, that find a pair at the threshold with RECALL_AT_THRESHOLD.

    A pair of similarity s shares one of b bands of r entries with probability 1 - (1 - s^r)^b.
    """
    for rows in range(permutations, 1, -1):
        if 1 - (1 - threshold**rows) ** (permutations // rows) >= RECALL_AT_THRESHOLD:
            return rows
    return 1


def _shingles(text: str, size: int) -> NDArray[np.uint64]:
    """Hashes of the word shingles; a text shorter than a shingle is one shingle, and so is one without words."""
    if found := words(text):
        return ngram_hashes(found, min(size, len(found)))
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), dtype=np.uint64)
