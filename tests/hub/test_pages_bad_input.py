"""What nobody means well, at every page and every form: each is answered by a page that says what was wrong, in the
visitor's language. `test_hostile_input.py` sends such things to the doors of programs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import httpx
import pytest
from browser import Browser
from hub_process import HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from starlette.routing import Route

from lmcommons.hub.accounts.browser_sessions import COOKIE, form_secret
from lmcommons.hub.web.routes import router

PASSWORD = "correct horse battery"
FORM, PARTS = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
CHINESE = re.compile("[\u4e00-\u9fff]")
ALERT = re.compile('role="alert">([^<]+)')
AFTER_THE_HEADING = re.compile("</h1>\n<p>([^<]*)")
PLACE = re.compile(r"\{(\w+)(?::\w+)?\}")  # in a route
KNOWN = {"namespace": "ada", "name": "m", "rest": "main/README.md", "account": "ada"}  # what is at a place, else 1
# What addresses and forms may say, but `page`, which is asked for apart: it is read first.
NAMES = (
    *("search", "author", "sort", "task", "language", "license", "library", "size", "models", "file", "within", "tag"),
    *("line", "view", "name", "quote", "at", "path", "side", "branch", "derived", "tab", "next", "code", "status"),
    *("row", "start", "config", "split", "column", "kind", "before", "after", "owner", "type", "repository", "number"),
    *("discussion", "comment", "text", "title", "do", "act", "choice", "reason", "role", "user", "key", "days", "uses"),
    *("quota", "verdict", "base", "commit", "reviewer", "url", "secret", "delivery", "typed", "received", "folder"),
    *("message", "parent", "former", "visibility", "gated", "scopes", "expires", "from", "source", "email", "website"),
    *("password", "present", "wanted", "again", "answer", "user_code", "ticket", "named", "emoji", "to", "thread"),
)
UNASKED = ("/logout", "/language/", "/static/")  # these would change who asks, or are no pages


@dataclass
class Site:
    """The hub, the browser of its administrator, who reads Chinese, and the secret that the browser's forms carry."""

    hub: HubProcess
    client: httpx.Client
    secret: str

    def get(self, address: str) -> None:
        told_in_chinese(self.client.get(address))

    def post(self, address: str, content: bytes, kind: str, **headers: str) -> None:
        headers = {"Origin": self.hub.endpoint, "Content-Type": kind} | headers
        told_in_chinese(self.client.post(address, content=content, headers=headers))


def told_in_chinese(answer: httpx.Response) -> None:
    """The hub did not fail; where it refused, a page says why."""
    asked = f"{answer.status_code} {answer.request.method} {str(answer.request.url)[:300]}"
    assert answer.status_code < 500, f"{asked}: {answer.text[-300:]}"
    if answer.status_code >= 400:
        assert '<html lang="zh' in answer.text, f"{asked}: {answer.text[:300]}"
        said = ALERT.findall(answer.text) or AFTER_THE_HEADING.findall(answer.text)
        assert said, asked
        assert all(map(CHINESE.search, said)), f"{asked}: {said}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with start_hub(tmp_path_factory.mktemp("pages") / "hub", "--rate-limit", "0", "--sign-up", "open") as hub:
        api = HfApi(hub.endpoint, token=hub.add_user("ada", "--admin"))
        hub.command("user", "password", "ada", typed=f"{PASSWORD}\n")
        for repo_type, path in {"model": "README.md", "dataset": "train.csv"}.items():
            api.create_repo("ada/m", repo_type=repo_type)
            file = CommitOperationAdd(path, b"a\n1\n")
            api.create_commit("ada/m", [file], commit_message="Add", repo_type=repo_type)
        api.create_commit("ada/m", [CommitOperationAdd("b.md", b"b\n")], commit_message="Add", create_pr=True)
        browser = Browser(hub)
        browser.sign_in("ada", PASSWORD)
        browser.client.headers["Accept-Language"] = "zh-CN"
        browser.client.follow_redirects = False
        yield Site(hub, browser.client, form_secret(browser.client.cookies[COOKIE]))


def patterns(method: str) -> list[str]:
    """The pages, or the forms; of those that models and datasets both have, the models'."""
    found = [route.path for route in router.routes if isinstance(route, Route) and method in (route.methods or ())]
    return [
        path
        for path in dict.fromkeys(found)
        if not path.startswith(UNASKED)
        and (not path.startswith("/datasets/") or path.removeprefix("/datasets") not in found)
    ]


def address_of(pattern: str, wrong: str = "", value: str = "") -> str:
    """Where something is, but for one place."""
    return PLACE.sub(lambda found: value if found[1] == wrong else KNOWN.get(found[1], "1"), pattern)


def wrong_addresses(pattern: str, value: str) -> list[str]:
    """The addresses with a value at each of their places."""
    return [address_of(pattern, place, value) for place in PLACE.findall(pattern)]


def test_no_form_of_another_shape_makes_the_hub_fail(site: Site):
    begun = f'--x\r\nContent-Disposition: form-data; name="form"\r\n\r\n{site.secret}\r\n'.encode()
    text = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\n\xff\r\n--x--\r\n'
    for address in map(address_of, patterns("POST")):
        site.post(address, b"x", f"multipart/form-data; boundary={'b' * 300}")
        site.post(address, begun + text, PARTS)
        site.post(address, begun, PARTS, Origin="http://[", Referer="http://[")


@pytest.mark.parametrize("value", ["", "%0A%00{"], ids=["nothing", "something"])
def test_no_value_in_a_form_makes_the_hub_fail(site: Site, value: str):
    fields = {"form": site.secret} | dict.fromkeys(NAMES if value else (), value)
    form = "&".join(f"{name}={said}" for name, said in fields.items()).encode()
    begin = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'.format
    parts = unquote_to_bytes("".join(begin(*field) for field in fields.items())) + b"--x--\r\n"
    for address in map(address_of, patterns("POST")):
        site.post(address, form, FORM)
        site.post(address, parts, PARTS)


def test_no_form_of_what_is_not_there_makes_the_hub_fail(site: Site):
    for pattern in patterns("POST"):
        for address in wrong_addresses(pattern, "9" * 30):
            site.post(address, f"form={site.secret}".encode(), FORM)


def test_no_value_in_an_address_makes_a_page_fail(site: Site):
    everything = "&".join(f"{name}=a%00b" for name in NAMES)
    for pattern in patterns("GET"):
        for address in wrong_addresses(pattern, "9" * 400):
            site.get(address)
        site.get(f"{address_of(pattern)}?page=%ED%A0%80")
        site.get(f"{address_of(pattern)}?{everything}")


def test_what_was_wrong_is_said_of_a_long_value_too(site: Site):
    for pattern in ("/{namespace}/{name}/blob/{rest:path}", "/{namespace}/{name}/tree/{rest:path}", "/{namespace}"):
        for address in wrong_addresses(pattern, "x" * 10_000):
            site.get(address)


def test_the_log_is_clean(site: Site):
    assert "Traceback" not in site.hub.log.read_text()
