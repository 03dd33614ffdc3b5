"""A model made ready to read only: on a CPU its matrices are laid out once in the order that the kernels read them.

Torch's own product of a few rows with a matrix reads the matrix at a small part of the memory's speed; oneDNN reads
its own blocked layout several times faster. The result differs from the plain product by the order of summation only.
The operators are internals of torch, so they are tried before they are used; where they fail, products are plain.
"""

import copy
import platform
from collections.abc import Callable
from functools import cache
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.errors import CommandError
from lmcommons.model import Decoder, EncoderDecoder, KeyValueCache
from lmcommons.model.linear import Linear

LAYOUT_ROWS = 16  # the layout works for any number of rows; this is what it is chosen for

M = TypeVar("M", Decoder, EncoderDecoder)


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch on this machine computes a packed product in this precision, and computes it right.

    Tried on x86 only: on other processors the speed of the layout has not been measured.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    weight, x, bias = torch.eye(32, dtype=dtype), torch.ones(2, 32, dtype=dtype), torch.ones(32, dtype=dtype)
    try:
        return torch.equal(_packed_product(weight, bias)(x), x + bias)
    except (AttributeError, RuntimeError):  # no such operator, or not for this precision on this processor
        return False


def _packed_product(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, LAYOUT_ROWS)

    def product(x: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        return found

    return product


class PackedLinear(nn.Module):
    """`x @ weight.T + bias` in the weight's precision, packed where `can_pack`; the result is in that of `x`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.dtype = weight.dtype
        weight, bias = weight.detach(), None if bias is None else bias.detach().to(weight.dtype)
        if can_pack(weight.dtype):
            self._product = _packed_product(weight, bias)
        else:
            self._product = lambda x: F.linear(x, weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., sum(sizes)]."""
        return self._product(x.to(self.dtype)).to(x.dtype)


class PackedModel(Generic[M]):
    """A model whose matrices are packed. The one that it is made from stays as it is, and shares its other weights.

    On a CPU only the matrix products have the precision of the weights: hidden states, attention and the cache are
    float32, which is faster there than bfloat16 and more exact.
    """

    def __init__(self, model: M) -> None:
        self.model: M = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()}).eval()
        self._head: PackedLinear | None = None
        if model.embedding.device.type == "cpu":
            dtype = model.compute_dtype
            matrix, bias = model.logit_weights()
            self._head = PackedLinear(matrix.to(dtype), bias, (model.config.vocab_size,))
            for parent in list(self.model.modules()):
                for name, child in parent.named_children():
                    if isinstance(child, Linear):
                        packed = PackedLinear(child.weight.to(dtype), child.bias, child.sizes)
                        setattr(parent, name, self._head if child is self.model.head else packed)
            self.model.compute_dtype = torch.float32

    def new_cache(self, rows: int, max_length: int) -> KeyValueCache:
        """An empty cache in the precision of the hidden states.

        Raises:
            CommandError: it does not fit into memory.
        """
        try:
            return KeyValueCache(
                self.model.config, rows, max_length, self.model.compute_dtype, self.model.embedding.device
            )
        except RuntimeError as error:  # what torch raises when it cannot allocate
            raise CommandError(
                f"keys and values of {rows} rows of {max_length} tokens do not fit into memory; lower one of them"
            ) from error

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab] float32."""
        return self.model.logits(hidden) if self._head is None else self._head(self.model.before_logits(hidden))
