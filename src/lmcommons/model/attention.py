"""Attention: which earlier tokens a token reads, and what it takes from them."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.model.cache import KeyValueCache
from lmcommons.model.config import DecoderConfig
from lmcommons.model.linear import Linear
from lmcommons.model.positions import rotate


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
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=visible, is_causal=visible is None, enable_gqa=grouped
    )


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
        return self.output(attend(query, key, value, context.visible).transpose(1, 2).flatten(2))
