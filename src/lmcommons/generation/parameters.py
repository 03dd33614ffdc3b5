"""What a caller may ask of generation, checked where it is made."""

import math
from dataclasses import dataclass
from typing import Literal

from lmcommons.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Which tokens may follow, and when to end; the same for every strategy. Semantics are those of `transformers`.

    The order is: `repetition_penalty`, `no_repeat_ngram_size`, `bad_words`, `min_tokens`, what the model's own
    configuration forces; and where tokens are drawn `temperature`, `top_k`, `top_p`, `min_p`, each on what those before
    it left.

    Attributes:
        max_tokens: most tokens to generate; generation also ends at the end of the model's context.
        min_tokens: no stop token before so many tokens are generated. Texts of `stop` are not held back.
        temperature: scores are divided by it; 0 takes the best token, or searches, instead of drawing.
        top_k: keep the best k tokens, ties kept; 0 keeps all, and so does more than there are.
        top_p: keep the smallest set of best tokens whose probability reaches it (Holtzman et al. 2020), in [0, 1].
        min_p: keep tokens of at least this part of the best one's probability (Nguyen et al. 2024), in [0, 1].
        repetition_penalty: above 1 makes tokens of the prompt and the text so far less likely (Keskar et al. 2019,
            §4.1). Of an encoder-decoder only what it wrote counts.
        no_repeat_ngram_size: so many tokens in a row never come twice (Paulus et al. 2017, §2.5); 0: they may.
        bad_words: tokens in a row that are never written, beside those that the model's configuration names.
        seed: None draws a new one for each prompt.
        stop: texts that end the text; they are not part of it.

    Raises:
        RequestError: a value is out of range; one line that names it.
    """

    max_tokens: int = 128
    min_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 0, f"max_tokens must be at least 0, not {self.max_tokens}")
        _require(
            0 <= self.min_tokens <= self.max_tokens,
            f"min_tokens must be between 0 and max_tokens {self.max_tokens}, not {self.min_tokens}",
        )
        _require(0 <= self.temperature < math.inf, f"temperature must be at least 0, not {self.temperature}")
        _require(self.top_k >= 0, f"top_k must be at least 0 (0: all tokens), not {self.top_k}")
        _require(0 <= self.top_p <= 1, f"top_p must be between 0 and 1, not {self.top_p}")
        _require(0 <= self.min_p <= 1, f"min_p must be between 0 and 1, not {self.min_p}")
        _require(
            0 < self.repetition_penalty < math.inf,
            f"repetition_penalty must be above 0 (1: none), not {self.repetition_penalty}",
        )
        _require(
            self.no_repeat_ngram_size >= 0,
            f"no_repeat_ngram_size must be at least 0 (0: no limit), not {self.no_repeat_ngram_size}",
        )
        _require(all(self.bad_words), "bad_words must not contain a word without tokens")
        _require("" not in self.stop, "stop must not contain an empty text")


@dataclass(frozen=True, kw_only=True)
class SamplingParameters(Parameters):
    """How one prompt is continued, a token at a time: the best one, or with a `temperature` one drawn.

    A draw depends on `seed` and on nothing else: not on the other prompts of a batch.

    Attributes:
        logprobs: None for no log-probabilities, else how many alternatives to report beside each token. They are of
            the model's own distribution, before penalties, temperature and cuts.
        echo_logprobs: also report the log-probabilities of the prompt's tokens; of a decoder only.
    """

    logprobs: int | None = None
    echo_logprobs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.logprobs is None or self.logprobs >= 0, f"logprobs must be at least 0, not {self.logprobs}")


@dataclass(frozen=True, kw_only=True)
class BeamParameters(Parameters):
    """How beam search continues one prompt; with a `temperature` it draws the candidates of each step.

    Attributes:
        num_beams: continuations that are kept at each step.
        num_return_sequences: how many of them are wanted.
        length_penalty: a finished continuation scores its log-probability divided by its length to this power: above 0
            favours long ones, below 0 short ones. The length counts the stop token and not the prompt.
        early_stopping: True ends with the first `num_beams` finished continuations; False when the best running one
            could not be better if it ended now; "never" when it could not be better at any length.
    """

    num_beams: int = 4
    num_return_sequences: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.num_beams >= 1, f"num_beams must be at least 1, not {self.num_beams}")
        _require(
            1 <= self.num_return_sequences <= self.num_beams,
            f"num_return_sequences must be between 1 and num_beams {self.num_beams}, not {self.num_return_sequences}",
        )
        _require(self.max_tokens >= 1, f"max_tokens must be at least 1 for beam search, not {self.max_tokens}")
        _require(math.isfinite(self.length_penalty), f"length_penalty must be a number, not {self.length_penalty}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RequestError(message)
