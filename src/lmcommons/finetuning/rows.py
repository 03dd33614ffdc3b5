"""Rows of a task from files: read, checked, and the same whatever the format they lie in."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmcommons import files
from lmcommons.client.models import REPOSITORY
from lmcommons.data.hub_dataset import describe
from lmcommons.errors import RequestError
from lmcommons.recipe import COLUMNS, FinetuningTask, HubDataset, TaskDataRecipe

SIDES = ("source", "target")  # of parallel text files
Row = dict[str, Any]


@dataclass(frozen=True)
class Split:
    """The rows of a split, and where they came from, for messages."""

    name: str
    path: Path
    rows: list[Row]

    def error(self, place: int, message: str) -> RequestError:
        """One line about the row at `place`, counted from 1 in the message."""
        return RequestError(f"{self.path}: row {place + 1}: {message}")


def resolve(recipe: TaskDataRecipe, base: Path) -> Path:
    """The directory of the files: relative to `base`, or fetched from the hub.

    Raises:
        RequestError: there is no such directory or repository.
        CommandError: the hub cannot be reached.
    """
    directory = base / Path(recipe.path).expanduser()
    if directory.is_dir():
        return directory
    match = REPOSITORY.fullmatch(recipe.path)
    if match is None:
        raise RequestError(f"finetuning.data.path: {directory} is no directory, and not namespace/name[@revision]")
    source = HubDataset(type="hub", repository=match["repository"], revision=match["revision"] or "main", files="**")
    found = describe(source)
    kept = replace(found, names=[name for name in found.names if Path(name).suffix in (*READERS, ".txt")])
    if not kept.names:
        raise RequestError(f"dataset {recipe.path}: no Parquet, JSONL or text files")
    roots = {path.parents[len(Path(name).parts) - 1] for name, path in kept.download()}
    return roots.pop()


def fingerprint(recipe: TaskDataRecipe, directory: Path) -> str:
    """The sha256 of all files that the recipe reads."""
    digest = hashlib.sha256()
    for split in (recipe.train, recipe.validation, *recipe.tests):
        for path in split_files(directory, split):
            digest.update(f"{split} {path.name} {files.sha256_file(path)}\n".encode())
    return digest.hexdigest()


def split_files(directory: Path, split: str) -> list[Path]:
    """The files of a split: Parquet, JSONL, or a pair of text files with a sentence a line.

    Raises:
        RequestError: there are none.
    """
    for place in (directory, directory / "data"):
        for names in ([f"{split}.parquet", f"{split}-*.parquet"], [f"{split}.jsonl"]):
            if found := sorted(path for name in names for path in place.glob(name)):
                return found
        if len(pair := [path for side in SIDES if (path := place / f"{split}.{side}.txt").is_file()]) == len(SIDES):
            return pair
    raise RequestError(
        f"{directory}: no split {split!r}; expected {split}.parquet, {split}.jsonl, or {split}.source.txt with "
        f"{split}.target.txt, there or in its folder `data`"
    )


def read(recipe: TaskDataRecipe, directory: Path, split: str, task: FinetuningTask) -> Split:
    """The rows of a split under the column names of the task.

    Raises:
        RequestError: there are no files or no rows, a column is missing, or a row is not what the task needs: one line
            that names the file and the row.
    """
    paths = split_files(directory, split)
    pair = paths[0].suffix == ".txt"
    raw = list(_parallel(*paths)) if pair else [row for path in paths for row in READERS[path.suffix](path)]
    found = Split(split, paths[0], [])
    if not raw:
        raise RequestError(f"{paths[0]}: the split has no rows")
    required, optional = COLUMNS[task]
    for place, row in enumerate(raw):
        named = {column: row.get(recipe.columns.get(column, column)) for column in (*required, *optional)}
        kept = {column: value for column, value in named.items() if value is not None}
        if missing := [column for column in required if column not in kept]:
            known = ", ".join(map(str, row))
            raise found.error(place, f"no column {recipe.columns.get(missing[0], missing[0])!r}; it has {known}")
        for column, value in kept.items():
            if problem := CHECKS[column](value):
                raise found.error(place, f"{column} {problem}")
        found.rows.append(kept)
    return found


def _parquet(path: Path) -> Iterator[Row]:
    try:
        yield from pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"{path}: not a Parquet file: {error}") from error


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RequestError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise RequestError(f"{path}:{number}: a row is a JSON object, not {type(row).__name__}")
        yield row


def _parallel(source: Path, target: Path) -> Iterator[Row]:
    sides = [_lines(source), _lines(target)]
    if len(sides[0]) != len(sides[1]):
        raise RequestError(
            f"{source} has {len(sides[0]):,} lines and {target.name} {len(sides[1]):,}; line N of one must be the "
            "translation of line N of the other"
        )
    yield from (dict(zip(SIDES, lines, strict=True)) for lines in zip(*sides, strict=True))


def _lines(path: Path) -> list[str]:
    """The lines of a text file; only a line feed ends one, as a sentence may hold other separators."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 text (byte {error.start})") from error
    return text.removesuffix("\n").split("\n") if text else []


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {".parquet": _parquet, ".jsonl": _jsonl}


# ---------------------------------------------------------------- what a column may hold: each says what is wrong


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"is {type(value).__name__}, not text"
    return None if value.strip() else "is empty: remove the row"


def _label(value: Any) -> str | None:
    return None if isinstance(value, str | int) else f"is {type(value).__name__}, not text or an integer"


def _list_of(kind: type, *, empty: bool = False) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if not isinstance(value, list) or not all(isinstance(part, kind) for part in value):
            return f"is not a list of {kind.__name__}"
        return None if value or empty else "is empty: remove the row"

    return check


def _messages(value: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(message, Mapping) for message in value):
        return "is not a list of objects with role and content"
    for message in value:
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            return "has a message without a role and a content that are text"
    return None if any(message["role"] == "assistant" for message in value) else "has no answer of the assistant"


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "text": _text,
    "text_pair": _text,
    "label": _label,
    "tokens": _list_of(str),
    "labels": _list_of(str),
    "question": _text,
    "context": _text,
    "answers": _list_of(str, empty=True),
    "answer_start": _list_of(int, empty=True),
    "source": _text,
    "target": _text,
    "messages": _messages,
}
