"""The front matter of a Markdown file as a side panel shows it: its fields, or the line at which it is not YAML."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmcommons.hub.repos import cards

MAX_FIELDS, MAX_VALUES, MAX_VALUE = 100, 50, 300  # fields; values of each, and characters of each
AROUND = 2  # lines before and after the wrong one
MAX_LINE = 200  # characters


@dataclass(frozen=True)
class FrontMatter:
    """Fields with their values; or what is wrong, with the lines around it: number, text, whether it is the one."""

    fields: Sequence[tuple[str, Sequence[str]]] = ()
    error: str | None = None
    lines: Sequence[tuple[int, str, bool]] = ()


def front_matter(card: str) -> FrontMatter | None:
    """The front matter of a Markdown file; None where it has none."""
    yaml = cards.front_matter(card)
    if yaml is None:
        return None
    try:
        metadata = cards.parse_metadata(yaml)
    except cards.YamlError as error:
        return FrontMatter(error=str(error), lines=_around(card, error.line) if error.line else ())
    except ValueError as error:
        return FrontMatter(error=str(error))
    return fields_of(metadata)


def fields_of(metadata: Mapping[str, Any]) -> FrontMatter:
    """Fields with their values, as many and as much of each as is shown."""
    return FrontMatter([(name[:MAX_VALUE], _values(value)) for name, value in list(metadata.items())[:MAX_FIELDS]])


def _around(card: str, wrong: int) -> list[tuple[int, str, bool]]:
    """The lines of a card around one of them, which may be the end of the metadata."""
    lines = card.split("\n")[: wrong + AROUND]
    first = max(1, wrong - AROUND)
    return [(number, line[:MAX_LINE], number == wrong) for number, line in enumerate(lines[first - 1 :], first)]


def _values(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    shown = [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in values[:MAX_VALUES]]
    return [text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…" for text in shown]
