"""From logits to the next token: penalties, what is forbidden or forced, temperature, cuts, and the draw.

Order and semantics are those of `transformers`: the kept set and the processed scores are equal in float32. Every
function takes one value per row, so that the rows of a batch may differ. What is not kept becomes -inf.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from torch import Tensor

from lmcommons.errors import RequestError
from lmcommons.generation.parameters import Parameters
from lmcommons.model import ModelConfig
from lmcommons.model.config import as_list


def constrain(
    scores: Tensor,
    parameters: Sequence[Parameters],
    history: Callable[[int], list[int]],
    generated: Sequence[int],
    stop_tokens: Tensor,
    config: ModelConfig | None = None,
) -> Tensor:
    """Apply to scores [rows, vocab] what holds for every strategy: penalties, what is forbidden, what is forced.

    `history` gives the tokens of a row so far, `generated` how many of them were generated. `config` is that of a model
    that forbids or forces tokens itself.

    Raises:
        RequestError: the model forces a token that the tokenizer does not have.
    """
    own = [] if config is None else config.bad_words_ids
    words = {row: [*own, *each.bad_words] for row, each in enumerate(parameters) if own or each.bad_words}
    forced = {} if config is None else _forced(parameters, history, generated, config)
    penalised = [row for row, each in enumerate(parameters) if each.repetition_penalty != 1]
    sizes = {each.no_repeat_ngram_size for each in parameters} - {0}
    early = [row for row, each in enumerate(parameters) if generated[row] < each.min_tokens]
    if not (penalised or sizes or words or early or forced):
        return scores
    scores, vocabulary = scores.clone(), scores.size(-1)
    if penalised:
        penalties = torch.tensor([parameters[row].repetition_penalty for row in penalised], device=scores.device)
        said = _left_padded([history(row) for row in penalised], vocabulary, scores.device)
        scores[penalised] = repetition_penalty(scores[penalised], said, penalties)
    for size in sizes:
        rows = [row for row, each in enumerate(parameters) if each.no_repeat_ngram_size == size]
        said = _left_padded([history(row) for row in rows], vocabulary, scores.device)
        scores[rows] = no_repeat_ngram(scores[rows], said, size)
    stops = set(stop_tokens.tolist())
    for row, sequences in words.items():
        scores[row, forbidden(history(row), sequences, stops, vocabulary)] = -torch.inf
    if early:
        scores[torch.tensor(early, device=scores.device)[:, None], stop_tokens] = -torch.inf
    for row, tokens in forced.items():
        if max(tokens) >= vocabulary:
            raise RequestError(f"the model forces a text to have token {max(tokens)}; the tokenizer has {vocabulary}")
        scores[row] = -torch.inf
        scores[row, tokens] = 0.0
    return scores


def narrow(scores: Tensor, parameters: Sequence[Parameters], keep: int = 1) -> Tensor:
    """Temperature and cuts of scores [rows, vocab] that are to be drawn from; at least `keep` tokens stay."""
    device, vocabulary = scores.device, scores.size(-1)
    scores = temperature(scores, torch.tensor([each.temperature for each in parameters], device=device))
    k = torch.tensor([each.top_k or vocabulary for each in parameters], device=device)
    if (limited := k < vocabulary).any():
        scores[limited] = top_k(scores[limited], k[limited], keep)
    p = torch.tensor([each.top_p for each in parameters], device=device)
    if (limited := p < 1).any():
        scores[limited] = top_p(scores[limited], p[limited], keep)
    p = torch.tensor([each.min_p for each in parameters], device=device)
    if (limited := p > 0).any():
        scores[limited] = min_p(scores[limited], p[limited], keep)
    return scores


def repetition_penalty(scores: Tensor, history: Tensor, penalties: Tensor) -> Tensor:
    """Divide positive scores of tokens that were said by the penalty, multiply negatives (Keskar et al. 2019, §4.1).

    scores [rows, vocab], history [rows, tokens] int64 with `vocab` where there is none, penalties [rows].
    """
    spared = torch.nn.functional.pad(scores, (0, 1))
    said = spared.gather(1, history)
    said = torch.where(said < 0, said * penalties[:, None], said / penalties[:, None])
    return spared.scatter(1, history, said)[:, :-1]


def no_repeat_ngram(scores: Tensor, history: Tensor, size: int) -> Tensor:
    """Forbid each token that would end `size` tokens in a row that were said before (Paulus et al. 2017, §2.5).

    scores [rows, vocab], history [rows, tokens] int64, padded on the left with `vocab`.
    """
    if history.size(1) < size:
        return scores
    windows = history.unfold(1, size, 1)
    end = history[:, history.size(1) - size + 1 :]
    again = (windows[..., :-1] == end[:, None]).all(-1)
    vocabulary = scores.size(-1)
    forbidden = torch.zeros(len(scores), vocabulary + 1, dtype=torch.bool, device=scores.device)
    forbidden.scatter_(1, windows[..., -1].where(again, vocabulary), True)
    return scores.masked_fill(forbidden[:, :-1], -torch.inf)


def forbidden(said: list[int], words: Iterable[Sequence[int]], stops: Collection[int], vocabulary: int) -> list[int]:
    """The tokens below `vocabulary` that would complete one of `words` after `said`.

    A word that is a stop token alone does not count, as in `transformers`.
    """
    found = []
    for *before, last in words:
        matches = said[len(said) - len(before) :] == before and (before or last not in stops)
        if matches and last < vocabulary:
            found.append(last)
    return found


def temperature(scores: Tensor, temperatures: Tensor) -> Tensor:
    """Divide the scores [rows, vocab] of each row by its temperature [rows], all above 0."""
    return scores / temperatures[:, None]


def top_k(scores: Tensor, k: Tensor, keep: int = 1) -> Tensor:
    """Keep what scores at least as high as the k-th best of its row: scores [rows, vocab], k [rows] int64, at least 1.

    Ties with the k-th best stay; a k above the vocabulary's size keeps everything.
    """
    k = k.clamp(min=keep).clamp(max=scores.size(-1))
    best = scores.topk(int(k.max()), dim=-1).values
    return scores.masked_fill(scores < best.gather(1, k[:, None] - 1), -torch.inf)


def top_p(scores: Tensor, p: Tensor, keep: int = 1) -> Tensor:
    """Keep the smallest set of best tokens whose probability reaches p [rows] (Holtzman et al. 2020, eq. 2).

    The token that crosses p stays, and so do the `keep` best. scores [rows, vocab].
    """
    ascending, order = scores.sort(dim=-1)
    dropped = ascending.softmax(-1).cumsum(-1) <= 1 - p[:, None]
    dropped[:, -keep:] = False
    return scores.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)


def min_p(scores: Tensor, p: Tensor, keep: int = 1) -> Tensor:
    """Keep tokens of at least p [rows] of the best one's probability (Nguyen et al. 2024), and the `keep` best."""
    probabilities = scores.softmax(-1)
    dropped = probabilities < p[:, None] * probabilities.amax(-1, keepdim=True)
    best = probabilities.topk(min(keep, scores.size(-1)), dim=-1).indices
    return scores.masked_fill(dropped.scatter(1, best, False), -torch.inf)


def draw(scores: Tensor, uniforms: Tensor) -> Tensor:
    """Sample one token [rows] of softmax(scores [rows, vocab]) by inverting its distribution function.

    `uniforms` [rows] float64 in [0, 1) are the only randomness, one number per row: equal numbers give equal tokens,
    whatever the other rows are. A token of probability 0 is never drawn.
    """
    cumulative = scores.double().softmax(-1).cumsum(-1)
    total = cumulative[:, -1:]
    # Rounding may lift the product to the total, which no token would exceed.
    target = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)


def _forced(
    parameters: Sequence[Parameters], history: Callable[[int], list[int]], generated: Sequence[int], config: ModelConfig
) -> dict[int, list[int]]:
    """The only tokens that may follow, by row: where a text begins, and in the last place of a text."""
    first, last = as_list(config.forced_bos_token_id), as_list(config.forced_eos_token_id)
    found = {}
    for row, each in enumerate(parameters):
        if last and generated[row] == each.max_tokens - 1:
            found[row] = last
        elif first and generated[row] == 0 and len(history(row)) == 1:
            found[row] = first
    return found


def _left_padded(histories: list[list[int]], fill: int, device: torch.device) -> Tensor:
    longest = max(map(len, histories))
    return torch.tensor([[fill] * (longest - len(each)) + each for each in histories], device=device)
