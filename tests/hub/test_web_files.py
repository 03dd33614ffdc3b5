"""The pages of files and changes: what they show of large files, and what differs between revisions."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import pytest
from safetensors.numpy import save
from starlette.testclient import TestClient
from web_page import Page
from xet_parts import File, Term, shard, xorb

from lmcommons.hub.accounts.permissions import Actor, readable, readable_buckets
from lmcommons.hub.app import create_app
from lmcommons.hub.database.tables import Repository, RepositoryType, TokenRole
from lmcommons.hub.objects.xet.reach import Reach
from lmcommons.hub.objects.xet.shard import parse_files
from lmcommons.hub.repos.git import AddFile, AddLfs, DeleteFile, Operation
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings

BUDGET = 50_000 - 22_000  # bytes of a first load that the style sheet and the script leave
HOSTILE = "<img src=x onerror=alert(1)>&\"'.jsonl"
METRICS = [
    {"step": n, "tokens": 100 * n, "loss": 9 / n, "validation_loss": 8 / n, "<b>": float(n)} for n in range(1, 2_000)
]


@dataclass
class Site:
    """A hub with a repository of `ann` in it, and a browser's client."""

    hub: Hub
    ann: Actor
    repository: Repository
    client: TestClient

    def get(self, path: str, status: int = 200, **headers: str) -> Page:
        response = self.client.get(f"/ann/m{path}", headers=headers)
        assert response.status_code == status, f"{path}: {response.status_code}"
        page = Page(response.text)
        assert not page.problems, f"{path}: {page.problems}"
        assert not page.foreign_scripts(), path
        assert not page.attributes("style"), path
        assert int(response.headers["content-length"]) < BUDGET, path
        if not headers:
            assert len(page.all("h1")) == 1, path
        return page

    def large(self, path: str, content: bytes) -> AddLfs:
        sha256 = hashlib.sha256(content).hexdigest()
        with self.hub.objects.receive(sha256, len(content)) as incoming:
            incoming.write(content)
        self.hub.contents.link(self.repository.id, {sha256: len(content)})
        return AddLfs(path, sha256, len(content))

    def commit(self, message: str, *operations: Operation) -> str:
        return self.hub.commits.commit(self.ann, self.repository, "main", operations, message=message)


def weights(change: float) -> bytes:
    random = np.random.default_rng(0)
    names = [f"model.layers.{layer}.{part}.weight" for layer in range(6) for part in ("q_proj", "k_proj")]
    found = {name: random.standard_normal((8, 8)).astype(np.float32) for name in names}
    found["model.layers.3.q_proj.weight"] += change
    found["<i>gone</i>" if not change else "<i>new</i>"] = np.ones(3, np.float32)
    return save(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    app = create_app(Settings.make(tmp_path_factory.mktemp("files") / "hub"))
    hub: Hub = app.state.hub
    hub.accounts.add_user("ann")
    ann = Actor(hub.accounts.find("ann").id, "ann", token_role=TokenRole.WRITE)
    repository = hub.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    with TestClient(app, headers={"Accept": "text/html", "Accept-Encoding": "gzip"}, follow_redirects=False) as client:
        site = Site(hub, ann, repository, client)
        first = site.commit(
            "First",
            site.large("model.safetensors", weights(0)),
            site.large("broken.safetensors", b"\xff" * 100),
            AddFile("complex.safetensors", save({"w": np.zeros(3, np.complex64)})),
            AddFile("rows.csv", b"id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(120))),
            AddFile("metrics.jsonl", "\n".join(map(json.dumps, METRICS)).encode()),
            AddFile("README.md", b"---\nlicense: mit\ntags: [a\n---\n# Card\n\n$x^2$\n"),
            AddFile(HOSTILE, b'{"<script>alert(1)</script>": "<script>alert(2)</script>"}\n'),
            AddFile("code.py", b"".join(b"def f%d(x): return x\n" % n for n in range(1_200))),
            AddFile("one.txt", b"old\n"),
            AddFile(
                "sharded/model.safetensors.index.json",
                b'{"weight_map": {"a": "1.safetensors", "b": "two.safetensors"}}',
            ),
            AddFile("sharded/1.safetensors", save({"a": np.ones(2, np.float32)})),
            AddFile("sharded/two.safetensors", save({"b": np.ones(4, np.float32)})),
        )
        hub.repositories.git(repository).create_ref("refs/tags/v1", first)
        hub.repositories.git(repository).create_ref("refs/heads/side/branch", first)
        site.commit(
            "Second <b>",
            site.large("model.safetensors", weights(0.5)),
            AddFile("rows.csv", b"id,name\n" + b"".join(b"%d,name %d\n" % (n, n + (n > 99)) for n in range(130))),
            AddFile("one.txt", b"new\n"),
            *(AddFile(f"many/{n}.txt", b"some words that are new\n" * 100) for n in range(100)),
            DeleteFile("code.py"),
        )
        yield site


def test_tensors_are_a_tree_whose_links_lead_to_histograms(site: Site) -> None:
    page = site.get("/blob/main/model.safetensors")
    assert "13 tensors · 771 parameters" in page.text
    assert [summary.text for summary in page.all("summary")][1:3] == [
        "model.layers 12 tensors · 768 parameters",
        "0 2 tensors · 128 parameters",
    ]
    link = next(a.attributes["href"] for a in page.all("a") if a.text == "k_proj.weight")
    assert link == "/ann/m/tensor/main/model.safetensors?name=model.layers.0.k_proj.weight"
    shown = site.get(link.removeprefix("/ann/m"))
    values = np.random.default_rng(0).standard_normal((2, 8, 8)).astype(np.float32)[1]
    figures = dict(zip([dt.text for dt in shown.all("dt")], [dd.text for dd in shown.all("dd")], strict=True))
    assert figures["Minimum"] == f"{values.min():.6g}"
    assert figures["Standard deviation"] == f"{values.std():.6g}"
    assert [title.text for title in shown.all("title")[1:]] == ["Histogram"]
    part = site.get(link.removeprefix("/ann/m"), **{"HX-Request": "true"})
    assert not part.all("html")
    assert part.all("svg")


def test_a_part_of_the_tensors_is_a_page(site: Site) -> None:
    page = site.get("/blob/main/model.safetensors?within=model.layers.3")
    assert "All tensors / model.layers.3 2 tensors · 128 parameters" in page.text
    assert "k_proj.weight" in page.text
    assert "0 tensors" in site.get("/blob/main/model.safetensors?within=nothing").text


def test_the_index_of_a_model_in_several_files_leads_to_tensors_of_each(site: Site) -> None:
    page = site.get("/blob/main/sharded/model.safetensors.index.json")
    assert "2 tensors · 6 parameters" in page.text
    link = next(a.attributes["href"] for a in page.all("a") if a.text == "b")
    assert link == "/ann/m/tensor/main/sharded/two.safetensors?name=b"
    assert "4 values" in site.get(link.removeprefix("/ann/m")).text


def test_the_name_of_a_tensor_cannot_be_markup(site: Site) -> None:
    link = next(a for a in site.get("/blob/main/model.safetensors").all("a") if "<i>" in a.text)
    assert "<i>new</i>" in site.get(link.attributes["href"].removeprefix("/ann/m")).text
    assert not site.get("/difference/v1..main/model.safetensors").all("i")


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/tensor/main/model.safetensors?name=absent", 404, "has no tensor 'absent'"),
        ("/tensor/main/model.safetensors", 404, "has no tensor ''"),
        ("/tensor/main/broken.safetensors?name=x", 400, "broken.safetensors: a header of"),
        ("/tensor/main/one.txt?name=x", 400, "one.txt: "),
        ("/tensor/main/many?name=x", 404, "many is a folder"),
        ("/tree/main/absent", 404, "absent"),
        ("/blob/main/rows.csv?page=9", 404, "rows.csv has no page 9"),
        ("/blob/main/one.txt?page=x", 400, "page=x is not a page"),
        ("/compare/main", 400, "does not name two revisions"),
        ("/compare/..main", 400, "does not name two revisions"),
        ("/compare/main..", 400, "does not name two revisions"),
        ("/compare/main..nope", 404, "nope"),
        ("/compare/v1..main?file=nope", 404, "'nope' was not changed here"),
        ("/compare/side/branch..main", 404, "feature%2Fname"),
        ("/difference/v1..main/one.txt", 400, "tensors and rows are compared"),
        ("/difference/v1..main/absent.csv", 404, "absent.csv"),
        ("/difference/v1..main/broken.safetensors", 200, "a header of"),
        ("/tensor/main/complex.safetensors?name=w", 200, "values of type 'C64' cannot be read here"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(site: Site, path: str, status: int, says: str) -> None:
    assert says in site.get(path, status).text


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("/blob/main/many", "/tree/main/many"),
        ("/blob/side%2Fbranch/sharded", "/tree/side%2Fbranch/sharded"),
        ("/tree/main/one.txt", "/blob/main/one.txt"),
        ("/tree/main/sharded/1.safetensors", "/blob/main/sharded/1.safetensors"),
    ],
)
def test_an_address_of_the_other_kind_leads_to_the_folder_or_file(site: Site, path: str, leads: str) -> None:
    answer = site.client.get(f"/ann/m{path}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/ann/m{leads}")


def test_folders_stand_before_files(site: Site) -> None:
    names = [row.text.split()[0] for row in site.get("/tree/main").all("tr")[1:]]
    assert names[:3] == ["many/", "sharded/", ".gitattributes"]


def test_changes_name_signs_that_turn_a_line_round_and_what_is_too_long(site: Site) -> None:
    git = site.hub.repositories.git(site.repository)
    git.create_ref("refs/heads/turned", "main")
    files = [AddFile("turned.py", "x = 1 # \u202e\n".encode()), AddFile("long.txt", b"line\n" * 20_000)]
    files.append(AddFile("bytes.dat", b"\0\1"))
    commit = site.hub.commits.commit(site.ann, site.repository, "turned", files, message="Turned")
    page = site.get(f"/commit/{commit}")
    assert "x = 1 # <U+202E>" in page.text
    assert "long.txt added +20,000 −0 Too long to show here." in page.text
    assert "bytes.dat added Binary, or too long to show here." in page.text


def test_a_damaged_file_is_shown_with_the_reason(site: Site) -> None:
    page = site.get("/blob/main/broken.safetensors")
    assert "is not one of safetensors" in page.text
    assert "/ann/m/resolve/main/broken.safetensors?download=true" in page.attributes("href")


def test_the_metrics_of_a_run_are_charts_with_a_table_of_last_values(site: Site) -> None:
    page = site.get("/blob/main/metrics.jsonl")
    assert [title.text for title in page.all("title")[1:]] == ["loss, validation_loss", "<b>"]
    assert len(page.all("polyline")) == 3
    rows = [" ".join(row.text.split()) for row in page.all("tr")[1:]]
    assert rows == ["loss 1,999 1,999 0.00450225", "validation_loss 1,999 1,999 0.004002", "<b> 1,999 1,999 1999"]
    alone = site.get("/blob/main/metrics.jsonl?tag=validation_loss")
    assert len(alone.all("polyline")) == 1
    assert "All curves" in alone.text


def test_rows_are_a_table_with_pages(site: Site) -> None:
    page = site.get("/blob/main/rows.csv?page=3")
    assert "120 120 name 121" in page.text
    assert "130 rows" in page.text
    assert "?page=2" in page.attributes("href")
    assert "source" not in site.get("/blob/main/rows.csv?view=source").text.lower()
    assert "id,name" in site.get("/blob/main/rows.csv?view=source").text


def test_names_and_cells_cannot_be_markup(site: Site) -> None:
    for path in (f"/blob/main/{quote(HOSTILE)}", "/tree/main", f"/commits/main/{quote(HOSTILE)}", "/commit/v1"):
        assert HOSTILE in site.get(path).text
    assert "<script>alert(2)</script>" in site.get(f"/blob/main/{quote(HOSTILE)}").text


def test_a_long_file_has_pages_whose_lines_have_their_numbers(site: Site) -> None:
    page = site.get("/blob/v1/code.py?page=2")
    assert page.attributes("id")[-1] == "L1000"
    assert {"?page=1", "?page=3"} <= set(page.attributes("href"))
    assert "def f999" in page.text


def test_broken_front_matter_stands_beside_the_card_with_its_line(site: Site) -> None:
    page = site.get("/blob/main/README.md")
    assert "metadata is not YAML" in page.text
    assert [mark.text for mark in page.all("mark")] == ["4  ---"]
    assert page.all("math")
    assert "README.md: metadata is not YAML" in site.get("").text


def lines(page: Page) -> set[tuple[str, str]]:
    """The lines of patches: what happened to them, their numbers and text."""
    rows = [row for row in page.all("tr") if "class" in row.attributes]
    return {(row.attributes["class"], " ".join(row.text.split())) for row in rows}


def test_a_commit_says_which_tensors_and_rows_changed(site: Site) -> None:
    page = site.get("/commit/main")
    assert "104 files changed" in page.text
    links = page.attributes("data-hx-get")
    base, head = (site.hub.repositories.git(site.repository).resolve(name) for name in ("v1", "main"))
    assert links == [f"/ann/m/difference/{base}..{head}/{name}" for name in ("model.safetensors", "rows.csv")]
    tensors = site.get(links[0].removeprefix("/ann/m"))
    assert "1 changed 1 added 1 removed 11 the same" in " ".join(tensors.text.split())
    assert "model.layers.3.q_proj.weight 8 × 8 · F32 0.5 0.5" in tensors.text
    rows = site.get(links[1].removeprefix("/ann/m"), **{"HX-Request": "true"})
    assert [number.text for number in rows.all("dd")] == ["120", "130", "30", "20"]
    assert "oid sha256" not in page.text  # the pointer's own lines say nothing
    for folded in (link for link in page.attributes("href") if link.startswith("?file=")):
        assert ("added", "1 some words that are new") in lines(site.get(f"/commit/main{folded}"))
        break
    else:
        pytest.fail("all patches are on one page")


def test_two_revisions_are_compared(site: Site) -> None:
    page = site.get("/compare/v1..main?file=one.txt")
    assert "Second <b>" in page.text
    assert "104 files changed" in page.text
    assert "All changed files" in page.text
    assert ("removed", "1 old") in lines(page)
    back = site.get("/compare/main..side%2Fbranch?file=one.txt")
    assert ("added", "1 old") in lines(back)
    assert "Both are the same commit" in site.get("/compare/main...side%2Fbranch").text
    assert "Both are the same commit" in site.get("/compare/main..main").text
    chosen = site.client.get("/ann/m/compare?base=side/branch&head=v1")
    assert (chosen.status_code, chosen.headers["location"]) == (303, "/ann/m/compare/side%2Fbranch..v1")


def test_a_branch_says_how_far_it_is_from_the_default_one(site: Site) -> None:
    assert "1 commit behind main" in site.get("/tree/side%2Fbranch").text
    git = site.hub.repositories.git(site.repository)
    git.create_ref("refs/heads/equal", git.resolve("main"))
    assert "The same as main" in site.get("/tree/equal").text
    site.hub.commits.commit(site.ann, site.repository, "equal", [AddFile("x", b"x")], message="More")
    page = site.get("/tree/equal")
    assert "1 commit ahead of main" in page.text
    assert "/ann/m/compare/main...equal" in page.attributes("href")
    assert "ahead" not in site.get("/tree/main").text + site.get("/tree/v1").text


def test_the_history_of_a_file_leads_to_what_it_was(site: Site) -> None:
    git = site.hub.repositories.git(site.repository)
    commits = [git.resolve(name) for name in ("main", "v1")]
    links = set(site.get("/commits/main/one.txt").attributes("href"))
    assert {f"/ann/m/blob/{commit}/one.txt" for commit in commits} <= links
    links = set(site.get("/commits/main/code.py").attributes("href"))  # which the last commit deleted
    assert f"/ann/m/blob/{commits[1]}/code.py" in links
    assert f"/ann/m/blob/{commits[0]}/code.py" not in links
    assert f"/ann/m/tree/{commits[0]}/many" in set(site.get("/commits/main/many").attributes("href"))


def test_the_history_of_a_file_goes_on_at_the_path_that_it_had(site: Site) -> None:
    git = site.hub.repositories.git(site.repository)
    git.create_ref("refs/heads/moved", git.resolve("v1"))
    move = [DeleteFile("one.txt"), AddFile("folder/<b>two.txt", b"old\n")]
    site.hub.commits.commit(site.ann, site.repository, "moved", move, message="Move")
    page = site.get("/commits/moved/folder/%3Cb%3Etwo.txt")
    former = f"/ann/m/commits/{git.resolve('v1')}/one.txt"
    assert former in page.attributes("href")
    assert "another path: one.txt" in " ".join(page.text.split())
    assert "another path" not in site.get(former.removeprefix("/ann/m")).text
    moved = site.get("/commit/moved")
    assert "one.txt → folder/<b>two.txt" in " ".join(moved.text.split())
    assert "1 renamed" in moved.text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_of_files_are_in_both_languages(site: Site, language: str) -> None:
    site.client.cookies.set("lmc_language", language)
    try:
        for path, words in {
            "/blob/main/metrics.jsonl": {"en": "Last value", "zh": "数据点"},
            "/tensor/main/model.safetensors?name=model.layers.0.k_proj.weight": {"en": "Zeros", "zh": "零值"},
            "/compare/v1..main": {"en": "104 files changed", "zh": "104 个文件有改动"},
        }.items():
            assert words[language] in site.get(path).text
    finally:
        site.client.cookies.clear()


def test_a_file_in_chunks_is_marked_and_read_like_any_other(site: Site) -> None:
    sent = xorb(weights(0.25))
    file, store = File((Term(sent),)), site.hub.objects.xet
    reach = Reach(site.ann.account_id, readable(site.ann), readable_buckets(site.ann))
    with store.receive_xorb(site.ann.account_id, sent.hash) as incoming:
        incoming.write([sent.body])
    (made,) = store.register(site.repository.scope, parse_files(shard(file)), reach)
    site.hub.contents.link(site.repository.id, {made.sha256: made.size})
    git = site.hub.repositories.git(site.repository)
    git.create_ref("refs/heads/chunks", "main")
    added = AddLfs("model.safetensors", made.sha256, made.size)
    site.hub.commits.commit(site.ann, site.repository, "chunks", [added], message="In chunks")
    for view in ("tree/chunks", "blob/chunks/model.safetensors"):
        assert "Xet" in [tag.text for tag in site.get(f"/{view}").all("span")]
    assert "LFS" in [tag.text for tag in site.get("/blob/main/model.safetensors").all("span")]
    tensors = site.get("/difference/main..chunks/model.safetensors")
    assert "model.layers.3.q_proj.weight 8 × 8 · F32 0.25 0.25" in tensors.text


def test_of_a_card_of_five_megabytes_the_beginning_is_shown(site: Site) -> None:
    large = site.hub.commits.create_repository(site.ann, RepositoryType.MODEL, None, "large")
    card = b"---\nlicense: mit\n---\n# Begins\n\n" + b"Some words.\n\n" * 400_000
    site.hub.commits.commit(site.ann, large, "main", [AddFile("README.md", card)], message="Card")
    for path in ("/ann/large", "/ann/large/blob/main/README.md"):
        page = Page(site.client.get(path).text)
        assert not page.problems
        assert "Begins" in page.text
        assert "This is the beginning of a long file." in page.text


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("# Told\nA [small](x) model.\n", "A small model."),
        ("Told\n====\nIt <b>tells</b> tales.\n", "It tells tales."),
        ("```bash\npip install\n\nlmc\n```\n\n## Use\n\nWords.\n", "Words."),
        ('<p align="center">\n<img src="x.png"></p>\n\n[![badge](x)](y)\n\nProse.\n', "Prose."),
    ],
)
def test_a_list_tells_of_a_model_the_first_prose_of_its_card(site: Site, card: str, told: str) -> None:
    name = told.removesuffix(".").rpartition(" ")[2]
    repository = site.hub.commits.create_repository(site.ann, RepositoryType.MODEL, None, name)
    site.hub.commits.commit(site.ann, repository, "main", [AddFile("README.md", card.encode())], message="Card")
    page = Page(site.client.get(f"/models?search={name}").text)
    (shown,) = (paragraph.text for paragraph in page.all("p") if told in paragraph.text)
    assert shown.strip() == told


def test_private_files_are_absent_from_every_view(site: Site) -> None:
    site.hub.commits.create_repository(site.ann, RepositoryType.MODEL, None, "hidden", private=True)
    for view in ("tree/main", "blob/main/x", "tensor/main/x?name=a", "compare/main..main", "difference/a..b/x.csv"):
        assert site.client.get(f"/ann/hidden/{view}").status_code == 404


def test_a_folder_of_fifty_thousand_files_has_pages(site: Site) -> None:
    repository = site.hub.commits.create_repository(site.ann, RepositoryType.DATASET, None, "wide")
    deep = "/".join("d" * 60)
    files = [AddFile(f"all/{number:05}", b"x") for number in range(50_000)]
    site.hub.commits.commit(site.ann, repository, "main", [*files, AddFile(f"{deep}/x", b"x")], message="all")
    path = "/datasets/ann/wide/tree/main/all?page=500"
    page = Page(site.client.get(path).text)
    assert [row.text.split()[0] for row in page.all("tr")[2:]] == [f"{number:05}" for number in range(49_900, 50_000)]
    assert site.client.get(f"/datasets/ann/wide/tree/main/{deep}").status_code == 200
    assert site.client.get(f"/datasets/ann/wide/blob/main/{deep}/x").status_code == 200
