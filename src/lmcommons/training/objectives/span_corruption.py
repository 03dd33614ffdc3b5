"""Span corruption: an encoder reads a text with gaps, a decoder fills them (Raffel et al. 2020, §3.1.4)."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lmcommons.errors import RequestError
from lmcommons.model import Model
from lmcommons.recipe import SpanCorruptionRecipe
from lmcommons.tokenizer import Tokenizer
from lmcommons.training.batches import Batch, EncodedDocuments, PackedRows, Rows
from lmcommons.training.objectives.objective import Objective
from lmcommons.training.objectives.sequence_to_sequence import pair_loss, pair_row


class SpanCorruption(Objective):
    """A row is text as long as fits when its spans are gone; documents in it stand one after the other, as in T5."""

    def __init__(self, recipe: SpanCorruptionRecipe, tokenizer: Tokenizer) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer

    def rows(self, documents: EncodedDocuments, context_length: int, seed: int) -> Rows:
        return CorruptedRows(documents, self.recipe, self.tokenizer, context_length, seed)

    def loss(self, model: Model, batch: Batch) -> Tensor:
        return pair_loss(model, batch)


class CorruptedRows(Rows):
    """A source with sentinels in the place of spans, and as target each sentinel with its span; new in every epoch.

    Raises:
        RequestError: the tokenizer has too few sentinels.
    """

    def __init__(
        self,
        documents: EncodedDocuments,
        recipe: SpanCorruptionRecipe,
        tokenizer: Tokenizer,
        context_length: int,
        seed: int,
    ) -> None:
        self.recipe, self.tokenizer, self.context_length, self.seed = recipe, tokenizer, context_length, seed
        self.text = PackedRows(documents, recipe.text_length(context_length), seed)
        self.rows_per_epoch = self.text.rows_per_epoch
        _, spans = recipe.spans(self.text.context_length)
        if len(tokenizer.sentinel_ids) <= spans:
            raise RequestError(
                f"the tokenizer has {len(tokenizer.sentinel_ids)} sentinels (<extra_id_0> …) and rows of "
                f"{context_length} tokens need {spans + 1}; lower pretraining.context_length or raise mean_span_length"
            )

    def row(self, number: int) -> dict[str, NDArray[np.int64]]:
        random = np.random.default_rng([self.seed, number, 1])
        packed = self.text.row(number)
        source, target = corrupt(
            packed["tokens"][packed["document_ids"] >= 0], self.recipe, self.tokenizer.sentinel_ids, random
        )
        frame = self.tokenizer.frame
        targets = self.recipe.targets(self.context_length)
        return pair_row([(frame(source), frame(target))], self.tokenizer.required("pad"), self.context_length, targets)


def corrupt(
    tokens: NDArray[np.int64], recipe: SpanCorruptionRecipe, sentinels: list[int], random: np.random.Generator
) -> tuple[list[int], list[int]]:
    """A text [sequence] as source and target without their ends: `a <0> d <1>`, `<0> b c <1> e <2>` for a b c d e.

    All ways to place that many spans with that many tokens are equally likely; two spans never touch.
    """
    corrupted, spans = recipe.spans(len(tokens))
    lengths = _composition(corrupted, spans, random)
    # The text before the first span and after the last may be empty: one more for each, and one less again.
    gaps = _composition(len(tokens) - corrupted + 2, spans + 1, random)
    gaps[[0, -1]] -= 1
    starts = np.cumsum(gaps[:-1]) + np.cumsum(lengths) - lengths
    source: list[int] = []
    target: list[int] = []
    done = 0
    for sentinel, start, length in zip(sentinels, starts, lengths, strict=False):
        source += [*tokens[done:start].tolist(), sentinel]
        done = start + length
        target += [sentinel, *tokens[start:done].tolist()]
    return [*source, *tokens[done:].tolist()], [*target, sentinels[spans]]


def _composition(total: int, parts: int, random: np.random.Generator) -> NDArray[np.int64]:
    """`total` as a sum of `parts` positive numbers in order, each such sum equally likely."""
    cuts = np.sort(random.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.array([0, *cuts, total]))
