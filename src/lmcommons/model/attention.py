"""Attention: which tokens a token reads, and what it takes from them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.model.cache import KeyValueCache
from lmcommons.model.config import ModelConfig
from lmcommons.model.linear import Linear
from lmcommons.model.positions import rotate

BLOCKS, SMALLEST_BLOCK = 4, 128  # queries of a sequence, in `attend_in_blocks`
HIDDEN = torch.finfo(torch.float32).min  # a score that is hidden; -inf would make a row without keys not a number


class Mask(NamedTuple):
    """What queries may read, and how their scores are shifted.

    `visible` [batch, 1, queries, keys] bool; None: everything, or with `causal` what is not behind the query. Where
    `causal` and `visible` are given, both hold already in `visible`. `bias` [batch or 1, heads, queries, keys].
    """

    causal: bool = False
    visible: Tensor | None = None
    bias: Tensor | None = None


class Memory(NamedTuple):
    """An encoder's states as a decoder reads them: keys and values of each layer, and which of them are real."""

    keys_values: list[tuple[Tensor, Tensor]]  # [batch, kv_heads, source, head_dim]
    mask: Mask

    def rows(self, rows: Tensor) -> "Memory":
        """The memory with row i being what row `rows[i]` was."""
        visible = None if self.mask.visible is None else self.mask.visible[rows]
        return Memory([(key[rows], value[rows]) for key, value in self.keys_values], Mask(visible=visible))


class Context(NamedTuple):
    """What all layers of one forward share."""

    mask: Mask
    positions: Tensor  # [batch or 1, sequence]
    rotation: tuple[Tensor, Tensor] | None = None  # cosine and sine, [batch or 1, sequence, head_dim / 2]
    cache: KeyValueCache | None = None
    memory: Memory | None = None
    weights: list[Tensor] | None = None  # each attention appends its own: [batch, heads, queries, keys]


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask, scale: float) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) in groups (Ainslie et al. 2023).

    query [batch, heads, queries, head_dim], key and value [batch, kv_heads, keys, head_dim]
    -> [batch, heads, queries, head_dim].
    """
    aligned = not mask.causal or query.shape[2] == key.shape[2]
    if query.is_cpu and query.requires_grad and aligned:
        return attend_in_blocks(query, key, value, mask, scale)
    allowed = mask.visible
    if mask.bias is not None:
        bias = mask.bias.to(query.dtype)
        allowed = bias if allowed is None else bias.masked_fill(~allowed, torch.finfo(bias.dtype).min)
    causal, grouped = mask.causal and allowed is None, query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=allowed, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Mask, scale: float) -> Tensor:
    """`attend` as plain products with the softmax in float32; where it is causal, keys and queries are the same tokens.

    Where it is causal, it goes a block of queries at a time with the keys up to the block's end. On processors this
    trains about twice as fast as torch's fused kernel, whose backward is slow: the products of a block are large enough
    to run well, and most of what causality hides is never computed.
    """
    length, keys = query.shape[2], key.shape[2]
    size = max(SMALLEST_BLOCK, length // BLOCKS if mask.causal else length)
    outputs = []
    for start in range(0, length, size):
        stop = min(start + size, length)
        end = stop if mask.causal else keys
        weights = attention_weights(query, key[:, :, :end], mask, scale, start, stop)
        grouped = weights.to(value.dtype).unflatten(1, (key.shape[1], -1)).flatten(2, 3)
        outputs.append((grouped @ value[:, :, :end]).unflatten(2, (-1, stop - start)).flatten(1, 2))
    return torch.cat(outputs, dim=2)


def attention_weights(query: Tensor, key: Tensor, mask: Mask, scale: float, start: int, stop: int) -> Tensor:
    """softmax(q kᵀ · scale) in float32 for queries `start` … `stop` - 1 and all given keys.

    Without `mask.visible`, causal queries and keys are the same tokens. -> [batch, heads, stop - start, keys].
    """
    keys = key.shape[2]
    grouped = (query[:, :, start:stop] * scale).unflatten(1, (key.shape[1], -1)).flatten(2, 3)
    scores = (grouped @ key.transpose(-1, -2)).unflatten(2, (-1, stop - start)).flatten(1, 2).float()
    if mask.bias is not None:
        scores = scores + mask.bias[:, :, start:stop, :keys]
    if mask.visible is not None:
        rows = slice(start, stop) if mask.visible.shape[2] > 1 else slice(None)
        scores = scores.masked_fill(~mask.visible[:, :, rows, :keys], HIDDEN)
    elif mask.causal:
        seen = torch.ones(stop - start, keys, dtype=torch.bool, device=query.device).tril(start)
        scores = scores.masked_fill(~seen, HIDDEN)
    return scores.softmax(dim=-1)


class MultiHead(nn.Module):
    """What all attention shares: several heads read side by side, and are joined (Vaswani et al. 2017, §3.2.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.scale = config.head_dim**-0.5 if config.scale_scores else 1.0
        self.query_size = config.num_attention_heads * config.head_dim
        self.key_value_size = config.num_key_value_heads * config.head_dim
        self.output = Linear(self.query_size, config.hidden_size, bias=config.attention_bias == "all")

    def split(self, x: Tensor) -> Tensor:
        """[batch, sequence, heads · head_dim] -> [batch, heads, sequence, head_dim]."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def read(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask, weights: list[Tensor] | None) -> Tensor:
        """Attend and join the heads: -> [batch, queries, hidden]; `weights` as in `Context`."""
        if weights is not None:
            weights.append(attention_weights(query, key, mask, self.scale, 0, query.shape[2]))
        return self.output(attend(query, key, value, mask, self.scale).transpose(1, 2).flatten(2))


class Attention(MultiHead):
    """Self-attention; query heads may share a key-value head."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config)
        self.layer, bias = layer, config.attention_bias != "none"
        sizes = self.query_size, self.key_value_size, self.key_value_size
        self.query_key_value = Linear(config.hidden_size, *sizes, bias=bias)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[batch, sequence, hidden] -> [batch, sequence, hidden]."""
        parts = self.query_key_value(x).split(self.query_key_value.sizes, dim=-1)
        query, key, value = (self.split(part) for part in parts)
        if context.rotation is not None:
            query, key = rotate(query, *context.rotation), rotate(key, *context.rotation)
        if context.cache is not None:
            key, value = context.cache.store(self.layer, key, value, context.positions)
        return self.read(query, key, value, context.mask, context.weights)


class CrossAttention(MultiHead):
    """Attention of a decoder's tokens to an encoder's states (Vaswani et al. 2017, §3.2.3)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config)
        self.layer, bias = layer, config.attention_bias != "none"
        self.query = Linear(config.hidden_size, self.query_size, bias=bias)
        self.key_value = Linear(config.hidden_size, self.key_value_size, self.key_value_size, bias=bias)

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """What queries read of the encoder: [batch, source, hidden] -> two of [batch, kv_heads, source, head_dim]."""
        key, value = self.key_value(states).chunk(2, dim=-1)
        return self.split(key), self.split(value)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[batch, sequence, hidden] -> [batch, sequence, hidden]."""
        assert context.memory is not None
        key, value = context.memory.keys_values[self.layer]
        return self.read(self.split(self.query(x)), key, value, context.memory.mask, context.weights)
