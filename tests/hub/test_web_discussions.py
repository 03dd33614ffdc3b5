"""Discussions, pull requests, reviews and notifications in a browser without scripts."""

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import Browser
from hub_process import HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from web_page import Page
from weights import safetensors

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)
SCRIPT = "<script>alert(1)</script>"
TEXT = b"".join(b"line %d\n" % number for number in range(1, 21))


@dataclass
class World:
    """A hub, ann and her repository, and bo and cleo; each with a browser and a client."""

    hub: HubProcess
    apis: dict[str, HfApi]
    browsers: dict[str, Browser]
    repo: str = ""

    @property
    def ann(self) -> Browser:
        return self.browsers["ann"]

    @property
    def bo(self) -> Browser:
        return self.browsers["bo"]

    @property
    def cleo(self) -> Browser:
        return self.browsers["cleo"]

    @property
    def nobody(self) -> Browser:
        return Browser(self.hub)

    def page(self, browser: Browser, path: str = "", status: int = 200) -> httpx.Response:
        """A page below the repository's, checked."""
        return checked(browser.get(f"/{self.repo}{path}"), status)

    def send(self, browser: Browser, path: str, action: str, status: int = 200, **fields: str) -> httpx.Response:
        """Fill in the form of a page below the repository's that goes to `action`, and send it."""
        page = self.page(browser, path)
        return checked(submit(browser, page, f"/{self.repo}{action}", **fields), status)

    def open(self, title: str = "A question", text: str = "Why?") -> int:
        return self.apis["bo"].create_discussion(self.repo, title, description=text).num

    def propose(self, content: bytes = TEXT.replace(b"line 10\n", b"better\n")) -> int:
        commit = self.apis["bo"].create_commit(
            self.repo, [CommitOperationAdd("a.txt", content)], commit_message="Better", create_pr=True
        )
        return int(commit.pr_num or 0)


def checked(page: httpx.Response, status: int = 200) -> httpx.Response:
    assert page.status_code == status, Page(page.text).text[:2000]
    parsed = Page(page.text)
    assert parsed.problems == []
    assert parsed.foreign_scripts() == []
    assert len(parsed.all("h1")) == 1
    return page


def submit(
    browser: Browser,
    page: httpx.Response,
    action: str,
    files: list[tuple[str, bytes, str]] | None = None,
    part: bool = False,
    **fields: str,
) -> httpx.Response:
    """Send a form in the way that it says: with files, or short."""
    form = next(form for form in page.text.split("<form")[1:] if f'action="{action}"' in form.partition(">")[0])
    if "multipart/form-data" not in form.partition(">")[0]:
        return browser.submit(page, action, **fields)
    hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', form.partition("</form>")[0])
    headers = {"Origin": str(browser.client.base_url), "Sec-Fetch-Site": "same-origin"}
    if part:
        headers["HX-Request"] = "true"
    parts = [(name, (None, value)) for name, value in {**dict(hidden), **fields}.items()]
    parts += [("file", file) for file in files or [("", b"", "application/octet-stream")]]  # type: ignore[misc]
    return browser.client.post(action, files=parts, headers=headers)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with start_hub(tmp_path_factory.mktemp("talk") / "hub", "--sign-up", "open") as hub:
        apis, browsers = {}, {}
        for name in ("ann", "bo", "cleo"):
            browser = Browser(hub)
            joined = browser.submit(browser.get("/join"), "/join", name=name, password="correct horse battery")
            assert joined.status_code == 200
            with hub.rooms() as rooms:
                token = rooms.tokens.add(name, "t", "write")  # type: ignore[arg-type]
            apis[name], browsers[name] = HfApi(hub.endpoint, token=token), browser
        yield World(hub, apis, browsers)


@pytest.fixture
def world(people: World) -> World:
    api = people.apis["ann"]
    people.repo = api.create_repo(f"ann/r{secrets.token_hex(4)}").repo_id
    api.upload_file(path_or_fileobj=TEXT, path_in_repo="a.txt", repo_id=people.repo)
    return people


def as_parquet(count: int) -> bytes:
    file = BytesIO()
    pq.write_table(pa.table({"row": range(count)}), file)
    return file.getvalue()


def text(page: httpx.Response) -> str:
    return Page(page.text).text


def test_an_empty_list_teaches_what_to_type(world: World):
    page = world.page(world.nobody, "/discussions")
    assert f"hf discussions create {world.repo}" in text(page)
    assert world.nobody.get(f"/{world.repo}/discussions/new").url.path == "/login"


def test_a_discussion_is_opened_answered_renamed_closed_and_found(world: World):
    page = world.send(
        world.bo, "/discussions/new", "/discussions/new", title=f"Why {SCRIPT}?", text=f"**Why**, @ann? {SCRIPT}"
    )
    assert page.url.path == f"/{world.repo}/discussions/1"
    assert "<strong>Why</strong>" in page.text
    assert '<a href="/ann">@ann</a>' in page.text
    answered = world.send(world.ann, "/discussions/1", "/discussions/1/comment", text="Because.", do="comment")
    assert re.search(r"\?at=\d+#[0-9a-f]{24}$", str(answered.url))
    assert answered.url.fragment in Page(answered.text).attributes("id")
    renamed = world.send(world.bo, "/discussions/1", "/discussions/1/title", title="The reason")
    assert f"bo changed the title from Why {SCRIPT}? to The reason" in text(renamed)
    closed = world.send(world.bo, "/discussions/1", "/discussions/1/comment", text="Thanks.", do="closed")
    assert "bo closed this" in text(closed)
    world.open("Another")
    listed = text(world.page(world.nobody, "/discussions"))
    assert "Another" in listed
    assert "The reason" not in listed
    assert "Open 1 Closed 1 All 2" in listed
    closed_ones = text(world.page(world.nobody, "/discussions?status=closed&author=BO"))
    assert "The reason" in closed_ones
    assert "3 comments" in closed_ones
    assert "Nothing here matches" in text(world.page(world.nobody, "/discussions?type=pull_request"))
    found = text(world.page(world.nobody, "/discussions?status=all&search=THE+thanks"))  # in the title, in a comment
    assert "The reason" in found
    assert "Another" not in found
    assert "Open 0 Closed 1 All 1" in found
    for search in ("%25", "_", "%00nowhere", "reason+nowhere"):
        assert "Nothing here matches" in text(world.page(world.nobody, f"/discussions?search={search}"))
    assert world.nobody.get(f"/{world.repo}/discussions?status=lost").status_code == 400
    opened = world.send(world.ann, "/discussions/1", "/discussions/1/comment", text="", do="open")
    assert "ann opened this" in text(opened)


def test_a_form_sent_twice_says_it_once(world: World):
    world.open()
    page = world.page(world.ann, "/discussions/1")
    for _ in range(2):
        submit(world.ann, page, f"/{world.repo}/discussions/1/comment", text="Once.", do="comment")
    assert text(world.page(world.nobody, "/discussions/1")).count("Once.") == 1


def test_a_preview_shows_the_text_and_says_nothing(world: World):
    world.open()
    page = world.page(world.ann, "/discussions/1")
    action = f"/{world.repo}/discussions/1/comment"
    whole = checked(submit(world.ann, page, action, text="**soon** @bo", do="preview"))
    assert "<strong>soon</strong>" in whole.text
    assert ">\n**soon** @bo</textarea>" in whole.text
    part = submit(world.ann, page, action, part=True, text="*soon* <b onclick=x>", do="preview")
    assert part.text.strip().startswith("<article")
    assert "<em>soon</em> <b></b>" in part.text
    assert "soon" not in text(world.page(world.nobody, "/discussions/1"))


def test_each_comment_has_its_own_headings_and_footnotes(world: World):
    same = "## Why\n\nIt is [so](#why).[^1]\n\n[^1]: Yes."
    number = world.open(text=same)
    world.apis["bo"].comment_discussion(world.repo, number, same)
    page = Page(world.page(world.ann, f"/discussions/{number}").text)  # no id twice
    inner = [link[1:] for link in page.attributes("href") if re.match("#.*(why|fn)", link)]
    assert len(inner) == len(set(inner)) + 2 == 8  # the heading's own link, the text's, and the footnote's both ways
    assert set(inner) <= set(page.attributes("id"))


def test_a_refused_comment_keeps_what_was_written(world: World):
    page = world.send(
        world.bo, "/discussions/new", "/discussions/new", 400, title=" ", text="A long text that took an hour"
    )
    assert "A title has 1 to 200 characters" in text(page)
    assert "A long text that took an hour</textarea>" in page.text
    world.open()
    refused = world.send(world.bo, "/discussions/1", "/discussions/1/comment", 400, text=" ", do="comment")
    assert "A comment must not be empty" in text(refused)


def test_pictures_come_with_a_comment(world: World):
    world.open()
    page = world.page(world.ann, "/discussions/1")
    action = f"/{world.repo}/discussions/1/comment"
    files = [("a [x].png", PNG, "image/png")]
    said = checked(submit(world.ann, page, action, files, text="See:", do="comment"))
    [address] = set(re.findall(r'<img src="(/uploads/[0-9a-f]{64}\.png)" alt="a x.png">', said.text))
    assert world.nobody.get(address).content == PNG
    refused = submit(world.ann, said, action, [("a.html", SCRIPT.encode(), "text/html")], text="Mine", do="comment")
    assert refused.status_code == 400
    assert "a.html: An attachment is a picture, video or sound" in text(refused)
    assert "Mine</textarea>" in refused.text
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    dropped = world.ann.client.post(
        f"/{world.repo}/discussions/attach",
        files=[("form", (None, form[1] if form else "")), ("file", ("p.png", PNG, "image/png"))],
        headers={"Origin": str(world.ann.client.base_url)},
    )
    assert dropped.text == f"![p.png]({address})"


def test_ones_own_comment_is_edited_and_its_versions_stay(world: World):
    world.open(text="frist")
    thread = world.page(world.bo, "/discussions/1")
    [edit] = re.findall(rf'href="/{world.repo}(/discussions/1/comments/\d+/edit)"', thread.text)
    assert not re.findall(r"/comments/\d+/edit", world.page(world.ann, "/discussions/1").text)
    done = world.send(world.bo, edit, edit, text="first", do="save")
    assert "first" in text(done)
    assert "frist" not in text(done)
    versions = text(world.page(world.nobody, edit.removesuffix("/edit")))
    assert versions.index("first") < versions.index("frist")
    assert "Only its author may edit" in text(world.send(world.ann, edit, edit, 400, text="mine now", do="save"))


def test_a_comment_is_hidden_with_its_reason(world: World):
    world.open(text="Buy now")
    thread = world.page(world.ann, "/discussions/1")
    [hide] = re.findall(rf'action="/{world.repo}(/discussions/1/comments/\d+/hide)"', thread.text)
    hidden = world.send(world.ann, "/discussions/1", hide, reason="spam")
    assert "Hidden by a maintainer. Reason: spam." in text(hidden)
    assert "Buy now" not in hidden.text
    assert not re.findall(r"/comments/\d+/(hide|react)", hidden.text)


def test_reactions_are_given_counted_and_taken_back(world: World):
    world.open()
    thread = world.page(world.ann, "/discussions/1")
    [react] = re.findall(rf'action="/{world.repo}(/discussions/1/comments/\d+/react)"', thread.text)
    world.send(world.ann, "/discussions/1", react, give="heart")
    shown = world.send(world.bo, "/discussions/1", react, give="heart")
    assert re.search(r'name="take" value="heart" aria-pressed="true"[^>]*title="ann, bo"[^>]*>❤️ 2<', shown.text)
    taken = world.send(world.bo, "/discussions/1", react, take="heart")
    assert re.search(r'name="give" value="heart" aria-pressed="false"[^>]*>❤️ 1<', taken.text)
    assert world.send(world.bo, "/discussions/1", react, 400, give="poop")
    form = re.search(r'name="form" value="([^"]+)"', thread.text)
    part = world.ann.client.post(
        f"/{world.repo}{react}",
        data={"form": form[1] if form else "", "give": "rocket"},
        headers={"HX-Request": "true", "Origin": str(world.ann.client.base_url)},
    )
    assert part.text.startswith("<form")
    assert "🚀 1" in part.text


def test_a_long_discussion_has_pages_and_links_find_theirs(world: World):
    world.propose()
    with world.hub.rooms() as rooms:
        ann = rooms.tokens.actor(world.apis["ann"].token)  # type: ignore[arg-type]
        repository = rooms.repositories.find(ann, "model", world.repo)  # type: ignore[arg-type]
        events = [rooms.discussions.comment(ann, repository, 1, f"number {number}.").id for number in range(130)]
        on_line = rooms.line_comments.comment(ann, repository, 1, "a.txt", "new", 10, "Why?").id
    first = world.page(world.nobody, "/discussions/1")
    assert "number 57." in text(first)
    assert "73 lines more" in text(first)
    assert "?page=3" in Page(first.text).attributes("href")  # to what was said last
    there = world.page(world.nobody, f"/discussions/1?at={events[-1]}")
    assert "number 129." in text(there)
    assert "number 57." not in text(there)
    assert world.page(world.nobody, "/discussions/1?at=99999999999")
    last = world.page(world.bo, "/discussions/1?page=3").text
    assert f"quote={events[-1]}" in last
    assert f"quote={on_line}" not in last  # it is answered in its place
    reply = f"/discussions/1/comments/{on_line}/reply"  # its preview is shown on the page of its line, in its form
    shown = world.send(world.bo, "/discussions/1?page=3", reply, text="*Because*", do="preview")
    assert [area.text.strip() for area in Page(shown.text).all("textarea")].count("*Because*") == 1
    form = shown.text.partition(f'action="/{world.repo}{reply}"')[2].partition("</form>")[0]
    assert "<em>Because</em>" in form


def test_a_comment_is_quoted_in_the_box_for_an_answer(world: World):
    world.open(text="Why <b>?\n\nReally.")
    thread = world.page(world.ann, "/discussions/1")
    [link] = [link for link in Page(thread.text).attributes("href") if "quote=" in link]
    answer = checked(world.ann.get(link))
    assert Page(answer.text).all("textarea")[0].text.strip() == "> Why <b>?\n> \n> Really."
    assert "quote=" not in world.page(world.nobody, "/discussions/1").text
    world.page(world.ann, "/discussions/1?quote=99999999", 404)


def test_a_pull_request_is_reviewed_line_by_line_changed_and_merged(world: World):
    number = world.propose()
    pull = f"/discussions/{number}"
    changes = world.page(world.cleo, f"{pull}/changes")
    assert "1 file changed" in text(changes)
    [line] = re.findall(r'href="\?(path=a\.txt&amp;side=new&amp;line=10)#write"', changes.text) or re.findall(
        r'href="\?(path=a\.txt&side=new&line=10)#write"', changes.text
    )
    line = line.replace("&amp;", "&")
    said = world.send(world.cleo, f"{pull}/changes?{line}", f"{pull}/lines", text="Why **better**?", do="comment")
    assert said.url.path.endswith("/changes")
    assert "cleo commented on this line" in text(said)
    part = world.cleo.client.get(f"/{world.repo}{pull}/changes?{line}", headers={"HX-Request": "true"})
    assert part.text.strip().startswith("<tr")
    thread = world.page(world.bo, pull)
    assert "a.txt:10" in text(thread)
    assert "line 9better" in text(thread)
    [reply] = re.findall(rf'action="/{world.repo}({pull}/comments/\d+/reply)"', thread.text)
    answered = world.send(world.bo, pull, reply, text="It is.", do="comment")
    assert "bo answered" in text(answered)
    reviewed = world.send(world.cleo, pull, f"{pull}/review", text="Not yet.", verdict="request-changes", do="review")
    assert "changes requested" in text(reviewed)
    owner = world.page(world.ann, pull)
    assert "cleo asked for changes and did not approve since" in text(owner)
    refused = world.send(world.ann, pull, f"{pull}/merge", 400)
    assert "say that it is to be merged all the same" in text(refused)
    world.apis["bo"].upload_file(
        path_or_fileobj=TEXT.replace(b"line 10\n", b"best\n"),
        path_in_repo="a.txt",
        repo_id=world.repo,
        revision=f"refs/pr/{number}",
    )
    outdated = world.page(world.ann, pull)
    assert "a.txt:10 outdated" in text(outdated)
    assert "changes requested of an earlier commit" in text(outdated)
    assert "1 outdated thread is in the conversation" in text(world.page(world.ann, f"{pull}/changes"))
    commits = text(world.page(world.nobody, f"{pull}/commits"))
    assert "Better" in commits
    merged = world.send(world.ann, pull, f"{pull}/merge", despite="yes", text="Thanks")
    assert "ann merged this" in text(merged)
    assert f"/{pull}/merge" not in merged.text
    assert "best" in text(world.page(world.nobody, f"{pull}/changes"))
    assert world.nobody.get(f"/{world.repo}/raw/main/a.txt").content.count(b"best") == 1


def test_large_files_of_a_pull_request_are_compared_and_not_their_pointers(world: World):
    def state(size: int) -> list[CommitOperationAdd]:
        return [
            CommitOperationAdd("model.safetensors", safetensors(a=[size], b=[2])),
            CommitOperationAdd("rows.parquet", as_parquet(size)),
            CommitOperationAdd("other.bin", bytes(size)),
        ]

    world.apis["ann"].create_commit(world.repo, state(1000), commit_message="Begin")
    world.apis["bo"].create_commit(world.repo, state(2000), commit_message="Grow", create_pr=True)
    changes = world.page(world.ann, "/discussions/1/changes")
    assert "oid sha256" not in changes.text
    shown = text(changes)
    assert "3 files changed" in shown
    assert "other.bin modified large file 1 kB → 2 kB" in shown
    links = [link for link in Page(changes.text).attributes("href") if link.endswith("/other.bin")]
    sizes = [len(world.ann.get(link.replace("/blob/", "/resolve/")).content) for link in links]
    assert sizes == [2000, 1000, 2000]  # from the file's name, and from both sizes
    said = [text(checked(world.ann.get(link))) for link in Page(changes.text).attributes("data-hx-get")]
    assert "1 reshaped 1 the same" in said[0]
    assert "Rows before 1,000 Rows after 2,000 Only after 1,000 Only before 0" in said[1]
    assert '{"row": 1000}' in said[1]
    pointer = world.page(world.ann, "/discussions/1/changes?path=other.bin&side=new&line=2")
    assert 'id="write"' not in pointer.text


def test_a_renamed_file_shows_what_changed_in_it_and_takes_comments(world: World):
    rows = b"".join(b'{"n": %d}\n' % number for number in range(30))
    weights = safetensors(a=[1000])
    state = [CommitOperationAdd("rows.jsonl", rows), CommitOperationAdd("model.safetensors", weights)]
    world.apis["ann"].create_commit(world.repo, state, commit_message="Begin")
    moved = [
        CommitOperationAdd("docs/é b.txt", TEXT.replace(b"line 10\n", b"better\n")),
        CommitOperationAdd("data/rows.jsonl", rows.replace(b"29", b"31")),
        CommitOperationAdd("weights/model.safetensors", weights),
        *map(CommitOperationDelete, ("a.txt", "rows.jsonl", "model.safetensors")),
    ]
    world.apis["bo"].create_commit(world.repo, moved, commit_message="Move", create_pr=True)
    changes = world.page(world.cleo, "/discussions/1/changes")
    shown = text(changes)
    assert "3 files changed 3 renamed +2 −2 lines" in shown
    assert "a.txt → docs/é b.txt renamed +1 −1 94 % the same" in shown
    assert "model.safetensors → weights/model.safetensors renamed large file" in shown
    assert shown.count("The content did not change.") == 1
    [compared] = Page(changes.text).attributes("data-hx-get")
    assert "Only after 1 Only before 1" in text(checked(world.cleo.get(compared)))
    for path, side in (("docs/é b.txt", "new"), ("a.txt", "old")):
        line = f"path={quote(path)}&side={side}&line=10"
        assert line in changes.text
        said = world.send(
            world.cleo, f"/discussions/1/changes?{line}", "/discussions/1/lines", text=f"Why {side}?", do="comment"
        )
        assert f"Why {side}?" in text(said)
    conversation = text(world.page(world.bo, "/discussions/1"))
    assert "docs/é b.txt:10" in conversation
    assert "a.txt:10" in conversation


def test_who_opened_a_pull_request_is_offered_no_verdict_on_it(world: World):
    pull = f"/discussions/{world.propose()}"
    assert 'value="approve"' not in world.page(world.bo, pull).text
    assert 'value="approve"' in world.page(world.ann, pull).text
    refused = world.send(world.bo, pull, f"{pull}/review", 400, text="I like it", verdict="approve")
    assert "Nobody approves their own" in text(refused)


def test_reviewers_are_asked_by_name(world: World):
    pull = f"/discussions/{world.propose()}"
    asked = world.send(world.bo, pull, f"{pull}/reviewers", reviewer="@cleo", do="ask")
    assert "cleo asked" in text(asked)
    refused = world.send(world.bo, pull, f"{pull}/reviewers", 400, reviewer="nobody-here", do="ask")
    assert "No such user: nobody-here" in text(refused)


def test_conflicts_are_named_and_the_commands_that_are_shown_end_them(world: World, tmp_path: Path):
    clone = world.hub.endpoint.replace("://", f"://bo:{world.apis['bo'].token}@") + f"/{world.repo}"
    run = partial(subprocess.run, check=False, cwd=tmp_path, capture_output=True, text=True)
    run(["git", "clone", "-q", clone, "."], check=True)  # before main moved
    pull = f"/discussions/{world.propose()}"
    world.apis["ann"].upload_file(
        path_or_fileobj=TEXT.replace(b"line 10\n", b"other\n"), path_in_repo="a.txt", repo_id=world.repo
    )
    page = world.page(world.bo, pull)
    assert "1 file was changed here and on main, in different ways: a.txt" in text(page)
    assert "which git merges" not in text(page)
    assert f"/{world.repo}{pull}/merge" not in world.page(world.ann, pull).text
    merging, pushing = (each.text for each in Page(page.text).all("pre") if "git" in each.text)
    environment = os.environ | {"GIT_CONFIG_COUNT": "2"}
    for number, (key, value) in enumerate((("user.name", "bo"), ("user.email", "bo@example.org"))):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    assert "CONFLICT" in run(["bash", "-e", "-c", merging], env=environment).stdout
    (tmp_path / "a.txt").write_bytes(TEXT.replace(b"line 10\n", b"both\n"))
    done = run(["bash", "-e", "-c", pushing], env=environment)
    assert done.returncode == 0, done.stderr
    assert "No conflicts" in text(world.page(world.ann, pull))
    world.send(world.ann, pull, f"{pull}/merge")
    assert b"both" in world.nobody.get(f"/{world.repo}/raw/main/a.txt").content


def test_what_is_written_stays_in_its_own_form(world: World):
    pull = f"/discussions/{world.propose()}"
    shown = world.send(world.ann, pull, f"{pull}/review", text="**Why?**", verdict="request-changes", do="preview")
    review, comment = Page(shown.text).all("textarea")
    assert (review.text.strip(), comment.text.strip()) == ("**Why?**", "")
    assert 'value="request-changes" checked' in shown.text
    refused = world.send(world.ann, pull, f"{pull}/review", 400, text="", verdict="request-changes", do="review")
    assert 'value="request-changes" checked' in refused.text
    sent = checked(submit(world.ann, shown, f"/{world.repo}{pull}/review", text=review.text, verdict="request-changes"))
    assert "ann asked for changes" in text(sent)
    refused = world.send(world.ann, pull, f"{pull}/merge", 400, text="At last")
    assert 'name="text" maxlength="2000" value="At last"' in refused.text
    page = world.page(world.ann, pull)
    world.apis["bo"].change_discussion_status(world.repo, int(pull.rpartition("/")[2]), "closed")
    late = checked(submit(world.ann, page, f"/{world.repo}{pull}/review", text="Too late", verdict="approve"), 400)
    assert "is closed: reviews are for open pull requests" in text(late)
    assert Page(late.text).all("textarea")[0].text.strip() == "Too late"


def test_an_approval_of_an_earlier_commit_says_so_until_it_is_given_again(world: World):
    number = world.propose()
    pull = f"/discussions/{number}"
    approved = world.send(world.ann, pull, f"{pull}/review", text="", verdict="approve", do="review")
    assert "Approved by ann" in text(approved)
    world.apis["bo"].upload_file(
        path_or_fileobj=b"- dataset: {id: a/b}\n",
        path_in_repo=".eval_results/a.yaml",
        repo_id=world.repo,
        revision=f"refs/pr/{number}",
    )
    stale = world.page(world.ann, pull)
    assert "Approved by ann" not in text(stale)
    assert "ann approved an earlier commit, and did not review what came since." in text(stale)
    assert ".eval_results/a.yaml: entry 1: `dataset` needs `task_id`" in text(stale)
    [since] = [link for link in Page(stale.text).attributes("href") if "/compare/" in link]
    assert ".eval_results/a.yaml" in text(checked(world.ann.get(since)))
    again = world.send(world.ann, pull, f"{pull}/review", text="", verdict="approve", do="review")
    assert "Approved by ann" in text(again)


def test_a_branch_becomes_a_pull_request(world: World):
    api = world.apis["ann"]
    api.create_branch(world.repo, branch="try")
    refused = world.send(world.ann, "/pulls/new", "/pulls/new", 400, branch="try", base="main", title="T", text="")
    assert "main has all the commits of try" in text(refused)
    api.upload_file(path_or_fileobj=b"new\n", path_in_repo="b.txt", repo_id=world.repo, revision="try")
    opened = world.send(
        world.ann, "/pulls/new", "/pulls/new", branch="try", base="main", title="From a branch", text="", do="open"
    )
    assert "1 commit to merge" in text(opened)
    number = opened.url.path.rpartition("/")[2]
    assert "ann merged this" in text(world.send(world.ann, f"/discussions/{number}", f"/discussions/{number}/merge"))
    assert world.nobody.get(f"/{world.repo}/raw/main/b.txt").content == b"new\n"


def test_a_draft_says_how_to_add_commits_and_is_published(world: World):
    draft = world.send(world.bo, "/pulls/new", "/pulls/new", branch="", base="main", title="Soon", text="", do="open")
    number = draft.url.path.rpartition("/")[2]
    assert f"--revision refs/pr/{number}" in text(draft)
    assert "It has no commits yet" in text(draft)
    world.apis["bo"].upload_file(
        path_or_fileobj=b"new\n", path_in_repo="b.txt", repo_id=world.repo, revision=f"refs/pr/{number}"
    )
    pull = f"/discussions/{number}"
    assert f"/{world.repo}{pull}/merge" not in world.page(world.ann, pull).text
    published = world.send(world.bo, pull, f"{pull}/comment", do="open")
    assert "This is a draft" not in text(published)
    assert f"/{world.repo}{pull}/merge" in world.page(world.ann, pull).text


def test_a_dataset_has_discussions_too(world: World):
    name = world.apis["ann"].create_repo(f"ann/d{secrets.token_hex(4)}", repo_type="dataset").repo_id
    here = f"/datasets/{name}/discussions"
    assert "--type dataset" in text(checked(world.bo.get(here)))
    opened = submit(
        world.bo, world.bo.get(f"{here}/new"), f"{here}/new", title="Rows", text="[Where](x.csv)?", do="open"
    )
    assert checked(opened).url.path == f"{here}/1"
    assert f'href="/datasets/{name}/blob/main/x.csv"' in opened.text
    said = submit(world.ann, world.ann.get(f"{here}/1"), f"{here}/1/comment", text="There.", do="comment")
    assert "There." in text(checked(said))


def test_file_names_and_lines_of_any_kind_are_shown_as_text(world: World):
    operations = [
        CommitOperationAdd(f'{SCRIPT[:8]}">&amp;.txt', SCRIPT.encode()),
        CommitOperationAdd("中 文.bin", b"\0\1"),
    ]
    number = int(
        world.apis["bo"].create_commit(world.repo, operations, commit_message=SCRIPT, create_pr=True).pr_num or 0
    )
    for path in ("", "/commits", "/changes"):
        page = world.page(world.ann, f"/discussions/{number}{path}")
        assert SCRIPT not in page.text
        assert SCRIPT in text(page)
    assert "中 文.bin" in text(world.page(world.ann, f"/discussions/{number}/changes"))


def test_files_of_a_gated_repository_stay_closed(world: World):
    pull = f"/discussions/{world.propose()}"
    world.apis["ann"].update_repo_settings(world.repo, gated="manual")
    assert "Better" in text(world.page(world.cleo, pull))
    assert world.cleo.get(f"/{world.repo}{pull}/changes").status_code == 403
    world.apis["ann"].update_repo_settings(world.repo, private=True)
    assert world.cleo.get(f"/{world.repo}{pull}").status_code == 404
    assert world.cleo.get(f"/{world.repo}/discussions").status_code == 404


def test_notifications_lead_to_what_is_new_and_are_read_there(world: World):
    number = world.open("For cleo", "Please look, @cleo")
    told = checked(world.cleo.get("/notifications"))
    assert "bo mentioned you" in text(told)
    assert re.search(r'href="/notifications">Notifications <span class="tag">\d+<', told.text)
    [link] = re.findall(rf'href="(/{world.repo}/discussions/{number}\?at=\d+#[0-9a-f]+)"', told.text)
    checked(world.cleo.get(link))
    assert world.repo not in checked(world.cleo.get("/notifications")).text
    assert "bo mentioned you" in text(checked(world.cleo.get("/notifications?all=")))
    world.send(world.cleo, f"/discussions/{number}", f"/discussions/{number}/watch", choice="watch")
    world.apis["bo"].comment_discussion(world.repo, number, "More")
    world.apis["ann"].update_repo_settings(world.repo, private=True)
    assert world.repo not in world.cleo.get("/notifications?all=").text
    world.apis["ann"].update_repo_settings(world.repo, private=False)
    told = world.cleo.get("/notifications")
    assert world.repo in told.text
    everything = world.cleo.get("/notifications?all=")
    assert submit(world.cleo, everything, "/notifications/read", thread="x").status_code == 400
    assert world.repo in world.cleo.get("/notifications").text
    assert submit(world.cleo, everything, "/notifications/read").url.query == b"all="
    assert "Nothing new" in text(submit(world.cleo, told, "/notifications/read"))
    assert world.nobody.get("/notifications").url.path == "/login"


def test_pages_are_in_chinese_too(world: World):
    pull = f"/discussions/{world.propose()}"
    browser = Browser(world.hub)
    browser.client.headers["Accept-Language"] = "zh-CN"
    for path, words in (("/discussions", "讨论"), (pull, "合并"), (f"{pull}/changes", "更改")):
        assert words in text(world.page(browser, path))
