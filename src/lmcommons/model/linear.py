"""The matrix product that every layer is made of."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Module):
    """`x @ weight.T + bias`, in the precision of `x`.

    Weights keep their own precision (float32 while training) and are cast to that of `x` on use, so their gradient
    arrives in the weight's precision. Matrices that read the same input are stored as one, which makes one larger,
    faster product: `sizes` are the rows of each, in order, `weight` is [sum(sizes), in_features] and `bias`
    [sum(sizes)] or None.
    """

    def __init__(self, in_features: int, *sizes: int, bias: bool = False) -> None:
        super().__init__()
        self.sizes = sizes
        self.weight = nn.Parameter(torch.empty(sum(sizes), in_features))
        self.bias = nn.Parameter(torch.zeros(sum(sizes))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., sum(sizes)]."""
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))
