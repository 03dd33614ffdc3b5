"""The part of a layer that works on each token alone."""

from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.model.linear import Linear


class SwiGLU(nn.Module):
    """Gated feed-forward with SiLU (Shazeer 2020, eq. 6): `down(silu(gate(x)) * up(x))`."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_up = Linear(hidden_size, intermediate_size, intermediate_size)
        self.down = Linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, sequence, hidden] -> [batch, sequence, hidden]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        y: Tensor = self.down(F.silu(gate) * up)
        return y
