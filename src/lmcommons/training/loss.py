"""Cross-entropy of a linear layer's outputs, of which only some are in memory at a time.

The logits [tokens, vocab] in float32 and their gradient are the largest tensors of a training step. Here some tokens
after the other have theirs, and the gradient is computed while they are there, as in the kernels of Hsu et al. 2024
(§3.2), so that nothing is computed twice.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from lmcommons.model import IGNORED

LOGITS_AT_ONCE = 1 << 23  # about; 32 MiB in float32
FEWEST_TOKENS = 256  # at once: the gradient of the matrix is read and written again for every chunk


def fused_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of `hidden @ weight.T + bias`, summed over targets: nats, a float32 scalar.

    `F.cross_entropy` of the logits in float32, and its gradient, to the rounding of the products.

    Args:
        hidden: [tokens, hidden], in the precision of the products.
        weight: [vocab, hidden], in any precision; its gradient is summed in that.
        bias: [vocab] or None.
        targets: [tokens] int64; those of -100 have no part.
        label_smoothing: the share of a target's probability that goes to all tokens alike (Szegedy et al. 2016, §7).
    """
    loss = cast(Any, _FusedCrossEntropy).apply(hidden, weight, bias, targets, label_smoothing, torch.is_grad_enabled())
    return cast(Tensor, loss)


class _FusedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        label_smoothing: float,
        differentiated: bool,
    ) -> Tensor:
        vocab_size, certainty = len(weight), 1 - label_smoothing
        matrix = weight.to(hidden.dtype)
        offset = None if bias is None else bias.to(hidden.dtype)
        real, targets = targets != IGNORED, targets.clamp(min=0)
        vocabulary = torch.arange(vocab_size, device=hidden.device)
        total = torch.zeros((), device=hidden.device)
        hidden_gradients: list[Tensor] = []
        weight_gradient, bias_gradient = None, None
        size = max(FEWEST_TOKENS, LOGITS_AT_ONCE // vocab_size)
        for start in range(0, len(hidden), size):
            here = slice(start, start + size)
            states, places, counted = hidden[here], targets[here, None], real[here, None]
            values = F.log_softmax(F.linear(states, matrix, offset), dim=-1, dtype=torch.float32)
            losses = -certainty * values.gather(1, places)
            if label_smoothing:
                losses = losses - label_smoothing * values.mean(dim=-1, keepdim=True)
            total = total + (losses * counted).sum()
            if not differentiated:
                continue
            gradient = values.exp_()
            if label_smoothing:
                gradient -= label_smoothing / vocab_size
            gradient = torch.where(vocabulary == places, gradient - certainty, gradient).to(hidden.dtype)
            gradient *= counted
            hidden_gradients.append(gradient @ matrix)
            part = gradient.mT @ states
            weight_gradient = part.to(weight.dtype) if weight_gradient is None else weight_gradient.add_(part)
            if bias is not None:
                part = gradient.sum(dim=0, dtype=torch.float32)
                bias_gradient = part if bias_gradient is None else bias_gradient.add_(part)
        if differentiated:
            ctx.save_for_backward(torch.cat(hidden_gradients), weight_gradient, bias_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            None if gradient is None else gradient * outer[0].to(gradient.dtype) for gradient in ctx.saved_tensors
        ]
        return *scaled, None, None, None
