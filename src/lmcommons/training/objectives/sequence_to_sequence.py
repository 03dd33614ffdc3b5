"""Sequence to sequence: a decoder writes the target of a pair, an encoder reads its source (Vaswani et al. 2017)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lmcommons import progress
from lmcommons.errors import RequestError
from lmcommons.model import IGNORED, EncoderDecoder, Model
from lmcommons.recipe import SequenceToSequenceRecipe
from lmcommons.tokenizer import Tokenizer
from lmcommons.training.batches import Batch, EncodedDocuments, Rows
from lmcommons.training.objectives.objective import Objective

Tokens = Sequence[int] | NDArray[Any]


class SequenceToSequence(Objective):
    """Cross-entropy with label smoothing (Szegedy et al. 2016, §7), which the loss on validation data has none of."""

    def __init__(self, recipe: SequenceToSequenceRecipe, tokenizer: Tokenizer) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer

    def rows(self, documents: EncodedDocuments, context_length: int, seed: int) -> Rows:
        return PairRows(documents, self.tokenizer, context_length, seed)

    def loss(self, model: Model, batch: Batch) -> Tensor:
        return pair_loss(model, batch, label_smoothing=self.recipe.label_smoothing if model.training else 0.0)


def pair_loss(model: Model, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """Negative log-likelihood of the targets, summed: nats; a target reads its own source only."""
    assert isinstance(model, EncoderDecoder)
    assert batch.target_tokens is not None
    hidden = model.hidden(
        batch.tokens,
        batch.target_tokens,
        document_ids=batch.document_ids,
        target_document_ids=batch.target_document_ids,
    )
    return model.token_loss(hidden, batch.targets, reduction="sum", label_smoothing=label_smoothing)


class PairRows(Rows):
    """Rows of several pairs each; which pairs share a row depends on the seed, the order of rows on the epoch too.

    Args:
        documents: pairs: document 2 i is a source, document 2 i + 1 its target, both with their end.
        tokenizer: a target begins with its padding token.
        context_length: tokens of a row's sources together, and of its targets. Pairs that are longer are left out,
            which is said.

    Raises:
        RequestError: no pair is short enough.
    """

    def __init__(self, documents: EncodedDocuments, tokenizer: Tokenizer, context_length: int, seed: int) -> None:
        self.documents, self.tokenizer, self.context_length, self.seed = documents, tokenizer, context_length, seed
        lengths = np.diff(documents.bounds).reshape(-1, 2)
        fitting = np.flatnonzero((lengths <= context_length).all(axis=1))
        if len(fitting) < len(lengths):
            progress.say(
                f"{len(lengths) - len(fitting):,} of {len(lengths):,} pairs are left out: "
                f"a side has more than {context_length} tokens"
            )
        if len(fitting) == 0:
            raise RequestError(
                f"pretraining.context_length: no pair has both sides within {context_length} tokens; raise it"
            )
        self._rows: list[list[int]] = []
        used = np.full(2, context_length)
        for pair in np.random.default_rng([seed]).permutation(fitting).tolist():
            used = used + lengths[pair]
            if used.max() > context_length:
                self._rows.append([])
                used = lengths[pair]
            self._rows[-1].append(pair)
        self.rows_per_epoch = len(self._rows)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def row(self, number: int) -> dict[str, NDArray[np.int64]]:
        epoch, place = divmod(number, self.rows_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.rows_per_epoch)
        tokens, bounds = self.documents.tokens, self.documents.bounds
        pairs = [
            (tokens[bounds[2 * pair] : bounds[2 * pair + 1]], tokens[bounds[2 * pair + 1] : bounds[2 * pair + 2]])
            for pair in self._rows[self._order[place]]
        ]
        return pair_row(pairs, self.tokenizer.required("pad"), self.context_length, self.context_length)


def pair_row(
    pairs: Sequence[tuple[Tokens, Tokens]], padding: int, source_length: int, target_length: int
) -> dict[str, NDArray[np.int64]]:
    """A row of whole pairs, each of a source and a target with their ends; a target is read from `padding` on.

    Padding of the targets is taken as part of the last one: causal attention hides it, and every token sees a source.
    """
    tokens, document_ids = np.full(source_length, padding, np.int64), np.full(source_length, -1, np.int64)
    targets, target_tokens = np.full(target_length, IGNORED), np.full(target_length, padding, np.int64)
    target_document_ids = np.full(target_length, len(pairs) - 1, np.int64)
    read = written = 0
    for place, (source, target) in enumerate(pairs):
        tokens[read : read + len(source)], document_ids[read : read + len(source)] = source, place
        read += len(source)
        targets[written : written + len(target)] = target
        target_tokens[written + 1 : written + len(target)] = target[:-1]
        target_document_ids[written : written + len(target)] = place
        written += len(target)
    return {
        "tokens": tokens,
        "document_ids": document_ids,
        "targets": targets,
        "target_tokens": target_tokens,
        "target_document_ids": target_document_ids,
    }
