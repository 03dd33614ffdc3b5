"""A decoder made ready to read only: on a CPU its matrices are laid out once in the order that the kernels read them.

Torch's own product of few rows with a matrix reads the matrix at a small part of the memory's speed; oneDNN reads a
matrix in its own blocked order several times faster (benchmarks/generation.py). Results differ from the plain product by
the order of summation only.
"""

import copy

import torch
from torch import Tensor, nn

from lmcommons.model import Decoder
from lmcommons.model.linear import Linear

PACKED_ROWS = 16  # the layout serves any number of rows; this is what it is chosen for


class PackedLinear(nn.Module):
    """`x @ weight.T` with the weight in oneDNN's layout; stands in for `Linear`."""

    def __init__(self, weight: Tensor, *sizes: int) -> None:
        super().__init__()
        self.sizes = sizes
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACKED_ROWS)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., sum(sizes)]."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")
        return product


class PackedDecoder:
    """What generation needs of a decoder: `hidden` with a cache, and `logits`."""

    def __init__(self, model: Decoder) -> None:
        self.config = model.config
        self.dtype, self.device = model.compute_dtype, model.embedding.device
        # A copy of the modules that shares the weights: the caller's model stays as it is.
        self._model = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()}).eval()
        self._head: nn.Module | None = None
        if self.device.type == "cpu" and torch.backends.mkldnn.is_available():
            for parent in list(self._model.modules()):
                for name, child in parent.named_children():
                    if isinstance(child, Linear):
                        setattr(parent, name, PackedLinear(child.weight.to(self.dtype), *child.sizes))
            matrix = model.embedding if model.head is None else model.head.weight
            self._head = PackedLinear(matrix.to(self.dtype), model.config.vocab_size)
