"""What the hub says when something is wrong: on pages in the reader's language, to programs in English."""

import pickle
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
from browser import Browser
from hub_process import PATIENCE, HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from sqlalchemy import text
from web_page import Page

from lmcommons.hub.errors import BadRequest, Malformed
from lmcommons.hub.words import Words, catalogue, kept, said_again, translated

PASSWORD = "correct horse battery"
TALES = {
    "notes.md": b"# Notes\n\nA line.\n",
    "broken.md": b"---\nlicense: mit\ntags: [a\n---\n# Tales\n",
    "bad.parquet": b"PAR1 nothing",
    "cut.parquet": b"PAR1" + bytes(20) + b"PAR1",
    "bad.safetensors": b"nothing at all of a header",
    ".eval_results/bad.yaml": b"- dataset: {id: ann/rows}\n  value: 1\n",
}
ROWS = {"train.jsonl": b'{"a": 1}\nnothing\n', "eval.yaml": b"tasks: none\n"}


# ------------------------------------------------------------------ Words


def test_words_are_a_line_in_english_and_can_be_said_in_chinese():
    said = Words("No such {kind}: {name}", kind=Words("user"), name="a\n b")
    assert said == "No such user: a b"
    assert translated(said, "zh") == "没有这个用户：a b"
    assert translated(said, "en") is said


def test_an_error_within_an_error_is_said_with_it():
    inner = Malformed("more than {limit:,} values", limit=20_000)
    outer = BadRequest("{path}: {reason}", path="a.yaml", reason=inner)
    assert outer.message == "a.yaml: more than 20,000 values"
    assert translated(outer.message, "zh") == "a.yaml：超过 20,000 个值"


def test_braces_of_strangers_are_no_places():
    said = Words("The name {name} is taken", name="{0.__class__}")
    assert translated(said, "zh") == "名称 {0.__class__} 已被占用"
    assert Words("{not a place") == "{not a place"


@pytest.mark.parametrize(
    "again", [lambda said: pickle.loads(pickle.dumps(said)), lambda said: said_again(kept(said, 300))]
)
def test_words_are_kept_with_what_they_are_made_of(again: Callable[[Words], Words]):
    said = again(
        Words("{path}: {reason}", path='a "b"\udc80.csv', reason=Words("longer than {limit:,} bytes", limit=9))
    )
    assert translated(said, "zh") == 'a "b"\\udc80.csv：超过 9 字节'


def test_text_is_kept_as_text_and_nothing_else():
    forged = '\n{"template": "{x:99999999}", "values": {"x": 1}}'
    assert said_again(kept(forged, 300)) == forged.strip()
    assert said_again("what a hub wrote before it kept Words") == "what a hub wrote before it kept Words"
    assert kept(Words("{path}: {reason}", path="x" * 400, reason="y"), 300) == "x" * 300
    assert len(kept("x" * 400, 300)) == 300


# ------------------------------------------------------------------ requests


@dataclass
class Site:
    """A hub with a member, who has a browser in each language and a client."""

    hub: HubProcess
    api: HfApi
    browsers: dict[str, Browser]

    def commit(self, path: str, content: bytes, repository: str = "ann/tales", **more: object) -> None:
        self.api.create_commit(repository, [CommitOperationAdd(path, content)], commit_message="Change", **more)


Ask = Callable[[Site, Browser], httpx.Response]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with start_hub(tmp_path_factory.mktemp("words") / "hub") as hub:
        api = HfApi(hub.endpoint, token=hub.add_user("ann"))
        hub.add_user("bob")
        hub.add_organisation("lab", "--member", "ann:read", "--member", "bob:admin")
        with hub.rooms() as rooms:
            rooms.sign_in.set_password("ann", PASSWORD)
        browsers = {"en": Browser(hub), "zh": Browser(hub)}
        for language, browser in browsers.items():
            browser.client.headers["Accept-Language"] = language
            browser.sign_in("ann", PASSWORD)
        api.create_repo("ann/tales")
        api.create_repo("ann/rows", repo_type="dataset")
        HfApi(hub.endpoint, token=hub.add_token("bob", "write")).create_repo("lab/models")
        made = Site(hub, api, browsers)
        for path, content in TALES.items():
            made.commit(path, content)
        for path, content in ROWS.items():
            made.commit(path, content, "ann/rows", repo_type="dataset")
        yield made


def at(address: str) -> Ask:
    """A page."""
    return lambda site, browser: browser.get(address)


def sent(page: str, action: str = "", **fields: str) -> Ask:
    """The answer to a form of a page."""
    return lambda site, browser: browser.submit(browser.get(page), action or page, **fields)


def deletion_of_what_changed(site: Site, browser: Browser) -> httpx.Response:
    address = "/ann/tales/delete/main/notes.md"
    form = browser.get(address)
    site.commit("notes.md", f"# Notes\n\n{time.monotonic()}\n".encode())
    return browser.submit(form, address)


def merge_of_what_conflicts(site: Site, browser: Browser) -> httpx.Response:
    name = f"{time.monotonic()}.txt"
    site.commit(name, b"begun")
    site.commit(name, b"theirs", create_pr=True)
    number = max(each.num for each in site.api.get_repo_discussions("ann/tales"))
    address = f"/ann/tales/discussions/{number}"
    form = browser.get(address)
    site.commit(name, b"ours")
    return browser.submit(form, f"{address}/merge")


def stranger(site: Site, browser: Browser) -> Browser:
    """Another browser, of the same language."""
    other = Browser(site.hub)
    other.client.headers["Accept-Language"] = browser.client.headers["Accept-Language"]
    return other


def form_of_another_site(site: Site, browser: Browser) -> httpx.Response:
    return browser.client.post("/ann/follow", data={"follow": "yes"}, headers={"Origin": "https://elsewhere.example"})


def far_too_long(site: Site, browser: Browser) -> httpx.Response:
    return browser.client.post("/login", data={"name": "a" * (4 << 20)}, headers={"Origin": site.hub.endpoint})


def wrong_password(site: Site, browser: Browser) -> httpx.Response:
    return stranger(site, browser).sign_in("ann", "a wrong one")


def guessing(site: Site, browser: Browser) -> httpx.Response:
    guesser = stranger(site, browser)
    for _ in range(45):  # a new window, in which the guesses count from nothing, may begin meanwhile
        answer = guesser.sign_in("bob", "a guess of many")
        if answer.status_code == 429:
            break
    return answer


def statistics_of_what_is_damaged(site: Site, browser: Browser) -> httpx.Response:
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = browser.get("/datasets/ann/rows/viewer/statistics?config=default&split=train")
        if "data-hx-trigger" not in answer.text:
            return answer
        assert time.monotonic() < deadline
        time.sleep(0.2)


NAME_RULE = (
    "{what} name {name!r} is not allowed: use letters, digits, '-', '_' and '.', begin and end with a letter or digit, "
    "no '--' or '..', no '.git' at the end"
)
PATH_RULE = "path {path!r}: must be relative, without empty, '.' or '..' parts"
CASES: list[tuple[int, str, Ask]] = [
    (404, "No such {kind}: {name}", at("/nobody-here")),
    (404, "Nothing at {path}", at("/settings/nothing/of/it")),
    (404, "Repository not found", at("/ann/nothing")),
    (404, "revision {revision!r}: no such branch, tag or commit", at("/ann/tales/tree/nowhere")),
    (404, "{path!r} is not in commit {revision}", at("/ann/tales/blob/main/nothing.txt")),
    (405, "{path} does not take {method}", lambda site, browser: browser.client.post("/compare")),
    (400, "page={text} is not a page: it is a number from 1 to 9999", at("/models?page=no")),
    (400, "Unknown sort: {sort}; one of {choices}", at("/models?sort=colour")),
    (403, "{actor} may not {action} in {name}; ask an owner for the role '{role}'", at("/lab/models/settings")),
    (403, "This form was sent from another site", form_of_another_site),
    (413, "The form is larger than {limit:,} bytes", far_too_long),
    (429, "More than {quota:,} requests ({kind}) in {window} seconds; wait {reset} seconds", guessing),
    (401, "The name or the password is wrong", wrong_password),
    (409, "You already created this {type} repo: {repository}", sent("/new", type="model", owner="ann", name="tales")),
    (
        400,
        NAME_RULE,
        sent("/new", type="model", owner="ann", name="a b"),
    ),
    (422, PATH_RULE, sent("/ann/tales/new-file/main", path="../a", text="x")),
    (409, "{path} was changed since you looked at it; look again before you delete it", deletion_of_what_changed),
    (400, "{source} cannot be merged into {target}: both changed {paths}", merge_of_what_conflicts),
    (400, "A comment must not be empty", sent("/ann/tales/discussions/new", title="A question", text=" ", do="open")),
    (400, "{host} is not a public address", sent("/ann/tales/settings/webhooks", url="http://127.0.0.1/", repo="yes")),
    (200, "metadata is not YAML: {reason} in line {line}, column {column}", at("/ann/tales/blob/main/broken.md")),
    (200, "cannot be read as {suffix}: {reason}", at("/ann/tales/blob/main/cut.parquet")),
    (200, "a header of {length} bytes is not one of safetensors", at("/ann/tales/blob/main/bad.safetensors")),
    (200, "`dataset` needs `task_id`: a task of the benchmark, such as `default`", at("/ann/tales")),
    (200, "{asked!r} is no model: write namespace/name or namespace/name@revision", at("/compare?models=tales")),
    (200, "`tasks` must be a list of 1 to {limit}", at("/datasets/ann/rows/leaderboard")),
    (200, "row {number} is not JSON: {reason}", statistics_of_what_is_damaged),
]


def pieces(template: str) -> list[str]:
    """What stands between the places of a template, without names that are the same in all languages."""
    parts = (part.strip(" ,:;") for part in re.split(r"\{[^}]*\}|\w+=", template))
    return [part for part in parts if len(part) > 3]


@pytest.mark.parametrize(("status", "template", "ask"), CASES, ids=[template[:40] for _, template, _ in CASES])
def test_what_is_wrong_is_said_in_the_language_of_the_page(site: Site, status: int, template: str, ask: Ask):
    chinese = str(catalogue("zh")[template].string)
    for language, browser in site.browsers.items():
        answer = ask(site, browser)
        page = Page(answer.text)
        assert (answer.status_code, page.problems) == (status, []), page.text
        said, unsaid = (template, chinese) if language == "en" else (chinese, template)
        assert [part for part in pieces(said) if part not in page.text] == [], page.text
        assert [part for part in pieces(unsaid) if part in page.text] == [], page.text


def test_nouns_in_an_error_are_translated_with_it(site: Site):
    page = site.browsers["zh"].get("/lab/models/settings").text
    assert "ann 无权在 lab/models 中管理；请向所有者申请“写入”角色" in page


def test_an_error_that_an_earlier_hub_kept_is_shown_as_it_is(site: Site):
    statistics_of_what_is_damaged(site, site.browsers["en"])
    with site.hub.rooms() as rooms, rooms.database.write() as session:
        kept_before = session.scalar(text("SELECT error FROM split_statistics"))
        session.execute(text("UPDATE split_statistics SET error = 'from an earlier hub'"))
    page = statistics_of_what_is_damaged(site, site.browsers["zh"]).text
    with site.hub.rooms() as rooms, rooms.database.write() as session:
        session.execute(text("UPDATE split_statistics SET error = :error"), {"error": kept_before})
    assert "from an earlier hub" in page


def test_programs_are_told_in_english_whatever_they_accept(site: Site):
    for address in ("/api/models/ann/nothing", "/ann/nothing/resolve/main/a.txt"):
        answer = httpx.get(f"{site.hub.endpoint}{address}", headers={"Accept-Language": "zh"})
        assert answer.json()["error"] == answer.headers["X-Error-Message"] == "Repository not found"


def test_a_script_of_a_page_is_told_in_the_pages_language_as_plain_text(site: Site):
    form = re.search(r'name="form" value="([^"]+)"', site.browsers["zh"].get("/new").text)
    assert form
    answer = site.browsers["zh"].client.post(
        "/ann/tales/discussions/attach",
        files=[("form", (None, form[1])), ("file", ("<b>.txt", b"<b>", "text/plain"))],
        headers={"Origin": site.hub.endpoint, "HX-Request": "true"},
    )
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert answer.text.startswith("附件应为图片、视频或音频：")
