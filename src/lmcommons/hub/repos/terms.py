"""The terms under which a repository is found, and those of a search: made alike here, so that a database need only
compare beginnings.

A word is letters, marks and digits. Scripts that are written without spaces give pairs of characters. Accents and case
do not matter. Every term of a search must begin a term of the repository; a name has the end of each of its parts as
terms too, so that any piece of it is found: `bert` in `DistilBert-base`.
"""

import re
import unicodedata
from collections.abc import Iterator

TEXT_LIMIT = 5_000  # characters of a repository's text that are indexed
TERM_LIMIT = 64  # characters
SEARCH_LIMIT = 200  # characters of a search that are looked at
SEARCH_TERMS_LIMIT = 16

# Thai to Khmer, kana, ideographs, Hangul (which has spaces, between phrases more than words).
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}\\s]+")
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
# Accents, points of Hebrew, vowel signs of Arabic and the line that stretches its words: most people write none.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]"
)
_PIECES = re.compile(r"\d+|\D+")
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def of_name(full_name: str) -> str:
    """The terms of `namespace/name`: the ends of its parts."""
    parts = (_folded(part) for part in re.split(r"[-_./]", full_name))
    return " ".join(dict.fromkeys(part[start:][:TERM_LIMIT] for part in parts for start in range(len(part))))


def of_text(*texts: str, limit: int | None = TEXT_LIMIT) -> str:
    """The terms of texts, each once: words, and the pieces of words such as `GPT2` and `PyTorch`.

    Of each text `limit` characters are looked at.
    """
    found: dict[str, None] = {}
    for text in texts:
        for word in _words(text[:limit]):
            if _UNSPACED_RUN.fullmatch(word):
                found.update(dict.fromkeys(_pairs(word)))
                continue
            halves = _CAPITAL.split(word)
            pieces = [piece for part in (word, *halves) for piece in _PIECES.findall(part)]
            found.update(dict.fromkeys(_folded(term)[:TERM_LIMIT] for term in (word, *pieces)))
    found.pop("", None)
    return " ".join(found)


def of_search(search: str) -> list[str]:
    """The terms of a search; none when it has no letter or digit."""
    found: list[str] = []
    for word in _words(search[:SEARCH_LIMIT]):
        if _UNSPACED_RUN.fullmatch(word):
            found.extend(_pairs(word)[: max(1, len(word) - 1)])
        else:
            found.extend(_folded(piece)[:TERM_LIMIT] for piece in _PIECES.findall(word))
    return [term for term in dict.fromkeys(found) if term][:SEARCH_TERMS_LIMIT]


def _words(text: str) -> Iterator[str]:
    kept = "".join(
        character if unicodedata.category(character)[0] in "LNM" else " "
        for character in unicodedata.normalize("NFKC", text)
    )
    return (match[0] for match in _RUN.finditer(kept))


def _pairs(run: str) -> list[str]:
    """Characters two by two, and the last alone: so that each begins a term."""
    return [run[start : start + 2] for start in range(len(run))]


def _folded(word: str) -> str:
    """Without case and accents; the dotless i of Turkish is an i, as its capital is one elsewhere."""
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", word.casefold().replace("ı", "i")))
    return unicodedata.normalize("NFKC", bare)
