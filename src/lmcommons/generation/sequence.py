"""One prompt and its continuation: what was asked, what has been generated, what may be shown."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lmcommons.generation.parameters import SamplingParameters
from lmcommons.generation.text_stream import TextStream

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Token:
    """A token in its text.

    Attributes:
        id: the token.
        offset: characters of the text before it.
        logprob: natural logarithm of its probability; None where not asked for, or (first of a prompt) not defined.
        alternatives: the most probable tokens in its place with their log-probabilities, best first.
    """

    id: int
    offset: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Delta:
    """What one step added that can be shown: text, the tokens it is made of, and why the sequence ended if it did."""

    text: str
    tokens: tuple[Token, ...]
    finish_reason: FinishReason | None


@dataclass(frozen=True)
class Continuation:
    """A finished text.

    Attributes:
        text: without the stop text.
        token_ids: all that were generated, the stop token and those of a stop text included.
        score: of beam search, the sum of its tokens' log-probabilities (in nats, after penalties and cuts) divided by
            their number ** length_penalty; else the sum of their log-probabilities in the model's own distribution,
            None where `logprobs` was not asked for.
        finish_reason: "stop" (a stop token or text) or "length" (`max_tokens`, or the end of the context).
    """

    text: str
    token_ids: list[int]
    score: float | None
    finish_reason: FinishReason


@dataclass(frozen=True)
class Completion(Continuation):
    """A text that was continued a token at a time.

    Attributes:
        tokens: those of the text; neither the stop token nor the tokens of a stop text.
        prompt_tokens: the prompt with log-probabilities, when `echo_logprobs` asked for it.
    """

    tokens: list[Token]
    prompt_tokens: list[Token]


class Sequence:
    """A prompt that is being continued; `Batch` feeds it one token a step."""

    def __init__(self, prompt: list[int], parameters: SamplingParameters) -> None:
        self.prompt = prompt
        self.parameters = parameters
        self.prompt_tokens: list[Token] = []
        self.generated: list[int] = []
        self.score = None if parameters.logprobs is None else 0.0
        self._random = random.Random(parameters.seed)
        self._text = TextStream(parameters.stop)
        self._waiting: deque[tuple[Token, int]] = deque()  # with the end of each, in characters

    def uniform(self) -> float:
        """The next random number of this sequence alone, in [0, 1)."""
        return self._random.random()

    def accept(
        self,
        token_id: int,
        logprob: float | None,
        alternatives: tuple[tuple[int, float], ...],
        token_bytes: Callable[[int], bytes],
        stop_token_ids: frozenset[int],
        most: int,
    ) -> Delta:
        """Add the next token; `most` is how many tokens may be generated in all."""
        self.generated.append(token_id)
        if self.score is not None and logprob is not None:
            self.score += logprob
        if token_id in stop_token_ids:
            return self._end("stop", self._text.finish())
        token = Token(token_id, self._text.decoded, logprob, alternatives)
        shown = self._text.push(token_bytes(token_id))
        self._waiting.append((token, self._text.decoded))
        if self._text.stopped_at is not None:
            return self._end("stop", shown)
        if len(self.generated) >= most:
            return self._end("length", shown + self._text.finish())
        return Delta(shown, self._release(), None)

    def _release(self) -> tuple[Token, ...]:
        """The tokens whose text has been shown whole."""
        tokens = []
        while self._waiting and self._waiting[0][1] <= self._text.released:
            tokens.append(self._waiting.popleft()[0])
        return tuple(tokens)

    def _end(self, reason: FinishReason, shown: str) -> Delta:
        stopped_at = self._text.stopped_at
        if stopped_at is not None:  # at the very end, `finish` may complete a stop text
            reason = "stop"
        tokens = tuple(token for token, _ in self._waiting if stopped_at is None or token.offset < stopped_at)
        return Delta(shown, tokens, reason)
