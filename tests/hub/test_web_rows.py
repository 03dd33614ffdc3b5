"""The pages of a dataset's rows, as a visitor's browser gets them."""

import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlencode

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_process import PATIENCE, HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from web_page import Page

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e3660000"
    "000049454e44ae426082"
)
ROWS = pa.table(
    {
        "text": [f"<script>alert({number})</script> 第{number}行" for number in range(60)],
        "score": [None if number == 3 else number / 4 for number in range(60)],
        "tags": [["a", f"t{number}"] for number in range(60)],
        "raw": [bytes([number]) * 40 for number in range(60)],
        "image": [{"bytes": PIXEL, "path": "x.png"}] * 60,
        "long": ["long " * 5_000] * 60,
    }
)


def parquet(table: pa.Table) -> bytes:
    file = BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


@dataclass
class Site:
    """A hub with datasets, and a visitor's client."""

    hub: HubProcess
    api: HfApi
    client: httpx.Client

    def add(self, name: str, files: dict[str, bytes], **settings: bool) -> str:
        self.api.create_repo(f"ada/{name}", repo_type="dataset", **settings)
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        self.api.create_commit(f"ada/{name}", operations, commit_message="rows", repo_type="dataset")
        return f"/datasets/ada/{name}/viewer"

    def page(self, path: str, status: int = 200, **headers: str) -> Page:
        response = self.client.get(path, headers=headers)
        assert response.status_code == status, f"{path}: {response.status_code} {response.text[-400:]}"
        page = Page(response.text)
        assert not page.problems, f"{path}: {page.problems}"
        assert len(page.all("h1")) <= 1
        return page

    def computed(self, path: str, **headers: str) -> Page:
        """The page once its statistics are there."""
        deadline = time.monotonic() + PATIENCE
        while (page := self.page(path, **headers)) and any(
            "data-hx-trigger" in one.attributes for one in page.elements
        ):
            assert time.monotonic() < deadline, page.text
            time.sleep(0.2)
        return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with start_hub(tmp_path_factory.mktemp("rows") / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.add_user("ada"))
        with httpx.Client(base_url=hub.endpoint, headers={"Accept": "text/html"}) as client:
            yield Site(hub, api, client)


@pytest.fixture(scope="module")
def rows(site: Site) -> str:
    return site.add("rows", {"data/train-00000-of-00001.parquet": parquet(ROWS), "data/test-00000-of-00001.jsonl": b""})


def table(page: Page) -> list[list[str]]:
    """The words in the cells of the first table."""
    body = page.html.partition("<tbody>")[2].partition("</tbody>")[0]
    return [[" ".join(cell.text.split()) for cell in Page(f"<table>{row}</table>").elements if cell.tag in ("th", "td")]
            for row in body.split("</tr>")[:-1]]  # fmt: skip


def test_rows_are_shown_by_type(site: Site, rows: str):
    page = site.page(rows)
    first = table(page)[0]
    assert first[:3] == ["0", "<script>alert(0)</script> 第0行", "0.0"]
    assert first[3] == '["a", "t0"]'
    assert first[4] == "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00… 40 B"
    assert table(page)[3][2] == "missing"
    assert len(first[6]) <= 301
    assert not page.foreign_scripts()
    assert [link for link in page.attributes("href") if link.endswith("start=25")]
    assert "60 rows" in page.text


def test_an_image_of_a_cell_is_served_as_what_it_is_and_nothing_else(site: Site, rows: str):
    page = site.page(rows)
    address = next(one.attributes["src"] for one in page.all("img"))
    answer = site.client.get(rows + address if address.startswith("?") else address)
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/png", PIXEL)
    assert answer.headers["x-content-type-options"] == "nosniff"
    for column in ("text", "raw", "nothing"):
        assert site.client.get(f"{rows}/image?row=0&column={column}").status_code == 404


def test_a_row_in_full(site: Site, rows: str):
    page = site.page(f"{rows}?row=7")
    assert [row[1] for row in table(page)][:2] == ["<script>alert(7)</script> 第7行", "1.75"]
    assert len(table(page)[5][1]) > 5_000
    assert (
        site.client.get(next(link for link in page.attributes("href") if "/api/" in link)).json()["num_rows_total"]
        == 60
    )
    site.page(f"{rows}?row=60", 404)


def test_words_are_searched(site: Site, rows: str):
    page = site.page(f"{rows}?{urlencode({'search': '第59行'})}")
    assert [row[0] for row in table(page)] == ["59"]
    page = site.page(f"{rows}?search=SCRIPT&start=10")
    assert [row[0] for row in table(page)] == [str(number) for number in range(10, 35)]
    assert any("start=35" in link and "search=SCRIPT" in link for link in page.attributes("href"))
    assert "0 rows from row 0 to the end have “<b>" in site.page(f"{rows}?search=<b>").text


def test_statistics_come_and_stay(site: Site, rows: str):
    page = site.computed(rows)
    words = page.text
    assert "Of all 60 rows." in words
    assert "Histogram of score from 0 to 14.75" in words
    part = site.page(f"{rows}/statistics?config=default&split=train", **{"HX-Request": "true"})
    assert part.all("section")
    assert not part.all("body")


def test_the_pages_speak_chinese(site: Site, rows: str):
    page = site.computed(rows, **{"Accept-Language": "zh-CN"})
    for english in ("Missing", "Columns", "Distinct", "Show", "rows", "Of all"):
        assert english not in page.text.replace("ada/rows", "")


def test_a_corrupt_file_is_one_line_on_the_page(site: Site):
    address = site.add(
        "corrupt", {"train.parquet": b"PAR1" + bytes(80) + b"PAR1", "test.parquet": parquet(ROWS.slice(0, 1))}
    )
    page = site.page(address)
    [notice] = [one.text for one in page.elements if one.attributes.get("role") == "alert"]
    assert notice.startswith("train.parquet: cannot be read as parquet: ")
    assert "train.parquet: cannot be read as parquet" in site.computed(address).text
    assert table(site.page(f"{address}?split=test"))[0][2] == "0.0"


def test_a_card_whose_configs_make_no_sense_is_one_line_on_the_page(site: Site):
    address = site.add("configs", {"README.md": b"---\nconfigs: all\n---\n", "train.jsonl": b'{"a": 1}\n'})
    assert "README.md: `configs` must be a list" in site.page(address).text


def test_a_dataset_without_rows_teaches(site: Site):
    assert "hf upload ada/bare --repo-type dataset" in site.page(site.add("bare", {"notes.md": b"x"})).text


def test_the_splits_of_a_dataset_can_be_chosen(site: Site):
    card = {
        "configs": [{"config_name": "<b>", "data_files": "a.jsonl"}, {"config_name": "en", "data_files": "b.jsonl"}]
    }
    files = {
        "README.md": f"---\n{json.dumps(card)}\n---\n".encode(),
        "a.jsonl": b'{"x": 1}\n',
        "b.jsonl": b'{"y": 2}\n',
    }
    address = site.add("two", files)
    page = site.page(address)
    assert table(page) == [["0", "1"]]
    link = next(link for link in page.attributes("href") if "config=en" in link)
    assert table(site.page(address + link)) == [["0", "2"]]
    site.page(f"{address}?config=fr", 404)


@pytest.mark.parametrize("query", ["start=-1", "start=x", "row=1e9", "row=" + "9" * 16])
def test_numbers_that_are_none_are_refused(site: Site, rows: str, query: str):
    site.page(f"{rows}?{query}", 400)


def test_the_rows_of_a_private_dataset_are_absent(site: Site):
    address = site.add("hidden", {"train.jsonl": b'{"a": 1}\n'}, private=True)
    for path in (address, f"{address}/statistics", f"{address}/image"):
        site.page(path, 404)


def test_a_page_of_wide_rows_stays_small(site: Site):
    wide = pa.table({f"column {number}": ["行" * 4_000] * 100 for number in range(80)})
    address = site.add("wide", {"train.parquet": parquet(wide)})
    answer = site.client.get(address, headers={"Accept-Encoding": "gzip"})
    assert int(answer.headers["content-length"]) < 40_000
    assert "30 of 80 columns" in Page(answer.text).text


def test_compressed_values_with_semicolons_are_rows_that_can_be_searched(site: Site):
    lines = "".join(f'"Bee; {number}";{number},5\n' for number in range(40))
    address = site.add("packed", {"train.csv.gz": gzip.compress(f"name;price\n{lines}".encode())})
    page = site.computed(address)
    assert table(page)[3] == ["3", "Bee; 3", "3,5"]
    assert "40 rows" in page.text
    assert [row[0] for row in table(site.page(f"{address}?search=bee;+7"))] == ["7"]
    assert "39,5" in site.page(f"{address}?row=39").text


HOSTILE = {
    "halves of characters": rb'{"a": "\ud800 x", "c": ["\ud800"], "d": {"\ud800": "\udfff"}}',
    "halves of characters in names": rb'{"b\ud800": 1}',
    "nul": b'{"a": "\\u0000", "b\\u0000": "\\u0000"}',
    "large numbers": b'{"a": 1e999, "b": -1e999, "c": ' + b"9" * 400 + b', "d": NaN}',
    "deep": b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    "deep in places": b'{"a": 1}\n{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    "fields": b"".join(b'{"a": {%s}}\n' % b",".join(b'"%d-%d": 1' % (r, n) for n in range(5_000)) for r in range(25)),
    "long names": b'{"%s": {"%s": 1}}' % (b"a" * 500_000, b"b" * 500_000),
    "html": b'{"<script>alert(1)</script>": "</td><script>alert(1)</script>", "\\"><img src=x>": "&amp;"}',
    "mixed": b'{"a": 1}\n{"a": "x"}\n{"a": [1]}\n{"a": {"b": 1}}\n{"a": null}\n{"a": true}',
    "empty keys": b'{"": 1, " ": 2}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_strangers_write_into_rows_is_shown_or_refused(site: Site, kind: str):
    address = site.add(f"hostile-{list(HOSTILE).index(kind)}", {"train.jsonl": HOSTILE[kind] + b"\n"})
    page = site.computed(address)
    assert len(site.client.get(address).content) < 100_000
    assert not page.foreign_scripts()
    assert not [one for one in page.all("img") if one.attributes.get("src") == "x"]
    assert site.client.get(f"{address}?row=0").status_code in (200, 400)
    assert site.client.get(f"{address}?search=x").status_code == 200
    site.page(f"{address}?search=%00")
    assert site.client.get(f"{address}/image?row=0&column=%ED%A0%80").status_code in (400, 404)
