"""Small files by which a repository says what it is: its card and its configuration."""

import json
import math
from typing import Any

from lmcommons.hub.errors import EntryNotFound, Malformed
from lmcommons.hub.repos.git import GitRepository

CARD = "README.md"
CONFIGURATION = "config.json"
SMALL = 1 << 20  # bytes; larger files are not read


def read_text(git: GitRepository, commit: str, path: str) -> str:
    """A small text file; empty when it is absent, large, or in the object store."""
    try:
        entry = git.entry(commit, path)
    except EntryNotFound:
        return ""
    if entry.type != "file" or entry.lfs or entry.size > SMALL:
        return ""
    return git.read(entry.oid).decode(errors="replace")


def read_object(git: GitRepository, commit: str, path: str) -> dict[str, Any]:
    """A small JSON object, such as `config.json`; empty when it cannot be read."""
    try:
        return parse_object(read_text(git, commit, path) or "{}")
    except ValueError:
        return {}


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A stranger's JSON object, without the numbers that JSON does not have.

    Raises:
        ValueError: it is something else.
    """
    try:
        found = json.loads(text, parse_constant=_number, parse_float=_number)
    except RecursionError as error:
        raise Malformed("nested too deeply") from error
    if not isinstance(found, dict):
        raise Malformed("not a JSON object")
    return found


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Malformed("{text} is not a number that JSON has", text=text[:40])
    return number
