"""Where a token stands, and how attention learns of it."""

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
    """Turn each pair (i, i + head_dim / 2) of x [batch, sequence, heads, head_dim] by its angle, in float32.

    `cosine` and `sine` are [batch or 1, sequence, head_dim / 2]. The pairs are the halves of a head, as in
    `transformers`, not neighbours as in the paper: the same function of permuted weights.
    """
    cosine, sine = cosine[:, :, None], sine[:, :, None]
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1).to(x.dtype)
