"""The terms of names, texts and searches."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.repos import terms


def found(search: str, *, name: str = "a/b", text: str = "") -> bool:
    """Whether a search finds a repository of this name and text, as the databases compare."""
    present = f"{terms.of_name(name)} {terms.of_text(text)}".split()
    wanted = terms.of_search(search)
    return bool(wanted) and all(any(term.startswith(word) for term in present) for word in wanted)


@pytest.mark.parametrize(
    ("search", "text"),
    [
        ("translat", "Translation of English"),
        ("english translation", "Translation of English"),
        ("pytorch", "PyTorch"),
        ("torch", "PyTorch"),
        ("gpt 2", "GPT2"),
        ("gpt2", "gpt2"),
        ("ÉCOLE", "école"),
        ("ecole", "École"),
        ("strasse", "Straße"),
        ("机器", "机器翻译"),
        ("器翻译", "机器翻译"),
        ("译", "机器翻译"),
        ("机器 english", "English 机器翻译"),
        ("モデル", "日本語モデル"),
        ("언어", "한국언어모델"),
        ("ภาษา", "โมเดลภาษาไทย"),
        ("हिन्दी", "हिन्दी भाषा"),
        ("العربية", "اللغة العربية"),
        ("ﬁne", "fine"),
        ("２", "2"),
        ("c", "C++"),
    ],
)
def test_a_text_is_found_by(search: str, text: str):
    assert found(search, text=text)


@pytest.mark.parametrize(
    ("search", "text"),
    [("orch", "torch"), ("翻机", "机器翻译"), ("cat dog", "cat"), ("", "anything"), ("+-*/", "+-*/"), ("gpt3", "gpt2")],
)
def test_a_text_is_not_found_by(search: str, text: str):
    assert not found(search, text=text)


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", fullmatch=True)


@given(NAMES, st.integers(0, 40), st.integers(1, 20))
def test_every_piece_of_a_name_finds_it(name: str, start: int, length: int):
    piece = name[start : start + length]
    assert not terms.of_search(piece) or found(piece, name=f"somebody/{name}")


@given(st.text(max_size=200))
def test_terms_are_letters_and_digits_without_case(text: str):
    for term in f"{terms.of_text(text)} {' '.join(terms.of_search(text))}".split():
        assert all(unicodedata.category(character)[0] in "LNMS" for character in term)
        assert term == term.casefold() or not term.isascii()
        assert len(term) <= terms.TERM_LIMIT


@given(st.text(min_size=1, max_size=60))
def test_a_text_is_found_by_itself(text: str):
    assert found(text, text=text) or not terms.of_search(text)


def test_terms_are_bounded():
    assert len(terms.of_text("x" * 10_000)) <= terms.TERM_LIMIT
    assert len(terms.of_search("word " * 100)) == 1
    assert len(terms.of_search(" ".join(map(str, range(100))))) <= terms.SEARCH_TERMS_LIMIT
    many = " ".join(f"w{number}" for number in range(100_000))
    assert len(terms.of_text(many)) <= 4 * terms.TEXT_LIMIT
