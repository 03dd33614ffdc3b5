"""Masked language modelling, with or without the prediction of the next sentence (Devlin et al. 2019, §3.1)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lmcommons.model import IGNORED, Encoder, Model
from lmcommons.recipe import MaskedLanguageModellingRecipe
from lmcommons.tokenizer import Tokenizer
from lmcommons.training.batches import Batch, EncodedDocuments, Rows
from lmcommons.training.objectives.next_sentence import SegmentPairs
from lmcommons.training.objectives.objective import Objective
from lmcommons.training.objectives.segments import FramedRows
from lmcommons.training.objectives.words import continues_word

MASK, RANDOM = 0.8, 0.1  # of the chosen tokens; the others stay as they are


class MaskedLanguageModelling(Objective):
    """Some tokens of each row are hidden and predicted from both sides; rows are masked anew in every epoch.

    Args:
        recipe: the share of tokens, and what is hidden together.
        tokenizer: of the rows; it knows `[MASK]`, `[CLS]`, `[SEP]`, `[PAD]`.
    """

    def __init__(self, recipe: MaskedLanguageModellingRecipe, tokenizer: Tokenizer) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer

    def rows(self, documents: EncodedDocuments, context_length: int, seed: int) -> Rows:
        kind = SegmentPairs if self.recipe.next_sentence else FramedRows
        return MaskedRows(kind(documents, self.tokenizer, context_length, seed), self.recipe, self.tokenizer, seed)

    def loss(self, model: Model, batch: Batch) -> Tensor:
        return masked_loss(model, batch)


def masked_loss(model: Model, batch: Batch) -> Tensor:
    """Nats over the masked places (Devlin et al. 2019, §3.1).

    With next sentences, the mean over tokens and the mean over rows count alike (appendix A.2).
    """
    assert isinstance(model, Encoder)
    assert batch.places is not None
    hidden = model.hidden(batch.tokens, document_ids=batch.document_ids, token_types=batch.token_types)
    rows = torch.arange(len(hidden), device=hidden.device)[:, None]
    loss = model.token_loss(hidden[rows, batch.places], batch.targets, reduction="sum")
    if batch.follows is not None:
        # A row has about as many targets as places for them: the sum over both, divided by the targets, is as said.
        sentences = F.cross_entropy(model.next_sentence_logits(hidden), batch.follows, reduction="sum")
        loss = loss + batch.places.shape[1] * sentences
    return loss


class MaskedRows(Rows):
    """Rows of `unmasked` with `masked_fraction` of their ordinary tokens hidden, and these as targets."""

    def __init__(self, unmasked: Rows, recipe: MaskedLanguageModellingRecipe, tokenizer: Tokenizer, seed: int) -> None:
        self.unmasked, self.recipe, self.tokenizer, self.seed = unmasked, recipe, tokenizer, seed
        self.rows_per_epoch = unmasked.rows_per_epoch
        self._mask = tokenizer.required("mask")
        special = set(tokenizer.special_tokens.values())
        self._ordinary = np.array([token not in special for token in range(tokenizer.vocab_size)])
        self._replacements = np.flatnonzero(self._ordinary)

    def row(self, number: int) -> dict[str, NDArray[np.int64]]:
        random = np.random.default_rng([self.seed, number, 1])
        found = self.unmasked.row(number)
        tokens = found["tokens"]
        places = np.zeros(self.recipe.targets(len(tokens)), np.int64)
        targets = np.full(len(places), IGNORED)
        chosen = self._chosen(tokens, random)
        places[: len(chosen)], targets[: len(chosen)] = chosen, tokens[chosen]
        fate = random.random(len(chosen))
        tokens[chosen[fate < MASK]] = self._mask
        replaced = chosen[(fate >= MASK) & (fate < MASK + RANDOM)]
        tokens[replaced] = random.choice(self._replacements, len(replaced))
        return {**found, "targets": targets, "places": places}

    def _chosen(self, tokens: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """The places to predict, in order: words in a random order, those that no longer fit left out."""
        candidates = np.flatnonzero(self._ordinary[tokens])
        if len(candidates) == 0:
            return candidates
        count = self.recipe.targets(len(candidates))
        if not self.recipe.whole_words:
            return np.sort(random.choice(candidates, count, replace=False))
        borders = continues_word(tokens, self.tokenizer)[candidates[1:]] & (np.diff(candidates) == 1)
        words = np.split(candidates, np.flatnonzero(~borders) + 1)
        chosen: list[int] = []
        for place in random.permutation(len(words)):
            if len(chosen) + len(words[place]) <= count:
                chosen += words[place].tolist()
        return np.array(sorted(chosen), np.int64)
