"""Rows are read from every format alike, and a wrong one is named."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_tasks import colours, read_recipe, write_rows

from lmcommons.errors import RequestError
from lmcommons.finetuning import rows

ROWS = [{"source": "red .", "target": "rot ."}, {"source": "blue\u2028sky", "target": "blau"}]


def read(home, task="translation", split="train", **data):
    recipe = read_recipe(home, task, data={"path": "data", **data}).finetuning.data
    return rows.read(recipe, home / "data", split, task)


def test_parquet_jsonl_and_parallel_text_give_the_same_rows(tmp_path):
    data = tmp_path / "data"
    write_rows(data, "one", ROWS)
    (data / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS[:1]), data / "data" / "two-00000-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[1:]), data / "data" / "two-00001-of-00002.parquet")
    for side in ("source", "target"):
        (data / f"three.{side}.txt").write_text("".join(f"{row[side]}\n" for row in ROWS))
    assert read(tmp_path, split="one").rows == read(tmp_path, split="two").rows == ROWS
    assert read(tmp_path, split="three").rows == ROWS


def test_columns_may_have_other_names(tmp_path):
    write_rows(tmp_path / "data", "train", [{"en": "red", "de": "rot", "id": 3}])
    assert read(tmp_path, columns={"source": "en", "target": "de"}).rows == [{"source": "red", "target": "rot"}]


def test_another_content_is_another_fingerprint(tmp_path):
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / "data", split, colours(4, 0))
    recipe = read_recipe(tmp_path, "translation").finetuning.data
    first = rows.fingerprint(recipe, tmp_path / "data")
    assert rows.fingerprint(recipe, tmp_path / "data") == first
    write_rows(tmp_path / "data", "test", colours(4, 1))
    assert rows.fingerprint(recipe, tmp_path / "data") != first


def test_parallel_files_of_different_length_are_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.source.txt").write_text("red\nblue\n")
    (tmp_path / "data" / "train.target.txt").write_text("rot\n")
    with pytest.raises(RequestError, match=r"train\.source\.txt has 2 lines and train\.target\.txt 1"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("translation", {"source": "red"}, "row 1: no column 'target'; it has source"),
        ("translation", {"source": "red", "target": "  "}, "row 1: target is empty"),
        ("translation", {"source": 3, "target": "drei"}, "row 1: source is int, not text"),
        ("sequence-classification", {"text": "a", "label": 0.5}, "row 1: label is float, not text or an integer"),
        ("token-classification", {"tokens": "a b", "labels": ["O"]}, "row 1: tokens is not a list of str"),
        ("token-classification", {"tokens": [], "labels": []}, "row 1: tokens is empty"),
        ("question-answering", {"question": "q", "context": "c", "answers": "c"}, "row 1: answers is not a list"),
        ("chat", {"messages": [{"role": "user"}]}, "row 1: messages has a message without a role and a content"),
        ("chat", {"messages": [{"role": "user", "content": "a"}]}, "row 1: messages has no answer of the assistant"),
    ],
)
def test_a_wrong_row_is_named_with_its_file(tmp_path, task, row, message):
    write_rows(tmp_path / "data", "train", [row])
    with pytest.raises(RequestError, match=f"train.jsonl: {message}"):
        read(tmp_path, task)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "train.jsonl: the split has no rows"),
        (b'{"source": 1', "train.jsonl:1: not JSON"),
        (b"[1]\n", "train.jsonl:1: a row is a JSON object, not list"),
        (b"\xff\xfe", r"train.jsonl: not UTF-8 text \(byte 0\)"),
    ],
)
def test_a_file_that_is_no_rows_is_named(tmp_path, content, message):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_bytes(content)
    with pytest.raises(RequestError, match=message):
        read(tmp_path)


def test_a_split_that_is_not_there_is_named_with_the_names_that_would_do(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(RequestError, match=r"no split 'train'; expected train\.parquet, train\.jsonl"):
        read(tmp_path)


def test_a_damaged_parquet_file_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").write_text(json.dumps(ROWS))
    with pytest.raises(RequestError, match=r"train\.parquet: not a Parquet file"):
        read(tmp_path)
