"""Attention: which earlier tokens a token reads, and what it takes from them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.model.cache import KeyValueCache
from lmcommons.model.config import DecoderConfig
from lmcommons.model.linear import Linear
from lmcommons.model.positions import rotate

BLOCKS, SMALLEST_BLOCK = 4, 128  # queries of a sequence, in `attend_in_blocks`


class Context(NamedTuple):
    """What all layers of one forward share."""

    cosine: Tensor  # [batch or 1, sequence, head_dim / 2]
    sine: Tensor
    visible: Tensor | None  # [batch, 1, sequence, keys] bool: what a query may read; None: itself and all before it
    cache: KeyValueCache | None
    positions: Tensor  # [batch or 1, sequence]


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) in groups (Ainslie et al. 2023).

    query [batch, heads, sequence, head_dim], key and value [batch, kv_heads, keys, head_dim], visible as in `Context`
    -> [batch, heads, sequence, head_dim].
    """
    if query.is_cpu and query.requires_grad and query.shape[2] == key.shape[2]:
        return attend_in_blocks(query, key, value, visible)
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=visible, is_causal=visible is None, enable_gqa=grouped
    )


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> Tensor:
    """`attend` where keys and queries are the same tokens, as plain products with the softmax in float32.

    It goes a block of queries at a time, with the keys up to the block's end. On processors this
    trains about twice as fast as torch's fused kernel, whose backward is slow: the products of a block are large enough
    to run well, and most of what causality hides is never computed.
    """
    batch, heads, sequence, head_dim = query.shape
    groups = heads // key.shape[1]
    query = (query * head_dim**-0.5).reshape(batch, -1, groups, sequence, head_dim)
    size = max(SMALLEST_BLOCK, sequence // BLOCKS)
    outputs = []
    for start in range(0, sequence, size):
        stop = min(start + size, sequence)
        scores = query[:, :, :, start:stop].flatten(2, 3) @ key[:, :, :stop].transpose(-1, -2)
        scores = scores.view(batch, -1, groups, stop - start, stop).float()
        if visible is None:
            seen = torch.ones(stop - start, stop, dtype=torch.bool, device=query.device).tril(start)
        else:
            seen = visible[:, :, None, start:stop, :stop]
        weights = scores.masked_fill(~seen, -math.inf).softmax(dim=-1).to(value.dtype)
        read = weights.flatten(2, 3) @ value[:, :, :stop]
        outputs.append(read.view(batch, heads, stop - start, head_dim))
    return torch.cat(outputs, dim=2)


class Attention(nn.Module):
    """Causal self-attention; several query heads share a key-value head."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        key_value = config.num_key_value_heads * config.head_dim
        self.query_key_value = Linear(config.hidden_size, config.hidden_size, key_value, key_value)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[batch, sequence, hidden] -> [batch, sequence, hidden]."""
        parts = self.query_key_value(x).split(self.query_key_value.sizes, dim=-1)
        query, key, value = (part.unflatten(-1, (-1, self.head_dim)) for part in parts)
        query = rotate(query, context.cosine, context.sine).transpose(1, 2)
        key = rotate(key, context.cosine, context.sine).transpose(1, 2)
        value = value.transpose(1, 2)
        if context.cache is not None:
            key, value = context.cache.store(self.layer, key, value, context.positions)
        read: Tensor = self.output(attend(query, key, value, context.visible).transpose(1, 2).flatten(2))
        return read
