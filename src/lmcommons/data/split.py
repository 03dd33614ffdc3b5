"""Which split a document belongs to, and the check that no split repeats another."""

import hashlib
from collections.abc import Iterable, Iterator

from lmcommons.data.step import Document, Step
from lmcommons.data.words import overlaps
from lmcommons.recipe import SplitRecipe


def split_of(text: str, recipe: SplitRecipe) -> str:
    """The split of a document by the hash of its text, so that adding other documents never moves it."""
    digest = hashlib.sha256(text.encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < recipe.test:
        return "test"
    return "validation" if place < recipe.test + recipe.validation else "train"


class Overlap(Step):
    """Removes held-out documents that share a word n-gram with a train text (Brown et al. 2020, appendix C)."""

    name = "overlap with train"

    def __init__(self, train: Iterable[str], n: int) -> None:
        super().__init__()
        self._train = train
        self._n = n

    def apply(self, documents: Iterable[Document]) -> Iterator[Document]:
        held_out = list(documents)
        flags = overlaps(self._train, [document.text for document in held_out], self._n)
        for document, shared in zip(held_out, flags, strict=True):
            if shared:
                self.remove(document, "overlap_ngram")
            else:
                yield document
