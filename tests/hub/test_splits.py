"""Which files are the splits of a dataset: as `datasets` itself decides."""

from pathlib import Path
from typing import Any

import pytest
from datasets.data_files import DataFilesDict, get_data_patterns, sanitize_patterns

from lmcommons.hub.repos.splits import Split, find_splits


def found(paths: list[str], card: dict[str, Any] | None = None) -> dict[str, list[str]]:
    return {split.name: list(split.paths) for split in find_splits(paths, card or {})}


def by_datasets(folder: Path, paths: list[str], patterns: Any = None, base: str = "") -> dict[str, list[str]]:
    """What `datasets` finds in a folder with these files."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")
    root = str(folder / base)
    chosen = sanitize_patterns(patterns) if patterns is not None else get_data_patterns(root)
    files = DataFilesDict.from_patterns(chosen, base_path=root)
    return {str(split): [str(Path(name).relative_to(folder)) for name in names] for split, names in files.items()}


@pytest.mark.parametrize(
    "paths",
    [
        ["train.csv"],
        ["a.csv", "b.csv"],
        ["train.csv", "test.csv"],
        ["train.csv", "dev.csv", "evaluation.csv"],
        ["my-train-file.csv", "my-valid-file.csv"],
        ["my_training_0.csv", "my_testing_1.csv"],
        ["train0.csv", "train1.csv", "test0.csv"],
        ["strain.csv", "latest.csv"],
        ["retrain-x.csv", "contest.csv"],
        ["TRAIN.csv", "Test.csv"],
        ["data.train.csv", "data.val.csv"],
        ["train/0.csv", "train/1.csv", "test/0.csv"],
        ["data/train/0.csv", "data/validation/0.csv"],
        ["corpus-train/0.csv", "corpus-dev/0.csv"],
        ["train/test.csv"],
        ["x/train/y/0.csv", "x/test/y/0.csv", "loose.csv"],
        ["data/train-00000-of-00001.csv", "data/test-00000-of-00002.csv", "data/test-00001-of-00002.csv"],
        ["data/train-00000-of-00001.csv", "data/rehearsal-00000-of-00001.csv"],
        ["data/zz-00000-of-00001.csv", "data/aa-00000-of-00001.csv", "data/validation-00000-of-00001.csv"],
        ["data/train-00000-of-00001-abcdef.csv", "other/test.csv"],
        ["train.csv", ".hidden/test.csv", "__pycache__/test.csv", ".test.csv"],
        ["config.json", "train.csv", "README.md"],
        ["deep/er/and/deeper/a.csv"],
        ["train.jsonl.gz", "data.test.jsonl.zst"],
        ["c4-train.00000-of-01024.json.gz", "c4-validation.00000-of-00008.json.gz"],
    ],
)
def test_names_tell_as_they_do_to_datasets(tmp_path: Path, paths: list[str]):
    assert found(paths) == by_datasets(tmp_path, paths)


FILES = ["train/a.csv", "train/b.csv", "train/deep/c.csv", "test/a.csv", "loose.csv", "en/x.csv", "en/test/x.csv",
         ".hidden/h.csv", "__special/s.csv", "en/config.json"]  # fmt: skip


@pytest.mark.parametrize(
    "patterns",
    [
        "loose.csv",
        "*.csv",
        "**",
        "**/*.csv",
        "train/*",
        "train/**",
        "train/**/*",
        "*/a.csv",
        "t*t/?.csv",
        "train/[ab].csv",
        "train/[!a].csv",
        ["train/a.csv", "test/*"],
        [{"split": "train", "path": "train/*"}, {"split": "test", "path": ["test/*", "loose.csv"]}],
        ".hidden/*",
        "__special/*.csv",
        "en/**/x.csv",
    ],
)
def test_patterns_mean_what_they_do_to_datasets(tmp_path: Path, patterns: Any):
    card = {"configs": [{"config_name": "default", "data_files": patterns}]}
    ours, theirs = found(FILES, card), by_datasets(tmp_path, FILES, patterns)
    kept = {split: [name for name in names if name.endswith(".csv")] for split, names in theirs.items()}
    assert {split: sorted(names) for split, names in ours.items()} == {
        split: sorted(names) for split, names in kept.items() if names
    }


def test_a_folder_of_a_configuration_is_looked_into(tmp_path: Path):
    paths = ["en/train.csv", "en/test.csv", "fr/train.csv", "other.csv"]
    card = {"configs": [{"config_name": name, "data_dir": name} for name in ("fr", "en")]}
    assert find_splits(paths, card) == [
        Split("fr", "train", "csv", ("fr/train.csv",)),
        Split("en", "train", "csv", ("en/train.csv",)),
        Split("en", "test", "csv", ("en/test.csv",)),
    ]
    assert found(paths, {"configs": card["configs"][1:]}) == by_datasets(tmp_path, paths, base="en")


def test_one_format_is_chosen_for_a_configuration():
    paths = ["train.csv", "train-0.parquet", "train-1.parquet", "train.txt"]
    assert find_splits(paths, {}) == [Split("default", "train", "parquet", ("train-0.parquet", "train-1.parquet"))]


def test_files_that_are_no_rows_are_no_splits():
    assert find_splits(["README.md", "picture.png", ".gitattributes", "eval.yaml", "config.json"], {}) == []


@pytest.mark.parametrize(
    "configs",
    [
        "all",
        [5],
        [{"data_files": "x"}],
        [{"config_name": 5}],
        [{"config_name": "a", "data_files": 5}],
        [{"config_name": "a", "data_files": [5]}],
        [{"config_name": "a", "data_files": [{"split": "train"}]}],
        [{"config_name": "a", "data_files": [{"split": "tr-ain", "path": "x"}]}],
        [{"config_name": "a", "data_files": [{"split": "t", "path": "x"}, {"split": "t", "path": "y"}]}],
        [{"config_name": "a", "data_files": [{"split": "t", "path": [5]}]}],
        [{"config_name": "a", "data_dir": ["x"]}],
        [{"config_name": "a"}] * 1_001,
    ],
)
def test_configurations_that_make_no_sense_are_refused(configs: Any):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        find_splits(["a.csv"], {"configs": configs})


def test_patterns_that_would_take_long_are_refused():
    paths = [f"{number:05}.csv" for number in range(10_000)]
    card = {"configs": [{"config_name": "a", "data_files": ["*a*a*a*a*a*a*a*a*b"] * 500}]}
    with pytest.raises(ValueError, match="too many patterns"):
        find_splits(paths, card)
    card = {"configs": [{"config_name": "a", "data_files": "/".join(["**"] * 50) + "/" + "*a" * 50 + "b"}]}
    assert find_splits(["/".join(["a" * 60] * 20) + ".csv"], card) == []
