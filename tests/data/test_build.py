"""The pipeline writes a dataset that others read, the same bytes for the same input, and says what it kept."""

import hashlib
import json
import random
from pathlib import Path
from pydoc_data.topics import topics

import datasets
import pytest
from huggingface_hub import HfApi

from lmcommons import data
from lmcommons.data import python_docs
from lmcommons.errors import CommandError, RequestError
from lmcommons.recipe import DataRecipe

SOURCE = {"type": "jsonl", "paths": ["rows.jsonl"], "licence": "PSF-2.0"}


def recipe(*sources: dict, **fields: object) -> DataRecipe:
    split = {"validation": 0.2, "test": 0.2}
    return DataRecipe.model_validate({"sources": list(sources or [SOURCE]), "split": split, **fields})


def digests(directory: Path) -> dict[str, str]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Real text with exact and near duplicates, and rows that the filters remove."""
    texts = sorted(set(topics.values()))
    rows = [*texts, texts[0], texts[1].replace("the", "teh", 1), "too short", "0123456789" * 20]
    shared = "words that stand in every one of these otherwise different documents, thirteen of them or more: "
    rows += [f"{shared}{place} {text[-900:]}" for place, text in enumerate(texts[:30])]
    lines = [json.dumps({"text": text} | ({"licence": "MIT"} if place == 3 else {})) for place, text in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_the_dataset_is_complete_disjoint_and_counted(base: Path) -> None:
    report = data.build(recipe(), base, base / "out")
    assert report == json.loads((base / "out" / "report.json").read_text())
    splits = {split: list(data.read(base / "out", split)) for split in data.SPLITS}
    for split, documents in splits.items():
        counted = report["splits"][split]
        assert counted["documents"] == len(documents) > 0
        assert counted["bytes"] == sum(len(document.text.encode()) for document in documents)
        assert sum(counted["licences"].values()) == len(documents)
    steps = {step["name"]: step for step in report["steps"]}
    assert steps["filter"]["removed"].keys() == {"min_characters", "min_letter_fraction"}
    assert steps["exact duplicates"]["removed"]["exact"]["documents"] == 1
    assert steps["near duplicates"]["removed"]["near"]["documents"] >= 1
    assert steps["overlap with train"]["removed"]["overlap_ngram"]["documents"] >= 1
    for step in report["steps"]:
        lost = sum(removed["documents"] for removed in step["removed"].values())
        assert step["before"]["documents"] == step["after"]["documents"] + lost
    (source,) = report["sources"]
    assert (
        source["read"]["documents"] == steps["normalise"]["before"]["documents"] == len(set(topics.values())) + 4 + 30
    )
    assert source["read"]["licences"] == {"MIT": 1, "PSF-2.0": source["read"]["documents"] - 1}

    texts = [document.text for documents in splits.values() for document in documents]
    assert len(set(texts)) == len(texts)
    train = [document.text for document in splits["train"]]
    assert not any(data.overlaps(train, [document.text for document in splits["test"]], 13))
    assert not any(data.overlaps(train, [document.text for document in splits["validation"]], 13))


def test_the_datasets_library_reads_it(base: Path) -> None:
    report = data.build(recipe(), base, base / "out")
    loaded = datasets.load_dataset(str(base / "out"), cache_dir=str(base / "cache"))
    assert {split: loaded[split].num_rows for split in data.SPLITS} == {
        split: counts["documents"] for split, counts in report["splits"].items()
    }
    assert loaded["train"].column_names == ["id", "text", "source", "licence"]


def test_equal_inputs_give_equal_bytes_and_order_moves_no_document(base: Path) -> None:
    data.build(recipe(), base, base / "first")
    data.build(recipe(), base, base / "second")
    assert digests(base / "first") == digests(base / "second")

    lines = (base / "rows.jsonl").read_text().splitlines()
    (base / "rows.jsonl").write_text("\n".join(random.Random(0).sample(lines, len(lines))))
    data.build(recipe(deduplicate={"near": False}), base, base / "shuffled")
    splits = [{d.text: s for s in data.SPLITS for d in data.read(base / name, s)} for name in ("first", "shuffled")]
    common = splits[0].keys() & splits[1].keys()
    assert len(common) > 60
    assert all(splits[0][text] == splits[1][text] for text in common)


def test_the_fingerprint_follows_the_content_and_the_recipe(base: Path) -> None:
    first = data.fingerprint(recipe(), base)
    assert data.fingerprint(recipe(), base) == first
    assert data.fingerprint(recipe(unicode_form="NFKC"), base) != first
    moved = base / "moved"
    moved.mkdir()
    (moved / "rows.jsonl").write_bytes((base / "rows.jsonl").read_bytes())
    assert data.fingerprint(recipe(), moved) == first
    with (base / "rows.jsonl").open("a") as file:
        file.write(" ")
    assert data.fingerprint(recipe(), base) != first


def test_the_fingerprint_of_the_python_documentation_follows_the_interpreter(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documentation = recipe({"type": "python-docs"})
    first = data.fingerprint(documentation, base)
    assert data.fingerprint(documentation, base) == first
    monkeypatch.setattr("sys.version", "3.99.0 (another build)")
    assert data.fingerprint(documentation, base) != first


def test_nothing_left_says_what_removed_it_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    source = {"type": "text", "paths": ["empty.txt"], "licence": "CC0-1.0"}
    with pytest.raises(
        CommandError, match=r"the train split is empty: documents read 1, removed by min_characters 1; "
    ):
        data.build(recipe(source), tmp_path, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.txt"]


def test_an_unreadable_source_leaves_the_former_dataset(base: Path) -> None:
    data.build(recipe(), base, base / "out")
    before = digests(base / "out")
    (base / "rows.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(RequestError, match=r"rows\.jsonl:1: not UTF-8 text"):
        data.build(recipe(), base, base / "out")
    assert digests(base / "out") == before
    assert sorted(path.name for path in base.iterdir()) == ["out", "rows.jsonl"]


def test_a_missing_split_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no data/train-\*\.parquet"):
        list(data.read(tmp_path, "train"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_text("x")
    with pytest.raises(RequestError, match="not a split with the columns id, text, source, licence"):
        list(data.read(tmp_path, "train"))


def test_python_documentation_is_about_two_million_characters_of_clean_documents() -> None:
    documents = list(python_docs.documents())
    assert 2e6 < sum(len(document.text) for document in documents) < 6e6
    assert {document.licence for document in documents} == {"PSF-2.0"}
    by_source = {document.source: document.text for document in documents}
    assert len(by_source) == len(documents)
    assert by_source["pydoc_data.topics:while"].startswith('The "while" statement')
    assert "str.split\n\nReturn a list of the substrings" in by_source["builtins.str"]
    assert by_source["threading.Event"].startswith("class threading.Event\n\nClass implementing event objects.")
    assert "threading.Event.wait(self, timeout=None)\n\nBlock until" in by_source["threading.Event"]
    assert "textwrap.dedent(text)\n\nRemove any common leading whitespace" in by_source["textwrap"]
    assert not any(name.startswith(("test.", "idlelib.")) for name in by_source)


def test_a_dataset_on_a_hub_is_read_at_one_commit(
    hub, member_token: str, base: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_TOKEN", member_token)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
    data.build(recipe(), base, base / "out")
    (base / "out" / "README.md").write_text("---\nlicense: other\nlicense_name: psf-2.0\n---\n# Topics\n")
    api = HfApi(endpoint=hub.endpoint, token=member_token)
    repository = api.create_repo("trainer/topics", repo_type="dataset").repo_id
    commit = api.upload_folder(repo_id=repository, folder_path=base / "out", repo_type="dataset").oid

    trained = list(data.sources.documents(recipe({"type": "hub", "repository": repository}).sources[0], base))
    assert trained == list(data.read(base / "out", "train"))  # held-out splits are not read unless they are named

    with pytest.raises(CommandError, match=r"the validation split is empty: .* read all splits"):
        data.build(recipe({"type": "hub", "repository": repository}), base, base / "nothing")

    asked = recipe({"type": "hub", "repository": repository, "files": "**/*.parquet"})
    resolved = data.resolve(asked, base)
    assert resolved.sources[0].revision == commit
    assert data.fingerprint(asked, base) == data.fingerprint(resolved, base)
    api.upload_file(
        path_or_fileobj=b'{"text": "later"}', path_in_repo="data/more.jsonl", repo_id=repository, repo_type="dataset"
    )
    report = data.build(resolved, base, base / "again")
    read = report["sources"][0]["read"]
    original = {document for split in data.SPLITS for document in data.read(base / "out", split)}
    assert read["documents"] == len(original)
    assert {document for split in data.SPLITS for document in data.read(base / "again", split)} <= original

    text = {"type": "hub", "repository": repository, "files": "*.md"}
    card = data.sources.documents(recipe(text).sources[0], base)
    assert [(d.licence, d.text.splitlines()[-1]) for d in card] == [("psf-2.0", "# Topics")]
    for wrong, message in [
        ({"repository": "trainer/absent"}, "dataset trainer/absent: no such repository"),
        ({"repository": "trainer/a--b"}, "dataset trainer/a--b: not the name of a repository"),
        ({"revision": "absent"}, "no revision 'absent'"),
        ({"files": "*.csv"}, r"files: '\*\.csv' matches none of its \d+ files"),
    ]:
        source = recipe({"type": "hub", "repository": repository} | wrong).sources[0]
        with pytest.raises(RequestError, match=message):
            list(data.sources.documents(source, base))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CommandError, match=f"dataset {repository}: http://127.0.0.1:9 does not answer: "):
        data.resolve(asked, base)
