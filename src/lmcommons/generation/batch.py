"""The one loop that all of generation runs on: sequences join and leave a batch between steps.

Continuous batching (Yu et al. 2022, Orca, §3): each step computes one token for every sequence of the batch, and a
sequence that ends makes room at once. New prompts are read together, padded on the right.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import torch
from torch import Tensor

from lmcommons.errors import RequestError
from lmcommons.generation import processors
from lmcommons.generation.parameters import Parameters
from lmcommons.generation.rows import beginning, open_rows
from lmcommons.generation.sequence import Delta, Sequence, Token
from lmcommons.generation.text_stream import TextStream
from lmcommons.model import Model

PREFILL_TOKENS = 4096  # padded tokens that are read in one step, so that a step stays short for the running sequences
DESCRIBED_TOKENS = 512  # of a prompt, whose logits are held at once
GREEDY_BELOW = 1e-5  # a temperature that float32 scores would overflow by


class Vocabulary(Protocol):
    """What generation needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def stop_token_ids(self) -> Collection[int]: ...

    def token_bytes(self, token_id: int, /) -> bytes: ...


class Batch:
    """Up to `max_rows` sequences that are continued together.

    A sequence's tokens depend on its prompt, parameters and seed only, whoever shares the batch. (Up to the rounding of
    sums, which a different number of rows may change in the last bit.)
    """

    def __init__(self, model: Model, tokenizer: Vocabulary, *, max_rows: int, max_length: int | None = None) -> None:
        self._rows = open_rows(model, max_rows, max_length)
        self._config = model.config
        self._token_bytes: Callable[[int], bytes] = tokenizer.token_bytes
        self._stop_token_ids = frozenset(tokenizer.stop_token_ids)
        # A model's vocabulary may be padded beyond the tokenizer's: what has no text is never generated.
        self._vocab_size = min(model.config.vocab_size, tokenizer.vocab_size)
        self._stop_tokens = torch.tensor(
            [token for token in self._stop_token_ids if token < self._vocab_size],
            dtype=torch.int64,
            device=self._rows.device,
        )
        self.max_rows, self.max_length = max_rows, self._rows.max_length
        self.sequences: list[Sequence] = []  # sequence i has row i

    def check(self, sequence: Sequence) -> None:
        """Say whether a sequence can be continued at all.

        Raises:
            RequestError: the prompt is empty, fills the context, or has a token that the model does not know; or its
                log-probabilities are asked of a model that has none.
        """
        check_prompt(sequence.prompt, self._rows.room(sequence.prompt), sequence.parameters, self._vocab_size)
        if sequence.parameters.echo_logprobs and self._config.kind != "decoder":
            raise RequestError(f"only a decoder gives a prompt's own log-probabilities, not {self._config.kind} models")

    def admit(self, waiting: deque[Sequence]) -> list[tuple[Sequence, Delta]]:
        """Take checked sequences from the front of `waiting`, as many as there is room for, and read their prompts.

        Returns the first delta of each. A sequence whose delta has a finish reason has left the batch.
        """
        taken: list[Sequence] = []
        longest = 0
        while waiting and len(self.sequences) + len(taken) < self.max_rows:
            longest = max(longest, len(waiting[0].prompt))
            if taken and longest * (len(taken) + 1) > PREFILL_TOKENS:
                break
            taken.append(waiting.popleft())
        return self._prefill(taken) if taken else []

    @torch.inference_mode()
    def step(self) -> list[tuple[Sequence, Delta]]:
        """Compute the next token of every sequence. A sequence whose delta has a finish reason has left the batch."""
        last = torch.tensor([sequence.generated[-1] for sequence in self.sequences], device=self._rows.device)
        return self._continue(self.sequences, self._rows.logits(self._rows.step(last)))

    def remove(self, leaving: Iterable[Sequence]) -> None:
        """Drop sequences from the batch; ones that are not in it are ignored."""
        order = list(range(len(self.sequences)))
        for sequence in leaving:
            if sequence in self.sequences:
                place, final = self.sequences.index(sequence), len(self.sequences) - 1
                self.sequences[place], order[place] = self.sequences[final], order[final]
                self.sequences.pop()
                order.pop()
        if len(order) < self._rows.count:
            self._rows.select(torch.tensor(order, dtype=torch.int64, device=self._rows.device))

    @torch.inference_mode()
    def _prefill(self, taken: list[Sequence]) -> list[tuple[Sequence, Delta]]:
        states = self._rows.start([sequence.prompt for sequence in taken])
        self.sequences += taken
        for sequence, known in zip(taken, states, strict=True):
            if sequence.parameters.echo_logprobs:
                self._describe_prompt(sequence, known[:-1])
        return self._continue(taken, self._rows.logits(torch.stack([known[-1] for known in states])))

    def _continue(self, sequences: list[Sequence], logits: Tensor) -> list[tuple[Sequence, Delta]]:
        """Choose the next token of each sequence from logits `[sequences, vocab]`, and let go of those that end."""
        chosen = self._choose(sequences, logits[:, : self._vocab_size])
        reports = self._logprobs(sequences, logits, chosen)
        deltas = []
        for sequence, token_id, (logprob, alternatives) in zip(sequences, chosen, reports, strict=True):
            most = min(sequence.parameters.max_tokens, self._rows.room(sequence.prompt))
            if most == 0:
                delta = Delta("", (), "length")
            else:
                delta = sequence.accept(token_id, logprob, alternatives, self._token_bytes, self._stop_token_ids, most)
            deltas.append((sequence, delta))
        self.remove([sequence for sequence, delta in deltas if delta.finish_reason])
        return deltas

    def _describe_prompt(self, sequence: Sequence, states: Tensor) -> None:
        """Give the prompt its log-probabilities; states [prompt - 1, hidden] predict all but the first."""
        text = TextStream()
        reports: list[tuple[float | None, tuple[tuple[int, float], ...]]] = [(None, ())]
        following = sequence.prompt[1:]
        for start in range(0, len(following), DESCRIBED_TOKENS):
            part = slice(start, start + DESCRIBED_TOKENS)
            logits = self._rows.logits(states[part])
            reports += self._logprobs([sequence] * len(logits), logits, following[part])
        for token_id, (logprob, alternatives) in zip(sequence.prompt, reports, strict=True):
            sequence.prompt_tokens.append(Token(token_id, text.decoded, logprob, alternatives))
            text.push(self._token_bytes(token_id))

    def _choose(self, sequences: list[Sequence], logits: Tensor) -> list[int]:
        """The next token of each sequence by its own parameters."""
        parameters = [sequence.parameters for sequence in sequences]
        scores = processors.constrain(
            logits,
            parameters,
            lambda row: [*beginning(self._config, sequences[row].prompt), *sequences[row].generated],
            [len(sequence.generated) for sequence in sequences],
            self._stop_tokens,
            self._config,
        )
        if scores is not logits and (scores == -torch.inf).all(-1).any():
            raise RequestError(
                "no token is left to choose: no_repeat_ngram_size, bad words and min_tokens forbid all of them"
            )
        chosen = scores.argmax(-1)
        drawn = [row for row, each in enumerate(parameters) if each.temperature > GREEDY_BELOW]
        if drawn:
            narrowed = processors.narrow(scores[drawn], [parameters[row] for row in drawn])
            uniforms = [sequences[row].uniform() for row in drawn]
            chosen[drawn] = processors.draw(narrowed, torch.tensor(uniforms, dtype=torch.float64, device=scores.device))
        return chosen.tolist()

    def _logprobs(
        self, sequences: list[Sequence], logits: Tensor, chosen: list[int]
    ) -> list[tuple[float | None, tuple[tuple[int, float], ...]]]:
        """For each sequence that asks: the log-probability of its token, and of the best alternatives."""
        reports: list[tuple[float | None, tuple[tuple[int, float], ...]]] = [(None, ())] * len(sequences)
        asking = [row for row, sequence in enumerate(sequences) if sequence.parameters.logprobs is not None]
        if asking:
            scores = logits[asking].log_softmax(-1)[:, : self._vocab_size]
            most = min(max(sequences[row].parameters.logprobs or 0 for row in asking), scores.size(-1))
            values, tokens = (found.tolist() for found in scores.topk(most))
            own = scores.gather(1, torch.tensor([[chosen[row]] for row in asking], device=scores.device)).tolist()
            for place, row in enumerate(asking):
                wanted = sequences[row].parameters.logprobs or 0
                alternatives = tuple(zip(tokens[place][:wanted], values[place][:wanted], strict=True))
                reports[row] = (own[place][0], alternatives)
        return reports


def check_prompt(prompt: list[int], room: int, parameters: Parameters, vocab_size: int) -> None:
    """Say whether a prompt can be continued where there is `room` for so many tokens after it.

    Raises:
        RequestError: it fills the context, or has a token that the model does not know; or a word that is not to be
            written has.
    """
    if room < min(1, parameters.max_tokens):
        raise RequestError(
            f"the prompt has {len(prompt)} tokens and the model's context is {len(prompt) + room} tokens"
        )
    wrong = next((token for token in prompt if not 0 <= token < vocab_size), None)
    if wrong is not None:
        raise RequestError(f"the prompt has token {wrong}; the vocabulary has {vocab_size}")
    wrong = next((token for word in parameters.bad_words for token in word if not 0 <= token < vocab_size), None)
    if wrong is not None:
        raise RequestError(f"bad_words has token {wrong}; the vocabulary has {vocab_size}")
