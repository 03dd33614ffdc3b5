"""Where in a text an answer stands (Devlin et al. 2019, §4.2): windows of long texts, and the best spans of each."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lmcommons.errors import RequestError
from lmcommons.inference.text import require_offsets

LONGEST = 64  # tokens of an answer
STRIDE = 4  # a window of a long context begins this part of its length before the end of the one before


class Window(NamedTuple):
    """A question with a part of its context; `spans` says where in the context each token stands, in characters.

    It is None for tokens that are not the context's.
    """

    tokens: list[int]
    token_types: list[int] | None
    spans: list[tuple[int, int] | None]


class Span(NamedTuple):
    """Characters `start` up to `stop`; `score` is the sum of the logits of its first and its last token."""

    score: float
    start: int
    stop: int


def windows(tokenizer: PreTrainedTokenizerBase, question: str, context: str, limit: int) -> list[Window]:
    """A question with all of its context, in windows of at most `limit` tokens that overlap.

    Raises:
        RequestError: the question leaves no room for its context, or the tokenizer does not know where tokens stand.
    """
    require_offsets(tokenizer)
    room = limit - len(tokenizer(question)["input_ids"]) - tokenizer.num_special_tokens_to_add(pair=True)
    if room < STRIDE:
        raise RequestError(f"the question leaves no room for its context in {limit} tokens")
    found = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=limit,
        stride=room // STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    types = found.get("token_type_ids")
    return [
        Window(
            tokens,
            None if types is None else types[number],
            [
                span if side == 1 else None
                for span, side in zip(found["offset_mapping"][number], found.sequence_ids(number), strict=True)
            ],
        )
        for number, tokens in enumerate(found["input_ids"])
    ]


def best_spans(
    logits: Tensor, spans: Sequence[tuple[int, int] | None], *, count: int = 1, longest: int = LONGEST
) -> list[Span]:
    """The `count` likeliest spans of at most `longest` tokens, best first, or all that there are.

    logits [sequence, 2] say how likely each token is the first (0) and the last (1) of the answer. `spans` are those of
    the tokens that may belong to it.
    """
    places = [place for place, span in enumerate(spans) if span is not None]
    if not places:
        return []
    first = places[0]
    scores = span_scores(logits, spans, longest)
    best = scores.flatten().topk(min(count, scores.numel()))
    found = []
    for score, number in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        start, stop = spans[first + number // len(scores)], spans[first + number % len(scores)]
        if score > -torch.inf and start is not None and stop is not None:
            found.append(Span(score, start[0], stop[1]))
    return found


def span_scores(logits: Tensor, spans: Sequence[tuple[int, int] | None], longest: int = LONGEST) -> Tensor:
    """The sum of both logits of each span, -inf where it may be no answer: [first token, last token] of the context."""
    places = [place for place, span in enumerate(spans) if span is not None]
    inside = slice(places[0], places[-1] + 1)
    scores = logits[inside, 0, None] + logits[None, inside, 1]
    allowed = torch.ones_like(scores, dtype=torch.bool).triu().tril(longest - 1)
    return scores.masked_fill(~allowed, -torch.inf)
