"""An n-gram model over tokens: interpolated modified Kneser–Ney smoothing (Chen & Goodman 1999, §3 and appendix A).

For a context h (the k - 1 tokens before w) and h' (h without its first token):

    p_k(w | h) = max(c_k(hw) - D_k(c_k(hw)), 0) / sum_v c_k(hv)  +  gamma_k(h) p_(k-1)(w | h')
    gamma_k(h) = sum_v D_k(c_k(hv)) / sum_v c_k(hv)                              (p_k = p_(k-1) where h never occurred)

c_k counts occurrences at the highest order, and below it the distinct tokens that stand before hw. p_0 is uniform over
the vocabulary. D_k is one of three discounts, for counts of 1, 2, and 3 or more, from the numbers n_i of k-grams with
count i:

    Y = n_1 / (n_1 + 2 n_2),   D(1) = 1 - 2 Y n_2 / n_1,   D(2) = 2 - 3 Y n_3 / n_2,   D(3+) = 3 - 4 Y n_4 / n_3

A document is preceded by order - 1 start tokens and followed by one end token, which is predicted too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

FALLBACK_DISCOUNT = 0.75  # where the text is too small for the estimate; the usual constant of absolute discounting


@dataclass(frozen=True)
class _Order:
    """The k-grams of one order, by id, and their contexts, by the id of the (k-1)-gram that precedes the last token."""

    kept: Floats  # [k-grams]: the count after its discount
    total: Floats  # [contexts]
    backoff: Floats  # [contexts]: gamma


class NgramModel:
    """A model of `order` tokens, from documents of token ids. Memory: about 100 bytes a token."""

    def __init__(self, documents: Sequence[Integers], *, order: int, vocab_size: int, start: int, end: int) -> None:
        self.order, self.vocab_size, self.start, self.end = order, vocab_size, start, end
        self._keys: list[Integers] = []  # of the grams of 2 tokens, of 3, …: sorted, a gram's place is its id
        stream, predicted = self._stream(documents)
        ids = self._number(stream)
        self._orders = [self._count(k, ids, predicted) for k in range(1, order + 1)]

    def nats(self, documents: Sequence[Integers]) -> Floats:
        """The negative log-likelihood of each document with its end token: [documents]."""
        lengths = np.array([len(document) + 1 for document in documents])
        sums: Floats = np.add.reduceat(self.token_nats(documents), np.cumsum(lengths) - lengths)
        return sums

    def token_nats(self, documents: Sequence[Integers]) -> Floats:
        """The negative log-likelihood of every token of every document, each document's end token included."""
        stream, predicted = self._stream(documents)
        ids = self._look_up(stream)
        probability = np.full(len(predicted), 1 / self.vocab_size)
        for k, order in enumerate(self._orders, start=1):
            context = ids[k - 1][predicted - 1]
            total = order.total[context] * (context >= 0)
            gram = ids[k][predicted]
            kept = order.kept[gram] * (gram >= 0)
            seen = total > 0
            higher = kept[seen] / total[seen] + order.backoff[context[seen]] * probability[seen]
            probability[seen] = higher
        nats: Floats = -np.log(probability)
        return nats

    def _stream(self, documents: Sequence[Integers]) -> tuple[Integers, Integers]:
        """All documents in one row with their start and end tokens, and the places of the tokens that are predicted."""
        pad = [self.start] * max(self.order - 1, 1)
        stream = np.concatenate([part for document in documents for part in (pad, document, [self.end])]).astype(
            np.int64
        )
        lengths = np.array([len(document) + 1 for document in documents])
        begins = np.cumsum(lengths + len(pad)) - lengths
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return stream, np.repeat(begins, lengths) + within

    def _number(self, stream: Integers) -> list[Integers]:
        """Learn the grams of `stream`; the ids of the gram of 0, 1, … `order` tokens that ends at each place."""
        ids = [np.zeros_like(stream), stream]
        for k in range(2, self.order + 1):
            keys, numbers = np.unique(self._key(k, stream, ids[-1]), return_inverse=True)
            self._keys.append(keys)
            ids.append(numbers)
        return ids

    def _look_up(self, stream: Integers) -> list[Integers]:
        """As `_number`, for grams that may be unknown: id -1."""
        ids = [np.zeros_like(stream), stream]
        for k, keys in enumerate(self._keys, start=2):
            wanted = self._key(k, stream, ids[-1])
            places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            ids.append(np.where((keys[places] == wanted) & (ids[-1] >= 0), places, -1))
        return ids

    def _key(self, k: int, stream: Integers, suffixes: Integers) -> Integers:
        """The k-gram that ends at each place as one number, from its first token and the id of the rest."""
        first = np.concatenate([np.full(k - 1, stream[0]), stream[: len(stream) - k + 1]])
        return first * self._size(k - 1) + suffixes

    def _size(self, k: int) -> int:
        """How many grams of k tokens have an id."""
        return self.vocab_size if k == 1 else len(self._keys[k - 2])

    def _count(self, k: int, ids: list[Integers], predicted: Integers) -> _Order:
        if k == self.order:
            grams, counts = np.unique(ids[k][predicted], return_counts=True)
        else:
            longer = np.unique(ids[k + 1][predicted])
            grams, counts = np.unique(self._keys[k - 1][longer] % self._size(k), return_counts=True)
        discount = discounts(counts)[np.minimum(counts, 3)]
        context_of = np.zeros(self._size(k), dtype=np.int64)
        context_of[ids[k][predicted]] = ids[k - 1][predicted - 1]
        contexts = context_of[grams]
        size = 1 if k == 1 else self._size(k - 1)
        total = np.bincount(contexts, weights=counts, minlength=size).astype(np.float64)
        kept = np.zeros(self._size(k))
        kept[grams] = counts - discount
        removed = np.bincount(contexts, weights=discount, minlength=size)
        return _Order(kept, total, np.divide(removed, total, out=np.ones(size), where=total > 0))


def discounts(counts: Integers) -> Floats:
    """D for counts of 0 (nothing), 1, 2, and 3 or more: [4], each at most its count."""
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(np.float64)
    if not n[1:5].all():
        return np.array([0.0, *[FALLBACK_DISCOUNT] * 3])
    y = n[1] / (n[1] + 2 * n[2])
    estimates = np.array([0.0, *(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))])
    clipped: Floats = np.clip(estimates, 0.0, [0.0, 1.0, 2.0, 3.0])
    return clipped
