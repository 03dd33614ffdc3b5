"""What file pages show: previews of every kind of content, highlighted lines, stated results, figures for people."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from web_page import Page

from lmcommons.hub.objects.blobs import DiskBlobs
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.repos.git import AddFile, AddLfs, GitRepository
from lmcommons.hub.repos.index import open_file
from lmcommons.hub.web import formatting, highlight, previews, results
from lmcommons.hub.web.markdown import Place
from lmcommons.hub.web.previews import Preview

PLACE = Place("/ada/m/blob/main", "/ada/m/resolve/main")
Show = Callable[[str, bytes], Preview]


@pytest.fixture
def objects(store_in: Callable, tmp_path: Path) -> ObjectStore:
    return store_in(DiskBlobs(tmp_path / "objects"))


@pytest.fixture
def git(tmp_path: Path) -> GitRepository:
    return GitRepository.create(tmp_path / "repository.git")


@pytest.fixture
def show(git: GitRepository, objects: ObjectStore) -> Show:
    """The preview of a file with this name and content, committed to a real repository."""

    def make(name: str, content: bytes) -> Preview:
        commit = git.commit("main", [AddFile(name, content)], message="x", author_name="a", author_email="a@b")
        entry = git.entry(commit, name)
        return previews.preview(entry, partial(open_file, git, objects, entry), PLACE)

    return make


def safetensors(header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def test_source_code_is_shown_in_highlighted_lines(show: Show) -> None:
    shown = show("a.py", b"def f():\n    return 1\n")
    assert shown.kind == "text"
    assert len(shown.lines) == 2
    assert '<span class="k">def</span>' in shown.lines[0]


def test_markup_in_a_text_file_is_shown_and_not_obeyed(show: Show) -> None:
    assert "&lt;script&gt;" in show("page.txt", b"<script>alert(1)</script>").lines[0]


def test_json_lines_are_a_table_whose_columns_are_all_fields(show: Show) -> None:
    shown = show("a.jsonl", b'{"id": 1, "text": "one"}\n{"id": 2, "more": [1, null]}\n')
    assert shown.kind == "rows"
    assert list(shown.columns) == ["id", "text", "more"]
    assert shown.rows == [["1", "one", ""], ["2", "", "[1, null]"]]
    assert not shown.partial


def test_long_json_lines_show_the_first_rows_and_say_so(show: Show) -> None:
    shown = show("a.jsonl", b"".join(b'{"id": %d}\n' % number for number in range(1000)))
    assert len(shown.rows) == previews.MAX_ROWS
    assert shown.partial


def test_json_lines_past_the_limit_are_read_only_at_their_beginning(show: Show) -> None:
    row = json.dumps({"text": "x" * 200_000}).encode() + b"\n"
    shown = show("a.jsonl", row * 6)
    assert len(shown.rows) == 2
    assert shown.partial
    assert len(shown.rows[0][0]) == previews.MAX_CELL + 1


def test_a_single_endless_line_is_too_long_to_show(show: Show) -> None:
    assert show("a.jsonl", b'{"text": "' + b"x" * (2 << 20)).kind == "long"


def test_tensors_are_listed_from_the_header_of_a_large_file(git: GitRepository, objects: ObjectStore) -> None:
    content = safetensors(
        {"__metadata__": {"format": "pt"}, "w": {"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]}}
    )
    sha256 = hashlib.sha256(content).hexdigest()
    with objects.receive(sha256, len(content)) as incoming:
        incoming.write(content)
    operations = [AddLfs("model.safetensors", sha256, len(content)), AddLfs("lost.safetensors", "0" * 64, 5)]
    commit = git.commit("main", operations, message="x", author_name="a", author_email="a@b")
    model, lost = (git.entry(commit, name) for name in ("model.safetensors", "lost.safetensors"))
    shown = previews.preview(model, partial(open_file, git, objects, model), PLACE)
    assert shown.tensors == [previews.Tensor("w", "BF16", (3, 4), 12)]
    assert previews.preview(lost, partial(open_file, git, objects, lost), PLACE).kind == "absent"


@pytest.mark.parametrize("header", [[], {"w": 1}, {"w": {"dtype": "F32"}}, {"w": {"dtype": "F32", "shape": "x"}}, None])
def test_a_damaged_tensor_file_is_offered_for_download(show: Show, header: object) -> None:
    assert show("m.safetensors", safetensors(header)).kind == "binary"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.png", b"\x89PNG", "image"),
        ("a.SVG", b"<svg/>", "image"),
        ("a.md", b"# Title", "markdown"),
        ("a.md", b"# Title " * 20_000, "text"),
        ("a.html", b"<script>alert(1)</script>", "text"),
        ("empty.txt", b"", "empty"),
        ("a.bin", b"a\0b", "binary"),
        ("a.txt", b"\xff\xfe\xfa", "binary"),
        ("a.txt", b"x" * (previews.MAX_TEXT + 1), "long"),
        ("a.txt", b"\n" * (previews.MAX_LINES + 1), "long"),
        ("a.jsonl", b"[1]\n", "text"),
    ],
)
def test_each_kind_of_file_has_its_preview(show: Show, name: str, content: bytes, kind: str) -> None:
    assert show(name, content).kind == kind


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(["md", "jsonl", "safetensors", "py", "json", "yaml", "csv", "toml", "unknown"]),
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
