"""The part of a layer that works on each token alone."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.model.config import ModelConfig
from lmcommons.model.linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
}


class FeedForward(nn.Module):
    """`down(activation(up(x)))` (Vaswani et al. 2017, eq. 2).

    With a gate it is `down(activation(gate(x)) * up(x))` (Shazeer 2020, eq. 6); `up` holds both matrices, gate first.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gated, self.activation = config.gated, ACTIVATIONS[config.hidden_act]
        sizes = [config.intermediate_size] * (2 if config.gated else 1)
        self.up = Linear(config.hidden_size, *sizes, bias=config.mlp_bias)
        self.down = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, sequence, hidden] -> [batch, sequence, hidden]."""
        if not self.gated:
            return self.down(self.activation(self.up(x)))
        gate, up = self.up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate) * up)
