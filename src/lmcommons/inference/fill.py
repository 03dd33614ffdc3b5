"""What may stand in the place of a mask (Devlin et al. 2019, §3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmcommons.errors import RequestError
from lmcommons.inference.batches import Batch, read, rows_of
from lmcommons.inference.loading import Loaded, TextError
from lmcommons.model import Encoder, XLNet

MASK = "[MASK]"  # stands for the mask of any tokenizer


@dataclass(frozen=True)
class Candidate:
    """A token for a mask, its probability there, and the text with it."""

    token_id: int
    token: str
    probability: float
    text: str


def fill(loaded: Loaded, texts: Sequence[str], *, top_k: int = 5) -> list[list[list[Candidate]]]:
    """The `top_k` likeliest tokens for each mask of each text, best first.

    A mask is written `[MASK]` or as the tokenizer writes it. Each is predicted without the others, and probabilities
    are over the whole vocabulary, as in `transformers`.

    Raises:
        RequestError: the model predicts no masks, its tokenizer has none, or `top_k` is below 1.
        TextError: a text is empty, has no mask, or is longer than the model reads.
        CommandError: the model's weights are damaged.
    """
    loaded.require("lmc fill")
    if top_k < 1:
        raise RequestError(f"top_k must be at least 1, not {top_k}")
    tokenizer = loaded.tokenizer
    if tokenizer.mask_token is None:
        raise RequestError(f"{loaded.name}: the tokenizer has no mask token, so that no place can be masked")
    rows = rows_of(loaded, loaded.encode([text.replace(MASK, tokenizer.mask_token) for text in texts]))
    places = [[at for at, token in enumerate(row.tokens) if token == tokenizer.mask_token_id] for row in rows]
    for number, masks in enumerate(places):
        if not masks:
            raise TextError(number, f"no {MASK} in the text: write it where a token is to be found")

    def compute(batch: Batch) -> Tensor:
        wanted = [places[row] for row in batch.places]
        width = max(map(len, wanted))
        at = torch.tensor([[*row, *[row[0]] * (width - len(row))] for row in wanted], device=batch.tokens.device)
        return loaded.model.logits(states_at(loaded, batch, at)).softmax(-1)

    found: list[list[list[Candidate]]] = [[] for _ in rows]
    for number, probabilities in read(loaded, rows, compute):
        tokens, masks = rows[number].tokens, places[number]
        values, chosen = probabilities[: len(masks)].topk(min(top_k, probabilities.shape[-1]))
        for at, best, likely in zip(masks, chosen.tolist(), values.tolist(), strict=True):
            pairs = zip(best, likely, strict=True)
            found[number].append(
                [_candidate(loaded, tokens, at, token, value, alone=len(masks) == 1) for token, value in pairs]
            )
    return found


def states_at(loaded: Loaded, batch: Batch, places: Tensor) -> Tensor:
    """The states that tokens at masked `places` [batch, n] are read from: [batch, n, hidden].

    An XLNet predicts them in its query stream from all tokens that are not masked (Yang et al. 2019, §2.3).
    """
    model = loaded.model
    if isinstance(model, XLNet):
        seen = (batch.tokens != loaded.tokenizer.mask_token_id)[:, None].expand(-1, batch.tokens.shape[1], -1)
        return model.hidden(
            batch.tokens,
            attention_mask=batch.attention_mask,
            token_types=batch.token_types,
            visible=seen,
            targets=places,
        )
    assert isinstance(model, Encoder)
    hidden = model.hidden(batch.tokens, attention_mask=batch.attention_mask, token_types=batch.token_types)
    return hidden[torch.arange(len(places), device=places.device)[:, None], places]


def _candidate(loaded: Loaded, tokens: list[int], at: int, token: int, value: float, *, alone: bool) -> Candidate:
    """With several masks the others stay in the text, and so do all special tokens."""
    whole = loaded.tokenizer.decode([*tokens[:at], token, *tokens[at + 1 :]], skip_special_tokens=alone)
    return Candidate(token, str(loaded.tokenizer.decode([token])), value, str(whole))
