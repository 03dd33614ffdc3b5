"""From logits to the next token: temperature, top-k, top-p, and the draw.

Order and semantics are those of `transformers`: the kept set and the processed scores are equal in float32. Every
function takes one value per row, so that the rows of a batch may differ.
"""

import torch
from torch import Tensor


def temperature(scores: Tensor, temperatures: Tensor) -> Tensor:
    """Divide the scores `[rows, vocab]` of each row by its temperature `[rows]`, all above 0."""
    return scores / temperatures[:, None]


def top_k(scores: Tensor, k: Tensor) -> Tensor:
    """Keep what scores at least as high as the k-th best of its row; the rest of `[rows, vocab]` becomes -inf.

    `k` `[rows]` int64 is at least 1; above the vocabulary's size it keeps everything. Ties with the k-th best stay.
    """
    k = k.clamp(max=scores.size(-1))
    best = scores.topk(int(k.max()), dim=-1).values
    return scores.masked_fill(scores < best.gather(1, k[:, None] - 1), -torch.inf)


def top_p(scores: Tensor, p: Tensor) -> Tensor:
    """Keep the smallest set of best tokens whose probability reaches `p` `[rows]` (Holtzman et al. 2020, eq. 2).

    The token that crosses `p` stays, and so does the best one when `p` is 0. The rest of `[rows, vocab]` becomes -inf.
    """
    ascending, order = scores.sort(dim=-1)
    dropped = ascending.softmax(-1).cumsum(-1) <= 1 - p[:, None]
    dropped[:, -1] = False
    return scores.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)


def draw(scores: Tensor, uniforms: Tensor) -> Tensor:
    """Sample one token `[rows]` of softmax(scores `[rows, vocab]`) by inverting its distribution function.

    `uniforms` `[rows]` float64 in [0, 1) are the only randomness, one number per row: equal numbers give equal tokens,
    whatever the other rows are. A token of probability 0 is never drawn.
    """
    cumulative = scores.double().softmax(-1).cumsum(-1)
    total = cumulative[:, -1:]
    # Rounding may lift the product to the total, which no token would exceed.
    target = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)
