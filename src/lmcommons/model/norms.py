"""Normalisation of hidden states."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """Root mean square layer normalisation (Zhang & Sennrich 2019, eq. 4), computed in float32."""

    def __init__(self, hidden_size: int, epsilon: float) -> None:
        super().__init__()
        self.hidden_size, self.epsilon = hidden_size, epsilon
        self.weight = nn.Parameter(torch.ones(hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden], in the precision of `x`."""
        return F.rms_norm(x.float(), (self.hidden_size,), self.weight.float(), self.epsilon).to(x.dtype)
