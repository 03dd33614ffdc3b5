"""Evaluation results: what models state in `.eval_results/*.yaml`, and the tasks that datasets declare in `eval.yaml`.

Formats: https://huggingface.co/docs/hub/eval-results
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete
from sqlalchemy.orm import Session

from lmcommons.hub.database.tables import EvaluationResult
from lmcommons.hub.errors import EntryNotFound, Malformed
from lmcommons.hub.repos import cards
from lmcommons.hub.repos.details import read_text
from lmcommons.hub.repos.git import Entry, GitRepository

RESULTS = ".eval_results"
BENCHMARK = "eval.yaml"
FILES_LIMIT = 100
ENTRIES_LIMIT = 1_000  # in one file
TASKS_LIMIT = 100
TEXT_LIMIT = 2_000  # characters of a field
NAME_LIMIT = 193  # of `namespace/name`
TASK_LIMIT = 200

# The format has no field for intervals: they are stated in the notes, as `lmc` does.
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_INTERVAL = re.compile(rf"95\s*% (?:confidence )?interval:? \[?({_NUMBER})(?: to |, ?|\s*–\s*)({_NUMBER})")
_SAMPLES = re.compile(r"\bn = ([\d,]{1,20})\b")


@dataclass(frozen=True)
class ResultFile:
    """A file of results: its entries as they are written, or why they cannot be read."""

    filename: str
    oid: str
    entries: list[dict[str, Any]]
    error: str | None = None


@dataclass(frozen=True)
class Task:
    """A task of a benchmark; with losses and perplexities the lowest value is the best."""

    id: str
    higher_is_better: bool = True


@dataclass(frozen=True)
class Spread:
    """What a result's notes say of its certainty: the ends of its 95 % interval, and how many samples it is of."""

    low: float | None = None
    high: float | None = None
    samples: int | None = None

    def reach(self, value: float) -> tuple[float, float]:
        """The ends of the interval, which holds `value` whatever was rounded; of a value without one, the value."""
        if self.low is None or self.high is None:
            return value, value
        return min(self.low, value), max(self.high, value)


def spread(entry: dict[str, Any]) -> Spread:
    """The certainty that an entry of results states; an interval of another value, but for its rounding, is none."""
    notes = entry.get("notes") or ""
    samples = _SAMPLES.search(notes)
    count = int(samples[1].replace(",", "") or 0) if samples else None
    interval = _INTERVAL.search(notes)
    if interval is None:
        return Spread(samples=count)
    low, high, rounding = float(interval[1]), float(interval[2]), 10.0 ** -len(interval[1].partition(".")[2])
    if not low - rounding <= float(entry["value"]) <= high + rounding:
        return Spread(samples=count)
    return Spread(low, high, count)


def result_files(git: GitRepository, commit: str) -> list[ResultFile]:
    """The files of results of a commit, at most 100."""
    try:
        entries = git.entries(commit, RESULTS, limit=FILES_LIMIT)
    except EntryNotFound:
        return []
    return [
        _result_file(git, commit, entry)
        for entry in entries
        if entry.type == "file" and entry.path.endswith((".yaml", ".yml"))
    ]


def _result_file(git: GitRepository, commit: str, entry: Entry) -> ResultFile:
    try:
        if entry.lfs or entry.size > cards.METADATA_LIMIT:
            raise Malformed(
                "{size:,} bytes; at most {limit:,} are read, and no large objects",
                size=entry.size,
                limit=cards.METADATA_LIMIT,
            )
        return ResultFile(entry.path, entry.oid, parse_results(read_text(git, commit, entry.path)))
    except ValueError as error:
        return ResultFile(entry.path, entry.oid, [], str(error))


def parse_results(text: str) -> list[dict[str, Any]]:
    """The entries of a file of results.

    Raises:
        ValueError: what is wrong with it, and in which entry.
    """
    found = cards.parse_yaml(text, aliases=False)
    if found is None:
        return []
    entries = found if isinstance(found, list) else [found]
    if len(entries) > ENTRIES_LIMIT:
        raise Malformed(
            "{count:,} entries; at most {limit:,} are read from a file", count=len(entries), limit=ENTRIES_LIMIT
        )
    for number, entry in enumerate(entries, 1):
        try:
            _check_entry(entry)
        except ValueError as error:
            raise Malformed("entry {number}: {reason}", number=number, reason=error) from error
    return entries


def parse_benchmark(text: str) -> list[Task]:
    """The tasks that `eval.yaml` declares; `higher_is_better: false` stands at one of them, or above all.

    Raises:
        ValueError: what is wrong with it.
    """
    found = cards.parse_yaml(text, aliases=False)
    if not isinstance(found, dict):
        raise Malformed("must be a mapping with `tasks`")
    declared = found.get("tasks")
    if not isinstance(declared, list) or not 1 <= len(declared) <= TASKS_LIMIT:
        raise Malformed("`tasks` must be a list of 1 to {limit}", limit=TASKS_LIMIT)
    tasks = {}
    for task in declared:
        if not isinstance(task, dict) or not _is_text(task.get("id"), TASK_LIMIT):
            raise Malformed("each task needs an `id` of at most {limit} characters", limit=TASK_LIMIT)
        direction = task.get("higher_is_better", found.get("higher_is_better", True))
        if not isinstance(direction, bool):
            raise Malformed("task {task!r}: `higher_is_better` must be true or false", task=task["id"])
        tasks[task["id"]] = Task(task["id"], direction)
    return list(tasks.values())


def rows(files: Iterable[ResultFile], repository_id: int, pull_request: int | None = None) -> list[EvaluationResult]:
    """The entries as rows."""
    return [
        EvaluationResult(
            repository_id=repository_id,
            pull_request=pull_request,
            filename=file.filename,
            dataset_key=entry["dataset"]["id"].lower(),
            task_id=entry["dataset"]["task_id"],
            value=float(entry["value"]),
            entry=entry,
        )
        for file in files
        for entry in file.entries
    ]


def replace(session: Session, repository_id: int, files: Iterable[ResultFile], pull_request: int | None = None) -> None:
    """Put the results of main, or of a pull request, in the place of those before."""
    of = EvaluationResult.pull_request
    session.execute(
        delete(EvaluationResult).where(
            EvaluationResult.repository_id == repository_id,
            of.is_(None) if pull_request is None else of == pull_request,
        )
    )
    session.add_all(rows(files, repository_id, pull_request))


def _check_entry(entry: Any) -> None:
    if not isinstance(entry, dict):
        raise Malformed("must be a mapping with `dataset` and `value`")
    dataset = entry.get("dataset")
    if not isinstance(dataset, dict):
        raise Malformed("`dataset` must be a mapping with `id` and `task_id`")
    if not _is_text(dataset.get("id"), NAME_LIMIT):
        raise Malformed("`dataset` needs `id`: the `namespace/name` of the benchmark")
    if not _is_text(dataset.get("task_id"), TASK_LIMIT):
        raise Malformed("`dataset` needs `task_id`: a task of the benchmark, such as `default`")
    value = entry.get("value")
    if not _is_number(value):
        raise Malformed("`value` must be a finite number (YAML takes 1e3 for text: write 1.0e3)")
    source = entry.get("source")
    if source is not None:
        if not isinstance(source, dict) or not _is_address(source.get("url")):
            raise Malformed("`source` must be a mapping with `url`, an address that begins with http:// or https://")
        _check_texts(source, ("name", "user", "org"), "source.")
    _check_texts(dataset, ("revision",), "dataset.")
    _check_texts(entry, ("verifyToken", "notes", "date"), "")
    if entry.get("date") is not None:
        try:
            datetime.fromisoformat(entry["date"])
        except ValueError as error:
            raise Malformed("`date` must be an ISO 8601 date or time, not {date!r}", date=entry["date"][:40]) from error


def _check_texts(mapping: dict[str, Any], names: tuple[str, ...], prefix: str) -> None:
    for name in names:
        if mapping.get(name) is not None and not _is_text(mapping[name], TEXT_LIMIT):
            raise Malformed(
                "`{prefix}{name}` must be a text of at most {limit:,} characters",
                prefix=prefix,
                name=name,
                limit=TEXT_LIMIT,
            )


def _is_text(value: Any, limit: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= limit


def _is_address(value: Any) -> bool:
    if not _is_text(value, TEXT_LIMIT):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer past what a float holds
        return False
