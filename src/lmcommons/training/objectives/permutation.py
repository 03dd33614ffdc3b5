"""Permutation language modelling with two streams (Yang et al. 2019, §2.2 to §2.4)."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lmcommons.model import IGNORED, Model, XLNet
from lmcommons.recipe import PermutationLanguageModellingRecipe
from lmcommons.tokenizer import Tokenizer
from lmcommons.training.batches import Batch, EncodedDocuments, Rows
from lmcommons.training.objectives.objective import Objective
from lmcommons.training.objectives.segments import FramedRows, segments

SHORTEST_PAIR = 3  # tokens of a text of two segments: one each, and what stands between them


class PermutationLanguageModelling(Objective):
    """The last tokens of a random order are predicted, each from all that come before it in that order."""

    def __init__(self, recipe: PermutationLanguageModellingRecipe, tokenizer: Tokenizer) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer

    def rows(self, documents: EncodedDocuments, context_length: int, seed: int) -> Rows:
        return OrderedRows(documents, self.recipe, self.tokenizer, context_length, seed)

    def loss(self, model: Model, batch: Batch) -> Tensor:
        return permutation_loss(model, batch)


def permutation_loss(model: Model, batch: Batch) -> Tensor:
    """Nats over the predicted places, each from the tokens before it in the row's order (Yang et al. 2019, eq. 3)."""
    assert isinstance(model, XLNet)
    assert batch.order is not None
    assert batch.document_ids is not None
    order, documents = batch.order, batch.document_ids
    visible = order[:, None, :] < order[:, :, None].clamp(min=1)
    visible = visible & (documents[:, None, :] == documents[:, :, None])
    hidden = model.hidden(batch.tokens, token_types=batch.token_types, visible=visible, targets=batch.places)
    return model.token_loss(hidden, batch.targets, reduction="sum")


class OrderedRows(Rows):
    """Packed rows with an `order`: 0 for what is given, 1, 2 … for the tokens to predict, a new one in every epoch.

    The tokens before the cut of the order see one another whatever their order, as in the published code. Those to
    predict are spans: of K times 1 to `longest_span` tokens in a row, as many stand beside one another (§3.1).

    Half of the texts are two segments, as `token_types` say: a separator stands in the place of a token within (§2.5).
    The paper always has two, of which half are of another text; here texts alone are learned as well, and a row is made
    of whole texts already.
    """

    def __init__(
        self,
        documents: EncodedDocuments,
        recipe: PermutationLanguageModellingRecipe,
        tokenizer: Tokenizer,
        context_length: int,
        seed: int,
    ) -> None:
        self.recipe, self.seed = recipe, seed
        self.framed = FramedRows(documents, tokenizer, context_length, seed)
        self.rows_per_epoch = self.framed.rows_per_epoch
        self._special = np.array(sorted(tokenizer.special_tokens.values()))
        self._separate, self._frame = tokenizer.required("sep"), len(tokenizer.suffix)

    def row(self, number: int) -> dict[str, NDArray[np.int64]]:
        random = np.random.default_rng([self.seed, number, 1])
        found = self.framed.row(number)
        tokens = found["tokens"]
        token_types = self._split(tokens, found["document_ids"], np.random.default_rng([self.seed, number, 2]))
        chosen = self._spans(len(tokens), random)
        chosen = chosen[~np.isin(tokens[chosen], self._special)]
        order, places = np.zeros(len(tokens), np.int64), np.zeros(self.recipe.targets(len(tokens)), np.int64)
        targets = np.full(len(places), IGNORED)
        order[chosen] = random.permutation(len(chosen)) + 1
        places[: len(chosen)], targets[: len(chosen)] = chosen, tokens[chosen]
        return {**found, "token_types": token_types, "order": order, "places": places, "targets": targets}

    def _split(
        self, tokens: NDArray[np.int64], document_ids: NDArray[np.int64], random: np.random.Generator
    ) -> NDArray[np.int64]:
        """Put a separator into half of the texts; 0 and 1 are what stands around it, 2 is the end, `[CLS]`."""
        token_types = np.zeros_like(tokens)
        for start, stop in segments(document_ids):
            end = stop - self._frame
            if end - start >= SHORTEST_PAIR and random.random() < 0.5:
                cut = int(random.integers(start + 1, end - 1))
                tokens[cut] = self._separate
                token_types[cut + 1 : stop] = 1
            token_types[stop - 1] = 2
        return token_types

    def _spans(self, length: int, random: np.random.Generator) -> NDArray[np.int64]:
        """The places of spans: one at a random place in each of the stretches that a row is cut into."""
        part, longest = self.recipe.predicted_part, self.recipe.longest_span
        found: list[int] = []
        start = -int(random.integers(part * longest))  # so that every place is predicted equally often
        while start < length:
            span = int(random.integers(1, longest + 1))
            first = start + int(random.integers(part * span - span + 1))
            found += range(max(first, 0), min(first + span, length))
            start += part * span
        return np.array(found, np.int64)
