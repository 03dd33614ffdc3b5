"""Where a token stands, and how attention learns of it."""

import math

import torch
from torch import Tensor


def document_positions(document_ids: Tensor) -> Tensor:
    """Positions that restart at each document: ids [batch, sequence] -> [batch, sequence] int64.

    A document is a run of equal ids.
    """
    index = torch.arange(document_ids.shape[1], device=document_ids.device)
    starts = torch.zeros_like(document_ids, dtype=torch.int64)
    starts[:, 1:] = torch.where(document_ids[:, 1:] != document_ids[:, :-1], index[1:], 0)
    return index - starts.cummax(dim=1).values


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of rotary position embeddings (Su et al. 2021, eq. 15), in float32.

    positions [..., sequence] -> two of [..., sequence, head_dim / 2].
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
    angles = positions.float()[..., None] * (1.0 / theta**exponents)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of x [batch, heads, sequence, head_dim] by its angle, in float32.

    `cosine` and `sine` are [batch or 1, sequence, head_dim / 2]. The pairs are the halves of a head, as in
    `transformers`, not neighbours as in the paper: the same function of permuted weights.
    """
    cosine, sine = cosine[:, None], sine[:, None]
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1).to(x.dtype)


def sinusoids(positions: Tensor, size: int) -> Tensor:
    """Sinusoidal position embeddings (Vaswani et al. 2017, §3.5), in the precision of `positions`.

    positions [...] floating point -> [..., size], sines in the first half and cosines in the second, as in
    `transformers`; the paper interleaves them, which is the same up to an order of features.
    """
    exponents = torch.arange(0, size, 2, device=positions.device).to(positions.dtype) / size
    angles = positions[..., None] * (1.0 / 10_000.0**exponents)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def by_place(by_distance: Tensor, places: Tensor | None) -> Tensor:
    """What holds for each distance, laid out for queries and keys: -> [batch or 1, heads, queries, keys].

    `by_distance` [heads, 2 · keys - 1] is for the distances 1 - keys … keys - 1 of a key from its query. The queries
    stand at `places` [batch, queries], or where the keys do.
    """
    keys = (by_distance.shape[1] + 1) // 2
    windows = by_distance.unfold(1, keys, 1)  # the first is for a query at the last key
    if places is None:
        return windows.flip(1)[None]
    return windows[:, keys - 1 - places].transpose(0, 1)


def relative_buckets(distances: Tensor, buckets: int, max_distance: int, *, causal: bool) -> Tensor:
    """The bucket of each distance (Raffel et al. 2020, §2.1): exact when near, logarithmic up to `max_distance`.

    distances int64, the key's position less the query's -> int64 of the same shape, below `buckets`. Half of the
    buckets are for keys behind the query, unless it is `causal` and they are hidden.
    """
    later = torch.zeros_like(distances)
    if causal:
        distances = (-distances).clamp(min=0)
    else:
        buckets //= 2
        later, distances = (distances > 0) * buckets, distances.abs()
    exact = buckets // 2
    logarithm = torch.log(distances.float() / exact) / math.log(max_distance / exact) * (buckets - exact)
    far = exact + logarithm.nan_to_num(neginf=0.0).to(torch.int64)
    return later + torch.where(distances < exact, distances, far.clamp(max=buckets - 1))


def alibi_slopes(heads: int) -> Tensor:
    """The slope of each head (Press et al. 2022, §3): a geometric sequence from 2^(-8/heads).

    -> [heads] float32. Where `heads` is no power of two, the slopes of twice the power below it fill the rest.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    slopes += [2 ** (-4 * (head + 1) / power) for head in range(0, 2 * (heads - power), 2)]
    return torch.tensor(slopes)
