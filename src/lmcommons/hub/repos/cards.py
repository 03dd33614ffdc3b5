"""Repository cards: README.md with YAML metadata between two `---` lines."""

import math
import re
from datetime import date
from typing import Any

import yaml

from lmcommons.hub.errors import Malformed
from lmcommons.hub.repos.licenses import LICENSES
from lmcommons.hub.words import Words

METADATA_LIMIT = 256 << 10  # characters
DEPTH_LIMIT = 100  # collections in one another; libyaml's own recursion would end the process
NUMBER_LIMIT = 1024  # bits; hexadecimal ones are read at any length, and cannot be written again
NODES_LIMIT = 20_000  # values, with aliases written out: a few lines of YAML can mean billions

_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*(?:\r\n|\r|\n)(.*?)(?<=[\r\n])---[ \t]*(?:\r\n|\r|\n|\Z)", re.DOTALL)
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(Malformed):
    """Text that is not YAML; `line` is where it stops being so, the first is 1, where that is known."""

    def __init__(self, message: str, /, *, line: int | None = None, **values: Any) -> None:
        super().__init__(message, line=line, **values)
        self.line = line


def split(card: str) -> tuple[dict[str, Any], str]:
    """The metadata of a card, as JSON values, and its text; metadata that cannot be read counts as none."""
    match = _FRONT_MATTER.match(card)
    if match is None:
        return {}, card
    try:
        return parse_metadata(match[1]), card[match.end() :]
    except ValueError:
        return {}, card[match.end() :]


def front_matter(card: str) -> str | None:
    """The YAML of a card, after as many empty lines as stand before it, so that its lines are the card's."""
    match = _FRONT_MATTER.match(card)
    return "\n" * card.count("\n", 0, match.start(1)) + match[1] if match else None


def metadata_errors(card: str) -> list[str]:
    """What is wrong with a card's metadata, one line each; none when it has no metadata."""
    try:
        metadata = parse_metadata(front_matter(card) or "")
    except ValueError as error:
        return [str(error)]
    errors: list[str] = [
        Words('"{field}" must be an array of strings', field=field)
        for field in ("tags", "datasets", "metrics")
        if not isinstance(metadata.get(field, []), list | str)
    ]
    if not isinstance(metadata.get("model-index", []), list):
        errors.append(Words('"model-index" must be an array'))
    named = metadata.get("license") or []
    if not all(isinstance(name, str) and name in LICENSES for name in (named if isinstance(named, list) else [named])):
        errors.append(Words('"license" must be one of {choices}', choices=", ".join(sorted(LICENSES))))
    return errors


def parse_metadata(text: str) -> dict[str, Any]:
    """A card's YAML as JSON values.

    Raises:
        ValueError: it is too long, not YAML, or not a mapping; the message says where.
    """
    value = parse_yaml(text)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed("metadata must be a mapping of fields to values, not {name}", name=type(value).__name__)
    return value


def parse_yaml(text: str, *, aliases: bool = True) -> Any:
    """A stranger's YAML as JSON values; with `aliases` false, one value cannot stand in several places.

    Raises:
        ValueError: it is too long, or not YAML; the message says where.
    """
    if len(text) > METADATA_LIMIT:
        raise Malformed(
            "metadata of {count:,} characters; at most {limit:,} are read", count=len(text), limit=METADATA_LIMIT
        )
    try:
        _check_events(text, aliases=aliases)
        return _plain(yaml.load(text, Loader=_Loader), [NODES_LIMIT])  # noqa: S506 - a safe loader, in C if it can be
    except yaml.MarkedYAMLError as error:
        problem, mark = error.problem or error.context, error.problem_mark
        if mark is None:
            raise YamlError("metadata is not YAML: {reason}", reason=problem) from error
        raise YamlError(
            "metadata is not YAML: {reason} in line {line}, column {column}",
            reason=problem,
            line=mark.line + 1,
            column=mark.column + 1,
        ) from error
    except (yaml.YAMLError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # PyYAML raises what its code stumbles over where a tag as `!!timestamp` does not fit the value.
        raise YamlError("metadata is not YAML: {reason}", reason=error) from error


def _check_events(text: str, *, aliases: bool) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_LIMIT:
                raise Malformed("more than {limit} collections in one another", limit=DEPTH_LIMIT)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif not aliases and isinstance(event, yaml.AliasEvent):
            raise Malformed("aliases are not allowed here; write the value out")


def _plain(value: Any, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise Malformed("more than {limit:,} values", limit=NODES_LIMIT)
    if isinstance(value, dict):
        return {printable(str(key)): _plain(item, left) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item, left) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and value.bit_length() > NUMBER_LIMIT:
        raise Malformed("a number of more than {limit} bits", limit=NUMBER_LIMIT)
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, int | float | bool | None) else printable(str(value))


def printable(text: str) -> str:
    """The text without what databases refuse: NUL, and halves of characters, as escapes in JSON and YAML can write."""
    return _UNPRINTABLE.sub("\ufffd", text)
