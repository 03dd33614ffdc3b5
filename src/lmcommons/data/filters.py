"""Normalisation of text, and the filters on length and characters."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from lmcommons.data.step import Document, Step
from lmcommons.recipe import FilterRecipe


class Normalise(Step):
    """Unicode normal form, `\\n` as line end, no white space at line ends, no blank lines at either end."""

    name = "normalise"

    def __init__(self, unicode_form: Literal["NFC", "NFKC", "none"]) -> None:
        super().__init__()
        self._form = unicode_form

    def apply(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            yield replace(document, text=self._normalise(document.text))

    def _normalise(self, text: str) -> str:
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        if self._form != "none":
            text = unicodedata.normalize(self._form, text)
        return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


class Filter(Step):
    """Removes documents outside the bounds of the recipe; the reason is the first bound that a document breaks."""

    name = "filter"

    def __init__(self, recipe: FilterRecipe) -> None:
        super().__init__()
        self._recipe = recipe

    def apply(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            reason = broken_bound(document.text, self._recipe)
            if reason is None:
                yield document
            else:
                self.remove(document, reason)


def broken_bound(text: str, bounds: FilterRecipe) -> str | None:
    """The field of `bounds` that `text` breaks, or None.

    Letters are the Unicode categories L and M (marks spell the vowels of many scripts); control characters are category
    Cc without tab and line end, and U+FFFD.
    """
    if len(text) < bounds.min_characters:
        return "min_characters"
    if len(text) > bounds.max_characters:
        return "max_characters"
    letters = controls = 0
    for character, count in Counter(text).items():
        category = unicodedata.category(character)
        if category[0] in "LM" or character.isspace():
            letters += count
        elif category == "Cc" or character == "\ufffd":
            controls += count
    if letters < bounds.min_letter_fraction * len(text):
        return "min_letter_fraction"
    if controls > bounds.max_control_fraction * len(text):
        return "max_control_fraction"
    if repeated_line_characters(text) > bounds.max_repeated_line_fraction * len(text):
        return "max_repeated_line_fraction"
    return None


def repeated_line_characters(text: str) -> int:
    """Characters in lines that occurred before in `text`, indentation aside (Rae et al. 2021, table A1)."""
    seen: set[str] = set()
    repeated = 0
    for line in text.split("\n"):
        line = line.strip()
        if line in seen:
            repeated += len(line)
        else:
            seen.add(line)
    return repeated
