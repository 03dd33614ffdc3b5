"""What file pages show: previews of every kind of content, highlighted lines, stated results, figures for people."""

import base64
import gzip
import hashlib
import json
import re
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_gguf import ENTRIES, gguf
from web_page import Page
from weights import safetensors

from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.objects.blobs import DiskBlobs
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.repos.git import AddFile, AddLfs, Entry, GitRepository
from lmcommons.hub.repos.images import dimensions
from lmcommons.hub.repos.index import open_file
from lmcommons.hub.web import formatting, highlight, markdown, results
from lmcommons.hub.web.cells import LONGEST
from lmcommons.hub.web.markdown import Place
from lmcommons.hub.web.previews.files import MAX_LINE, MAX_TEXT, Preview, preview
from lmcommons.hub.web.previews.rows import Table
from lmcommons.hub.web.previews.tensors import ROWS, Group, tensors

PLACE = Place("/ada/m/blob/main", "/ada/m/resolve/main")
Show = Callable[..., Preview]


@pytest.fixture
def objects(store_in: Callable, tmp_path: Path) -> ObjectStore:
    return store_in(DiskBlobs(tmp_path / "objects"))


@pytest.fixture
def git(tmp_path: Path) -> GitRepository:
    return GitRepository.create(tmp_path / "repository.git")


def reader(git: GitRepository, objects: ObjectStore, commit: str) -> Callable[[str], BinaryIO]:
    return lambda path: open_file(git, objects, git.entry(commit, path))


@pytest.fixture
def show(git: GitRepository, objects: ObjectStore) -> Show:
    """The preview of a file with this name and content, committed to a real repository."""

    def make(name: str, content: bytes, **asked: Any) -> Preview:
        commit = git.commit("main", [AddFile(name, content)], message="x", author_name="a", author_email="a@b")
        entry = git.entry(commit, name)
        return preview(entry, reader(git, objects, commit), PLACE, **asked)

    return make


def words(table: Table) -> list[list[str]]:
    """What stands in the cells of a table."""
    return [[cell.text for cell in row] for row in table.rows]


def test_source_code_is_shown_in_highlighted_lines(show: Show) -> None:
    shown = show("a.py", b"def f():\n    return 1\n")
    assert shown.kind == "text"
    assert len(shown.lines) == 2
    assert '<span class="k">def</span>' in shown.lines[0]


def test_markup_in_a_text_file_is_shown_and_not_obeyed(show: Show) -> None:
    assert "&lt;script&gt;" in show("page.txt", b"<script>alert(1)</script>").lines[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_text_may_begin_with_a_mark_of_its_encoding(show: Show, encoding: str) -> None:
    assert show("a.txt", "名 1\n".encode(encoding)).lines == ["名 1"]
    table = show("a.csv", "名;n\n一;1,5\n".encode(encoding)).table
    assert ([column.name for column in table.columns], words(table)) == (["名", "n"], [["一", "1,5"]])


def test_a_text_has_pages_of_lines(show: Show) -> None:
    text = b"".join(b"line %d\n" % number for number in range(1, 1202))
    pages = [show("a.txt", text, page=number) for number in (1, 2, 3)]
    assert [(page.first, len(page.lines), page.more) for page in pages] == [
        (1, 500, True),
        (501, 500, True),
        (1001, 201, False),
    ]
    assert [page.lines[0] for page in pages] == ["line 1", "line 501", "line 1001"]
    with pytest.raises(EntryNotFound, match=r"a.txt has no page 4"):
        show("a.txt", text, page=4)


def test_of_a_long_text_the_beginning_is_shown_and_says_so(show: Show) -> None:
    text = ("é" * 100 + "\n").encode() * 4_000
    last = show("a.txt", text, page=6)
    assert last.partial
    assert not last.more
    assert show("a.txt", b"x" * (MAX_TEXT + 1)).lines == ["x" * MAX_LINE + "…"]


def test_json_lines_are_a_table_whose_columns_are_all_fields(show: Show) -> None:
    table = show("a.jsonl", b'{"id": 1, "text": "one"}\n{"id": 2, "more": [1, null]}\n').table
    assert [column.name for column in table.columns] == ["id", "text", "more"]
    assert [column.is_number for column in table.columns] == [True, False, False]
    assert words(table) == [["1", "one", ""], ["2", "", "[1, null]"]]
    assert [[cell.kind for cell in row] for row in table.rows] == [
        ["number", "text", "missing"],
        ["number", "missing", "structure"],
    ]
    assert (table.total, table.more) == (2, False)


STORIES = [{"id": number, "text": f"row {number}"} for number in range(120)]


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "\n".join(map(json.dumps, STORIES)).encode()),
        ("a.csv", b"id,text\n" + b"".join(b"%d,row %d\n" % (n, n) for n in range(120))),
        ("a.TSV", b"id\ttext\n" + b"".join(b"%d\trow %d\n" % (n, n) for n in range(120))),
        ("a.parquet", as_parquet(STORIES)),
        ("a.jsonl.gz", gzip.compress("\n".join(map(json.dumps, STORIES)).encode())),
        ("a.json.zst", pa.compress("\n".join(map(json.dumps, STORIES)).encode(), "zstd", asbytes=True)),
    ],
)
def test_rows_have_pages(show: Show, name: str, content: bytes) -> None:
    first, last = show(name, content), show(name, content, page=3)
    assert (words(first.table)[1], first.table.total, first.more) == (["1", "row 1"], 120, True)
    assert (last.table.first, words(last.table)[-1], last.more) == (100, ["119", "row 119"], False)
    with pytest.raises(EntryNotFound, match="has no page 4"):
        show(name, content, page=4)
    source = "text" if name.lower().endswith(("jsonl", "csv", "tsv")) else "binary"
    assert show(name, content, query={"view": "source"}).kind == source


def test_rows_of_a_long_file_are_read_from_its_beginning(show: Show) -> None:
    row = json.dumps({"text": "x" * 200_000}).encode() + b"\n"
    shown = show("a.jsonl", row * 60)
    assert shown.partial
    assert (shown.table.known, shown.table.total) == (41, None)
    assert (len(shown.table.rows[0][0].text), shown.table.rows[0][0].cut) == (LONGEST, True)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt", "metrics.jsonl", "a.md"])
def test_a_file_of_two_gigabytes_is_previewed_from_its_beginning(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b'{"step": 1, "text": "words"}\n' * 400_000)
        file.truncate(2 << 30)
    entry = Entry(name, "file", "0" * 40, 2 << 30, None)
    started = time.process_time()
    shown = preview(entry, lambda path: (tmp_path / path).open("rb"), PLACE)
    assert shown.kind == {"a.csv": "rows", "a.jsonl": "rows", "a.md": "markdown"}.get(name, "text")
    assert shown.partial or shown.more
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("name", "content", "kind", "says"),
    [
        ("a.parquet", b"PAR1" + bytes(100), "binary", "cannot be read as parquet"),
        ("a.parquet", as_parquet(STORIES)[:-30], "binary", "cannot be read as parquet"),
        ("a.csv", b"a,b\n1,2,3\n", "text", "row 0: 3 values for 2 columns"),
        ("a.csv", "a,b\n1,é\n".encode("latin-1"), "binary", "not UTF-8"),
        ("a.txt", "名".encode("gb18030"), "binary", "not UTF-8"),
        ("a.csv.gz", b"a,b\n1,2\n", "text", "cannot be read as csv.gz"),
        ("a.jsonl", b"[1]\n", "text", "an array|not a JSON object"),
        ("a.jsonl", b'{"text": "' + b"x" * (9 << 20), "text", "its first row is longer than 8,388,608 bytes"),
        ("a.safetensors", b"\xff" * 100, "binary", "not one of safetensors"),
        ("metrics.jsonl", b'{"loss": 1}\n', "text", "no numbers by step"),
        ("tfevents", b"\0" * 100, "binary", "event 1 is damaged"),
    ],
)
def test_what_is_not_what_its_name_says_is_shown_as_it_is_with_the_reason_in_one_line(
    show: Show, name: str, content: bytes, kind: str, says: str
) -> None:
    shown = show(name, content)
    assert shown.kind == kind
    assert re.search(says, shown.problem)
    assert "\n" not in shown.problem


def test_tensors_of_a_large_file_are_a_tree_by_their_names(git: GitRepository, objects: ObjectStore) -> None:
    names = [f"model.layers.{layer}.{part}.weight" for layer in range(12) for part in ("attention", "mlp")]
    content = safetensors(**{name: [2, 3] for name in (*names, "model.embed.weight", "lm_head.weight")})
    sha256 = hashlib.sha256(content).hexdigest()
    with objects.receive(sha256, len(content)) as incoming:
        incoming.write(content)
    operations = [AddLfs("model.safetensors", sha256, len(content)), AddLfs("lost.safetensors", "0" * 64, 5)]
    commit = git.commit("main", operations, message="x", author_name="a", author_email="a@b")
    model, lost = (git.entry(commit, name) for name in ("model.safetensors", "lost.safetensors"))
    root = preview(model, reader(git, objects, commit), PLACE).tensors
    assert (len(root.members), root.parameters, [tensor.name for tensor in root.tensors]) == (
        26,
        156,
        ["lm_head.weight"],
    )
    (whole,) = root.groups
    assert (whole.label, [tensor.name for tensor in whole.tensors]) == ("model", ["model.embed.weight"])
    (layers,) = whole.groups
    assert [group.label for group in layers.groups] == [str(layer) for layer in range(12)]
    assert [tensor.name for tensor in layers.groups[10].tensors] == names[20:22]
    within = preview(model, reader(git, objects, commit), PLACE, query={"within": "model.layers.10"}).tensors
    assert [tensor.name for tensor in within.tensors] == names[20:22]
    assert preview(lost, reader(git, objects, commit), PLACE).kind == "absent"


INDEX = "model.safetensors.index.json"


def test_the_tensors_of_all_files_of_an_index_are_one_tree(git: GitRepository, objects: ObjectStore) -> None:
    shards = {"one.safetensors": ["a.x", "b.x"], "two.safetensors": ["b.y"]}
    index = {"weight_map": {name: shard for shard, names in shards.items() for name in names}}
    files = {shard: safetensors(**{name: [2] for name in names}) for shard, names in shards.items()}
    added = [AddFile(f"deep/{name}", content) for name, content in files.items()]
    added.append(AddFile(f"deep/{INDEX}", json.dumps(index).encode()))
    commit = git.commit("main", added, message="x", author_name="a", author_email="a@b")
    shown = preview(git.entry(commit, f"deep/{INDEX}"), reader(git, objects, commit), PLACE)
    assert [group.label for group in shown.tensors.groups] == ["b"]
    assert shown.shards == {"a.x": "deep/one.safetensors", "b.x": "deep/one.safetensors", "b.y": "deep/two.safetensors"}


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({"weight_map": {"a": "gone.safetensors"}}, "it names 'gone.safetensors', which is not here"),
        ({"weight_map": {"a": "../../../etc/passwd"}}, "which is not here"),
        ({"weight_map": {"a": "/etc/passwd"}}, "which is not here"),
        ({"weight_map": {"a": INDEX}}, "is not one of safetensors"),
        ({"weight_map": 5}, "no `weight_map`"),
        ([], "not a JSON object"),
    ],
)
def test_an_index_that_leads_nowhere_is_shown_as_text_with_the_reason(show: Show, index: object, says: str) -> None:
    shown = show(INDEX, json.dumps(index).encode())
    assert shown.kind == "text"
    assert says in shown.problem


def opened(group: Group) -> int:
    return len(group.tensors) + len(group.groups) + sum(opened(below) for below in group.groups)


@pytest.mark.parametrize(
    "names",
    [
        [f"layers.{layer}.experts.{expert}.w" for layer in range(30) for expert in range(60)],
        [f"w{number}" for number in range(2_000)],
        [".".join("a" * depth) for depth in range(1, 300)],
        [f".{number}" for number in range(9)] + [f"..{number}" for number in range(9)] + ["", ".", "..", "a..b", "a."],
    ],
)
def test_any_names_are_a_tree_that_fits_on_a_page_and_loses_none(names: list[str]) -> None:
    root = tensors(BytesIO(safetensors(**{name: [1] for name in names})), "")
    assert opened(root) <= 2 * ROWS
    waiting, found = [root], []
    while waiting:
        group = waiting.pop()
        waiting += group.groups
        found += group.tensors if group.is_open else group.members
    assert len(found) + root.hidden == len(names)
    assert {tensor.name for tensor in found} <= set(names)


def test_the_curves_of_a_run_are_charts_with_training_and_validation_together(show: Show) -> None:
    rows = [{"step": n, "tokens": 10 * n, "loss": 5 / n, "validation_loss": 6 / n, "lr": 0.1} for n in range(1, 99)]
    shown = show("metrics.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert [(plot.tags, plot.over_tokens) for plot in shown.curves.plots] == [
        (["loss", "validation_loss"], True),
        (["lr"], True),
    ]
    one = show("metrics.jsonl", "\n".join(map(json.dumps, rows)).encode(), query={"tag": "lr"}).curves
    assert [plot.tags for plot in one.plots] == [["lr"]]
    assert list(one.series) == ["loss", "validation_loss", "lr"]


def picture(kind: str, width: int, height: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG", "WEBP", "AVIF", "BMP"])
def test_images_are_shown_with_their_size(show: Show, kind: str) -> None:
    shown = show(f"a.{kind.lower()}", picture(kind, 31, 17))
    assert (shown.kind, shown.size) == ("image", (31, 17))
    assert dimensions(BytesIO(picture(kind, 31, 17)[:20])) in (None, (31, 17))


def test_images_and_bytes_in_rows_are_told_by_their_size(show: Show) -> None:
    rows = [{"image": {"bytes": picture("PNG", 3, 3), "path": "a.png"}, "bytes": b"\0\1"}]
    (cells,) = show("a.parquet", as_parquet(rows)).table.rows
    assert [(cell.kind, cell.size) for cell in cells] == [("image", len(picture("PNG", 3, 3))), ("bytes", 2)]


def test_of_bytes_within_a_value_their_number_is_shown_and_numbers_that_are_none_are_named(show: Show) -> None:
    rows = [{"audio": {"bytes": bytes(20_000), "path": "a.wav"}, "score": float("nan")}, {"score": float("-inf")}]
    table = show("a.parquet", as_parquet(rows)).table
    assert words(table) == [['{"bytes": "<20,000 B>", "path": "a.wav"}', "nan"], ["", "-inf"]]


def test_a_table_says_how_many_columns_its_file_has(show: Show) -> None:
    row = {f"c{number}": number for number in range(1_000)}
    header, values = ",".join(row), ",".join(map(str, row.values()))
    for name, content in (
        ("a.parquet", as_parquet([row])),
        ("a.jsonl", json.dumps(row).encode()),
        ("a.csv", f"{header}\n{values}\n".encode()),
    ):
        table = show(name, content).table
        assert (len(table.columns), table.width) == (20, 1_000)


def test_signs_that_turn_a_line_round_are_named(show: Show) -> None:
    (line,) = show("a.py", "x = 1 # \u202e evil \u2066\n".encode()).lines
    assert "".join(Page(line).words) == "x = 1 # <U+202E> evil <U+2066>"
    assert "&lt;U+202E&gt;" in markdown.render("```\n\u202e\n```", PLACE)
    assert "العربية" in show("a.txt", "العربية\n".encode()).lines[0]


def outputs(*given: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": ["import math\n", "math.pi"], "outputs": list(given)}


def notebook(*cells: dict[str, Any]) -> bytes:
    language = {"language_info": {"name": "python"}}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": language, "cells": list(cells)}).encode()


def data(**forms: str) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {name.replace("_", "/"): text for name, text in forms.items()}}


def test_a_notebook_is_its_words_its_code_and_what_that_showed(show: Show) -> None:
    image = base64.b64encode(picture("PNG", 3, 2)).decode()
    shown = show(
        "a.ipynb",
        notebook(
            {"cell_type": "markdown", "source": ["# Title\n", "Some *words* and $x^2$"]},
            outputs({"output_type": "stream", "name": "stdout", "text": ["3.14\n", "```\n"]}, data(text_plain="3")),
            outputs({"output_type": "error", "traceback": ["\x1b[0;31mZeroDivisionError\x1b[0m: by zero"]}),
            outputs(data(image_png=image + "\n", text_plain="<Figure>"), data(text_html="<table><td>1</table>")),
            {"cell_type": "raw", "source": "<b>raw</b>"},
        ),
    )
    page = Page(shown.html)
    assert not page.problems
    assert [element.text for element in page.all("h2")] == ["Title"]
    assert page.all("math")
    assert [block.text.strip() for block in page.all("pre")] == [
        *("import math\nmath.pi", "3.14\n```", "3", "import math\nmath.pi", "ZeroDivisionError: by zero"),
        *("import math\nmath.pi", "<b>raw</b>"),
    ]
    assert page.attributes("src") == [f"data:image/png;base64,{image}"]
    assert [cell.text for cell in page.all("td")] == ["1"]
    assert '<span class="kn">import</span>' in shown.html
    assert show("a.ipynb", notebook(), query={"view": "source"}).kind == "text"


@pytest.mark.parametrize(
    "cell",
    [
        outputs(data(image_png='x" onerror="alert(1)')),
        outputs(data(image_png="PHN2Zz4=", text_html="<script>alert(1)</script><img src=x onerror=alert(1)>")),
        outputs({"output_type": "stream", "text": "```\n<script>alert(1)</script>"}),
        {"cell_type": "markdown", "source": "<script>alert(1)</script>"},
        {"cell_type": ["code"], "source": {"a": 1}, "outputs": [None, 1, {"data": []}]},
        {"cell_type": "code", "source": "`" * 50 + "\n<b>", "outputs": 3},
    ],
)
def test_a_hostile_notebook_is_harmless(show: Show, cell: dict[str, Any]) -> None:
    page = Page(show("a.ipynb", notebook(cell)).html)
    assert not page.problems
    assert not page.all("script")
    assert not page.all("b")
    assert not page.attributes("onerror")


def test_a_gguf_file_shows_its_metadata_and_tensors(show: Show) -> None:
    shown = show("a.gguf", gguf(*ENTRIES))
    assert ("general.architecture", ["llama"]) in shown.front.fields
    assert dict(shown.front.fields)["tokenizer.ggml.tokens"] == ["an array of 2"]
    assert [(one.name, one.dtype, one.shape) for one in shown.tensors.tensors] == [
        *(("t0", "F32", (3, 4)), ("t1", "F32", (5,))),
    ]


def test_webp_without_loss_has_its_size() -> None:
    file = BytesIO()
    Image.new("RGBA", (300, 500)).save(file, "WEBP", lossless=True)
    assert dimensions(BytesIO(file.getvalue())) == (300, 500)


def test_an_image_that_would_unpack_to_gigabytes_is_not_put_before_browsers(show: Show) -> None:
    bomb = bytearray(picture("PNG", 1, 1))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    shown = show("a.png", bytes(bomb))
    assert shown.kind == "binary"
    assert shown.problem == "an image of 60,000 × 60,000 pixels is not shown here"


def test_front_matter_stands_beside_the_text(show: Show) -> None:
    shown = show("a.md", b"---\nlicense: mit\ntags: [a, b]\nmore: {x: 1}\n---\n# Title\n")
    assert shown.front.fields == [("license", ["mit"]), ("tags", ["a", "b"]), ("more", ['{"x": 1}'])]
    assert "Title" in shown.html
    assert show("a.md", b"# Title\n").front is None


def test_broken_front_matter_names_and_shows_its_line(show: Show) -> None:
    shown = show("a.md", b"---\nlicense: mit\ntags: x: y\nlanguage: en\n---\n# Still here\n")
    assert (
        shown.front.error == "metadata is not YAML: mapping values are not allowed in this context in line 3, column 8"
    )
    assert (3, "tags: x: y", True) in shown.front.lines
    assert "Still here" in shown.html


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n", "image"),
        ("a.png", b"\x89PNG", "binary"),
        ("a.jpg", b"<html>", "text"),
        ("a.csv", "name\nAndré\n".encode("latin-1"), "binary"),
        ("a.ipynb", b'{"nbformat": 3, "worksheets": []}', "text"),
        ("a.gguf", b"GGUF", "text"),
        ("a.SVG", b"<svg/>", "image"),
        ("a.md", b"# Title", "markdown"),
        ("a.md", b"# Title " * 20_000, "markdown"),
        ("a.md", b"\xff", "binary"),
        ("a.html", b"<script>alert(1)</script>", "text"),
        ("empty.txt", b"", "empty"),
        ("a.bin", b"a\0b", "binary"),
        ("a.txt", b"\xff\xfe\xfa", "binary"),
        ("a.txt", b"x" * MAX_TEXT + b"\xff", "text"),
        ("a.txt", b"x" * (MAX_TEXT - 3) + b"\xff" * 9, "binary"),
    ],
)
def test_each_kind_of_file_has_its_preview(show: Show, name: str, content: bytes, kind: str) -> None:
    assert show(name, content).kind == kind


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(
        ["md", "jsonl", "safetensors", "py", "csv", "parquet", "png", "jpg", "tfevents", "gguf", "ipynb", "unknown"]
    ),
    content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)),
)
def test_no_content_breaks_a_preview(show: Show, suffix: str, content: bytes) -> None:
    show(f"file.{suffix}", content)


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(["a.py", "a.md", "a.json", "a.yaml", "a.html", "a.sh", "a.toml", "Makefile", "a.txt", "a"]),
    text=st.text(alphabet=st.characters(exclude_characters="\r\ufeff", exclude_categories=["Cs"]), max_size=200),
)
def test_highlighted_lines_hold_exactly_the_text(name: str, text: str) -> None:
    assume(text)
    lines = highlight.lines(text, name)
    assert [Page(f"<p>{line}</p>").elements[0].text for line in lines] == text.removesuffix("\n").split("\n")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.93421, "1.934"), (12, "12"), ("12 of 20", "12 of 20"), ({"nested": 1}, ""), (None, ""), ([1], "")],
)
def test_a_stated_value_is_a_number_or_a_text(value: object, shown: str) -> None:
    entry = {"dataset": {"id": "open-lab/tales", "task_id": "bits-per-byte"}, "value": value, "notes": "95 % interval"}
    assert results.result(entry) == results.Result("open-lab/tales", "bits-per-byte", shown, "95 % interval")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (1234, "1.2k"),
        (99_949, "99.9k"),
        (999_499, "999k"),
        (5_800_000, "5.8M"),
        (7e9, "7B"),
    ],
)
def test_counts_have_three_digits(number: int, text: str) -> None:
    assert formatting.count(number) == text


@given(st.integers(0, 10**18))
def test_sizes_are_never_longer_than_three_digits_and_a_unit(number: int) -> None:
    figure, unit = formatting.size(number).split(" ")
    power = ("B", "kB", "MB", "GB", "TB", "PB").index(unit)
    assert float(figure) < 1000 or unit == "PB"
    assert float(figure) * 1000**power == pytest.approx(number, rel=0.06)
