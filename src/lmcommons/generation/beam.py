"""Beam search: the best continuations that a search of bounded width finds (Graves 2012; Sutskever et al. 2014).

The algorithm is that of `transformers` since its version 4.50, step by step: token ids and scores are equal in float32.
With a temperature the candidates of a step are drawn, without replacement, instead of being the best.
"""

import torch
from torch import Tensor

from lmcommons.errors import RequestError
from lmcommons.generation import processors
from lmcommons.generation.batch import GREEDY_BELOW, Vocabulary, check_prompt
from lmcommons.generation.parameters import BeamParameters
from lmcommons.generation.rows import Rows, beginning, open_rows
from lmcommons.generation.sequence import Continuation
from lmcommons.generation.text_stream import TextStream
from lmcommons.model import Model

UNREACHABLE = -1.0e9  # the score of what must not be chosen
MAX_ROWS = 64  # beams of all prompts that are searched at once


@torch.inference_mode()
def beam_search(
    model: Model, tokenizer: Vocabulary, prompts: list[list[int]], parameters: BeamParameters
) -> list[list[Continuation]]:
    """The `num_return_sequences` best continuations of each prompt, best first; each as if it were alone.

    Raises:
        RequestError: there are no prompts; one is empty, fills the context, or has an unknown token; there are too many
            beams.
        CommandError: the model's weights are damaged.
    """
    if not prompts:
        raise RequestError("there are no prompts: give at least one")
    together = max(1, MAX_ROWS // parameters.num_beams)
    longest = max(len(beginning(model.config, prompt)) for prompt in prompts)
    rows = open_rows(model, min(together, len(prompts)) * parameters.num_beams, longest + parameters.max_tokens)
    search = _Search(rows, tokenizer, parameters)
    for prompt in prompts:
        check_prompt(prompt, rows.room(prompt), parameters, search.vocab_size)
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    found: dict[int, list[Continuation]] = {}
    for start in range(0, len(order), together):
        places = order[start : start + together]
        found |= zip(places, search.run([prompts[place] for place in places]), strict=True)
    return [found[place] for place in range(len(prompts))]


class _Search:
    """What all steps share. Shapes: I prompts that are still searched, B beams, W candidates, T tokens."""

    def __init__(self, rows: Rows, tokenizer: Vocabulary, parameters: BeamParameters) -> None:
        self._rows, self._tokenizer, self._parameters = rows, tokenizer, parameters
        self.vocab_size = min(rows.config.vocab_size, tokenizer.vocab_size)
        stops = [token for token in tokenizer.stop_token_ids if token < self.vocab_size]
        self._stops = torch.tensor(stops, dtype=torch.int64, device=rows.device)
        # Enough that num_beams can go on even if the best of every beam ends.
        self._width = max(2, 1 + len(self._stops)) * parameters.num_beams
        if self._width > parameters.num_beams * self.vocab_size:
            raise RequestError(
                f"num_beams {parameters.num_beams} with {len(self._stops)} stop tokens needs {self._width} candidates; "
                f"the vocabulary has {self.vocab_size} tokens"
            )

    def run(self, prompts: list[list[int]]) -> list[list[Continuation]]:
        """Search for the continuations of prompts that fit into the rows together."""
        rows, parameters, device = self._rows, self._parameters, self._rows.device
        beams, count = parameters.num_beams, len(prompts)
        results: list[list[Continuation]] = [[]] * count
        searched = list(range(count))  # the prompts that the first dimension of everything below stands for
        most = torch.tensor([min(parameters.max_tokens, rows.room(prompt)) for prompt in prompts], device=device)
        generators = [torch.Generator() for _ in prompts]
        for generator in generators:
            generator.seed() if parameters.seed is None else generator.manual_seed(parameters.seed)

        longest = int(most.max())
        running = torch.zeros(count, beams, longest, dtype=torch.int64, device=device)
        # Only the first beam counts in the first step: all are the same prompt.
        running_scores = torch.full((count, beams), UNREACHABLE, device=device)
        running_scores[:, 0] = 0.0
        best, best_lengths = running.clone(), torch.zeros(count, beams, dtype=torch.int64, device=device)
        best_scores = torch.full((count, beams), UNREACHABLE, device=device)
        best_ended = torch.zeros(count, beams, dtype=torch.bool, device=device)
        among_the_best = torch.arange(self._width, device=device) < beams

        states = torch.stack([known[-1] for known in rows.start(prompts)])
        logits = rows.logits(states).repeat_interleave(beams, 0)
        rows.select(torch.arange(count, device=device).repeat_interleave(beams))
        for length in range(1, longest + 1):
            scores = self._scores(logits, [prompts[place] for place in searched], running[:, :, : length - 1])
            scores = (scores.unflatten(0, (-1, beams)) + running_scores[..., None]).flatten(1)
            top_scores, places = self._candidates(scores, [generators[place] for place in searched])
            sources, tokens = places // self.vocab_size, places % self.vocab_size
            candidates = _pick(running, sources)
            candidates[:, :, length - 1] = tokens
            ends = torch.isin(tokens, self._stops) | (length == most[:, None]) | self._stopped(candidates, length)

            ended_scores = top_scores / length**parameters.length_penalty
            ended_scores = ended_scores + ~(ends & among_the_best) * UNREACHABLE
            best_scores, kept = torch.cat((best_scores, ended_scores), 1).topk(beams)
            best = _pick(torch.cat((best, candidates), 1), kept)
            best_lengths = _pick(torch.cat((best_lengths, torch.full_like(tokens, length)), 1), kept)
            best_ended = _pick(torch.cat((best_ended, ends & among_the_best), 1), kept)

            going_on = top_scores + ends * UNREACHABLE
            running_scores, chosen = going_on.topk(beams)
            running, sources = _pick(candidates, chosen), _pick(sources, chosen)

            hopeful = (
                (length < most)
                & ~ends.all(1)
                & self._may_improve(length, most, running_scores[:, 0], best_scores, best_ended)
            )
            for item in (~hopeful).nonzero()[:, 0].tolist():
                results[searched[item]] = [
                    self._continuation(tokens[:count], score)
                    for tokens, count, score, ended in zip(
                        best[item].tolist(),
                        best_lengths[item].tolist(),
                        best_scores[item].tolist(),
                        best_ended[item].tolist(),
                        strict=True,
                    )
                    if ended
                ][: parameters.num_return_sequences]
            onward = hopeful.nonzero()[:, 0]
            rows.select((onward[:, None] * beams + sources[onward]).flatten())
            if not len(onward):
                break
            if len(onward) < len(searched):
                searched = [searched[item] for item in onward.tolist()]
                most, running, running_scores = most[onward], running[onward], running_scores[onward]
                best, best_lengths = best[onward], best_lengths[onward]
                best_scores, best_ended = best_scores[onward], best_ended[onward]
            logits = rows.logits(rows.step(running[:, :, length - 1].flatten()))
        return results

    def _scores(self, logits: Tensor, prompts: list[list[int]], running: Tensor) -> Tensor:
        """Log-probabilities of the next tokens, penalised and cut: [I · B, vocab]; `running` is [I, B, T]."""
        beams = self._parameters.num_beams
        parameters = [self._parameters] * len(logits)
        scores = processors.constrain(
            logits.log_softmax(-1)[:, : self.vocab_size],
            parameters,
            lambda row: (
                beginning(self._rows.config, prompts[row // beams]) + running[row // beams, row % beams].tolist()
            ),
            [running.shape[2]] * len(logits),
            self._stops,
            self._rows.config,
        )
        return processors.narrow(scores, parameters, keep=len(self._stops) + 1) if self._draws else scores

    @property
    def _draws(self) -> bool:
        return self._parameters.temperature > GREEDY_BELOW

    def _candidates(self, scores: Tensor, generators: list[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Which of scores [I, B · vocab] are looked at: their scores and places, two of [I, W]."""
        if not self._draws:
            found = scores.topk(self._width)
            return found.values, found.indices
        places = torch.stack(
            [
                torch.multinomial(each, self._width, generator=generator)
                for each, generator in zip(scores.softmax(-1).cpu(), generators, strict=True)
            ]
        ).to(scores.device)
        return scores.gather(1, places), places

    def _may_improve(
        self, length: int, most: Tensor, running: Tensor, best_scores: Tensor, best_ended: Tensor
    ) -> Tensor:
        """Whether a prompt's best running score [I] may still enter its best finished ones [I, B]: [I] bool."""
        penalty, stopping = self._parameters.length_penalty, self._parameters.early_stopping
        if stopping == "never" and penalty > 0:
            possible = running / torch.tensor([each**penalty for each in most.tolist()], device=running.device)
        else:
            possible = running / length**penalty
        worst = torch.where(best_ended, best_scores.amin(1, keepdim=True), UNREACHABLE)
        hopeful = (possible[:, None] > worst).any(1)
        return hopeful & ~best_ended.all(1) if stopping is True else hopeful

    def _stopped(self, candidates: Tensor, length: int) -> Tensor:
        """Whether each of candidates [I, W, T] now has a stop text: [I, W] bool."""
        if not self._parameters.stop:
            return torch.zeros(candidates.shape[:2], dtype=torch.bool, device=candidates.device)
        return torch.tensor(
            [[self._text(tokens)[1] for tokens in item] for item in candidates[:, :, :length].tolist()],
            device=candidates.device,
        )

    def _text(self, tokens: list[int]) -> tuple[str, bool]:
        """The text of tokens up to a stop text, and whether there is one."""
        stream = TextStream(self._parameters.stop)
        text = "".join([stream.push(self._tokenizer.token_bytes(token)) for token in tokens]) + stream.finish()
        return text, stream.stopped_at is not None

    def _continuation(self, tokens: list[int], score: float) -> Continuation:
        stopped = tokens[-1] in self._tokenizer.stop_token_ids
        text, found = self._text(tokens[:-1] if stopped else tokens)
        return Continuation(text, tokens, score, "stop" if stopped or found else "length")


def _pick(values: Tensor, places: Tensor) -> Tensor:
    """Of values [I, n, …] those at places [I, k]: [I, k, …]."""
    return values[torch.arange(len(places), device=places.device)[:, None], places]
