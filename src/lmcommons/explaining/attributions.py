"""Integrated gradients (Sundararajan et al. 2017): how much each token adds to an output."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lmcommons.explaining.subject import Part, Subject
from lmcommons.inference.text import padding_id
from lmcommons.model.stack import token_positions
from lmcommons.progress import Task, task

STEPS = (16, 32, 64, 128, 256, 512)  # tried one after the other, until the sum is as it must be
TOLERANCE = 0.01  # of the difference of the outputs, that the sum may miss
TOKENS_TOGETHER = 4096


@dataclass(frozen=True)
class Attributions:
    """What each token of each part adds to the log-probability of the target, in nats.

    By completeness (axiom 3 of the paper, equation 3) `values` add up to `output` - `baseline`, the log-probability
    with the text less that without it, if the integral is exact.
    """

    values: list[list[float]]
    output: float
    baseline: float
    steps: int

    @property
    def total(self) -> float:
        """The sum of all values."""
        return sum(map(sum, self.values))

    @property
    def difference(self) -> float:
        """What the sum must be."""
        return self.output - self.baseline

    @property
    def error(self) -> float:
        """How much the sum misses."""
        return abs(self.total - self.difference)


def integrated_gradients(explained: Subject) -> Attributions:
    """Attributions along the straight line from a text of neutral tokens to the text.

    A neutral token is a mask, or padding where there is none; special tokens stay themselves. The line is in the space
    of embeddings with their positions, which first layers read. The integral is by Gauss and Legendre, with twice the
    points until the sum is right to 1 % or there are 512; what it misses is reported.
    """
    starts = [_embedded(explained, part, _neutral(explained, part)) for part in explained.parts]
    ends = [_embedded(explained, part, part.tokens) for part in explained.parts]
    with torch.no_grad():
        baseline, output = (float(_output(explained, points)) for points in (starts, ends))
    with task("attributions", unit="gradients") as shown:
        for steps in STEPS:
            gradients = _mean_gradients(explained, starts, ends, steps, shown)
            values = [
                ((end - start) * gradient).sum(-1)[0].tolist()
                for start, end, gradient in zip(starts, ends, gradients, strict=True)
            ]
            found = Attributions(values, output, baseline, steps)
            if found.error <= TOLERANCE * abs(found.difference):
                break
    return found


def _neutral(explained: Subject, part: Part) -> Tensor:
    """The part with nothing in it but special tokens: [1, sequence]."""
    tokenizer = explained.loaded.tokenizer
    neutral = padding_id(tokenizer) if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    special = torch.tensor([part.special], device=part.tokens.device)
    return torch.where(special, part.tokens, neutral)


def _embedded(explained: Subject, part: Part, tokens: Tensor) -> Tensor:
    """What first layers read of `tokens` in the place of the part's: [1, sequence, hidden]."""
    with torch.no_grad():
        return explained.loaded.model.embed(tokens, token_positions(tokens), part.token_types)


def _mean_gradients(
    explained: Subject, starts: Sequence[Tensor], ends: Sequence[Tensor], steps: int, shown: Task
) -> list[Tensor]:
    """The mean gradient of the output along the line, for each part: [1, sequence, hidden]."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    found = [torch.zeros_like(end) for end in ends]
    together = max(1, TOKENS_TOGETHER // sum(end.shape[1] for end in ends))
    for first in range(0, steps, together):
        chosen = slice(first, first + together)
        along, weight = (
            torch.from_numpy(numbers[chosen]).to(ends[0])[:, None, None] for numbers in ((places + 1) / 2, weights / 2)
        )
        points = [(start + along * (end - start)).requires_grad_() for start, end in zip(starts, ends, strict=True)]
        gradients = torch.autograd.grad(_output(explained, points), points)
        found = [mean + (weight * one).sum(0, keepdim=True) for mean, one in zip(found, gradients, strict=True)]
        shown.advance(len(along))
    return found


def _output(explained: Subject, points: Sequence[Tensor]) -> Tensor:
    """The sum of the target's log-probabilities where first layers read `points` [copies, sequence, hidden]."""
    waiting = list(points)

    def replace(module: nn.Module, arguments: object, output: Tensor) -> Tensor:
        return waiting.pop(0) if waiting else output

    # what leaves this module is what first layers read: of an encoder-decoder first the source, then the target
    handle = explained.loaded.model.dropout.register_forward_hook(replace)
    try:
        return explained.log_probabilities(len(points[0]))[:, explained.target].sum()
    finally:
        handle.remove()
