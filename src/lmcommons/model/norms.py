"""Normalisation of hidden states, in float32 whatever their precision."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.model.config import ModelConfig


class Norm(nn.Module):
    """Layer normalisation (Ba et al. 2016, eq. 4), or by the root mean square alone (Zhang & Sennrich 2019, eq. 4)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shape, self.epsilon = (config.hidden_size,), config.norm_eps
        self.weight = nn.Parameter(torch.ones(self.shape))
        self.bias = nn.Parameter(torch.zeros(self.shape)) if config.norm == "layer" else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden], in the precision of `x`."""
        weight = self.weight.float()
        if self.bias is None:
            return F.rms_norm(x.float(), self.shape, weight, self.epsilon).to(x.dtype)
        return F.layer_norm(x.float(), self.shape, weight, self.bias.float(), self.epsilon).to(x.dtype)
