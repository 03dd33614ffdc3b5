"""Metrics equal those of the libraries that define them; each has its rows, interval and baseline."""

import random

import numpy as np
import pytest
import sacrebleu
from sklearn.metrics import accuracy_score, f1_score

from lmcommons.evaluation import metrics
from lmcommons.evaluation.metrics import compare

TRUE, GUESS = (list(np.random.default_rng(seed).integers(0, 4, 200)) for seed in (1, 2))
ENGLISH = ["the cat sat on the mat .", "there is a house", "a dog barks at the tree today", "no answer"]
WRITTEN = ["the cat sat on a mat .", "there was one house", "the dog barks at a tree today", "an answer"]


def singles(labels: list[int]) -> list[list[int]]:
    return [[int(label)] for label in labels]


def test_accuracy_and_macro_f1_are_those_of_scikit_learn():
    true, guess = singles(TRUE), singles(GUESS)
    assert metrics.accuracy(true, guess).total == pytest.approx(accuracy_score(TRUE, GUESS))
    assert metrics.macro_f1(true, guess, 4).total == pytest.approx(f1_score(TRUE, GUESS, average="macro"))


def test_a_class_that_never_occurs_does_not_count():
    true, guess = singles([0, 1, 1]), singles([0, 1, 0])
    expected = f1_score([0, 1, 1], [0, 1, 0], average="macro")
    assert metrics.macro_f1(true, guess, 7).total == pytest.approx(expected)


def test_macro_f1_of_words_counts_each_word():
    rows = [[0, 1, 2], [1], [2, 2]]
    found = [[0, 2, 2], [1], [2, 0]]
    flat = f1_score([0, 1, 2, 1, 2, 2], [0, 2, 2, 1, 2, 0], average="macro")
    assert metrics.macro_f1(rows, found, 3).total == pytest.approx(flat)


@pytest.mark.parametrize(("language", "tokenizer"), [(None, "13a"), ("de", "13a"), ("zh-CN", "zh"), ("ja", "char")])
def test_bleu_is_that_of_sacrebleu(language, tokenizer):
    expected = ["点击“文件”菜单。", "选择一个单元格。"] if tokenizer != "13a" else ENGLISH
    written = ["点击“编辑”菜单。", "选择单元格区域。"] if tokenizer != "13a" else WRITTEN
    reference = sacrebleu.corpus_bleu(written, [expected], tokenize=tokenizer, force=True).score
    assert metrics.bleu(expected, written, language).total == pytest.approx(reference)


def test_chrf_is_that_of_sacrebleu():
    assert metrics.chrf(ENGLISH, WRITTEN).total == pytest.approx(sacrebleu.corpus_chrf(WRITTEN, [ENGLISH]).score)


@pytest.mark.parametrize(
    ("expected", "written", "exact", "f1"),
    [
        (["The Eiffel Tower"], "eiffel tower!", 1, 1),
        (["in 1998", "1998"], "1998.", 1, 1),
        (["blue whale"], "a whale", 0, 2 / 3),
        ([], "", 1, 1),
        ([], "something", 0, 0),
        (["北京大学"], "北京", 0, 2 / 3),
        (["北京。"], "北京", 1, 1),
    ],
)
def test_answers_are_compared_without_case_marks_and_articles(expected, written, exact, f1):
    assert metrics.exact_match([expected], [written]).total == exact
    assert metrics.token_f1([expected], [written]).total == pytest.approx(f1)


@pytest.mark.parametrize(
    ("labels", "entities"),
    [
        (["B-PER", "I-PER", "O", "B-LOC"], {("PER", 0, 1), ("LOC", 3, 3)}),
        (["B-PER", "B-PER"], {("PER", 0, 0), ("PER", 1, 1)}),
        (["O", "I-ORG", "I-ORG"], {("ORG", 1, 2)}),
        (["B-PER", "I-LOC"], {("PER", 0, 0), ("LOC", 1, 1)}),
        (["O", "O"], set()),
    ],
)
def test_entities_are_cut_as_conll_cuts_them(labels, entities):
    assert metrics.entities(labels) == entities


def test_entity_f1_needs_type_and_both_ends():
    expected = [["B-PER", "I-PER", "O"], ["B-LOC", "O", "B-PER"]]
    predicted = [["B-PER", "O", "O"], ["B-LOC", "O", "B-LOC"]]
    assert metrics.entity_f1(expected, predicted).total == pytest.approx(2 * 1 / (3 + 3))


def test_perplexity_is_of_tokens_not_of_rows():
    assert metrics.perplexity([10.0, 2.0], [9, 1]).total == pytest.approx(np.exp(12 / 10))


def test_the_interval_holds_the_value_and_the_baseline_is_on_the_same_rows():
    draw = random.Random(3)
    true = singles([draw.randint(0, 1) for _ in range(400)])
    guess = [row if draw.random() < 0.8 else [1 - row[0]] for row in true]
    found = compare(
        metrics.accuracy(true, guess), metrics.accuracy(true, [[0]] * 400), "majority class", samples=500, seed=0
    )
    assert found.n == 400
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(found.value * (1 - found.value) / 400), rel=0.2)
    assert found.difference[0] > 0.15  # clearly better, and by about what the two values differ
    assert found.baseline == "majority class"


def test_rows_of_another_number_are_refused():
    with pytest.raises(ValueError, match="2 rows of the model and 1"):
        compare(metrics.accuracy([[0], [1]], [[0], [1]]), metrics.accuracy([[0]], [[0]]), "none", samples=2, seed=0)
