"""Who reads whom: the attention weights of a model for its texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from lmcommons.errors import CommandError
from lmcommons.explaining.subject import Subject
from lmcommons.model import EncoderDecoder, XLNet

MOST_HEADS = 144  # on a page; of larger models some are left out

Kind = Literal["self", "encoder", "decoder", "cross"]


@dataclass(frozen=True)
class Layer:
    """The weights of one layer's heads [heads, queries, keys]: each row adds up to 1.

    `kind` is `self`, or of an encoder-decoder its `encoder`, its `decoder`, or what its decoder reads of the encoder
    (`cross`). `number` and `heads` count from 1; not all need to be there.
    """

    kind: Kind
    number: int
    heads: list[int]
    weights: Tensor
    queries: list[str]
    keys: list[str]


@torch.no_grad()
def attention(explained: Subject) -> tuple[list[Layer], int]:
    """Layers and heads, evenly chosen where there are more than `MOST_HEADS`; and how many heads the model has.

    Raises:
        CommandError: the model's weights are damaged.
    """
    model, config = explained.loaded.model, explained.loaded.config
    tokens = [part.tokens for part in explained.parts]
    texts = [part.shown for part in explained.parts]
    stacks: list[tuple[Kind, list[Tensor], list[str], list[str]]]
    weights: list[Tensor] = []
    if isinstance(model, EncoderDecoder):
        encoded = model.encode(tokens[0], weights=weights)
        both: list[Tensor] = []
        model.decode(tokens[1], model.memory(encoded), weights=both)
        stacks = [
            ("encoder", weights, texts[0], texts[0]),
            ("decoder", both[::2], texts[1], texts[1]),
            ("cross", both[1::2], texts[1], texts[0]),
        ]
    else:
        types = explained.parts[0].token_types
        more: dict[str, Any] = {} if types is None else {"token_types": types}
        if isinstance(model, XLNet) and config.task == "language-modelling":
            seen = tokens[0] != explained.loaded.tokenizer.mask_token_id
            more["visible"] = seen[:, None].expand(-1, tokens[0].shape[1], -1)
        cast(Any, model).hidden(tokens[0], weights=weights, **more)
        stacks = [("self", weights, texts[0], texts[0])]
    heads = config.num_attention_heads
    depth = sum(len(found) for _, found, _, _ in stacks)
    kept_heads = _evenly(heads, min(heads, 12))
    layers = []
    for kind, found, queries, keys in stacks:
        share = MOST_HEADS * len(found) // (depth * len(kept_heads))
        for place in _evenly(len(found), min(len(found), max(1, share))):
            chosen = found[place][0, kept_heads].float().cpu()
            if not torch.isfinite(chosen).all():
                raise CommandError("the model computes values that are not numbers: its weights are damaged")
            layers.append(Layer(kind, place + 1, [head + 1 for head in kept_heads], chosen, queries, keys))
    return layers, depth * heads


def _evenly(count: int, kept: int) -> Sequence[int]:
    """`kept` of the numbers below `count`, the first and the last among them."""
    return torch.linspace(0, count - 1, kept).round().int().tolist()
