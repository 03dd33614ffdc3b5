"""Every kind of source gives its documents, and bad input is one line that names the file and the place."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcommons.data import sources
from lmcommons.data.step import Document
from lmcommons.errors import RequestError
from lmcommons.recipe import JsonLines, Parquet, TextFiles


def text_files(*paths: str, separator: str | None = None) -> TextFiles:
    return TextFiles(type="text", paths=list(paths), document_separator=separator, licence="CC0-1.0")


def json_lines(*paths: str) -> JsonLines:
    return JsonLines(type="jsonl", paths=list(paths), licence="CC0-1.0")


def parquet(*paths: str) -> Parquet:
    return Parquet(type="parquet", paths=list(paths), licence="CC0-1.0")


def read(source: TextFiles | JsonLines | Parquet, base: Path) -> list[Document]:
    return list(sources.documents(source, base))


def test_text_files_are_documents_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "deep/er/c.txt", "[odd].txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    found = read(text_files("**/*.txt"), tmp_path)
    assert [document.source for document in found] == ["[odd].txt", "a.txt", "b.txt", "deep/er/c.txt"]
    assert found[1].text == "text of a.txt"
    assert {document.licence for document in found} == {"CC0-1.0"}
    assert len({document.id for document in found}) == 4
    assert [document.source for document in read(text_files("[odd].txt", "a.txt", "*.txt"), tmp_path)] == [
        "[odd].txt", "a.txt", "b.txt"
    ]  # fmt: skip


def test_the_separator_cuts_a_file_into_documents(tmp_path: Path) -> None:
    (tmp_path / "quotes").write_bytes("first\r\n%\r\n   \r\n%\r\n第二\r\nline\r\n%\r\nlast".encode())
    found = read(text_files("quotes", separator="\n%\n"), tmp_path)
    assert [(document.text, document.source) for document in found] == [
        ("first", "quotes#1"), ("第二\nline", "quotes#3"), ("last", "quotes#4")
    ]  # fmt: skip


def test_a_pair_is_a_document_with_a_tab_between_its_sides(tmp_path: Path) -> None:
    rows = [{"source": "good\tmorning", "target": "guten Morgen"}, {"source": "tea", "target": "Tee"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    fields = {"text_field": "source", "target_field": "target", "licence": "CC0-1.0"}
    for source in (
        JsonLines(type="jsonl", paths=["pairs.jsonl"], **fields),
        Parquet(type="parquet", paths=["pairs.parquet"], **fields),
    ):
        found = read(source, tmp_path)
        assert [document.text for document in found] == ["good morning\tguten Morgen", "tea\tTee"]
        assert found[1].source.endswith(":2")
    with pytest.raises(RequestError, match=r"pairs\.parquet: no column 'translation'; its columns are source, target"):
        read(Parquet(type="parquet", paths=["*.parquet"], **{**fields, "target_field": "translation"}), tmp_path)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.text(alphabet="ab中😀", min_size=1, max_size=9), min_size=1), block=st.integers(1, 12))
def test_a_separator_is_found_wherever_the_blocks_end(
    parts: list[str], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("blocks")
    (directory / "file").write_text("<sep>".join(parts), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK", block)
        found = read(text_files("file", separator="<sep>"), directory)
    assert [document.text for document in found] == parts


def test_json_lines_keep_what_the_documents_say_of_themselves(tmp_path: Path) -> None:
    rows = [
        {"text": "one"},
        {"text": "two", "licence": "MIT", "id": "second", "source": "https://example.org/2", "more": [1]},
    ]
    (tmp_path / "rows.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8-sig")
    first, second = read(json_lines("rows.jsonl"), tmp_path)
    assert (first.text, first.source, first.licence) == ("one", "rows.jsonl:1", "CC0-1.0")
    assert second == Document("second", "two", "https://example.org/2", "MIT")


def test_parquet_rows_are_documents(tmp_path: Path) -> None:
    table = pa.table({"content": ["one", "two"], "licence": ["MIT", None], "n": [1, 2]})
    pq.write_table(table, tmp_path / "rows.parquet")
    source = Parquet(type="parquet", paths=["rows.parquet"], text_field="content", licence="CC0-1.0")
    assert [(d.text, d.source, d.licence) for d in read(source, tmp_path)] == [
        ("one", "rows.parquet:1", "MIT"), ("two", "rows.parquet:2", "CC0-1.0")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9 is Latin-1", r"bad\.txt: not UTF-8 text: invalid continuation byte at byte 3"),
        (b"a" * 3_000_000 + "é".encode()[:1], r"bad\.txt: not UTF-8 text: unexpected end of data at byte 3000000"),
        ("é".encode() * 600_000 + b"\xff", r"bad\.txt: not UTF-8 text: invalid start byte at byte 1200000"),
        (b"text" * 400_000 + b"\x00", r"bad\.txt: a binary file, not text \(a zero byte at byte 1600000\)"),
    ],
    ids=["Latin-1", "cut character", "after a block", "binary"],
)
def test_a_file_that_is_not_text_is_named_with_the_byte(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(RequestError, match=message):
        read(text_files("*.txt"), tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "x"', r"rows\.jsonl:2: not a JSON object: "),
        (b'["text"]', r"rows\.jsonl:2: not a JSON object but list"),
        (b'{"body": "x", "n": 1}', r"rows\.jsonl:2: no field 'text'; its fields are body, n"),
        (b'{"text": null}', r"rows\.jsonl:2: 'text' is NoneType, not text"),
        (b'{"text": "\xff"}', r"rows\.jsonl:2: not UTF-8 text: invalid start byte at byte 10 of the line"),
        (rb'{"text": "ab\ud800"}', r"rows\.jsonl:2: 'text' has a lone surrogate at character 2"),
        (b"[" * 100_000, r"rows\.jsonl:2: not a JSON object: "),
    ],
    ids=["cut", "list", "field", "null", "UTF-8", "surrogate", "deep"],
)
def test_a_bad_line_is_named(line: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "good"}\n' + line + b"\n")
    with pytest.raises(RequestError, match=message):
        read(json_lines("rows.jsonl"), tmp_path)


def test_bad_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_text("not parquet")
    with pytest.raises(RequestError, match=r"bad\.parquet: not readable as Parquet"):
        read(parquet("bad.parquet"), tmp_path)
    pq.write_table(pa.table({"a": ["x"], "b": ["y"]}), tmp_path / "columns.parquet")
    with pytest.raises(RequestError, match=r"columns\.parquet: no column 'text'; its columns are a, b"):
        read(parquet("columns.parquet"), tmp_path)
    pq.write_table(pa.table({"text": ["x", None]}), tmp_path / "null.parquet")
    with pytest.raises(RequestError, match=r"null\.parquet:2: 'text' is NoneType"):
        read(parquet("null.parquet"), tmp_path)


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "directory.txt").mkdir()
    with pytest.raises(RequestError, match=r"'\*\.txt' matches no file"):
        read(text_files("*.txt"), tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (text_files("line"), r"line: a document of more than 1,000 characters; set document_separator"),
        (text_files("line", separator="<sep>"), r"line: a document of more than 1,000 characters"),
        (json_lines("line"), r"line:1: a line of more than 1,000 bytes"),
    ],
    ids=["whole", "separated", "jsonl"],
)
def test_a_document_that_is_too_long_is_refused(
    source: TextFiles | JsonLines, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LARGEST_DOCUMENT", 1000)
    (tmp_path / "line").write_text("0123456789" * 101)
    with pytest.raises(RequestError, match=message):
        read(source, tmp_path)
