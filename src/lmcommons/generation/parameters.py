"""What a caller may ask of generation, checked where it is made."""

import math
from dataclasses import dataclass
from typing import Literal

from lmcommons.errors import RequestError


@dataclass(frozen=True)
class SamplingParameters:
    """How one prompt is continued.

    The next token is drawn from softmax(logits / temperature), cut to the `top_k` best tokens (ties kept), then to the
    smallest set of tokens whose probability reaches `top_p` (Holtzman et al. 2020), in this order, as `transformers`
    does it. The draw depends on `seed` and on nothing else: not on the other prompts of a batch.

    Attributes:
        max_tokens: most tokens to generate; generation also ends at the end of the model's context.
        temperature: 0 takes the most probable token (greedy).
        top_k: 0 keeps all tokens.
        top_p: in [0, 1]; 1 keeps all tokens.
        seed: None draws a new one for each prompt.
        stop: texts that end the completion; they are not part of it.
        logprobs: None for no log-probabilities, else how many alternatives to report beside each token. They are of
            the model's own distribution, before temperature and cuts.
        echo_logprobs: also report the log-probabilities of the prompt's tokens.

    Raises:
        RequestError: a value is out of range; one line that names it.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    echo_logprobs: bool = False

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 0, f"max_tokens must be at least 0, not {self.max_tokens}")
        _require(0 <= self.temperature < float("inf"), f"temperature must be at least 0, not {self.temperature}")
        _require(self.top_k >= 0, f"top_k must be at least 0 (0: all tokens), not {self.top_k}")
        _require(0 <= self.top_p <= 1, f"top_p must be between 0 and 1, not {self.top_p}")
        _require("" not in self.stop, "stop must not contain an empty text")
        _require(self.logprobs is None or self.logprobs >= 0, f"logprobs must be at least 0, not {self.logprobs}")


@dataclass(frozen=True)
class BeamParameters:
    """How beam search continues one prompt.

    Attributes:
        num_beams: continuations that are kept at each step.
        max_tokens: most tokens to generate; generation also ends at the end of the model's context.
        length_penalty: a finished continuation scores its log-probability divided by its length to this power: above 0
            favours long ones, below 0 short ones. The length counts the stop token and not the prompt.
        early_stopping: True ends with the first `num_beams` finished continuations; False when the best running one
            could not be better if it ended now; "never" when it could not be better at any length.

    Raises:
        RequestError: a value is out of range; one line that names it.
    """

    num_beams: int = 4
    max_tokens: int = 128
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self) -> None:
        _require(self.num_beams >= 1, f"num_beams must be at least 1, not {self.num_beams}")
        _require(self.max_tokens >= 1, f"max_tokens must be at least 1 for beam search, not {self.max_tokens}")
        _require(math.isfinite(self.length_penalty), f"length_penalty must be a number, not {self.length_penalty}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RequestError(message)
