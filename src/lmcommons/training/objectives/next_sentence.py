"""Rows of two segments, of which half of the second ones are of another document (Devlin et al. 2019, §3.1)."""

import numpy as np
from numpy.typing import NDArray

from lmcommons.errors import RequestError
from lmcommons.tokenizer import Tokenizer
from lmcommons.training.batches import EncodedDocuments, Rows

SENTENCE_ENDS = (b".", b"!", b"?", b"\n", "。".encode(), "！".encode(), "？".encode())


class SegmentPairs(Rows):
    """`tokens` as `[CLS] A [SEP] B [SEP]`, padded; `document_ids`, `token_types`; `follows` is 1 for a random B.

    Each row begins with a part of a document, and an epoch has every part once. The part is cut in two after a token
    that ends a sentence, or anywhere where none does. The second half stays, or gives way to text of another document.

    Raises:
        RequestError: fewer than two documents have text for two segments.
    """

    def __init__(self, documents: EncodedDocuments, tokenizer: Tokenizer, context_length: int, seed: int) -> None:
        self.context_length, self.seed = context_length, seed
        starts = documents.bounds[:-1] + len(tokenizer.prefix)
        stops = documents.bounds[1:] - len(tokenizer.suffix)
        enough = stops - starts >= 2
        if enough.sum() < 2:
            raise RequestError(
                "pretraining.objective.next_sentence: two documents of two tokens or more are needed in each split, "
                f"not {enough.sum()}; give longer documents, or set it to false"
            )
        self._tokens, self._starts, self._stops = documents.tokens, starts[enough], stops[enough]
        self._parts = np.cumsum(-(-(self._stops - self._starts) // (context_length - 3)))
        self.rows_per_epoch = int(self._parts[-1])
        self._ends = np.array(
            [tokenizer.token_bytes(token).rstrip(b" ").endswith(SENTENCE_ENDS) for token in range(tokenizer.vocab_size)]
        )
        self._padding = tokenizer.required("pad")
        self._classify, self._separate = tokenizer.required("cls"), tokenizer.required("sep")
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def row(self, number: int) -> dict[str, NDArray[np.int64]]:
        random = np.random.default_rng([self.seed, number, 2])
        epoch, place = divmod(number, self.rows_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.rows_per_epoch)
        document, text = self._part(int(self._order[place]))
        cut = self._cut(text, random)
        first, second, follows = text[:cut], text[cut:], 0
        if random.random() < 0.5:
            second, follows = self._other(document, len(second), random), 1
        tokens = np.full(self.context_length, self._padding, np.int64)
        document_ids, token_types = np.full(self.context_length, -1, np.int64), np.zeros(self.context_length, np.int64)
        row = [self._classify, *first, self._separate, *second, self._separate]
        tokens[: len(row)], document_ids[: len(row)] = row, 0
        token_types[len(first) + 2 : len(row)] = 1
        return {
            "tokens": tokens, "document_ids": document_ids, "token_types": token_types, "follows": np.array(follows)
        }  # fmt: skip

    def _part(self, number: int) -> tuple[int, NDArray[np.int64]]:
        """A document's number and part `number` of all parts, those of a document about equally long."""
        document = int(np.searchsorted(self._parts, number, side="right"))
        first = int(self._parts[document - 1]) if document else 0
        count, place = int(self._parts[document]) - first, number - first
        start, length = int(self._starts[document]), int(self._stops[document] - self._starts[document])
        part = self._tokens[start + length * place // count : start + length * (place + 1) // count]
        return document, part.astype(np.int64)

    def _cut(self, text: NDArray[np.int64], random: np.random.Generator) -> int:
        ends = np.flatnonzero(self._ends[text[:-1]]) + 1
        return int(random.choice(ends)) if len(ends) else int(random.integers(1, len(text)))

    def _other(self, document: int, length: int, random: np.random.Generator) -> NDArray[np.int64]:
        """`length` tokens of another document than `document`, or as many as it has, from a sentence's beginning on.

        Neither length nor beginning gives away that they do not follow.
        """
        other = int(random.integers(len(self._starts) - 1))
        other += other >= document
        start, stop = int(self._starts[other]), int(self._stops[other])
        start = int(random.integers(start, max(start, stop - 2 * length) + 1))
        ends = np.flatnonzero(self._ends[self._tokens[start : min(start + length, stop - 1)]])
        if len(ends):
            start += int(ends[0]) + 1
        return self._tokens[start : min(start + length, stop)].astype(np.int64)
