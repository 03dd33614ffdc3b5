"""Keys and values of tokens already read, so that generation computes each token once."""

import copy
from typing import Self

import torch
from torch import Tensor

from lmcommons.model.config import ModelConfig


class KeyValueCache:
    """Storage for `max_length` tokens of `batch_size` rows, whose lengths may differ.

    keys, values: [layers, batch, kv_heads, max_length, head_dim]. lengths: [batch] int64, the tokens that are stored.

    `decoder(tokens [batch, sequence], cache=cache)` writes row b's keys and values at lengths[b] onwards and
    leaves `lengths` alone; the caller then says with `advance` how many of the tokens were real. So prompts of unequal
    length are padded on the right and read together: later tokens overwrite the padding, and no query sees what lies
    behind its own position.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        max_length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (config.num_hidden_layers, batch_size, config.num_key_value_heads, max_length, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = torch.zeros(batch_size, dtype=torch.int64, device=device)

    @property
    def max_length(self) -> int:
        """Tokens that a row can hold."""
        return self.keys.shape[3]

    def store(self, layer: int, key: Tensor, value: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Write key and value [batch, kv_heads, sequence, head_dim] of a layer at positions [batch, sequence].

        Returns all keys and values of the layer: [batch, kv_heads, max_length, head_dim].
        """
        rows = torch.arange(positions.shape[0], device=positions.device)[:, None]
        self.keys[layer][rows, :, positions] = key.transpose(1, 2)
        self.values[layer][rows, :, positions] = value.transpose(1, 2)
        return self.keys[layer], self.values[layer]

    def advance(self, counts: Tensor | int) -> None:
        """Count the tokens of the last forward as stored: [batch], or one number for all rows."""
        self.lengths += counts

    def rows(self, start: int, stop: int) -> Self:
        """The rows from `start` up to `stop`, sharing storage with this cache."""
        view = copy.copy(self)
        view.keys, view.values = self.keys[:, start:stop], self.values[:, start:stop]
        view.lengths = self.lengths[start:stop]
        return view

    def prefix(self, length: int) -> Self:
        """The first `length` places of every row, sharing storage with this cache."""
        view = copy.copy(self)
        view.keys, view.values = self.keys[:, :, :, :length], self.values[:, :, :, :length]
        return view

    def select(self, rows: Tensor) -> None:
        """Row i becomes what row `rows[i]` was; rows [n] int64. Only rows that change are copied."""
        places = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        moved = rows[places]
        used = int(self.lengths[moved].max()) if len(moved) else 0
        self.keys[:, places, :, :used] = self.keys[:, moved, :, :used]
        self.values[:, places, :, :used] = self.values[:, moved, :, :used]
        self.lengths[places] = self.lengths[moved]
