"""Settings in a browser: visibility, gate, name, owner, branches, tags, webhooks, access, likes, follows, deletion."""

import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import httpx
import pytest
from browser import Browser
from hub_process import PATIENCE, HubProcess, start_hub
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

    def new(self, **more: str) -> str:
        """A model of ann; its path."""
        return "/" + self.api.create_repo(f"ann/r{secrets.token_hex(5)}", **more).repo_id

    def send(self, browser: Browser, page: str, action: str = "", **fields: str) -> httpx.Response:
        """Send a form of a page."""
        return browser.submit(browser.get(page), action or page, **fields)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with start_hub(tmp_path_factory.mktemp("settings") / "hub", "--allow-private-webhooks") as hub:
        token = hub.add_user("ann", "--email", "ann@example.org")
        hub.add_user("bob", "--email", "bob@example.org")
        hub.add_organisation("lab", "--member", "ann:write")
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
    assert page.foreign_scripts() == []
    return page


def test_visibility_gate_and_default_branch_change_together(site: Site):
    path = site.new()
    site.api.create_branch(path[1:], branch="next")
    answer = site.send(site.ann, f"{path}/settings", visibility="private", gated="manual", branch="next")
    assert answer.url.path == f"{path}/settings"
    sound(answer)
    info = site.api.model_info(path[1:])
    assert (info.private, info.gated) == (True, "manual")
    assert f"{path}/tree/next" in site.ann.get(path).text
    assert site.bob.get(path).status_code == 404
    for wrong in ({"visibility": "half", "gated": ""}, {"visibility": "public", "gated": "perhaps"}):
        assert "public or private" in sound(site.send(site.ann, f"{path}/settings", branch="next", **wrong), 400).text
    answer = site.send(site.ann, f"{path}/settings", visibility="public", gated="", branch="nowhere")
    assert "no such branch" in sound(answer, 404).text


def test_settings_are_for_those_who_manage_the_repository(site: Site):
    path = site.new()
    for page in ("settings", "settings/webhooks", "access"):
        assert site.bob.get(f"{path}/{page}").status_code == 403
        assert Browser(site.hub).get(f"{path}/{page}").status_code == 401
    assert "settings" not in site.bob.get(path).text.partition("<main")[2]
    form = site.ann.get(f"{path}/settings")
    assert site.bob.submit(form, f"{path}/settings/delete", typed=path[1:]).status_code == 403
    assert site.ann.get(path).status_code == 200


def test_a_repository_gets_another_name_and_owner_and_the_old_address_redirects(site: Site):
    path = site.new()
    answer = site.send(site.ann, f"{path}/settings", f"{path}/settings/move", owner="lab", name="moved")
    assert answer.url.path == "/lab/moved/settings"
    assert site.ann.get(path).url.path == "/lab/moved"
    other = site.new()
    for fields, status, reason in (
        ({"owner": "lab", "name": "moved"}, 409, "already exists"),
        ({"owner": "bob", "name": "x"}, 403, "ask an owner"),
        ({"owner": "ann", "name": SCRIPT}, 400, "not allowed"),
    ):
        answer = site.send(site.ann, f"{other}/settings", f"{other}/settings/move", **fields)
        assert reason in sound(answer, status).text


def test_the_language_is_switched_on_the_page_whose_form_was_refused(site: Site):
    path = site.new()
    page = site.ann.get(f"{path}/settings")
    headers = {"Referer": f"{site.hub.endpoint}{path}/settings"}
    form = {"form": next(e.attributes["value"] for e in sound(page).all("input") if e.attributes["name"] == "form")}
    for action in ("settings/delete", "refs/branch", "settings"):
        refused = site.ann.client.post(f"{path}/{action}", data=form | {"start": "nowhere"}, headers=headers)
        switch = next(each for each in sound(refused, 400).attributes("href") if each.startswith("/language/zh"))
        assert unquote(switch.partition("next=")[2]) == f"{path}/settings"


def test_an_address_that_only_takes_forms_says_so(site: Site):
    path = site.new()
    opened = sound(site.ann.get(f"{path}/settings/delete"), 405)
    assert "Go back to the page with the form" in opened.text
    large = {"form": "x", "url": "x" * 70_000}
    sent = sound(site.ann.client.post(f"{path}/settings/webhooks", data=large), 413)
    assert "what you typed is still there" in sent.text
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    refused = sound(site.ann.client.post(f"{path}/settings", data={"form": "x"}, headers=foreign), 403)
    assert ("Nothing was changed" in refused.text, "Ask its owner" in refused.text) == (True, False)


def test_a_repository_is_deleted_when_its_name_was_typed(site: Site):
    path = site.new()
    act = f"{path}/settings/delete"
    answer = site.send(site.ann, f"{path}/settings", act, typed="ann/other")
    assert f"type {path[1:]}" in sound(answer, 400).text
    answer = site.send(site.ann, f"{path}/settings", act, typed=path[1:])
    assert answer.url.path == "/ann"
    assert site.ann.get(path).status_code == 404


# ------------------------------------------------------------ branches and tags


def test_branches_and_tags_are_made_and_removed(site: Site):
    path = site.new()
    page = f"{path}/refs"
    assert "No tags yet" in sound(site.ann.get(page)).text
    site.send(site.ann, page, f"{page}/branch", name="try/wider", start="main")
    site.send(site.ann, page, f"{page}/tag", name="v1.0", start="main", message="first")
    shown = sound(site.ann.get(page)).text
    assert "try/wider" in shown
    refs = site.api.list_repo_refs(path[1:])
    assert ([ref.name for ref in refs.branches], [ref.name for ref in refs.tags]) == (["main", "try/wider"], ["v1.0"])
    for what, fields, status, reason in (
        ("branch", {"name": "try/wider", "start": "main"}, 409, "already exists"),
        ("branch", {"name": "a..b", "start": "main"}, 400, "Invalid reference"),
        ("branch", {"name": "x", "start": "nowhere"}, 404, "nowhere"),
        ("tag", {"name": "v1.0", "start": "main"}, 409, "already exists"),
        ("tag", {"name": "a b", "start": "main"}, 400, "Invalid reference"),
    ):
        answer = site.send(site.ann, page, f"{page}/{what}", **fields)
        assert reason in sound(answer, status).text
    site.send(site.ann, page, f"{page}/branch/delete", name="try/wider")
    site.send(site.ann, page, f"{page}/tag/delete", name="v1.0")
    assert SCRIPT in sound(site.send(site.ann, page, f"{page}/tag", name=SCRIPT, start="main")).text
    site.send(site.ann, page, f"{page}/tag/delete", name=SCRIPT)
    refs = site.api.list_repo_refs(path[1:])
    assert ([ref.name for ref in refs.branches], list(refs.tags)) == (["main"], [])


def test_readers_see_branches_and_cannot_change_them(site: Site):
    path = site.new()
    page = site.bob.get(f"{path}/refs")
    assert [form.attributes["action"] for form in sound(page).all("form") if "/refs" in form.attributes["action"]] == []
    form = site.ann.get(f"{path}/refs")
    mine = {"form": next(e.attributes["value"] for e in sound(page).all("input") if e.attributes.get("name") == "form")}
    assert site.bob.submit(form, f"{path}/refs/branch", name="x", start="main", **mine).status_code == 403


# ------------------------------------------------------------ access requests


def test_requests_for_access_are_answered_in_the_browser(site: Site):
    path = site.new()
    assert "not gated" in sound(site.ann.get(f"{path}/access")).text
    card = b"---\nextra_gated_fields:\n  Why: text\n  I agree: checkbox\n---\n"
    site.api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=path[1:])
    site.api.update_repo_settings(path[1:], gated="manual")
    ask = {"answer Why": SCRIPT, "answer I agree": "yes"}
    site.send(site.bob, path, f"{path}/request-access", **ask)
    shown = sound(site.ann.get(f"{path}/access")).text
    assert ("bob@example.org" in shown, SCRIPT in shown) == (True, True)
    answer = site.send(site.ann, f"{path}/access", user="bob", status="rejected", reason="Say more")
    assert "Nobody waits" in sound(answer).text
    assert "Say more" in sound(site.bob.get(path)).text
    answer = site.send(site.ann, f"{path}/access?status=rejected", f"{path}/access", user="bob", status="accepted")
    assert site.bob.get(f"{path}/blob/main/README.md").status_code == 200
    answer = site.send(site.ann, f"{path}/access?status=accepted", f"{path}/access", user="bob", status="accepted")
    assert "accepted already" in sound(answer, 404).text
    for fields, status, reason in (({"user": "nobody"}, 404, "nobody"), ({"user": "bob"}, 400, "has access")):
        answer = site.send(site.ann, f"{path}/access", f"{path}/access/grant", **fields)
        assert reason in sound(answer, status).text
        assert fields["user"] in sound(answer, status).attributes("value")
    assert site.ann.get(f"{path}/access?status=half").status_code == 400
    assert site.ann.get(f"{path}/access?after=x").status_code == 400


# ------------------------------------------------------------ webhooks


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """An address, and the headers of what it was sent."""
    received: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            received.append(dict(self.headers))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", received
    server.shutdown()
    server.server_close()


def test_a_webhook_is_made_tested_changed_stopped_and_removed(site: Site, receiver):
    url, received = receiver
    path = site.new()
    page = f"{path}/settings/webhooks"
    form = site.ann.get(page)
    secret = next(e.attributes["value"] for e in sound(form).all("input") if e.attributes.get("name") == "secret")
    made = site.ann.submit(form, page, url=url, repo="yes", secret=secret)
    again = site.ann.submit(form, page, url=url, repo="yes", secret=secret)
    assert made.url == again.url
    assert secret not in sound(made).text
    assert made.headers["cache-control"] == "no-store"
    one = made.url.path
    answer = site.send(site.ann, one, f"{one}/act", do="test")
    assert "repository.created" in sound(answer).text
    deadline = time.monotonic() + PATIENCE
    while "answered with status 200" not in (part := site.ann.client.get(one, headers={"HX-Request": "true"})).text:
        assert time.monotonic() < deadline, part.text
        time.sleep(0.2)
    assert "data-hx-trigger" not in part.text
    assert part.text.strip().startswith('<div id="deliveries"')
    assert received[0]["X-Webhook-Secret"] == secret
    delivery = next(href for href in sound(site.ann.get(one)).attributes("href") if "/deliveries/" in href)
    shown = sound(site.ann.get(delivery))
    assert f"POST {url}" in shown.text
    assert f"X-Webhook-Delivery: {received[0]['X-Webhook-Delivery']}" in shown.text
    assert "X-Webhook-Secret: [hidden]" in shown.text
    assert secret not in shown.text
    assert received[0]["X-Hub-Signature-256"] not in shown.text
    assert f'"name": "{path.removeprefix("/")}"' in shown.text
    assert site.ann.get(delivery + "9").status_code == 404
    assert site.bob.get(delivery).status_code == 403
    for fields in ({"do": "dance"}, {"do": "again", "delivery": "x"}, {"do": "again", "delivery": "9" * 30}):
        assert "test" in sound(site.send(site.ann, one, f"{one}/act", **fields), 400).text.lower()
    assert site.ann.get(one).text.count("Send delivery") == 1
    answer = site.send(site.ann, one, url="ftp://nowhere", discussion="yes")
    assert "is not an http" in sound(answer, 400).text
    assert "ftp://nowhere" in sound(answer, 400).attributes("value")
    ticks = [each.attributes["name"] for each in sound(answer, 400).all("input") if "checked" in each.attributes]
    assert ticks == ["discussion"]
    answer = site.send(site.ann, one, url=url)
    assert "`domains`" in sound(answer, 400).text
    site.send(site.ann, one, url=url + "new", discussion="yes", secret="other")
    answer = site.send(site.ann, one, f"{one}/act", do="disable")
    assert "stopped" in sound(answer).text
    answer = site.send(site.ann, one, f"{one}/act", do="test")
    assert "disabled" in sound(answer, 400).text
    assert "stopped" not in sound(site.send(site.ann, one, f"{one}/act", do="enable")).all("h2")[0].text
    assert site.bob.get(one).status_code == 403
    answer = site.send(site.ann, one, f"{one}/act", do="delete")
    assert answer.url.path == page
    assert "None yet" in sound(answer).text


def test_a_webhook_that_cannot_be_is_said_and_what_was_typed_stays(site: Site):
    page = f"{site.new()}/settings/webhooks"
    for fields, reason in (
        ({"url": "file:///etc/passwd", "repo": "yes"}, "is not an http"),
        ({"url": "https://example.org", "secret": "x" * 300, "repo": "yes"}, "`secret`"),
        ({"url": "https://example.org"}, "`domains`"),
    ):
        answer = site.send(site.ann, page, **fields)
        shown = sound(answer, 400)
        assert reason in shown.text
        assert fields["url"] in shown.attributes("value")


# ------------------------------------------------------------ likes and follows


def test_a_repository_is_liked_once_and_who_likes_it_is_listed(site: Site):
    path = site.new()
    assert "Nobody yet" in sound(site.ann.get(f"{path}/likes")).text
    form = site.bob.get(path)
    assert "0 likes" in sound(form).text
    for _ in range(2):
        answer = site.bob.submit(form, f"{path}/likes", like="yes")
    assert "1 like" in sound(answer).text
    assert "Liked" in answer.text
    assert "bob" in sound(site.ann.get(f"{path}/likes")).all("main")[0].text
    headers = {"HX-Request": "true"}
    secret = next(e.attributes["value"] for e in sound(answer).all("input") if e.attributes.get("name") == "form")
    part = site.bob.client.post(f"{path}/likes", data={"form": secret, "like": "no"}, headers=headers)
    assert part.text.strip().startswith("<form")
    assert "0 likes" in part.text
    assert site.bob.client.post(f"{path}/likes", data={"like": "yes"}).status_code == 403
    stranger = sound(Browser(site.hub).get(path))
    assert [button.text for button in stranger.all("button") if "Like" in button.text] == []


def test_people_and_organisations_are_followed(site: Site):
    secret = next(
        e.attributes["value"] for e in sound(site.bob.get("/lab")).all("input") if e.attributes.get("name") == "form"
    )
    for name in ("ann", "lab"):
        answer = site.bob.client.post(f"/{name}/follow", data={"form": secret, "follow": "yes"})
        assert answer.url.path == f"/{name}"
    assert [user.username for user in site.api.list_user_followers("ann")] == ["bob"]
    site.bob.client.post("/ann/follow", data={"form": secret, "follow": "no"})
    assert list(site.api.list_user_followers("ann")) == []
    assert site.bob.client.post("/bob/follow", data={"form": secret, "follow": "yes"}).status_code == 400
    assert site.bob.client.post("/nobody/follow", data={"form": secret, "follow": "yes"}).status_code == 404
