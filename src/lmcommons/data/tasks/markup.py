"""Words in LibreOffice's help that its authors marked: parts of the interface, code, and keys."""

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import html

from lmcommons.data.tasks import help_pages
from lmcommons.data.tasks.source import Example, Removed, TaskSource

KINDS = {
    "emph": "INTERFACE", "menuitem": "INTERFACE", "widget": "INTERFACE",
    "literal": "CODE", "input": "CODE",
    "keycode": "KEY",
}  # fmt: skip
TOKEN = re.compile(r"\w+|[^\w\s]")
FEWEST, MOST = 4, 80  # tokens of a row


def _read(packages: list[Path], removed: Removed) -> Iterator[Example]:
    for page, blocks in help_pages.pages(packages[0]):
        for block in blocks:
            if block.is_heading or block.element.get("class") == "code":
                continue
            tokens, labels = tagged(block.element)
            if FEWEST <= len(tokens) <= MOST:
                yield Example({"tokens": tokens, "labels": labels}, page)
            else:
                removed[f"fewer than {FEWEST} or more than {MOST} tokens"] += 1


def tagged(element: html.HtmlElement) -> tuple[list[str], list[str]]:
    """The tokens of an element, and for each `B-KIND` where a marked part begins, `I-KIND` inside it, else `O`.

    Marked parts of one kind with nothing between them are one.
    """
    text, kinds = "", [""]  # the kind before the text is none
    for part, kind in _parts(element, "O"):
        text += part
        kinds += [kind] * len(part)
    tokens, labels, end = [], [], 0
    for match in TOKEN.finditer(text):
        kind = kinds[match.start() + 1]
        goes_on = set(kinds[end : match.start() + 1]) == {kind}  # from the last character of the token before
        tokens.append(match.group())
        labels.append("O" if kind == "O" else f"{'I' if goes_on else 'B'}-{kind}")
        end = match.end()
    return tokens, labels


def _parts(element: html.HtmlElement, kind: str) -> Iterator[tuple[str, str]]:
    """The texts in an element, each with the kind of the innermost mark around it."""
    kind = KINDS.get(element.get("class", ""), kind)
    yield element.text or "", kind
    for child in element:
        if isinstance(child.tag, str):
            yield from _parts(child, kind)
        yield child.tail or "", kind


SOURCE = TaskSource(
    task="token-classification",
    summary="Paragraphs of LibreOffice's help whose words are part of the interface, code, a key, or nothing special.",
    packages=(help_pages.ENGLISH,),
    read=_read,
    licence="MPL-2.0",
    language=("en",),
    limits="The labels are the authors' typographic markup, not an annotation that two people agreed on: emphasis "
    "counts as interface although it sometimes marks a parameter, and marks are now and then forgotten.",
    split=help_pages.SPLIT,
)
