"""The one loop that all of generation runs on: sequences join and leave a batch between steps.

Continuous batching (Yu et al. 2022, Orca, §3): each step computes one token for every sequence of the batch, and a
sequence that ends makes room at once. New prompts are read together, padded on the right.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import torch
from torch import Tensor

from lmcommons.errors import CommandError, RequestError
from lmcommons.generation import processors
from lmcommons.generation.packing import PackedDecoder
from lmcommons.generation.sequence import Delta, Sequence, Token
from lmcommons.generation.text_stream import TextStream
from lmcommons.model import Decoder

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

    def __init__(self, model: Decoder, tokenizer: Vocabulary, *, max_rows: int, max_length: int | None = None) -> None:
        self._model = PackedDecoder(model)
        self._token_bytes: Callable[[int], bytes] = tokenizer.token_bytes
        self._stop_token_ids = frozenset(tokenizer.stop_token_ids)
        # A model's vocabulary may be padded beyond the tokenizer's: what has no text is never generated.
        self._vocab_size = min(model.config.vocab_size, tokenizer.vocab_size)
        self.max_rows = max_rows
        self.max_length = min(max_length or model.config.max_position_embeddings, model.config.max_position_embeddings)
        self._cache = self._model.new_cache(max_rows, self.max_length)
        self.sequences: list[Sequence] = []  # sequence i has row i of the cache

    def check(self, sequence: Sequence) -> None:
        """Say whether a sequence can be continued at all.

        Raises:
            RequestError: the prompt is empty, fills the context, or has a token that the model does not know.
        """
        length = len(sequence.prompt)
        if length == 0:
            raise RequestError("the prompt has no tokens")
        if length + min(1, sequence.parameters.max_tokens) > self.max_length:
            raise RequestError(f"the prompt has {length} tokens and the model's context is {self.max_length} tokens")
        wrong = next((token for token in sequence.prompt if not 0 <= token < self._vocab_size), None)
        if wrong is not None:
            raise RequestError(f"the prompt has token {wrong}; the vocabulary has {self._vocab_size}")

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
        rows = self._cache.rows(0, len(self.sequences))
        last = torch.tensor([[sequence.generated[-1]] for sequence in self.sequences], device=self._model.device)
        hidden = self._model.hidden(last, rows)
        rows.advance(1)
        return self._continue(self.sequences, self._model.logits(hidden[:, -1]))

    def remove(self, leaving: Iterable[Sequence]) -> None:
        """Drop sequences from the batch; ones that are not in it are ignored."""
        for sequence in leaving:
            if sequence in self.sequences:
                row, final = self.sequences.index(sequence), len(self.sequences) - 1
                if row != final:
                    self._cache.move_row(final, row)
                    self.sequences[row] = self.sequences[final]
                self.sequences.pop()

    @torch.inference_mode()
    def _prefill(self, taken: list[Sequence]) -> list[tuple[Sequence, Delta]]:
        first = len(self.sequences)
        rows = self._cache.rows(first, first + len(taken))
        rows.lengths.zero_()
        lengths = torch.tensor([len(sequence.prompt) for sequence in taken], device=self._model.device)
        tokens = torch.zeros(len(taken), int(lengths.max()), dtype=torch.int64)
        for row, sequence in enumerate(taken):
            tokens[row, : len(sequence.prompt)] = torch.tensor(sequence.prompt)
        hidden = self._model.hidden(tokens.to(self._model.device), rows)
        rows.advance(lengths)
        self.sequences += taken
        for row, sequence in enumerate(taken):
            if sequence.parameters.echo_logprobs:
                self._describe_prompt(sequence, hidden[row, : len(sequence.prompt) - 1])
        last = hidden[torch.arange(len(taken), device=hidden.device), lengths - 1]
        return self._continue(taken, self._model.logits(last))

    def _continue(self, sequences: list[Sequence], logits: Tensor) -> list[tuple[Sequence, Delta]]:
        """Choose the next token of each sequence from logits `[sequences, vocab]`, and let go of those that end."""
        if not torch.isfinite(logits).all():
            raise CommandError("the model computes values that are not numbers: its weights are damaged")
        logits = logits[:, : self._vocab_size]
        chosen = _choose(sequences, logits)
        reports = _logprobs(sequences, logits, chosen)
        deltas = []
        for sequence, token_id, (logprob, alternatives) in zip(sequences, chosen, reports, strict=True):
            most = min(sequence.parameters.max_tokens, self.max_length - len(sequence.prompt))
            if most == 0:
                delta = Delta("", (), "length")
            else:
                delta = sequence.accept(token_id, logprob, alternatives, self._token_bytes, self._stop_token_ids, most)
            deltas.append((sequence, delta))
        self.remove([sequence for sequence, delta in deltas if delta.finish_reason])
        return deltas

    def _describe_prompt(self, sequence: Sequence, hidden: Tensor) -> None:
        """Give the prompt its log-probabilities; hidden `[prompt - 1, hidden]` predicts all but the first."""
        text = TextStream()
        reports: list[tuple[float | None, tuple[tuple[int, float], ...]]] = [(None, ())]
        following = sequence.prompt[1:]
        for start in range(0, len(following), DESCRIBED_TOKENS):
            part = slice(start, start + DESCRIBED_TOKENS)
            logits = self._model.logits(hidden[part])[:, : self._vocab_size]
            reports += _logprobs([sequence] * len(logits), logits, following[part])
        for token_id, (logprob, alternatives) in zip(sequence.prompt, reports, strict=True):
            sequence.prompt_tokens.append(Token(token_id, text.decoded, logprob, alternatives))
            text.push(self._token_bytes(token_id))


def _choose(sequences: list[Sequence], logits: Tensor) -> list[int]:
    """The next token of each sequence by its own parameters."""
    chosen = logits.argmax(-1)
    drawn = [row for row, sequence in enumerate(sequences) if sequence.parameters.temperature > GREEDY_BELOW]
    if drawn:
        asked = [sequences[row].parameters for row in drawn]
        device = logits.device
        scores = processors.temperature(
            logits[drawn], torch.tensor([each.temperature for each in asked], device=device)
        )
        vocabulary = logits.size(-1)
        k = torch.tensor([each.top_k or vocabulary for each in asked], device=device)
        if (limited := k < vocabulary).any():
            scores[limited] = processors.top_k(scores[limited], k[limited])
        p = torch.tensor([each.top_p for each in asked], device=device)
        if (limited := p < 1).any():
            scores[limited] = processors.top_p(scores[limited], p[limited])
        uniforms = torch.tensor([sequences[row].uniform() for row in drawn], dtype=torch.float64, device=device)
        chosen[drawn] = processors.draw(scores, uniforms)
    return chosen.tolist()


def _logprobs(
    sequences: list[Sequence], logits: Tensor, chosen: list[int]
) -> list[tuple[float | None, tuple[tuple[int, float], ...]]]:
    """For each sequence that asks: the log-probability of its token, and of the best alternatives."""
    reports: list[tuple[float | None, tuple[tuple[int, float], ...]]] = [(None, ())] * len(sequences)
    asking = [row for row, sequence in enumerate(sequences) if sequence.parameters.logprobs is not None]
    if asking:
        scores = logits[asking].log_softmax(-1)
        most = min(max(sequences[row].parameters.logprobs or 0 for row in asking), scores.size(-1))
        values, tokens = (found.tolist() for found in scores.topk(most))
        own = scores.gather(1, torch.tensor([[chosen[row]] for row in asking], device=scores.device)).tolist()
        for place, row in enumerate(asking):
            wanted = sequences[row].parameters.logprobs or 0
            alternatives = tuple(zip(tokens[place][:wanted], values[place][:wanted], strict=True))
            reports[row] = (own[place][0], alternatives)
    return reports
