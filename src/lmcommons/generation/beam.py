"""Beam search: the best continuations that a search of bounded width finds (Graves 2012; Sutskever et al. 2014).

The algorithm is that of `transformers` since its version 4.50, step by step: token ids and scores are equal in float32.
"""

from dataclasses import dataclass

import torch

from lmcommons.errors import RequestError
from lmcommons.generation.batch import Vocabulary
from lmcommons.generation.packing import PackedDecoder
from lmcommons.generation.parameters import BeamParameters
from lmcommons.generation.sequence import FinishReason
from lmcommons.model import Decoder, KeyValueCache

UNREACHABLE = -1.0e9  # the score of what must not be chosen


@dataclass(frozen=True)
class Hypothesis:
    """A continuation that beam search found.

    Attributes:
        tokens: without the stop token.
        score: its log-probability in nats, the stop token's included, divided by length ** length_penalty.
        finish_reason: "stop" (a stop token) or "length".
    """

    tokens: list[int]
    score: float
    finish_reason: FinishReason


@torch.inference_mode()
def beam_search(
    model: Decoder, tokenizer: Vocabulary, prompt: list[int], parameters: BeamParameters
) -> list[Hypothesis]:
    """The `num_beams` best continuations of `prompt`, best first.

    Raises:
        RequestError: the prompt is empty or fills the context.
    """
    config, beams = model.config, parameters.num_beams
    most = min(parameters.max_tokens, config.max_position_embeddings - len(prompt))
    if not prompt or most < 1:
        raise RequestError(
            f"the prompt has {len(prompt)} tokens; the model reads 1 to {config.max_position_embeddings - 1}"
        )
    packed = PackedDecoder(model)
    device, vocab_size = packed.device, min(config.vocab_size, tokenizer.vocab_size)
    stop_tokens = torch.tensor(list(tokenizer.stop_token_ids), device=device)
    # Enough that num_beams can go on even if the best of every beam ends.
    width = max(2, 1 + len(stop_tokens)) * beams
    if width > beams * vocab_size:
        raise RequestError(f"num_beams {beams} needs {width} candidates; the vocabulary has {vocab_size} tokens")

    cache = packed.new_cache(beams, len(prompt) + most)
    hidden = packed.hidden(torch.tensor([prompt], device=device), cache.rows(0, 1))
    cache.rows(0, 1).advance(len(prompt))
    _reorder(cache, torch.zeros(beams, dtype=torch.int64, device=device))
    logits = packed.logits(hidden[:, -1]).expand(beams, -1)

    # Only the first beam counts in the first step: all are the same prompt.
    running_scores = torch.full((beams,), UNREACHABLE, device=device)
    running_scores[0] = 0.0
    running = torch.zeros(beams, 0, dtype=torch.int64, device=device)
    best_scores = torch.full((beams,), UNREACHABLE, device=device)
    best_ended = torch.zeros(beams, dtype=torch.bool, device=device)
    best = [running[0]] * beams
    among_the_best = torch.arange(width, device=device) < beams

    for length in range(1, most + 1):
        scores = logits[:, :vocab_size].float().log_softmax(-1) + running_scores[:, None]
        top_scores, places = scores.flatten().topk(width)
        sources, tokens = places // vocab_size, places % vocab_size
        candidates = torch.cat((running[sources], tokens[:, None]), dim=1)
        ends = torch.isin(tokens, stop_tokens) | (length == most)

        ended_scores = top_scores / length**parameters.length_penalty
        ended_scores = ended_scores + ~(ends & among_the_best) * UNREACHABLE
        best_scores, kept = torch.cat((best_scores, ended_scores)).topk(beams)
        best_ended = torch.cat((best_ended, ends & among_the_best))[kept]
        best = [[*best, *candidates][place] for place in kept.tolist()]

        going_on = top_scores + ends * UNREACHABLE
        chosen = going_on.topk(beams).indices
        running, running_scores = candidates[chosen], going_on[chosen]

        longest = most if parameters.early_stopping == "never" and parameters.length_penalty > 0 else length
        possible = running_scores[0] / longest**parameters.length_penalty
        worst = torch.where(best_ended, best_scores.min(), UNREACHABLE)
        if length == most or not (possible > worst).any() or (parameters.early_stopping is True and best_ended.all()):
            break
        _reorder(cache, sources[chosen])
        logits = packed.logits(packed.hidden(running[:, -1:], cache)[:, -1])
        cache.advance(1)

    stops = frozenset(tokenizer.stop_token_ids)
    return [
        Hypothesis(found[:-1], score, "stop") if found[-1] in stops else Hypothesis(found, score, "length")
        for found, score, ended in zip((each.tolist() for each in best), best_scores.tolist(), best_ended, strict=True)
        if ended
    ]


def _reorder(cache: KeyValueCache, rows: torch.Tensor) -> None:
    """Row i becomes what row `rows[i]` was."""
    used = int(cache.lengths.max())
    for storage in (cache.keys, cache.values):
        storage[:, :, :, :used] = storage[:, rows, :, :used]
    cache.lengths.copy_(cache.lengths[rows])
