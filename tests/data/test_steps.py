"""Each step keeps and removes what its recipe says, and counts it."""

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.data.deduplicate import ExactDuplicates, NearDuplicates, band_rows
from lmcommons.data.filters import Filter, Normalise, repeated_line_characters
from lmcommons.data.split import Overlap, split_of
from lmcommons.data.step import Counts, Document
from lmcommons.data.words import ngram_hashes, overlaps, words
from lmcommons.recipe import DeduplicateRecipe, FilterRecipe, SplitRecipe

VOCABULARY = [f"word{number}" for number in range(5000)]


def documents(*texts: str) -> list[Document]:
    return [Document(str(place), text, "test", "CC0-1.0") for place, text in enumerate(texts)]


def texts_of(found) -> list[str]:
    return [document.text for document in found]


def random_words(seed: int, count: int) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=count)


def test_normalisation_composes_characters_and_cleans_line_ends() -> None:
    step = Normalise("NFC")
    assert texts_of(step(documents("\ufeff\r\n\r\n  e\u0301tat \t\r\nfin\u3000\r\n\r\n"))) == ["  état\nfin"]
    assert texts_of(Normalise("NFKC")(documents("ﬁ①"))) == ["fi1"]
    assert texts_of(Normalise("none")(documents("e\u0301"))) == ["e\u0301"]


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = texts_of(Normalise("NFC")(documents(text)))[0]
    assert texts_of(Normalise("NFC")(documents(once))) == [once]
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("short", "min_characters"),
        ("letters and spaces " * 100, "max_characters"),
        ("0123456789 -+*/ 0123456789 ()[]", "min_letter_fraction"),
        ("letters with \x01\x02\x03 controls", "max_control_fraction"),
        ("letters with \ufffd\ufffd replacements", "max_control_fraction"),
        ("the same line again\n" * 9, "max_repeated_line_fraction"),
    ],
)
def test_a_document_outside_a_bound_is_counted_under_that_bound(text: str, reason: str) -> None:
    step = Filter(FilterRecipe(min_characters=20, max_characters=1000))
    assert texts_of(step(documents(text, "an ordinary line of text"))) == ["an ordinary line of text"]
    assert step.removed == {reason: Counts(1, len(text), len(text.encode()))}
    assert step.before.documents == 2
    assert step.after == Counts(1, 24, 24)


@pytest.mark.parametrize(
    "text", ["语言模型从文本中学习。" * 3, "भाषा मॉडल पाठ से सीखते हैं। यह हिन्दी है।", "ภาษาไทยเขียนโดยไม่เว้นวรรค"]
)
def test_letters_of_any_script_are_letters(text: str) -> None:
    bounds = FilterRecipe(min_characters=10, min_letter_fraction=0.9, max_repeated_line_fraction=0.9)
    assert len(list(Filter(bounds)(documents(text)))) == 1


def test_repeated_lines_are_counted_without_their_indentation() -> None:
    assert repeated_line_characters("one\n  one\ntwo\n\n\none") == 6


def test_exact_duplicates_leave_the_first() -> None:
    step = ExactDuplicates()
    found = list(step(documents("a", "b", "a", "c", "b")))
    assert [document.id for document in found] == ["0", "1", "3"]
    assert step.removed == {"exact": Counts(2, 2, 2)}


def jaccard(left: str, right: str, size: int) -> float:
    sets = [set(ngram_hashes(words(text), size).tolist()) for text in (left, right)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_near_duplicates_are_found_and_others_are_not() -> None:
    recipe = DeduplicateRecipe()
    originals, similar, different = [], [], []
    for seed in range(200):
        text = random_words(seed, 300)
        originals.append(" ".join(text))
        close, far = text.copy(), text.copy()
        for place in random.Random(seed).sample(range(300), 3):
            close[place] = "changed"
        for place in range(0, 300, 9):
            far[place] = "changed"
        similar.append(" ".join(close))
        different.append(" ".join(far))
    assert min(map(jaccard, originals, similar, [5] * 200)) > 0.88
    assert max(map(jaccard, originals, different, [5] * 200)) < 0.6
    step = NearDuplicates(recipe)
    kept = texts_of(step(documents(*originals, *similar, *different)))
    assert set(kept) >= {*originals, *different}
    assert len(set(kept) & set(similar)) <= 2
    assert step.removed["near"].documents == 600 - len(kept)


def test_near_duplicates_of_text_without_spaces_are_found() -> None:
    text = "".join(chr(0x4E00 + random.Random(place).randrange(3000)) for place in range(200))
    step = NearDuplicates(DeduplicateRecipe())
    assert len(list(step(documents(text, text[:100] + "一" + text[100:], text[::-1])))) == 2


def test_short_documents_and_documents_without_words_are_only_equal_to_themselves() -> None:
    step = NearDuplicates(DeduplicateRecipe())
    assert texts_of(step(documents("one", "two", "two.", "...", "???", "..."))) == ["one", "two", "...", "???"]


@pytest.mark.parametrize(("threshold", "permutations"), [(0.8, 112), (0.5, 112), (0.9, 64), (1.0, 112), (0.7, 1)])
def test_bands_find_pairs_at_the_threshold(threshold: float, permutations: int) -> None:
    rows = band_rows(threshold, permutations)
    recall = 1 - (1 - threshold**rows) ** (permutations // rows)
    assert recall >= 0.99 or rows == 1


def test_words_are_lower_case_and_characters_where_there_are_no_spaces() -> None:
    assert words("The C-API, v3.11: naïve 语言模型 コード ภาษา é_x") == [
        "the", "c", "api", "v3", "11", "naïve", *"语言模型", *"コード", *"ภาษา", "é_x"
    ]  # fmt: skip


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=40), st.integers(1, 5))
def test_equal_ngrams_have_equal_hashes_and_others_do_not(found: list[str], n: int) -> None:
    hashes = ngram_hashes(found, n)
    ngrams = [tuple(found[start : start + n]) for start in range(len(found) - n + 1)]
    assert len(hashes) == len(ngrams)
    assert len(set(hashes.tolist())) == len(set(ngrams))
    assert dict(zip(ngrams, hashes.tolist(), strict=True)) == {
        ngram: int(ngram_hashes(list(ngram), n)[0]) for ngram in set(ngrams)
    }


@given(
    st.lists(st.text(alphabet="ab ", max_size=30), max_size=6),
    st.lists(st.text(alphabet="ab ", max_size=30), max_size=6),
    st.integers(1, 4),
)
def test_overlap_is_a_shared_ngram_and_nothing_else(train: list[str], held_out: list[str], n: int) -> None:
    def ngrams(text: str) -> set[tuple[str, ...]]:
        found = words(text)
        return {tuple(found[start : start + n]) for start in range(len(found) - n + 1)}

    known = {ngram for text in train for ngram in ngrams(text)}
    assert overlaps(iter(train), held_out, n) == [bool(ngrams(text) & known) for text in held_out]


def test_held_out_documents_that_share_thirteen_words_with_train_are_removed_and_counted() -> None:
    train = " ".join(random_words(1, 100))
    thirteen = " ".join(train.split()[40:53])
    twelve = " ".join(train.split()[40:52])
    held_out = documents(f"before {thirteen.upper()}, after", f"before {twelve} after " + "other " * 9)
    step = Overlap([train], 13)
    assert [document.id for document in step(held_out)] == ["1"]
    assert step.removed["overlap_ngram"].documents == 1


def test_the_split_depends_on_the_text_alone_and_has_the_asked_shares() -> None:
    recipe = SplitRecipe(validation=0.1, test=0.2)
    first = [split_of(f"text {number}", recipe) for number in range(5000)]
    assert first[5:8] == ["train", "test", "validation"]  # for ever: a text never moves to another split
    shares = {split: first.count(split) / 5000 for split in ("train", "validation", "test")}
    assert np.allclose([shares["train"], shares["validation"], shares["test"]], [0.7, 0.1, 0.2], atol=0.02)
