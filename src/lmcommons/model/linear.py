"""The matrix product that every layer is made of."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Module):
    """`x @ weight.T`, without bias, in the precision of `x`.

    The weight keeps its own precision (float32 while training) and is cast to that of `x` on use, so its gradient
    arrives in the weight's precision. Matrices that read the same input are stored as one, which makes one larger,
    faster product: `sizes` are the rows of each, in order, and `weight` is [sum(sizes), in_features].
    """

    def __init__(self, in_features: int, *sizes: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.weight = nn.Parameter(torch.empty(sum(sizes), in_features))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., sum(sizes)]."""
        return F.linear(x, self.weight.to(x.dtype))
