"""Making and changing repositories in a browser without scripts: new, upload, edit, rename, delete, propose."""

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from browser import Browser
from hub_process import HubProcess, start_hub
from huggingface_hub import HfApi
from web_page import Page

PASSWORD = "correct horse battery"
SCRIPT = '<script>alert("x")</script>'


@dataclass
class Site:
    """A hub, and the browsers of two of its members."""

    hub: HubProcess
    api: HfApi
    ann: Browser
    bob: Browser

    def new(self, kind: str = "model", **more: str) -> str:
        """A repository that ann made in her browser; its path."""
        name = f"r{secrets.token_hex(5)}"
        made = self.ann.submit(self.ann.get("/new"), "/new", type=kind, owner="ann", name=name, **more)
        assert made.status_code == 200, made.text
        return made.url.path

    def text(self, repository: str, path: str, revision: str = "main") -> str:
        answer = httpx.get(f"{self.hub.endpoint}{repository}/resolve/{quote(revision, safe='')}/{quote(path)}")
        return answer.raise_for_status().text

    def put(self, repository: str, path: str, content: bytes) -> None:
        kind = "dataset" if repository.startswith("/datasets/") else "model"
        name = repository.removeprefix("/datasets").removeprefix("/")
        self.api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=name, repo_type=kind)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with start_hub(tmp_path_factory.mktemp("editing") / "hub") as hub:
        token = hub.add_user("ann")
        hub.add_user("bob")
        hub.add_organisation("lab", "--member", "ann:write", "--private-by-default")
        hub.add_organisation("club", "--member", "ann:read")
        with hub.rooms() as rooms:
            for name in ("ann", "bob"):
                rooms.sign_in.set_password(name, PASSWORD)
        browsers = Browser(hub), Browser(hub)
        for name, browser in zip(("ann", "bob"), browsers, strict=True):
            browser.sign_in(name, PASSWORD)
        yield Site(hub, HfApi(hub.endpoint, token=token), *browsers)


def sound(answer: httpx.Response, status: int = 200) -> Page:
    page = Page(answer.text)
    assert (answer.status_code, page.problems) == (status, []), page.text
    return page


def value_of(page: Page, name: str) -> str:
    return next(element.attributes["value"] for element in page.all("input") if element.attributes.get("name") == name)


# ------------------------------------------------------------ a new repository


def test_a_new_repository_has_the_owner_visibility_licence_and_card_that_were_chosen(site: Site):
    page = sound(site.ann.get("/new?type=dataset"))
    owners = [element.text for element in page.all("option")][:2]
    assert owners == ["ann", "lab · organisation"]  # of the club she may only read
    made = site.ann.submit(
        site.ann.get("/new"),
        "/new",
        type="dataset",
        owner="lab",
        name="tales",
        visibility="private",
        licence="cc-by-4.0",
        card="yes",
    )
    assert made.url.path == "/datasets/lab/tales"
    assert "private" in sound(made).text
    info = site.api.dataset_info("lab/tales")
    assert (info.private, info.card_data.license) == (True, "cc-by-4.0")
    assert site.bob.get("/datasets/lab/tales").status_code == 404


def test_a_new_repository_is_as_its_owners_usually_are(site: Site):
    made = site.ann.submit(site.ann.get("/new"), "/new", type="model", owner="lab", name="usual", visibility="")
    assert "private" in sound(made).text
    assert "hf upload lab/usual" in made.text
    assert "git clone" in made.text


def test_what_cannot_be_made_is_said_above_the_form_that_keeps_what_was_typed(site: Site):
    site.new()
    for fields, status, reason in (
        ({"name": "a b"}, 400, "not allowed"),
        ({"name": SCRIPT}, 400, "not allowed"),
        ({"name": "x", "type": "space"}, 400, "a model or a dataset"),
        ({"name": "x", "licence": "mine"}, 400, "not a licence"),
        ({"name": "x", "visibility": "half"}, 400, "public or private"),
        ({"name": "x", "owner": "club"}, 403, "ask an owner"),
        ({"name": "x", "owner": "nobody"}, 404, "nobody"),
    ):
        answer = site.ann.submit(site.ann.get("/new"), "/new", **{"type": "model", "owner": "ann", **fields})
        page = sound(answer, status)
        assert reason in page.text
        assert value_of(page, "name") == fields["name"]


def test_a_form_that_is_sent_twice_makes_one_repository(site: Site):
    form = site.ann.get("/new")
    answers = [site.ann.submit(form, "/new", type="model", owner="ann", name="once") for _ in range(2)]
    assert [answer.url.path for answer in answers] == ["/ann/once", "/ann/once"]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_who_is_not_signed_in_signs_in_first_and_comes_back(site: Site):
    stranger, repository = Browser(site.hub), site.new()
    for path in ("/new", f"{repository}/new-file/main", f"{repository}/upload/main"):
        assert stranger.get(path).url.path == "/login"
    answer = stranger.submit(stranger.get(f"{repository}/new-file/main"), "/login", name="", password="")
    assert answer.status_code == 401


# ------------------------------------------------------------ writing


def test_a_file_is_written_read_changed_and_renamed(site: Site):
    repository = site.new()
    at = f"{repository}/new-file/main/notes"
    form = site.ann.get(at)
    assert value_of(sound(form), "path") == "notes/"
    answer = site.ann.submit(form, at, path="notes/a.md", text="\r\n# Hé\r\n", message="Begin", description="At last")
    assert answer.url.path == f"{repository}/blob/main/notes/a.md"
    assert site.text(repository, "notes/a.md") == "\n# Hé\n"
    at = f"{repository}/edit/main/notes/a.md"
    form = site.ann.get(at)
    assert '<textarea name="text" class="mono" rows="24" spellcheck="false">\n\n# Hé\n</textarea>' in form.text
    answer = site.ann.submit(form, at, path="b c.md", text="new\r\n")
    assert unescape(answer.url.path) == f"{repository}/blob/main/b c.md"
    assert site.text(repository, "b c.md") == "new\n"
    history = [commit.title for commit in site.api.list_repo_commits(repository[1:])]
    assert history[:2] == ["Rename notes/a.md to b c.md", "Begin"]


def test_what_is_no_text_keeps_its_content_under_another_name(site: Site):
    repository = site.new()
    site.put(repository, "model.safetensors", b"weights")
    at = f"{repository}/edit/main/model.safetensors"
    form = site.ann.get(at)
    assert "large file" in sound(form).text
    assert '<textarea name="text"' not in form.text
    site.ann.submit(form, at, path="old/model.safetensors")
    assert site.text(repository, "old/model.safetensors") == "weights"


def test_markdown_is_shown_before_it_is_saved(site: Site):
    repository = site.new()
    at = f"{repository}/new-file/main"
    text = f"---\ntags: 5\n---\n# Title\n\n**bold** {SCRIPT}"
    answer = site.ann.submit(site.ann.get(at), at, path="README.md", text=text, do="preview")
    page = sound(answer)
    assert "<strong>bold</strong>" in answer.text
    assert '"tags" must be an array' in page.text
    assert page.foreign_scripts() == []
    assert SCRIPT not in answer.text
    part = site.ann.client.post(
        at,
        files=[(name, (None, value)) for name, value in _hidden(page).items()]
        + [("path", (None, "x.md")), ("text", (None, "*so*")), ("do", (None, "preview"))],
        headers={"HX-Request": "true"},
    )
    assert part.text.strip().startswith("<article")
    assert "<em>so</em>" in part.text
    assert site.api.list_repo_files(repository[1:]) == [".gitattributes"]


def _hidden(page: Page) -> dict[str, str]:
    fields = [element.attributes for element in page.all("input") if element.attributes.get("type") == "hidden"]
    return {attributes["name"]: attributes["value"] for attributes in fields}


def test_two_who_edit_one_card_are_both_heard(site: Site):
    repository = site.new(card="yes", licence="mit")
    at = f"{repository}/edit/main/README.md"
    first, second = site.ann.get(at), site.ann.get(at)
    text = site.text(repository, "README.md")
    site.ann.submit(first, at, path="README.md", text=text.replace("license: mit", "license: apache-2.0"))
    mine = text + "More.\n"
    answer = site.ann.submit(second, at, path="README.md", text=mine.replace("\n", "\r\n"), message="Mine")
    page = sound(answer, 409)
    assert "Somebody else changed this file" in page.text
    shown = unescape(answer.text)
    merged = text.replace("license: mit", "license: apache-2.0") + "More.\n"
    assert merged in shown.replace("\r\n", "\n")
    assert mine.replace("\n", "\r\n") in shown
    assert value_of(page, "message") == "Mine"
    answer = site.ann.submit(answer, at, path="README.md", text=merged)
    assert answer.status_code == 200
    assert site.text(repository, "README.md") == merged


def test_a_file_that_is_gone_meanwhile_can_be_saved_anew(site: Site):
    repository = site.new(card="yes")
    at = f"{repository}/edit/main/README.md"
    form = site.ann.get(at)
    site.api.delete_file("README.md", repository[1:])
    answer = site.ann.submit(form, at, path="README.md", text="still here")
    assert "They deleted the file" in sound(answer, 409).text
    site.ann.submit(answer, at, path="README.md", text="still here")
    assert site.text(repository, "README.md") == "still here"


def test_a_stranger_proposes_what_an_owner_would_commit(site: Site):
    repository = site.new(card="yes")
    at = f"{repository}/edit/main/README.md"
    form = site.bob.get(at)
    assert "becomes a pull request" in sound(form).text
    head = site.api.model_info(repository[1:]).sha
    answer = site.bob.submit(form, at, path="README.md", text="better", message="Better words")
    assert answer.url.path == f"{repository}/discussions/1"
    assert site.api.model_info(repository[1:]).sha == head
    found = site.api.get_discussion_details(repository[1:], 1)
    assert (found.title, found.is_pull_request, found.author) == ("Better words", True, "bob")
    assert site.text(repository, "README.md", "refs/pr/1") == "better"
    own = f"{repository}/edit/refs%2Fpr%2F1/README.md"
    site.bob.submit(site.bob.get(own), own, path="README.md", text="better still")
    assert site.text(repository, "README.md", "refs/pr/1") == "better still"
    refused = site.bob.client.post(
        at,
        files=[
            (name, (None, value)) for name, value in (_hidden(Page(form.text)) | {"propose": "", "once": ""}).items()
        ]
        + [("path", (None, "README.md")), ("text", (None, "mine"))],
    )
    assert "bob may not write" in sound(refused, 403).text
    form = site.bob.get(f"{repository}/delete/main/README.md")
    answer = site.bob.submit(form, f"{repository}/delete/main/README.md", message="Away with it")
    assert answer.url.path == f"{repository}/discussions/2"
    assert site.text(repository, "README.md") != "mine"


def test_a_file_is_deleted_by_who_has_seen_it(site: Site):
    repository = site.new(card="yes")
    at = f"{repository}/delete/main/README.md"
    form = site.ann.get(at)
    site.put(repository, "README.md", b"newer")
    assert "was changed since" in sound(site.ann.submit(form, at), 409).text
    answer = site.ann.submit(site.ann.get(at), at)
    assert answer.url.path == f"{repository}/tree/main"
    assert site.api.list_repo_files(repository[1:]) == [".gitattributes"]


def test_bad_input_is_one_clear_line_and_keeps_what_was_written(site: Site):
    repository = site.new(card="yes")
    at = f"{repository}/new-file/main"
    for path, status, reason in (
        ("../x", 422, "relative"),
        ("", 422, "relative"),
        ("README.md", 409, "there already"),
        ("a\u202eb", 422, "control characters"),
        (".git/config", 422, "reserved"),
    ):
        answer = site.ann.submit(site.ann.get(at), at, path=path, text=f"kept {SCRIPT}")
        assert reason in sound(answer, status).text
        assert "kept &lt;script&gt;" in answer.text
    site.api.create_tag(repository[1:], tag="v1")
    for view in ("edit", "delete"):
        assert site.ann.get(f"{repository}/{view}/v1/README.md").status_code == 400
        assert site.ann.get(f"{repository}/{view}/main/absent").status_code == 404
        assert site.ann.get(f"{repository}/{view}/nowhere/README.md").status_code == 404
    too_long = site.ann.submit(site.ann.get(at), at, path="x.txt", text="x" * (1 << 21))
    assert too_long.status_code == 413


def test_script_in_names_and_fields_stays_text(site: Site):
    repository = site.new()
    name = '"><img src=x onerror=alert(1)>.md'
    at = f"{repository}/new-file/main"
    site.ann.submit(site.ann.get(at), at, path=name, text=SCRIPT, message=SCRIPT, description=SCRIPT)
    assert site.text(repository, name) == SCRIPT
    for view in ("edit", "delete", "tree"):
        answer = site.ann.get(f"{repository}/{view}/main/{quote(name) if view != 'tree' else ''}")
        assert sound(answer).foreign_scripts() == []
        assert "<img src=x" not in answer.text


# ------------------------------------------------------------ files


def test_files_are_uploaded_by_a_form_in_one_commit(site: Site):
    repository = site.new("dataset")
    at = f"{repository}/upload/main"
    files = [("a b.txt", b"text\0"), ("train/文.jsonl", "新\n".encode()), ("big.parquet", b"PAR1" * 500_000)]
    answer = site.ann.submit(site.ann.get(at), at, files, folder="data")
    assert answer.url.path == f"{repository}/tree/main/data"
    name = repository.removeprefix("/datasets/")
    commits = site.api.list_repo_commits(name, repo_type="dataset")
    assert [commit.title for commit in commits] == ["Upload 3 files", "initial commit"]
    entries = {entry.path: entry for entry in site.api.list_repo_tree(name, repo_type="dataset", recursive=True)}
    assert entries["data/big.parquet"].lfs.sha256 == hashlib.sha256(files[2][1]).hexdigest()
    for path, content in files:
        answer = httpx.get(f"{site.hub.endpoint}{repository}/resolve/main/data/{path}", follow_redirects=True)
        assert answer.content == content


def test_files_come_one_by_one_where_scripts_run(site: Site):
    repository = site.new()
    at = f"{repository}/upload/main"
    form = site.ann.get(at)
    secret = _hidden(Page(form.text))["form"]

    def send(content: bytes, secret: str = secret) -> httpx.Response:
        parts = [("form", (None, secret)), ("file", ("file", content))]
        return site.ann.client.post(f"{repository}/upload-file", files=parts, headers={"Accept": "application/json"})

    received = [{"path": path, **send(path.encode()).json()} for path in ("x/a.txt", "model.safetensors")]
    answer = site.ann.submit(form, at, received=json.dumps(received), message="From a script")
    assert answer.url.path == f"{repository}/tree/main"
    assert [site.text(repository, path) for path in ("x/a.txt", "model.safetensors")] == [
        "x/a.txt",
        "model.safetensors",
    ]
    refused = send(b"x", secret="wrong")
    assert (refused.status_code, "session" in refused.headers["x-error-message"]) == (403, True)
    forged = [{"path": "b.txt", **received[0], "size": 3}]
    for wrong in (json.dumps(forged), json.dumps([{"path": "b", "sha256": "..", "size": 1}]), "[", "[1]", '{"a": 1}'):
        answer = site.ann.submit(site.ann.get(at), at, received=wrong)
        assert sound(answer, 400).all("form")


def test_an_upload_that_cannot_be_leaves_no_commit(site: Site):
    repository = site.new()
    at = f"{repository}/upload/main"
    for files, fields, status, reason in (
        ([], {}, 400, "at least one"),
        ([("../x", b"x")], {}, 422, "relative"),
        ([("x", b"x")], {"folder": ".git"}, 422, "reserved"),
        ([("a", b"x"), ("a/b", b"x")], {}, 400, "is a file"),
    ):
        answer = site.ann.submit(site.ann.get(at), at, files, **fields)
        assert reason in sound(answer, status).text
    body = b'--x\r\nContent-Disposition: form-data; name="form"\r\n\r\n'
    for content, kind in ((body, "multipart/form-data; boundary=x"), (b"a=b", "application/x-www-form-urlencoded")):
        answer = site.ann.client.post(at, content=content, headers={"Content-Type": kind})
        assert answer.status_code == 400
    assert len(site.api.list_repo_commits(repository[1:])) == 1


def test_nothing_is_taken_from_a_form_before_it_shows_that_it_is_of_the_session(site: Site):
    repository = site.new()
    secret = _hidden(Page(site.ann.get(f"{repository}/upload/main").text))["form"]
    content = secrets.token_bytes(1000)
    file, form = ("file", ("a.bin", content)), ("form", (None, secret))
    with site.hub.rooms() as rooms:
        for browser, parts, status in (
            (site.ann, [file, form], 403),  # a file that comes first
            (site.bob, [form, file], 403),  # the secret of another session
            (Browser(site.hub), [form, file], 403),
            (site.ann, [form, file, file], 413),
            (site.ann, [form, *((f"field {number}", (None, "x")) for number in range(200))], 400),
            (site.ann, [form, ("text", (None, "x" * (3 << 20)))], 413),
        ):
            answer = browser.client.post(f"{repository}/upload-file", files=parts)
            assert answer.status_code == status
            if status == 403:
                assert rooms.objects.size(hashlib.sha256(content).hexdigest()) is None
        assert list(rooms.objects.blobs.staging.iterdir()) == []


def test_a_stranger_proposes_files(site: Site):
    repository = site.new()
    at = f"{repository}/upload/main"
    answer = site.bob.submit(site.bob.get(at), at, [("gift.txt", b"for you")])
    assert answer.url.path == f"{repository}/discussions/1"
    assert site.text(repository, "gift.txt", "refs/pr/1") == "for you"
    assert site.api.list_repo_files(repository[1:]) == [".gitattributes"]


def test_an_upload_counts_against_the_quota(tmp_path: Path):
    with start_hub(tmp_path / "hub") as hub:
        hub.add_user("ann")
        with hub.rooms() as rooms:
            rooms.sign_in.set_password("ann", PASSWORD)
            rooms.accounts.set_quota("ann", 100_000)
        ann = Browser(hub)
        ann.sign_in("ann", PASSWORD)
        ann.submit(ann.get("/new"), "/new", type="model", owner="ann", name="m")
        answer = ann.submit(ann.get("/ann/m/upload/main"), "/ann/m/upload/main", [("x.bin", bytes(200_000))])
        assert (answer.status_code, "quota of ann" in answer.text) == (403, True)
