"""Packed rows whose segments are whole texts to a model: each has the special tokens of a text around it."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lmcommons.tokenizer import Tokenizer
from lmcommons.training.batches import EncodedDocuments, PackedRows, Rows


class FramedRows(Rows):
    """`tokens`, `document_ids` of packed rows.

    A document that a row's end cuts gets the special tokens of a text in the place of the tokens at the cut, so that
    every segment looks as a text does when the model is used. The tokens that are lost, one or two at a cut, are others
    in the next epoch.

    Args:
        documents: framed by `tokenizer`.
    """

    def __init__(self, documents: EncodedDocuments, tokenizer: Tokenizer, context_length: int, seed: int) -> None:
        self.packed = PackedRows(documents, context_length, seed)
        self.rows_per_epoch = self.packed.rows_per_epoch
        self._prefix, self._suffix = tokenizer.prefix, tokenizer.suffix
        self._padding = tokenizer.required("pad")

    def row(self, number: int) -> dict[str, NDArray[np.int64]]:
        packed = self.packed.row(number)
        tokens, document_ids = packed["tokens"], packed["document_ids"]
        for start, stop in segments(document_ids):
            prefix, suffix = self._prefix[: stop - start], self._suffix[: stop - start]
            tokens[start : start + len(prefix)] = prefix
            tokens[stop - len(suffix) : stop] = suffix
        tokens[document_ids < 0] = self._padding
        return {"tokens": tokens, "document_ids": document_ids}


def segments(document_ids: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(start, stop) of each document in a row."""
    changes = np.flatnonzero(np.diff(document_ids)) + 1
    bounds = [0, *changes.tolist(), len(document_ids)]
    return [(start, stop) for start, stop in pairwise(bounds) if document_ids[start] >= 0]
