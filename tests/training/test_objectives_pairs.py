"""Span corruption against Raffel et al. (2020), and pairs against Vaswani et al. (2017)."""

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from objective_cases import CONTEXT, PAIRS, TEXTS, case, encoded, recipe_of, trained_tokenizer
from tiny_pretraining import write_split

from lmcommons import tokenizer as tokenizers
from lmcommons.errors import RequestError
from lmcommons.model import IGNORED
from lmcommons.recipe import SpanCorruptionRecipe, TokenizerRecipe
from lmcommons.training import batches, objectives
from lmcommons.training.objectives.span_corruption import corrupt

SENTINELS = list(range(1000, 1100))
DEFAULT = SpanCorruptionRecipe(name="span-corruption")


def fill(source: list[int], target: list[int]) -> list[int]:
    """The text that a source and a target were made from."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token in SENTINELS:
            spans[last := token] = []
        else:
            spans[last].append(token)
    return [piece for token in source for piece in spans.get(token, [token])]


@given(
    st.integers(1, 120), st.floats(0.01, 0.99), st.floats(1, 10), st.integers(0, 1000),
)  # fmt: skip
def test_source_and_target_give_the_text_back(length, fraction, mean, seed):
    recipe = SpanCorruptionRecipe(name="span-corruption", corrupted_fraction=fraction, mean_span_length=mean)
    text = np.arange(length)
    corrupted, spans = recipe.spans(length)
    source, target = corrupt(text, recipe, SENTINELS, np.random.default_rng(seed))
    assert fill(source, target) == text.tolist()
    assert sum(token in SENTINELS for token in source) == spans
    assert [token for token in target if token in SENTINELS] == SENTINELS[: spans + 1]
    assert len(target) == corrupted + spans + 1
    assert target[-1] == SENTINELS[spans]
    touching = pairwise(source)
    assert not any(left in SENTINELS and right in SENTINELS for left, right in touching)


def test_all_ways_to_corrupt_a_text_are_equally_likely():
    recipe = SpanCorruptionRecipe(name="span-corruption", corrupted_fraction=0.5, mean_span_length=1.5)
    length, (corrupted, spans) = 6, recipe.spans(6)
    assert (corrupted, spans) == (3, 2)
    possible = {
        chosen for chosen in combinations(range(length), corrupted)
        if 1 + sum(right - left > 1 for left, right in pairwise(chosen)) == spans
    }  # fmt: skip
    random, counts = np.random.default_rng(0), Counter[tuple[int, ...]]()
    for _ in range(6000):
        _, target = corrupt(np.arange(length), recipe, SENTINELS, random)
        counts[tuple(token for token in target if token < length)] += 1
    assert set(counts) == possible
    expected = 6000 / len(possible)
    assert max(abs(count - expected) for count in counts.values()) < 4 * expected**0.5


def test_fifteen_percent_of_a_row_is_corrupted_in_spans_of_three():
    rows = case("span corruption").rows()
    length = DEFAULT.text_length(CONTEXT)
    assert DEFAULT.text_length(512) == 568  # as in the paper's code: sources of 512, targets of 114 without a last one
    assert DEFAULT.targets(512) == 115
    sentinels = set(case("span corruption").tokenizer.sentinel_ids)
    for number in range(100):
        row = rows.row(number)
        source = row["tokens"][row["document_ids"] >= 0].tolist()
        assert len(source) <= CONTEXT
        if len(source) == CONTEXT:
            spans = sum(token in sentinels for token in source)
            corrupted = length - (len(source) - spans - 1)
            assert corrupted / length == pytest.approx(0.15, abs=0.02)
            assert corrupted / spans == pytest.approx(3, abs=0.5)


def test_the_target_is_read_one_step_late_from_the_padding_token_on():
    row = case("span corruption").rows().row(3)
    real = row["targets"] != IGNORED
    assert row["target_tokens"][0] == case("span corruption").tokenizer.pad_token_id
    assert (row["target_tokens"][1:][real[1:]] == row["targets"][:-1][real[1:]]).all()
    assert row["targets"][real][-1] == case("span corruption").tokenizer.eos_token_id


@pytest.mark.parametrize(("name", "smoothing"), [("span corruption", 0.0), ("sequence to sequence", 0.1)])
def test_the_loss_is_that_of_each_pair_read_alone(name, smoothing):
    model, rows = case(name).model(), case(name).rows()
    batch = rows.batch(rows.rows_per_epoch - 5, 5)
    expected, pairs = torch.zeros(()), 0
    for row in range(5):
        for pair in range(int(batch.document_ids[row].max()) + 1):
            source = batch.tokens[row][batch.document_ids[row] == pair]
            here = (batch.target_document_ids[row] == pair) & (batch.targets[row] != IGNORED)
            read, targets = batch.target_tokens[row][here], batch.targets[row][here]
            likelihood = model(source[None], read[None])[0].log_softmax(-1)
            for place, target in enumerate(targets):
                expected = expected - (1 - smoothing) * likelihood[place, target]
                expected = expected - smoothing * likelihood[place].mean()
            pairs += 1
    assert pairs > 5 or name == "span corruption"
    assert torch.allclose(case(name).objective.loss(model, batch), expected, rtol=1e-5)


def test_a_loss_on_validation_data_is_not_smoothed():
    model, batch = case("sequence to sequence").model().eval(), case("sequence to sequence").rows().batch(0, 2)
    objective = objectives.build(recipe_of("marian", {"name": "sequence-to-sequence", "label_smoothing": 0.0})
                                 .pretraining.objective, case("sequence to sequence").tokenizer)  # fmt: skip
    assert torch.equal(case("sequence to sequence").objective.loss(model, batch), objective.loss(model, batch))


def test_an_epoch_has_every_pair_once():
    rows, words = case("sequence to sequence").rows(), case("sequence to sequence").tokenizer
    found = []
    for number in range(rows.rows_per_epoch):
        row = rows.row(number)
        for pair in range(row["document_ids"].max() + 1):
            here = (row["target_document_ids"] == pair) & (row["targets"] != IGNORED)
            sides = row["tokens"][row["document_ids"] == pair], row["targets"][here]
            assert all(side[-1] == words.eos_token_id for side in sides)
            found.append(tuple(words.decode(side[:-1]) for side in sides))
    assert Counter(found) == Counter(zip(PAIRS[::2], PAIRS[1::2], strict=True))


def test_pairs_that_are_too_long_are_left_out_and_counted(capsys):
    words = case("sequence to sequence").tokenizer
    documents = encoded(words, ["short", "brief", TEXTS[0], "long"])
    rows = case("sequence to sequence").objective.rows(documents, 16, 0)
    assert rows.rows_per_epoch == 1
    assert "1 of 2 pairs are left out: a side has more than 16 tokens" in capsys.readouterr().err
    with pytest.raises(RequestError, match="no pair has both sides within 2 tokens"):
        case("sequence to sequence").objective.rows(documents, 2, 0)


def test_a_pair_is_a_document_with_a_tab_in_it(tmp_path):
    tokenizers.train(PAIRS, TokenizerRecipe(vocab_size=500), tmp_path / "words", kind="encoder-decoder")
    for split in ("train", "validation"):
        write_split(tmp_path / "dataset", split, ["good morning\tguten Morgen", "tea\tTee\tmit Tab"])
    found = batches.encode(tmp_path / "dataset", tmp_path / "words", tmp_path, pairs=True)["train"]
    words = tokenizers.load(tmp_path / "words")
    pieces = np.split(found.tokens, found.bounds[1:-1])
    assert [words.decode(piece[:-1]) for piece in pieces] == ["good morning", "guten Morgen", "tea", "Tee\tmit Tab"]
    write_split(tmp_path / "dataset", "validation", ["no tab"])
    with pytest.raises(RequestError, match="topics: the document is no pair"):
        batches.encode(tmp_path / "dataset", tmp_path / "words", tmp_path, pairs=True)


def test_too_few_sentinels_are_named():
    words = trained_tokenizer("encoder-decoder", 3)
    objective = objectives.build(DEFAULT, words)
    with pytest.raises(RequestError, match=r"the tokenizer has 3 sentinels .* rows of 64 tokens need 4"):
        objective.rows(encoded(words, TEXTS), CONTEXT, 0)
