"""A decoder made ready to read only: on a CPU its matrices are laid out once in the order that the kernels read them.

Torch's own product of a few rows with a matrix reads the matrix at a small part of the memory's speed; oneDNN reads
its own blocked layout several times faster. The result differs from the plain product by the order of summation only.
The operators are internals of torch, so they are tried before they are used; where they fail, products are plain.
"""

import copy
import platform
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.errors import CommandError
from lmcommons.model import Decoder, KeyValueCache
from lmcommons.model.linear import Linear

LAYOUT_ROWS = 16  # the layout works for any number of rows; this is what it is chosen for


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch on this machine computes a packed product in this precision, and computes it right.

    Tried on x86 only: on other processors the speed of the layout has not been measured.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    weight, x = torch.eye(32, dtype=dtype), torch.ones(2, 32, dtype=dtype)
    try:
        return torch.equal(_packed_product(weight)(x), x)
    except (AttributeError, RuntimeError):  # no such operator, or not for this precision on this processor
        return False


def _packed_product(weight: Tensor) -> Callable[[Tensor], Tensor]:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, LAYOUT_ROWS)

    def product(x: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        return found

    return product


class PackedLinear(nn.Module):
    """`x @ weight.T` in the weight's precision, the weight packed where `can_pack`; the result is in that of `x`."""

    def __init__(self, weight: Tensor, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.dtype = weight.dtype
        weight = weight.detach()
        self._product = _packed_product(weight) if can_pack(weight.dtype) else lambda x: F.linear(x, weight)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., sum(sizes)]."""
        return self._product(x.to(self.dtype)).to(x.dtype)


class PackedDecoder:
    """What generation needs of a decoder. The model that it is made from stays as it is, and shares its other weights.

    On a CPU only the matrix products have the precision of the weights: hidden states, attention and the cache are
    float32, which is faster there than bfloat16 and more exact.
    """

    def __init__(self, model: Decoder) -> None:
        self.config = model.config
        self.device = model.embedding.device
        self._model = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()}).eval()
        self._head: PackedLinear | None = None
        if self.device.type == "cpu":
            matrix = model.embedding if model.head is None else model.head.weight
            self._head = PackedLinear(matrix.to(model.compute_dtype), (model.config.vocab_size,))
            self._model.head = None
            for parent in list(self._model.modules()):
                for name, child in parent.named_children():
                    if isinstance(child, Linear):
                        setattr(parent, name, PackedLinear(child.weight.to(model.compute_dtype), child.sizes))
            self._model.compute_dtype = torch.float32

    def new_cache(self, rows: int, max_length: int) -> KeyValueCache:
        """An empty cache in the precision of the hidden states.

        Raises:
            CommandError: it does not fit into memory.
        """
        try:
            return KeyValueCache(self.config, rows, max_length, self._model.compute_dtype, self.device)
        except RuntimeError as error:  # what torch raises when it cannot allocate
            raise CommandError(
                f"keys and values of {rows} rows of {max_length} tokens do not fit into memory; lower one of them"
            ) from error

    def hidden(self, tokens: Tensor, cache: KeyValueCache) -> Tensor:
        """[rows, sequence] int64 -> [rows, sequence, hidden], as `Decoder.hidden`."""
        return self._model.hidden(tokens, cache=cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab] float32."""
        return self._model.logits(hidden) if self._head is None else self._head(hidden)
