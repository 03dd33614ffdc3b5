"""Documents from the sources of a recipe: text files, JSONL, Parquet, and datasets on a hub.

Whatever cannot be read is one line that names the file and the place in it; nothing is skipped silently.
"""

import codecs
import hashlib
import io
import json
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmcommons.data import hub_dataset, python_docs
from lmcommons.data.step import Document
from lmcommons.errors import RequestError
from lmcommons.recipe import HubDataset, JsonLines, Parquet, PythonDocs, Source, TextFiles

BLOCK = 1 << 20  # bytes read at once
LARGEST_DOCUMENT = 50_000_000  # characters (of a JSON line: bytes); beyond it a separator is missing
BATCH_ROWS = 1024


def documents(source: Source, base: Path) -> Iterator[Document]:
    """The documents of one source, in a fixed order; relative paths are relative to `base`.

    Raises:
        RequestError: a pattern matches no file, or a file is not what the recipe says; names the file and the place.
        CommandError: the hub cannot be reached.
    """
    match source:
        case PythonDocs():
            yield from python_docs.documents()
        case HubDataset():
            dataset = hub_dataset.describe(source)
            for name, path in dataset.download():
                yield from _hub_file(source, f"{source.repository}@{dataset.commit[:12]}/{name}", path, dataset.licence)
        case TextFiles():
            for path in files(source, base):
                yield from _text_file(path, display_name(path, base), source.document_separator, source.licence)
        case JsonLines():
            for path in files(source, base):
                yield from _json_lines(path, display_name(path, base), _fields(source), source.licence)
        case Parquet():
            for path in files(source, base):
                yield from _parquet(path, display_name(path, base), _fields(source), source.licence)


def files(source: TextFiles | JsonLines | Parquet, base: Path) -> list[Path]:
    """The files that a source names, each once, in the order of its patterns and then of names.

    Raises:
        RequestError: a pattern matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in source.paths:
        literal = base / pattern
        matches = (
            [literal] if literal.is_file() else [base / name for name in glob(pattern, root_dir=base, recursive=True)]
        )
        names = sorted(path for path in matches if path.is_file())
        if not names:
            raise RequestError(f"data.sources: {pattern!r} matches no file in {base.resolve()}")
        found.update(dict.fromkeys(names))
    return list(found)


def display_name(path: Path, base: Path) -> str:
    """How reports and documents name a file: relative to the recipe where it lies below it."""
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


def _fields(source: JsonLines | Parquet | HubDataset) -> list[str]:
    """The fields that make a document's text: one, or those of a pair."""
    return [source.text_field] if source.target_field is None else [source.text_field, source.target_field]


def _hub_file(source: HubDataset, name: str, path: Path, card_licence: str | None) -> Iterator[Document]:
    licence = source.licence or card_licence
    if name.endswith(".parquet"):
        yield from _parquet(path, name, _fields(source), licence)
    elif name.endswith((".jsonl", ".json")):
        yield from _json_lines(path, name, _fields(source), licence)
    else:
        yield from _text_file(path, name, None, licence)


def _text_file(path: Path, name: str, separator: str | None, licence: str | None) -> Iterator[Document]:
    """The whole file, or its parts between separators; parts without any text are no documents."""
    pending, count = "", 0
    for block in _text_blocks(path, name):
        pending += block
        if separator:
            *complete, pending = pending.split(separator)
            for text in complete:
                count += 1
                if text.strip():
                    yield _document({"text": text}, ["text"], f"{name}#{count}", licence)
        if len(pending) > LARGEST_DOCUMENT:
            raise RequestError(
                f"{name}: a document of more than {LARGEST_DOCUMENT:,} characters; "
                "set document_separator to the text that stands between documents, or split the file"
            )
    if not separator:
        yield _document({"text": pending}, ["text"], name, licence)
    elif pending.strip():
        yield _document({"text": pending}, ["text"], f"{name}#{count + 1}", licence)


def _text_blocks(path: Path, name: str) -> Iterator[str]:
    """A file's text, with `\\n` as line end, a block at a time."""
    bytes_decoder = codecs.getincrementaldecoder("utf-8")()
    decoder = io.IncrementalNewlineDecoder(bytes_decoder, translate=True)
    offset = 0
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                if (place := block.find(0)) >= 0:
                    raise RequestError(f"{name}: a binary file, not text (a zero byte at byte {offset + place})")
                start = offset - len(bytes_decoder.getstate()[0])
                offset += len(block)
                yield decoder.decode(block)
            start = offset - len(bytes_decoder.getstate()[0])
            yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{name}: not UTF-8 text: {error.reason} at byte {start + error.start}; convert the file to UTF-8"
        ) from error
    except OSError as error:
        raise RequestError(f"{name}: cannot be read: {error.strerror}") from error


def _json_lines(path: Path, name: str, fields: list[str], licence: str | None) -> Iterator[Document]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LARGEST_DOCUMENT + 1):
                number += 1
                place = f"{name}:{number}"
                if len(line) > LARGEST_DOCUMENT:
                    raise RequestError(f"{place}: a line of more than {LARGEST_DOCUMENT:,} bytes")
                if line.strip():
                    yield _document(_json_object(line, place), fields, place, licence)
    except OSError as error:
        raise RequestError(f"{name}: cannot be read: {error.strerror}") from error


def _json_object(line: bytes, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RequestError(f"{place}: not UTF-8 text: {error.reason} at byte {error.start} of the line") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{place}: not a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise RequestError(f'{place}: not a JSON object but {type(value).__name__}; a line is like {{"text": "…"}}')
    return value


def _parquet(path: Path, name: str, fields: list[str], licence: str | None) -> Iterator[Document]:
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            if missing := [field for field in fields if field not in known]:
                raise RequestError(f"{name}: no column {missing[0]!r}; its columns are {', '.join(known)}")
            columns = list(dict.fromkeys([*fields, *(c for c in ("id", "source", "licence") if c in known)]))
            number = 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield _document(row, fields, f"{name}:{number}", licence)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise RequestError(f"{name}: not readable as Parquet: {error}") from error
    except OSError as error:
        raise RequestError(f"{name}: cannot be read: {error}") from error


def _document(row: dict[str, Any], fields: list[str], place: str, licence: str | None) -> Document:
    """A row as a document; `id`, `source` and `licence` of its own win over `place` and `licence`."""
    for field in fields:
        if field not in row:
            raise RequestError(f"{place}: no field {field!r}; its fields are {', '.join(map(str, row)) or 'none'}")
        if not isinstance(row[field], str):
            raise RequestError(f"{place}: {field!r} is {type(row[field]).__name__}, not text")
    first, *others = (row[field] for field in fields)
    text = "\t".join([first.replace("\t", " ") if others else first, *others])
    try:
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{place}: {fields[0]!r} has a lone surrogate at character {error.start}: not Unicode"
        ) from error
    told = {"id", "source", "licence"} - set(fields)
    own = {field: value for field in told if isinstance(value := row.get(field), str) and value}
    found = own.get("licence", licence)
    if found is None:
        raise RequestError(
            f"{place}: no licence, neither in the row nor in the repository's card; set licence in the recipe"
        )
    return Document(own.get("id", digest), text, own.get("source", place), found)
