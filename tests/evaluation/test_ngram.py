"""The n-gram baseline is Kneser–Ney as its equations say, and a proper probability distribution."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcommons.evaluation.ngram import NgramModel, discounts

VOCAB_SIZE = 7
END = 0


def model(documents: list[list[int]], order: int) -> NgramModel:
    arrays = [np.array(document, dtype=np.int64) for document in documents]
    return NgramModel(arrays, order=order, vocab_size=VOCAB_SIZE, start=END, end=END)


def literal(documents: list[list[int]], order: int, history: tuple[int, ...], token: int) -> float:
    """p_order(token | history), written down from the equations with dictionaries."""
    counts: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
    for document in documents:
        row = (END,) * (order - 1) + (*document, END)
        for place in range(order - 1, len(row)):
            counts[order][row[place - order + 1 : place + 1]] += 1
    for k in range(order - 1, 0, -1):
        for gram in counts[k + 1]:
            counts[k][gram[1:]] += 1
    probability = 1 / VOCAB_SIZE
    for k in range(1, order + 1):
        context = history[len(history) - k + 1 :]
        following = {gram: count for gram, count in counts[k].items() if gram[:-1] == context}
        if not following:
            continue
        discount = discounts(np.array(list(counts[k].values())))
        removed = sum(discount[min(count, 3)] for count in following.values())
        count = following.get((*context, token), 0)
        total = sum(following.values())
        probability = (count - discount[min(count, 3)]) / total + removed / total * probability
    return float(probability)


documents_of = st.lists(st.lists(st.integers(1, VOCAB_SIZE - 1), max_size=12), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(documents_of, documents_of, st.integers(1, 4))
def test_every_probability_is_that_of_the_equations(train: list[list[int]], test: list[list[int]], order: int) -> None:
    found = np.exp(-model(train, order).token_nats([np.array(d, dtype=np.int64) for d in test]))
    expected = []
    for document in test:
        row = (END,) * order + (*document, END)
        expected += [literal(train, order, row[place - order : place], row[place]) for place in range(order, len(row))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(documents_of, st.lists(st.integers(1, VOCAB_SIZE - 1), max_size=8), st.integers(1, 5))
def test_the_probabilities_after_any_history_sum_to_one(train: list[list[int]], history: list[int], order: int) -> None:
    continued = [np.array([*history, token], dtype=np.int64) for token in range(VOCAB_SIZE)]
    nats = model(train, order).token_nats(continued)
    last = np.cumsum([len(document) + 1 for document in continued]) - 2
    assert math.fsum(np.exp(-nats[last])) == pytest.approx(1, abs=1e-12)


def test_discounts_are_those_of_chen_and_goodman() -> None:
    counts = np.array([1] * 40 + [2] * 20 + [3] * 10 + [4] * 5 + [9] * 3)
    y = 40 / (40 + 2 * 20)
    np.testing.assert_allclose(
        discounts(counts), [0, 1 - 2 * y * 20 / 40, 2 - 3 * y * 10 / 20, 3 - 4 * y * 5 / 10], rtol=1e-15
    )
    np.testing.assert_array_equal(discounts(np.array([1, 1, 2])), [0, 0.75, 0.75, 0.75])


def test_a_longer_context_predicts_text_with_structure_better() -> None:
    random = np.random.default_rng(0)
    follower = random.permutation(200)

    def documents(count: int) -> list[np.ndarray]:
        made = []
        for _ in range(count):
            row = [int(random.integers(1, 200))]
            for _ in range(100):
                row.append(int(follower[row[-1]]) if random.random() < 0.8 else int(random.integers(1, 200)))
            made.append(np.array(row))
        return made

    train, test = documents(300), documents(20)
    sums = [NgramModel(train, order=k, vocab_size=200, start=0, end=0).nats(test).sum() for k in (1, 2, 5)]
    predictions = sum(len(document) + 1 for document in test)
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2 / 199))
    assert sums[0] / predictions > 5
    assert sums[1] / predictions < 1.25 * entropy
    assert sums[2] / predictions < 1.35 * entropy


def test_the_nats_of_documents_are_sums_over_their_tokens() -> None:
    documents = [np.array(document, dtype=np.int64) for document in ([1, 2, 3], [], [4])]
    found = model([[1, 2, 3, 4]], 3)
    tokens = found.token_nats(documents)
    np.testing.assert_allclose(found.nats(documents), [tokens[:4].sum(), tokens[4], tokens[5:].sum()])


def test_a_large_vocabulary_and_unseen_tokens_give_finite_numbers() -> None:
    random = np.random.default_rng(1)
    train = [random.integers(1, 500_000, 2000) for _ in range(20)]
    found = NgramModel(train, order=5, vocab_size=1_000_000, start=0, end=0)
    assert np.isfinite(found.nats([train[0], np.array([999_999] * 9)])).all()
