"""Batches of examples: shuffled by seed and epoch, rows of like length together, or several examples in a row."""

from collections.abc import Callable, Sequence
from itertools import count, takewhile

import numpy as np
import torch
from torch import Tensor

from lmcommons.finetuning.encoding import Example
from lmcommons.model import IGNORED
from lmcommons.recipe import FinetuningRecipe
from lmcommons.training.batches import Batch

NARROWEST = 16  # tokens of a compiled row
TOGETHER = 50  # batches whose rows are sorted by length together: little padding, and order that is still random

Packed = list[Example]  # what one row holds: several examples only where the model keeps them apart


def epoch(
    examples: Sequence[Example], recipe: FinetuningRecipe, limit: int, *, packs: bool, seed: int, number: int
) -> list[list[Packed]]:
    """The batches of epoch `number`, each a list of rows of at most `limit` tokens: the same for the same seed."""
    random = np.random.default_rng([seed, number])
    order = [examples[place] for place in random.permutation(len(examples))]
    rows = _pack(order, limit) if packs else [[example] for example in order]
    if recipe.batch_tokens is None:
        group = TOGETHER * recipe.batch_size
    else:
        mean = sum(map(_length, rows)) / len(rows)
        group = TOGETHER * max(1, int(recipe.batch_tokens / mean))
    batches: list[list[Packed]] = []
    for start in range(0, len(rows), group):
        near = sorted(rows[start : start + group], key=_length)
        batches += list(_cut(near, recipe.batch_size, recipe.batch_tokens))
    return [batches[place] for place in random.permutation(len(batches))]


def in_order(examples: Sequence[Example], tokens: int) -> list[list[Packed]]:
    """Examples of like length in batches of at most `tokens`, padding included, for reading without training."""
    return list(_cut([[example] for example in sorted(examples, key=lambda each: each.length)], len(examples), tokens))


def parts(rows: list[Packed], most: int) -> list[list[Packed]]:
    """The rows in at most `most` parts of like size, for gradient accumulation."""
    size = -(-len(rows) // most)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def widths(limit: int) -> list[int]:
    """The few lengths that rows of a compiled step have: it is compiled anew for each."""
    return [*takewhile(lambda width: width < limit, (NARROWEST << power for power in count())), limit]


def collate(
    rows: Sequence[Packed], padding: int, device: torch.device, *, widths: Sequence[int] = (), by_token: bool = False
) -> Batch:
    """The batch of rows; `document_ids` counts the examples of a row, and is None where nothing is padded or packed.

    Rows are as long as the longest. With `widths` they are as long as the first of these that both sides of each row
    fit in, and so are targets that are one for each token (`by_token`): a compiled step has no more shapes than these.
    """
    longest = max(map(_length, rows))
    common = next((width for width in widths if width >= longest), 0)

    def joined(part: Callable[[Example], Sequence[int] | None], filler: int, wide: bool = True) -> Tensor | None:
        lists = [[number for example in row for number in part(example) or ()] for row in rows]
        if not any(lists):
            return None
        width = max(common if wide else 0, *map(len, lists))
        return torch.tensor([[*numbers, *[filler] * (width - len(numbers))] for numbers in lists], device=device)

    tokens = joined(lambda example: example.tokens, padding)
    targets = joined(lambda example: example.targets, IGNORED, by_token)
    assert tokens is not None
    assert targets is not None
    ids = [[place for place, example in enumerate(row) for _ in example.tokens] for row in rows]
    document_ids = torch.tensor([[*row, *[-1] * (tokens.shape[1] - len(row))] for row in ids], device=device)
    return Batch(
        tokens,
        targets,
        document_ids=document_ids if document_ids.any() or widths else None,
        token_types=joined(lambda example: example.token_types, 0),
        target_tokens=joined(lambda example: example.target_tokens, padding),
    )


def _pack(examples: Sequence[Example], limit: int) -> list[Packed]:
    """Rows that are filled in order: an example goes to the last row where it fits, else begins one."""
    rows: list[Packed] = []
    filled = limit
    for example in examples:
        if filled + len(example.tokens) > limit:
            rows.append([])
            filled = 0
        rows[-1].append(example)
        filled += len(example.tokens)
    return rows


def _cut(rows: Sequence[Packed], most: int, tokens: int | None) -> list[list[Packed]]:
    """Rows of rising length in batches of at most `most` rows and, padding included, `tokens` tokens."""
    batches: list[list[Packed]] = [[]]
    for row in rows:
        full = len(batches[-1]) == most if tokens is None else (len(batches[-1]) + 1) * _length(row) > tokens
        if full and batches[-1]:
            batches.append([])
        batches[-1].append(row)
    return batches


def _length(row: Packed) -> int:
    return sum(example.length for example in row)
