"""Questions and answers made from LibreOffice's help: a heading is asked for, its authors' short help is the answer."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

from lmcommons.data.tasks import help_pages
from lmcommons.data.tasks.help_pages import Block
from lmcommons.data.tasks.source import Example, Read, Removed, TaskSource

CONTEXT = 800  # characters, at most
SHORTEST = 15  # characters of an answer
QUESTION = "What does the help say about “{heading}”?"


def source(form: Literal["extractive", "generative"]) -> TaskSource:
    """Question answering: the span of the context that is the answer, or its text to write."""
    return TaskSource(
        task="question-answering" if form == "extractive" else "text-to-text",
        summary="Questions about commands and functions of LibreOffice, with a part of a help page that answers them.",
        packages=(help_pages.ENGLISH,),
        read=_read(form),
        licence="MPL-2.0",
        language=("en",),
        limits="The questions are synthetic: one template around a heading of the page. The answer is what the help's "
        "authors marked as its short description, a sentence or two that mostly stands behind the heading. Every "
        "question has an answer.",
        split=help_pages.SPLIT,
    )


def _read(form: Literal["extractive", "generative"]) -> Read:
    def read(packages: list[Path], removed: Removed) -> Iterator[Example]:
        for page, blocks in help_pages.pages(packages[0]):
            for place, (heading, block) in enumerate(pairwise(blocks)):
                answer = block.description
                if answer is None or not heading.is_heading:
                    continue
                if len(answer) < SHORTEST or len(block.text) + len(heading.text) >= CONTEXT:
                    removed["too short or too long"] += 1
                    continue
                context, start = _context(blocks, place, page)
                start += block.text.index(answer)
                question = QUESTION.format(heading=heading.text)
                if form == "extractive":
                    row = {"question": question, "context": context, "answers": [answer], "answer_start": [start]}
                else:
                    row = {"source": f"question: {question} context: {context}", "target": answer}
                yield Example(row, page)

    return read


def _context(blocks: list[Block], place: int, page: str) -> tuple[str, int]:
    """Blocks of a page around the heading at `place` and the one behind it, and where in their text the latter begins.

    How many stand before is chosen by hash, so that the place of an answer in its context tells nothing.
    """
    first, last = place, place + 2
    size = len(blocks[place].text) + 1 + len(blocks[place + 1].text)
    chance = int.from_bytes(hashlib.sha256(f"{page} {blocks[place].identifier}".encode()).digest()[:4], "big") / 2**32
    before = (CONTEXT - size) * chance
    while first > 0 and (added := len(blocks[first - 1].text) + 1) <= before:
        first, before, size = first - 1, before - added, size + added
    while last < len(blocks) and size + len(blocks[last].text) + 1 <= CONTEXT:
        size += len(blocks[last].text) + 1
        last += 1
    texts = [block.text for block in blocks[first:last]]
    return "\n".join(texts), sum(len(text) + 1 for text in texts[: place + 1 - first])
