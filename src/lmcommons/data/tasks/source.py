"""What a source of task data is: packages, and how their files become rows."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxml import html

from lmcommons.data.tasks.packages import Package
from lmcommons.recipe import FinetuningTask, SplitRecipe

UTF8 = html.HTMLParser(encoding="utf-8")  # whatever a page says of itself


@dataclass(frozen=True, slots=True)
class Example:
    """A row of a task.

    Attributes:
        row: the columns of the task (`recipe.COLUMNS`).
        group: rows of one group, such as a page, go to one split; its hash says to which.
        split: where the source itself says it.
    """

    row: dict[str, Any]
    group: str
    split: str | None = None


Removed = Counter[str]
Read = Callable[[list[Path], Removed], Iterator[Example]]


@dataclass(frozen=True)
class TaskSource:
    """Real data of a task, from packages.

    Attributes:
        read: from the packages' files, in their order, to rows; counts what it leaves out, by reason.
        licence: SPDX identifier of the rows.
        limits: what whoever uses the rows must know.
        split: shares of validation and test among the groups.
        most: of a split, the most rows that are kept.
    """

    task: FinetuningTask
    summary: str
    packages: tuple[Package, ...]
    read: Read
    licence: str
    language: tuple[str, ...]
    limits: str
    split: SplitRecipe = field(default_factory=lambda: SplitRecipe(validation=0.1, test=0.1))
    most: Mapping[str, int] = field(default_factory=dict)


def clean(text: str) -> str:
    """Composed characters (NFC), and one space for any white space."""
    return " ".join(unicodedata.normalize("NFC", text).split())
