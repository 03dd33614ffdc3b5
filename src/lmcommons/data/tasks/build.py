"""From a source to files: rows without copies, in splits that share nothing, with a card that says what was removed."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lmcommons import files, progress
from lmcommons.data.benchmark import FILE, METRICS, TEST, benchmark
from lmcommons.data.dataset import SPLITS, split_path
from lmcommons.data.split import split_of
from lmcommons.data.tasks.packages import fetch
from lmcommons.data.tasks.source import Example, Removed, TaskSource
from lmcommons.data.words import overlaps, words
from lmcommons.errors import CommandError
from lmcommons.recipe import COLUMNS, FinetuningTask

OVERLAP_WORDS = 13  # Brown et al. 2020, appendix C
SALT = "task-data "  # so that a pretraining recipe that reads the train rows finds rows for all of its own splits
OUTPUTS = ("label", "labels", "target", "answers")
CATEGORIES: dict[FinetuningTask, str] = {
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "translation": "translation",
    "text-to-text": "question-answering",
    "chat": "text-generation",
}


def build(name: str, source: TaskSource, out: Path) -> dict[str, Any]:
    """Make the rows of `source` and write `out/name`: Parquet files of the splits, `README.md`, `report.json`, and
    `eval.yaml` where models can be compared on the test splits.

    Rows with an input that occurred before are removed (letters and digits count, not case and punctuation), and so
    are all that give equal inputs different labels. A group goes to a split by its hash. Held-out rows whose input
    shares 13 words in a row (of Chinese: characters) with a train row are removed. Equal packages give equal bytes.

    Returns:
        the report: `packages` with their sha256, rows `read`, `removed` by reason, and rows in `splits`.

    Raises:
        CommandError: a package cannot be fetched, or a split is empty.
        RequestError: a package is not what it should be.
    """
    with files.exclusive_lock(out / ".lock"):
        packages = [fetch(package, out / "packages") for package in source.packages]
    removed: Removed = Counter()
    with progress.task(f"read {name}", unit="rows") as shown:
        examples = []
        for example in source.read(packages, removed):
            examples.append(example)
            shown.advance()
    read = len(examples) + removed.total()
    splits = _split(source, _unique(examples, source.task, removed), removed)
    for split, rows in splits.items():
        if not rows:
            raise CommandError(f"{name}: the {split} split is empty: rows read {read:,}, removed {dict(+removed)}")
    report = {
        "name": name,
        "task": source.task,
        "packages": [{"file": path.name, "sha256": files.sha256_file(path)} for path in packages],
        "read": read,
        "removed": dict(+removed),
        "splits": {split: len(rows) for split, rows in splits.items()},
    }
    with files.atomic_directory(out / name) as directory:
        for split, rows in splits.items():
            path = split_path(directory, split)
            path.parent.mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd", use_content_defined_chunking=True)
        files.write_text(directory / "README.md", _card(name, source, report))
        if metrics := METRICS[source.task]:
            tests = [split for split in splits if split.startswith(TEST)]
            files.write_text(directory / FILE, benchmark(name, source.summary, metrics, tests))
        files.write_json(directory / "report.json", report)
    return report


def read_text(row: dict[str, Any], task: FinetuningTask) -> str:
    """What a model reads of a row, as one text."""
    parts = [row[column] for column in COLUMNS[task][0] if column not in OUTPUTS]
    return "\n".join(part if isinstance(part, str) else str(part) for part in parts)


def _unique(examples: Iterable[Example], task: FinetuningTask, removed: Removed) -> list[Example]:
    """The first row of each input, and none of those whose labels contradict one another."""
    first: dict[str, Example] = {}
    contradicted: set[str] = set()
    for example in examples:
        text = read_text(example.row, task)
        key = " ".join(words(text)) or text
        known = first.setdefault(key, example)
        if known is not example:
            removed["copies"] += 1
            if known.row.get("label") != example.row.get("label"):
                contradicted.add(key)
    removed["contradictory labels"] += len(contradicted)
    return [example for key, example in first.items() if key not in contradicted]


def _split(source: TaskSource, examples: list[Example], removed: Removed) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split; held-out ones only if they share nothing with train."""
    found: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for example in examples:
        found.setdefault(example.split or split_of(SALT + example.group, source.split), []).append(example.row)
    train = [read_text(row, source.task) for row in found["train"]]
    for split in [split for split in found if split != "train"]:
        texts = [read_text(row, source.task) for row in found[split]]
        shared = overlaps(train, texts, OVERLAP_WORDS)
        removed[f"{OVERLAP_WORDS} words in a row as in train"] += sum(shared)
        kept = [(text, row) for text, row, seen in zip(texts, found[split], shared, strict=True) if not seen]
        chosen = sorted(_hash(text) for text, _ in kept)[: source.most.get(split)]
        removed["beyond the size of a split"] += len(kept) - len(chosen)
        found[split] = [row for text, row in kept if chosen and _hash(text) <= chosen[-1]]
    return found


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _card(name: str, source: TaskSource, report: dict[str, Any]) -> str:
    head = {
        "license": source.licence.lower(),
        "language": list(source.language),
        "task_categories": [CATEGORIES[source.task]],
        "pretty_name": name,
        "tags": ["lmcommons"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*"} for split in report["splits"]],
            }
        ],
    }
    packages = [
        f"- {package.registry}: `{package.name}`, file `{found['file']}`, sha256 `{found['sha256']}`"
        for package, found in zip(source.packages, report["packages"], strict=True)
    ]
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {name}",
        source.summary,
        "## Rows",
        f"Task: {source.task}. Columns: {', '.join(f'`{column}`' for column in COLUMNS[source.task][0])}.",
        _table(("split", "rows"), report["splits"]),
        "A group of rows (a page, or one text) goes to a split by the sha256 of its name, so that adding others moves "
        "none.",
        "## Where they come from",
        "\n".join(packages),
        f"## What was removed of {report['read']:,} rows",
        _table(("reason", "rows"), report["removed"]),
        "## Limits",
        source.limits,
        "## Licence",
        f"{source.licence}, as the packages state it.",
        "Made by `lmc task-data`.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, str], counts: dict[str, int]) -> str:
    lines = [head, ("---", "---:"), *((what, f"{count:,}") for what, count in counts.items())]
    return "\n".join(f"| {what} | {count} |" for what, count in lines)
