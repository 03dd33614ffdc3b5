"""Batch input of a command: a file with a JSON object a line."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lmcommons.errors import RequestError

Input = Annotated[
    Path | None, typer.Option("--input", help="file with a JSON object a line; a JSON object a line is printed")
]


def read_lines(path: Path, *fields: str, optional: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """The objects of a file; each has the texts `fields`, and nothing else but `optional` ones.

    Raises:
        RequestError: the file cannot be read or is empty, or a line is no such object: one line that names file and
            line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 text (byte {error.start})") from error
    wanted = ", ".join(f'"{field}": text' for field in fields)
    if not lines:
        raise RequestError(f"{path}: the file is empty; a line of it must be {{{wanted}}}")
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RequestError(f"{path}, line {number}: not JSON; it must be {{{wanted}}}") from error
        if not isinstance(row, dict) or not set(fields) <= row.keys() <= {*fields, *optional}:
            raise RequestError(f"{path}, line {number}: it must be {{{wanted}}}")
        for field, text in row.items():
            if not isinstance(text, str) or not is_text(text):
                raise RequestError(f"{path}, line {number}: {field} must be Unicode text")
        found.append(row)
    return found


def is_text(value: str) -> bool:
    """Whether a string is Unicode text: arguments that are not UTF-8 arrive with lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)
