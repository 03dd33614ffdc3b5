"""What stands between a model's states and what it says: a small layer for each task (Devlin et al. 2019, §4)."""

from torch import Tensor, nn

from lmcommons.model.config import ModelConfig
from lmcommons.model.feed_forward import ACTIVATIONS
from lmcommons.model.linear import Linear
from lmcommons.model.norms import Norm


class HeadTransform(nn.Module):
    """What BERT does before the logits: dense layer, activation, norm (Devlin et al. 2019, its published code)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=True)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.norm = Norm(config)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]."""
        return self.norm(self.activation(self.dense(x)))


class Pooler(nn.Module):
    """`tanh(dense(x))` of the state that stands for a whole text."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=True)

    def forward(self, state: Tensor) -> Tensor:
        """[batch, hidden] -> [batch, hidden]."""
        return self.dense(state).tanh()


class Head(nn.Module):
    """Logits of the classes of a text or of each token; or of where an answer begins (0) and ends (1)."""

    def __init__(self, config: ModelConfig, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.output = Linear(config.hidden_size, outputs, bias=bias)

    def forward(self, states: Tensor) -> Tensor:
        """[..., hidden] -> [..., outputs] float32."""
        return self.output(self.dropout(states)).float()


def task_head(config: ModelConfig) -> Head | None:
    """The head of `config.task`; None for language modelling and features."""
    if config.task == "question-answering":
        return Head(config, 2)
    if config.task.endswith("classification"):
        return Head(config, len(config.labels), bias=config.pools or config.task == "token-classification")
    return None
