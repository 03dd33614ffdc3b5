"""Which files of a dataset are the splits of its configurations, as `datasets.load_dataset` finds them.

A card names them under `configs`; else names of folders and files tell: `train`, `dev`, `data/test-00000-of-00002.csv`.
Source: https://huggingface.co/docs/datasets/repository_structure
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from lmcommons.hub.errors import Malformed

DEFAULT = "default"
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}  # of texts, as Arrow names them
_TEXTS = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}
FORMATS = {
    ".parquet": "parquet",
    **{suffix + packed: kind for suffix, kind in _TEXTS.items() for packed in ("", *COMPRESSIONS)},
}
NOT_DATA = frozenset(
    ("README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "eval.yaml")
)
CONFIGS_LIMIT = 1_000
MATCHES_LIMIT = 1_000_000  # comparisons of a path with a pattern

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_BORDER = "[-._ 0-9]"
_IN_FOLDER = {
    split: re.compile(f"(?:^|{_BORDER})(?:{'|'.join(words)})(?:$|{_BORDER})") for split, words in KEYWORDS.items()
}
_IN_FILE = {split: re.compile(f"(?:^|{_BORDER})(?:{'|'.join(words)}){_BORDER}") for split, words in KEYWORDS.items()}
_SHARD = re.compile(r"data/([^/]+)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_NAME = re.compile(r"\w+(\.\w+)*")


@dataclass(frozen=True)
class Split:
    """The files of a split, in order, and what they are: `parquet`, `json` or `csv`."""

    config: str
    name: str
    format: str
    paths: tuple[str, ...]


def data_format(path: str) -> str | None:
    """The format of a file of rows, by its name; None for other files."""
    name = PurePosixPath(path).name
    return None if name in NOT_DATA or name.startswith(".") else FORMATS.get(data_suffix(path))


def data_suffix(path: str) -> str:
    """What the name of a file of rows ends in, with its compression: `.csv`, `.jsonl.gz`; of other files nothing."""
    last = PurePosixPath(path.lower()).suffixes[-2:]
    return next((suffix for suffix in ("".join(last), *last[-1:]) if suffix in FORMATS), "")


def find_splits(paths: Iterable[str], card: dict[str, Any]) -> list[Split]:
    """The splits that can be read as rows, in the order of the card, or train, validation, test.

    Raises:
        ValueError: what is wrong with the card's `configs`.
    """
    ordered = sorted(paths)
    left = [MATCHES_LIMIT]
    found = []
    for config, base, patterns in _configs(card):
        files = _by_patterns(ordered, base, patterns, left) if patterns else _by_names(ordered, base)
        formats = Counter(kind for names in files.values() for name in names if (kind := data_format(name)))
        if not formats:
            continue
        chosen = formats.most_common(1)[0][0]
        for split, names in files.items():
            kept = tuple(name for name in dict.fromkeys(names) if data_format(name) == chosen)
            if kept:
                found.append(Split(config, split, chosen, kept))
    return found


def _configs(card: dict[str, Any]) -> list[tuple[str, str, dict[str, list[str]]]]:
    """Each configuration's name, folder, and patterns by split: none when names must tell."""
    declared = card.get("configs") or [{"config_name": DEFAULT}]
    if not isinstance(declared, list) or len(declared) > CONFIGS_LIMIT:
        raise Malformed("`configs` must be a list of at most {limit:,} configurations", limit=CONFIGS_LIMIT)
    found = []
    for config in declared:
        if not isinstance(config, dict) or not isinstance(config.get("config_name"), str):
            raise Malformed("each of `configs` needs a `config_name`")
        base = config.get("data_dir") or ""
        if not isinstance(base, str):
            raise Malformed("{config!r}: `data_dir` must be a folder", config=config["config_name"])
        found.append((config["config_name"], base.removeprefix("./").strip("/"), _patterns(config)))
    return found


def _patterns(config: dict[str, Any]) -> dict[str, list[str]]:
    files = config.get("data_files")
    if files is None:
        return {}
    if isinstance(files, str):
        files = [files]
    if isinstance(files, list) and all(isinstance(pattern, str) for pattern in files):
        return {"train": files}
    found: dict[str, list[str]] = {}
    for entry in files if isinstance(files, list) else [files]:
        split, path = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        patterns = [path] if isinstance(path, str) else path
        if not isinstance(split, str) or not _NAME.fullmatch(split) or split in found:
            raise Malformed("{config!r}: each of `data_files` needs a `split` of its own", config=config["config_name"])
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            raise Malformed(
                "{config!r}: split {split} needs a `path`, or a list of them", config=config["config_name"], split=split
            )
        found[split] = patterns
    return found


def _by_patterns(
    ordered: list[str], base: str, patterns: dict[str, list[str]], left: list[int]
) -> dict[str, list[str]]:
    return {
        split: [path for pattern in wanted for path in _glob(ordered, "/".join(filter(None, (base, pattern))), left)]
        for split, wanted in patterns.items()
    }


def _glob(ordered: list[str], pattern: str, left: list[int]) -> list[str]:
    """The paths that a pattern means; `*` stays in a folder, `**` does not, and hidden names must be written out."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    fixed = 0
    while fixed < len(parts) - 1 and not re.search(r"[*?\[]", parts[fixed]):
        fixed += 1
    prefix = "".join(f"{part}/" for part in parts[:fixed])
    found = []
    for at in range(bisect_left(ordered, prefix), len(ordered)):
        path = ordered[at]
        if not path.startswith(prefix):
            break
        left[0] -= len(parts)
        if left[0] < 0:
            raise Malformed("`configs` has too many patterns for so many files")
        names = path.split("/")
        if (
            _matches(names, parts)
            and _hidden(names) == _hidden(parts)
            and (names[-1] not in NOT_DATA or names[-1] == parts[-1])
        ):
            found.append(path)
    return found


def _matches(names: list[str], parts: list[str]) -> bool:
    """Whether the names of a path match the parts of a pattern: all positions in the pattern are followed at once."""
    reached = {0}
    for name in names:
        reached = _past_any_depth(reached, parts)
        reached = {
            at if parts[at] == "**" else at + 1
            for at in reached
            if at < len(parts) and (parts[at] == "**" or fnmatchcase(name, parts[at]))
        }
    return len(parts) in _past_any_depth(reached, parts)


def _past_any_depth(reached: set[int], parts: list[str]) -> set[int]:
    """Also the positions after `**`, which may stand for no folder at all."""
    found = set(reached)
    for at in sorted(reached):
        while at < len(parts) and parts[at] == "**":
            at += 1
            found.add(at)
    return found


def _hidden(names: list[str]) -> tuple[int, int]:
    """How many names are hidden, and how many folders are special, such as `__pycache__`."""
    return sum(name.startswith(".") for name in names), sum(name.startswith("__") for name in names[:-1])


def _by_names(ordered: list[str], base: str) -> dict[str, list[str]]:
    """By shards in `data/`, else by names of folders, else by names of files, else all are for training."""
    start = f"{base}/" if base else ""
    files = [path.removeprefix(start) for path in ordered if path.startswith(start)]
    files = [path for path in files if _hidden(names := path.split("/")) == (0, 0) and names[-1] not in NOT_DATA]
    shards: dict[str, list[str]] = {}
    for path in files:
        if match := _SHARD.fullmatch(path):
            shards.setdefault(match[1], []).append(path)
    found = {split: shards[split] for split in (*KEYWORDS, *sorted(shards.keys() - KEYWORDS.keys())) if split in shards}
    if not found:
        found = _by(lambda split, path: any(map(_IN_FOLDER[split].search, path.split("/")[:-1])), files)
    if not found:
        found = _by(lambda split, path: bool(_IN_FILE[split].search(path.rpartition("/")[2])), files)
    return {split: [start + path for path in names] for split, names in (found or {"train": files}).items()}


def _by(belongs: Callable[[str, str], bool], files: list[str]) -> dict[str, list[str]]:
    found = {split: [path for path in files if belongs(split, path)] for split in KEYWORDS}
    return {split: names for split, names in found.items() if names}
