"""Rows of tokens that are read together: of like length, padded on the right."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import BatchEncoding

from lmcommons.errors import CommandError, RequestError
from lmcommons.inference.loading import Loaded
from lmcommons.inference.text import padding_id
from lmcommons.progress import task

TOKENS_TOGETHER = 8192  # padding included


class Row(NamedTuple):
    """What a model reads at once: tokens, and the segment of each where the model has segments."""

    tokens: list[int]
    token_types: list[int] | None = None


class Batch(NamedTuple):
    """Rows as tensors [batch, sequence]; `places` says which rows they are, `attention_mask` is 1 where a token is."""

    places: list[int]
    tokens: Tensor
    attention_mask: Tensor
    token_types: Tensor | None


def rows_of(loaded: Loaded, encoding: BatchEncoding) -> list[Row]:
    """The rows of an encoding.

    Raises:
        RequestError: the tokenizer names segments that the model does not know.
    """
    config, types = loaded.config, encoding.get("token_type_ids")
    if types is None or not loaded.has_segments:
        return [Row(tokens) for tokens in encoding["input_ids"]]
    highest = max((max(row, default=0) for row in types), default=0)
    if config.type_vocab_size and highest >= config.type_vocab_size:
        raise RequestError(
            f"{loaded.name}: the tokenizer has a segment {highest} and the model only {config.type_vocab_size} segments"
        )
    return [Row(tokens, segments) for tokens, segments in zip(encoding["input_ids"], types, strict=True)]


@torch.inference_mode()
def read(loaded: Loaded, rows: Sequence[Row], compute: Callable[[Batch], Tensor]) -> Iterator[tuple[int, Tensor]]:
    """The place of each row, and its part of what `compute` makes of its batch, on the CPU: short rows come first.

    Raises:
        CommandError: the model's values are not numbers.
    """
    with task("read", total=len(rows), unit="texts") as shown:
        for batch in _batches(loaded, rows):
            values = compute(batch).float().cpu()
            if not torch.isfinite(values).all():
                raise CommandError("the model computes values that are not numbers: its weights are damaged")
            yield from zip(batch.places, values, strict=True)
            shown.advance(len(batch.places))


def _batches(loaded: Loaded, rows: Sequence[Row]) -> Iterator[Batch]:
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].tokens))
    device, padding = loaded.model.embedding.device, padding_id(loaded.tokenizer)
    while order:
        count = 1
        while count < len(order) and (count + 1) * len(rows[order[count]].tokens) <= TOKENS_TOGETHER:
            count += 1
        places, order = order[:count], order[count:]
        chosen = [rows[place] for place in places]
        tokens = _padded([row.tokens for row in chosen], padding).to(device)
        mask = _padded([[1] * len(row.tokens) for row in chosen], 0).to(device)
        types = [row.token_types for row in chosen if row.token_types is not None]
        yield Batch(places, tokens, mask, _padded(types, 0).to(device) if types else None)


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])
