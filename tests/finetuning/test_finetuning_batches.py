"""Batches are a function of seed and epoch, hold every example once, and little padding."""

import random

import pytest
import torch
from tiny_tasks import read_recipe

from lmcommons.finetuning import batches
from lmcommons.finetuning.encoding import Example
from lmcommons.model import IGNORED

CPU = torch.device("cpu")


@pytest.fixture
def examples():
    chosen = random.Random(0)
    return [Example(row, [row + 1] * chosen.randint(1, 60), [row]) for row in range(1000)]


@pytest.fixture
def recipe(tmp_path):
    return read_recipe(tmp_path, "sequence-classification", batch_size=10).finetuning


def rows_of(found) -> list[int]:
    return [example.row for batch in found for row in batch for example in row]


def test_every_example_is_read_once_an_epoch_in_an_order_of_the_seed(examples, recipe):
    def order(seed: int, number: int) -> list[int]:
        return rows_of(batches.epoch(examples, recipe, 64, packs=False, seed=seed, number=number))

    assert sorted(order(0, 0)) == list(range(1000))
    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_rows_of_like_length_are_together(examples, recipe):
    found = batches.epoch(examples, recipe, 64, packs=False, seed=0, number=0)
    assert [len(batch) for batch in found] == [10] * 100
    padded = sum(len(batch) * max(len(row[0].tokens) for row in batch) for batch in found)
    assert padded < 1.1 * sum(len(example.tokens) for example in examples)


def test_a_batch_may_be_so_many_tokens_instead(examples, recipe):
    recipe = recipe.model_copy(update={"batch_tokens": 240})
    found = batches.epoch(examples, recipe, 64, packs=False, seed=0, number=0)
    assert sorted(rows_of(found)) == list(range(1000))
    assert max(len(batch) * max(len(row[0].tokens) for row in batch) for batch in found) <= 240


def test_packed_rows_are_full_and_number_their_examples(examples, recipe):
    writing = [Example(example.row, example.tokens, example.tokens) for example in examples]
    found = batches.epoch(writing, recipe, 64, packs=True, seed=0, number=0)
    assert sorted(rows_of(found)) == list(range(1000))
    lengths = [sum(len(example.tokens) for example in row) for batch in found for row in batch]
    assert max(lengths) <= 64
    assert sum(lengths) / len(lengths) > 40
    batch = batches.collate(found[0], 0, CPU)
    assert torch.equal(batch.targets == IGNORED, batch.document_ids == -1)
    for row, ids in zip(found[0], batch.document_ids.tolist(), strict=True):
        assert [ids.count(place) for place in range(len(row))] == [len(example.tokens) for example in row]


def test_rows_without_padding_have_no_mask():
    batch = batches.collate([[Example(0, [1, 2], [1])], [Example(1, [3, 4], [0])]], 0, CPU)
    assert batch.document_ids is None
    assert batch.targets.tolist() == [[1], [0]]
    batch = batches.collate([[Example(0, [1, 2], [1])], [Example(1, [3], [0])]], 9, CPU)
    assert batch.tokens.tolist() == [[1, 2], [3, 9]]
    assert batch.document_ids.tolist() == [[0, 0], [0, -1]]
