"""The pages of a running hub, as a visitor's browser gets them."""

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hub_process import HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from web_page import Page

from lmcommons.hub.app import create_app
from lmcommons.hub.errors import Forbidden, InsufficientStorage
from lmcommons.hub.repos.git import AddLfs, GitRepository
from lmcommons.hub.settings import Settings

CARD = """---
license: apache-2.0
language: [en]
pipeline_tag: text-generation
tags: [fiction, small]
datasets: [lab/stories, elsewhere/unknown]
---
# Tales

A model that tells <b>tales</b>. See the [notes](docs/notes.md) and ![Training curve](training_curve.svg)

| measure | value |
|:--|--:|
| bits per byte | 1.93 |

```python
print("hello")
```

<script>alert("x")</script><img src="https://tracker.example/pixel.png" onerror="alert(1)">
"""
RESULTS = b"""- dataset: {id: lab/stories, task_id: bits-per-byte}
  value: 1.934
  notes: 95 % interval 1.921 to 1.948
"""
CURVE = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><script>alert(1)</script><path d="M0 0L9 9"/></svg>'
HEADER = json.dumps({"embed.weight": {"dtype": "F32", "shape": [1200, 5], "data_offsets": [0, 24000]}}).encode()
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(24000)


@dataclass
class Site:
    """A hub with one of everything, and the visitor's client."""

    hub: HubProcess
    api: HfApi
    client: httpx.Client

    def page(self, path: str, status: int = 200) -> Page:
        """The page at `path`, whose tags must be balanced and ids unique."""
        response = self.client.get(path)
        assert response.status_code == status, f"{path}: {response.status_code}"
        page = Page(response.text)
        assert not page.problems, f"{path}: {page.problems}"
        return page

    def add(self, repo_id: str, files: dict[str, bytes], message: str, repo_type: str = "model") -> None:
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        self.api.create_commit(repo_id, operations, commit_message=message, repo_type=repo_type)

    def add_unchecked_card(self, repo_id: str, content: bytes) -> None:
        """Commit a README.md as a client does that, unlike huggingface_hub, does not look at it first."""
        lines = [
            {"key": "header", "value": {"summary": "A card"}},
            {
                "key": "file",
                "value": {"path": "README.md", "content": b64encode(content).decode(), "encoding": "base64"},
            },
        ]
        body = "\n".join(map(json.dumps, lines))
        headers = {"Authorization": f"Bearer {self.api.token}", "Content-Type": "application/x-ndjson"}
        self.client.post(f"/api/models/{repo_id}/commit/main", content=body, headers=headers).raise_for_status()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with start_hub(tmp_path_factory.mktemp("web") / "hub") as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        api = HfApi(endpoint=hub.endpoint, token=hub.add_user("ada", "--fullname", "Ada Lovelace"))
        hub.add_organisation("lab", "--fullname", "The Laboratory", "--member", "ada:admin")
        with httpx.Client(base_url=hub.endpoint, headers={"Accept": "text/html"}) as client:
            found = Site(hub, api, client)
            fill(found)
            yield found


def fill(site: Site) -> None:
    for name in ("lab/tales", "ada/zh", "ada/empty", "ada/broken", "ada/binary", "ada/bare"):
        site.api.create_repo(name)
    site.api.create_repo("ada/hidden", private=True)
    site.api.create_repo("lab/stories", repo_type="dataset")
    site.add("lab/tales", {"config.json": b'{"model_type": "llama"}', "model.safetensors": WEIGHTS}, "Add the weights")
    site.add(
        "lab/tales",
        {
            "README.md": CARD.encode(),
            "training_curve.svg": CURVE,
            ".eval_results/stories.yaml": RESULTS,
            "docs/notes.md": b"# Notes\n\nBack to the [card](../README.md#tales).\n",
            "src/train.py": b"# how it was made\nimport this\n",
            "page.html": b"<script>alert(1)</script>\n",
            "文件/a b&c#1.txt": "内容\n".encode(),
            "long.txt": b"x" * (600 << 10),
        },
        "Publish the card",
    )
    site.api.create_tag("lab/tales", tag="v1.0")
    site.api.create_branch("lab/tales", branch="try/wider")
    site.api.create_commit(
        "lab/tales",
        [CommitOperationAdd("src/train.py", b"# how it is made\nimport this\n"), CommitOperationDelete("long.txt")],
        commit_message="Say it <better>",
        commit_description="At last.",
    )
    rows = b"".join(json.dumps({"id": number, "text": f"story {number}"}).encode() + b"\n" for number in range(60))
    card = b"---\nlicense: cc0-1.0\n---\nOld stories.\n"
    site.add(
        "lab/stories", {"README.md": card, "train.jsonl": rows, "a.parquet": b"PAR1\0\0"}, "Add stories", "dataset"
    )
    site.add(
        "ada/zh",
        {"README.md": "---\nlanguage: zh\nbase_model: lab/tales\n---\n# 模型\n\n讲故事的模型。\n".encode()},
        "卡片",
    )
    site.add("ada/broken", {".eval_results/a.yaml": b"- value: 1\n"}, "Results without a dataset")
    site.add_unchecked_card("ada/broken", b"---\ntags: [a, b\n---\n# Still here\n")
    site.add_unchecked_card("ada/binary", b"\xff\xff\0\1")
    site.add("ada/bare", {"notes.txt": b"x"}, "No card")


# ---------------------------------------------------------------- the whole site


@pytest.mark.parametrize(
    "path", ["/", "/models", "/lab/tales", "/lab/tales/tree/main", "/lab/tales/blob/main/src/train.py"]
)
def test_a_first_visit_costs_four_requests_and_fifty_kilobytes(site: Site, path: str) -> None:
    page = Page(site.client.get(path).text)
    linked = [link.attributes["href"] for link in page.all("link")] + [
        script.attributes["src"] for script in page.all("script")
    ]
    assets = [address for address in linked if not address.startswith("data:")]
    assert len(assets) <= 3
    received = 0
    for address in (path, *assets):
        with site.client.stream("GET", address, headers={"Accept-Encoding": "gzip"}) as answer:
            received += sum(map(len, answer.iter_raw()))
            if address != path:
                assert "immutable" in answer.headers["cache-control"]
    assert received <= 50_000


def test_the_style_sheet_fetches_nothing(site: Site) -> None:
    page = site.page("/")
    style = site.client.get(page.all("link")[0].attributes["href"])
    assert style.headers["content-type"].startswith("text/css")
    assert not re.search(r"url\(|@import", style.text)


def test_pages_are_sent_compressed_to_browsers_that_can_read_it(site: Site) -> None:
    packed = site.client.get("/lab/tales", headers={"Accept-Encoding": "gzip"})
    plain = site.client.get("/lab/tales", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    ages = re.compile("(<time[^>]*>)[^<]*")  # which may be a second more in the later one
    assert ages.sub(r"\1", packed.text) == ages.sub(r"\1", plain.text)
    assert int(packed.headers["content-length"]) < len(plain.content) / 2


# ---------------------------------------------------------------- home, lists, accounts


def test_home_shows_recent_repositories_and_what_they_are(site: Site) -> None:
    text = site.page("/").text
    assert "6 models · 1 dataset" in text
    assert "lab/tales A model that tells" in text
    assert "6k parameters" in text
    assert "Old stories." in text
    assert f"HF_ENDPOINT={site.hub.endpoint}" in text


def test_the_home_of_an_empty_hub_says_what_to_type(tmp_path: Path) -> None:
    app = create_app(Settings.make(tmp_path / "hub", public_url="https://hub.example.org/"))
    with TestClient(app) as client:
        page = Page(client.get("/", headers={"Accept": "text/html"}).text)
    assert not page.problems
    commands = " ".join(block.text for block in page.all("pre"))
    for line in (
        "export HF_ENDPOINT=https://hub.example.org\n",
        "hf auth login",
        "https://hub.example.org/settings/tokens",
        "hf upload your-name/my-model ./my-folder",
        "lmc run recipe.yaml",
    ):
        assert line in commands


def test_search_finds_by_name_owner_tag_and_words(site: Site) -> None:
    for words, expected in {
        "fiction": "lab/tales",
        "LAB small": "lab/tales",
        "讲故事": "ada/zh",
        "da/bin": "ada/binary",
    }.items():
        found = [element.text for element in site.page(f"/models?search={quote(words)}").all("h3")]
        assert found == [expected], words


def test_a_search_that_finds_nothing_says_so_and_repeats_the_words_harmlessly(site: Site) -> None:
    page = site.page('/models?search="><script>alert(zyx)</script>')
    assert "Nothing matches" in page.text
    assert not page.foreign_scripts()
    assert page.all("input")[-1].attributes["value"] == '"><script>alert(zyx)</script>'


def test_lists_have_pages_and_keep_the_search(site: Site) -> None:
    for number in range(31):
        site.api.create_repo(f"ada/series-{number}", repo_type="dataset")
    try:
        first = site.page("/datasets?search=series&sort=createdAt")
        assert [element.text for element in first.all("h3")] == [f"ada/series-{number}" for number in range(30, 0, -1)]
        following = next(link.attributes["href"] for link in first.all("a") if link.attributes.get("rel") == "next")
        assert following == "?search=series&sort=createdAt&page=2"
        assert [element.text for element in site.page(f"/datasets{following}").all("h3")] == ["ada/series-0"]
    finally:
        for number in range(31):
            site.api.delete_repo(f"ada/series-{number}", repo_type="dataset")


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", "page=-1", "page=01", f"page=1{'0' * 5000}", "page=%C2%B2", "sort=beauty"]
)
def test_a_wrong_page_or_order_is_refused_with_a_reason(site: Site, query: str) -> None:
    assert query.split("=")[0] in site.page(f"/models?{query}", 400).text


def test_an_account_page_lists_what_it_shares(site: Site) -> None:
    page = site.page("/ADA")
    assert page.all("h1")[0].text == "Ada Lovelace"
    assert {"ada/zh", "ada/empty"} <= {element.text for element in page.all("h3")}
    assert "organisation" in site.page("/lab").text


def test_private_repositories_are_absent_from_every_page(site: Site) -> None:
    for path in ("/", "/models", "/ada", "/models?search=hidden"):
        assert "ada/hidden" not in site.client.get(path).text
    for path in ("", "/tree/main", "/commits/main", "/blob/main/.gitattributes", "/commit/main"):
        hidden = site.page(f"/ada/hidden{path}", 404)
        assert hidden.text.replace("ada/hidden", "") == site.page(f"/ada/nothing{path}", 404).text.replace(
            "ada/nothing", ""
        )


# ---------------------------------------------------------------- cards


def test_a_card_is_rendered_inside_its_repository(site: Site) -> None:
    page = site.page("/lab/tales")
    article = page.all("article")[0]
    assert "A model that tells tales." in article.text
    assert [cell.text for cell in page.all("td")][:2] == ["bits per byte", "1.93"]
    assert "/lab/tales/blob/main/docs/notes.md" in page.attributes("href")
    assert "/lab/tales/resolve/main/training_curve.svg" in page.attributes("src")
    assert not page.foreign_scripts()
    assert "tracker.example" not in page.html
    assert "onerror" not in page.html


def test_the_training_curve_is_an_image_that_cannot_run(site: Site) -> None:
    response = site.client.get("/lab/tales/resolve/main/training_curve.svg")
    assert response.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in response.headers["content-security-policy"]
    assert response.content == CURVE


def test_what_stands_beside_a_card_comes_from_metadata_files_and_the_hub(site: Site) -> None:
    page = site.page("/lab/tales")
    aside = page.all("aside")[0].text
    for expected in ("6k", "apache-2.0", "text-generation", "bits-per-byte", "1.934", "95 % interval 1.921 to 1.948"):
        assert expected in aside, expected
    assert "elsewhere/unknown" in aside
    links = page.attributes("href")
    assert "/datasets/lab/stories" in links
    assert not any("elsewhere" in link for link in links)
    commands = "\n".join(block.text for block in page.all("pre"))
    assert f"export HF_ENDPOINT={site.hub.endpoint}" in commands
    assert f"git clone {site.hub.endpoint}/lab/tales\n" in f"{commands}\n"
    assert 'pipeline("text-generation", "lab/tales")' in commands
    assert 'load_dataset("lab/stories")' in site.page("/datasets/lab/stories").text


def test_the_curl_command_of_a_page_downloads_a_file(site: Site) -> None:
    for path in ("/lab/tales", "/datasets/lab/stories"):
        command = next(block.text for block in site.page(path).all("pre") if block.text.startswith("curl"))
        assert httpx.get(command.split()[-1], follow_redirects=True).status_code == 200


def test_a_chinese_card_is_marked_as_chinese(site: Site) -> None:
    page = site.page("/ada/zh")
    assert page.all("article")[0].attributes["lang"] == "zh"
    assert "/lab/tales" in page.attributes("href")


def test_broken_metadata_is_named_and_the_text_still_shown(site: Site) -> None:
    text = site.page("/ada/broken").text
    assert "README.md: metadata is not YAML" in text
    assert ".eval_results/a.yaml: entry 1: `dataset` must be a mapping" in text
    assert "Still here" in text


def test_a_repository_without_a_readable_card_says_so(site: Site) -> None:
    assert "not UTF-8" in site.page("/ada/binary").text
    assert "No card yet" in site.page("/ada/bare").text
    empty = site.page("/ada/empty").text
    assert "This repository is empty" in empty
    assert "hf upload ada/empty ./my-folder" in empty


def test_a_card_changes_as_soon_as_it_is_committed(site: Site) -> None:
    site.api.create_repo("ada/news")
    for words in ("First words.", "Second words."):
        site.add("ada/news", {"README.md": words.encode()}, words)
        assert words in site.page("/ada/news").text
    site.api.delete_repo("ada/news")


def test_the_page_of_a_moved_repository_leads_to_its_new_name(site: Site) -> None:
    site.api.create_repo("ada/before")
    site.api.move_repo("ada/before", "ada/after")
    response = site.client.get("/ada/before/tree/main")
    assert urlsplit(response.headers["location"]).path == "/ada/after/tree/main"
    assert site.client.get(response.headers["location"]).status_code == 200
    site.api.delete_repo("ada/after")


# ---------------------------------------------------------------- files


def test_a_folder_lists_files_with_size_last_commit_and_download(site: Site) -> None:
    page = site.page("/lab/tales/tree/main")
    rows = {row.text.split()[0]: " ".join(row.text.split()) for row in page.all("tr")[1:]}
    assert rows["model.safetensors"].startswith("model.safetensors LFS 24.1 kB Add the weights")
    assert "Say it <better>" in rows["src/"]
    assert "docs/" in rows
    link = "/lab/tales/resolve/main/model.safetensors?download=true"
    assert link in page.attributes("href")
    download = site.client.get(link, follow_redirects=True)
    assert download.content == WEIGHTS
    assert download.headers["content-disposition"].startswith("attachment")


def test_a_long_folder_has_pages(site: Site) -> None:
    site.api.create_repo("ada/many")
    site.add("ada/many", {f"all/{number:03}.txt": b"x" for number in range(120)}, "Add many files")
    first, second = (site.page(f"/ada/many/tree/main/all?page={number}") for number in (1, 2))
    names = [row.text.split()[0] for page in (first, second) for row in page.all("tr")[2:]]
    assert names == [f"{number:03}.txt" for number in range(120)]
    assert "has no page 3" in site.page("/ada/many/tree/main/all?page=3", 404).text
    site.api.delete_repo("ada/many")


@pytest.mark.parametrize("revision", ["try%2Fwider", "v1.0"])
def test_branches_and_tags_are_chosen_by_links(site: Site, revision: str) -> None:
    assert f"/lab/tales/tree/{revision}" in site.page("/lab/tales/tree/main").attributes("href")
    page = site.page(f"/lab/tales/tree/{revision}")
    assert f"/lab/tales/blob/{revision}/long.txt" in page.attributes("href")
    assert "how it was made" in site.page(f"/lab/tales/blob/{revision}/src/train.py").text


def test_a_name_with_spaces_and_signs_is_one_link(site: Site) -> None:
    folder = site.page(f"/lab/tales/tree/main/{quote('文件')}")
    link = next(link for link in folder.attributes("href") if "/blob/" in link)
    assert "内容" in site.page(link).text


def test_a_text_file_has_numbered_lines_to_link_to(site: Site) -> None:
    page = site.page("/lab/tales/blob/main/src/train.py")
    assert {"L1", "L2"} <= set(page.attributes("id"))
    assert '<span class="c1"># how it is made</span>' in page.html


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/lab/tales/blob/main/page.html", "<script>alert(1)</script>"),
        ("/lab/tales/blob/main/docs/notes.md", "Back to the card."),
        ("/lab/tales/blob/main/model.safetensors", "embed.weight 1200 × 5 · F32 · 6k"),
        ("/lab/tales/blob/v1.0/long.txt", "This is the beginning of a long file."),
        ("/datasets/lab/stories/blob/main/train.jsonl", "49 story 49 60 rows"),
        ("/datasets/lab/stories/blob/main/a.parquet", "cannot be read as parquet: 6 bytes"),
    ],
)
def test_files_are_shown_as_what_they_are(site: Site, path: str, shown: str) -> None:
    page = site.page(path)
    assert shown in page.text
    assert not page.foreign_scripts()


def test_an_image_file_is_shown(site: Site) -> None:
    images = site.page("/lab/tales/blob/main/training_curve.svg").all("img")
    assert [image.attributes["src"] for image in images] == ["/lab/tales/resolve/main/training_curve.svg"]


# ---------------------------------------------------------------- history


def test_history_has_pages_that_lead_to_commits(site: Site) -> None:
    site.api.create_repo("ada/steps")
    for number in range(32):
        site.add("ada/steps", {"steps.txt": f"{number}".encode()}, f"Step {number}")
    pages = [site.page(f"/ada/steps/commits/main{query}") for query in ("", "?page=2")]
    links = [link for page in pages for link in page.all("a") if link.attributes.get("class") == "title"]
    assert [link.text for link in links] == [*(f"Step {number}" for number in range(31, -1, -1)), "initial commit"]
    assert "Step 0" in site.page(links[-2].attributes["href"]).text
    site.api.delete_repo("ada/steps")


def test_a_commit_page_shows_what_changed(site: Site) -> None:
    history = site.page("/lab/tales/commits/main/src/train.py")
    titles = {
        link.text: link.attributes["href"] for link in history.all("a") if link.attributes.get("class") == "title"
    }
    assert list(titles) == ["Say it <better>", "Publish the card"]
    page = site.page(titles["Say it <better>"])
    assert "At last." in page.text
    assert "2 files changed" in page.text
    lines = {
        (row.attributes["class"], " ".join(row.text.split())) for row in page.all("tr") if "class" in row.attributes
    }
    assert {("removed", "1 # how it was made"), ("added", "1 # how it is made"), ("same", "2 2 import this")} <= lines


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/nobody", "nobody"),
        ("/nobody/nothing", "Repository not found"),
        ("/lab/tales/tree/nope", "nope"),
        ("/lab/tales/tree/main/nope", "nope"),
        ("/lab/tales/blob/main/nope", "nope"),
        ("/lab/tales/commit/1234567", "1234567"),
        ("/lab/tales/commits/main/nope", "nope"),
        ("/lab/tales/nothing", "/lab/tales/nothing"),
        ("/lab/tales/tree/main/..%2F..%2Fetc", "not"),
        ("/lab%2Ftales/tree/main", "Nothing at"),
        ("/datasets%2Flab/stories/blob/main", "Nothing at"),
        ("/a/b/c/d/e/f", "/a/b/c/d/e/f"),
    ],
)
def test_what_is_not_there_is_a_page_that_says_what_to_do(site: Site, path: str, says: str) -> None:
    page = site.page(path, 404)
    assert says in page.text
    assert "/models" in page.attributes("href")


@pytest.mark.parametrize("view", ["tree", "blob", "commits", "commit"])
@pytest.mark.parametrize(
    "rest",
    [
        *("%00", "%FF%FE/x", "main/%00", "main/a%00b", "main/%2E%2E", "main/.git/config", "main/" + "a" * 3000),
        *("HEAD", "main~1", "main:README.md", "@%7B0%7D", "-1", "a" * 3000, "refs/heads/main", "%E4%B8%AD"),
    ],
)
def test_no_address_breaks_the_hub(site: Site, view: str, rest: str) -> None:
    assert site.client.get(f"/lab/tales/{view}/{rest}").status_code in (400, 404)


@pytest.mark.parametrize("query", ["search=%00", "search=%25_%5C", "author=%00", "author=../x", "search=" + "a" * 5000])
def test_no_search_breaks_the_hub(site: Site, query: str) -> None:
    assert site.client.get(f"/models?{query}").status_code in (200, 400)  # PostgreSQL has no NUL


def test_a_large_file_is_only_shown_through_a_repository_that_it_was_uploaded_to(site: Site) -> None:
    site.api.create_repo("ada/vault", private=True)
    site.add("ada/vault", {"secret.bin": b"the secret text"}, "Keep it")
    site.api.create_repo("ada/thief")
    site.add("ada/thief", {"notes.txt": b"x"}, "Begin")
    newest = max((site.hub.data / "repositories").glob("*/*.git"), key=lambda path: int(path.stem))
    points = AddLfs("notes.txt", hashlib.sha256(b"the secret text").hexdigest(), 15)
    GitRepository(newest).commit("main", [points], message="Point", author_name="t", author_email="t@t")
    page = site.page("/ada/thief/blob/main/notes.txt")
    assert "the secret text" not in page.text
    assert "missing on the hub" in page.text
    for name in ("ada/vault", "ada/thief"):
        site.api.delete_repo(name)


def test_programs_get_the_same_errors_as_json(site: Site) -> None:
    response = httpx.get(f"{site.hub.endpoint}/nobody/nothing")
    assert response.status_code == 404
    assert response.headers["x-error-code"] == "RepoNotFound"
    assert response.json()["error"] == "Repository not found"


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (RuntimeError("the disk's serial number"), 500, "It is not your fault"),
        (Forbidden("ada may not read this"), 403, "ada may not read this"),
        (InsufficientStorage(), 507, "It is not your fault"),
    ],
)
def test_a_failure_is_a_page_that_gives_its_number_and_no_details(
    tmp_path: Path, error: Exception, status: int, says: str
) -> None:
    def fail(request: Request) -> Response:
        raise error

    app = create_app(Settings.make(tmp_path / "hub"))
    app.router.routes.insert(0, Route("/fails", fail))
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/fails", headers={"Accept": "text/html"})
    page = Page(response.text)
    assert response.status_code == status
    assert not page.problems
    assert says in page.text
    assert "serial number" not in page.text
    if status >= 500:
        assert response.headers["x-request-id"] in page.text
