"""Trying a model on its page: the hub in front of a real `lmc serve`, and of servers that misbehave."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from browser import Browser
from chromium import person
from hub_process import HubProcess, lmc_hub, start_hub
from huggingface_hub import HfApi
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect
from server_process import CONTEXT, ServerProcess, start_server
from tiny_model import write_tiny_model
from web_page import Page

from lmcommons.errors import RequestError
from lmcommons.hub.community.trying import Question
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.settings import Settings

PASSWORD = "correct horse battery"
KEY = "a key of the server"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serves a small random model with a chat template."""
    model = write_tiny_model(tmp_path_factory.mktemp("model"), chat_template=True, max_position_embeddings=CONTEXT)
    with start_server(model, "--name", "whatever", LMC_API_KEY=KEY) as running:
        yield running


@contextmanager
def misbehaving(answer: bytes, gone: threading.Event | None = None) -> Iterator[str]:
    """The address of a server that has a model called `m` and answers every prompt so.

    With `gone` it says no more after that, and sets it when the connection is closed.
    """
    models = b'{"data": [{"id": "m"}]}'
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while head := connection.recv(65536):
                    if head.startswith(b"GET"):
                        length = str(len(models)).encode()
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n" + models)
                        continue
                    if head.endswith(b"\r\n\r\n"):
                        connection.recv(65536)  # the body: what is not read would break the connection
                    connection.sendall(answer)
                    if gone is not None and not connection.recv(65536):
                        gone.set()
                    break

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def stream_of(*events: str) -> bytes:
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body


BAD = {
    "refusing": b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\nConnection: close\r\n\r\nOops",
    "babbling": stream_of("no JSON"),
    "failing": stream_of('{"choices": [{"delta": {"content": "well"}}]}', '{"error": {"message": "out of memory"}}'),
    "endless": stream_of(*['{"choices": [{"delta": {"content": "' + "x" * 1000 + '"}}]}'] * 300),
}


@pytest.fixture(scope="module")
def pausing_is_over() -> threading.Event:
    """Set when the server that pauses has lost its reader."""
    return threading.Event()


@pytest.fixture(scope="module")
def trying(
    tmp_path_factory: pytest.TempPathFactory, server: ServerProcess, pausing_is_over: threading.Event
) -> Iterator[HubProcess]:
    """A hub with servers for the models of `tina`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMC_TRY_TOKEN", KEY)
        places = ExitStack()
        endpoints = {name: places.enter_context(misbehaving(answer)) for name, answer in BAD.items()}
        first = stream_of('{"choices": [{"delta": {"content": "well"}}]}')
        endpoints["silent"] = places.enter_context(misbehaving(stream_of("[DONE]")))
        endpoints["mute"] = places.enter_context(misbehaving(b"", threading.Event()))
        endpoints["pausing"] = places.enter_context(misbehaving(first, pausing_is_over))
        endpoints |= {"good": server.root, "gone": "http://127.0.0.1:9"}
        options = [f"--try=tina/{name}={address}" for name, address in endpoints.items()]
        with places, start_hub(tmp_path_factory.mktemp("trying") / "hub", "--workers=1", *options) as hub:
            api = HfApi(hub.endpoint, token=hub.add_user("tina"))
            hub.command("user", "password", "tina", typed=f"{PASSWORD}\n")
            for name in (*endpoints, "other"):
                api.create_repo(f"tina/{name}")
            template = b'{"chat_template": "x"}'
            api.upload_file(path_or_fileobj=template, path_in_repo="tokenizer_config.json", repo_id="tina/good")
            yield hub


@pytest.fixture(scope="module")
def browser(trying: HubProcess) -> Browser:
    """Tina's."""
    opened = Browser(trying)
    opened.client.timeout = 60
    assert opened.sign_in("tina", PASSWORD).status_code == 200
    return opened


def secret(page: httpx.Response) -> str:
    return next(each.attributes["value"] for each in Page(page.text).all("input") if each.attributes["name"] == "form")


def answer_of(page: httpx.Response) -> str:
    return next(each.text for each in Page(page.text).all("pre") if each.attributes.get("id") == "answer")


def events(text: str) -> list[tuple[str, dict[str, str]]]:
    found = [event.split("\n") for event in text.strip().split("\n\n")]
    return [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in found]


def test_only_a_model_with_a_server_has_the_page(browser: Browser):
    assert 'href="/tina/good/try"' in browser.get("/tina/good").text
    assert "/try" not in browser.get("/tina/other").text
    assert browser.get("/tina/other/try").status_code == 404


def chosen(page: Page) -> list[str | None]:
    return [each.attributes.get("value") for each in page.all("option") if "selected" in each.attributes]


def test_a_model_is_asked_as_in_a_chat_where_it_has_a_template_for_that(trying: HubProcess, browser: Browser):
    assert chosen(Page(browser.get("/tina/gone/try").text)) == ["text"]
    api = HfApi(trying.endpoint, token=trying.add_token("tina", "write"))
    api.upload_file(path_or_fileobj=b"{{ x }}", path_in_repo="chat_template.jinja", repo_id="tina/gone")
    assert chosen(Page(browser.get("/tina/gone/try").text)) == ["chat"]


def test_without_a_script_a_form_leads_to_the_whole_answer(browser: Browser):
    page = browser.get("/tina/good/try")
    parsed = Page(page.text)
    assert parsed.problems == []
    assert chosen(parsed) == ["chat"]
    fields = {"prompt": "Hello", "mode": "chat", "temperature": "0", "top_p": "1", "max_tokens": "20", "seed": "5"}
    first, second = (browser.submit(page, "/tina/good/try", **fields) for _ in range(2))
    answers = [answer_of(page) for page in (first, second)]
    assert first.status_code == 200
    assert answers[0].strip()
    assert answers[0] == answers[1]
    shown = {each.attributes["name"]: each.attributes.get("value") for each in Page(first.text).all("input")}
    assert (shown["temperature"], shown["top_p"], shown["max_tokens"], shown["seed"]) == ("0", "1", "20", "5")


def test_an_empty_answer_is_said_to_be_empty(browser: Browser):
    shown = {}
    for name in ("silent", "good"):
        page = browser.get(f"/tina/{name}/try")
        answered = Page(browser.submit(page, f"/tina/{name}/try", prompt="The", mode="text").text)
        hidden = {each.attributes.get("id"): "hidden" in each.attributes for each in answered.all("p")}
        shown[name] = not hidden["nothing"]
    assert shown == {"silent": True, "good": False}


def test_a_script_reads_the_same_answer_piece_by_piece(browser: Browser):
    page = browser.get("/tina/good/try")
    fields = {"prompt": "The", "mode": "text", "temperature": "0", "max_tokens": "40"}
    whole = browser.submit(page, "/tina/good/try", **fields)
    answer = browser.client.post("/tina/good/try/stream", data={**fields, "form": secret(page)})
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events(answer.text)
    assert told[-1] == ("end", {})
    assert len(told) > 5
    text = "".join(data["text"] for kind, data in told[:-1])
    assert text == answer_of(whole)


def test_nobody_asks_twice_at_a_time_and_when_the_reader_goes_the_server_is_told(browser: Browser, pausing_is_over):
    form = {"prompt": "The", "form": secret(browser.get("/tina/pausing/try"))}
    with browser.client.stream("POST", "/tina/pausing/try/stream", data=form) as answer:
        pieces = answer.iter_text()
        assert events(next(pieces)) == [("piece", {"text": "well"})]
        second = events(browser.client.post("/tina/good/try/stream", data=form).text)
        assert second == [("failed", {"message": "You are asking already; wait for that answer, or stop it"})]
        assert not pausing_is_over.is_set()
    assert pausing_is_over.wait(60)
    third = {**form, "mode": "text", "max_tokens": "2"}
    assert events(browser.client.post("/tina/good/try/stream", data=third).text)[-1] == ("end", {})


def test_in_a_browser_the_answer_grows_and_can_be_stopped(chromium: Chromium, trying: HubProcess, pausing_is_over):
    pausing_is_over.clear()
    with person(chromium, trying.endpoint) as tina:
        tina.goto("/login?next=/tina/pausing/try")
        tina.page.get_by_label("Name").fill("tina")
        tina.page.get_by_label("Password").fill(PASSWORD)
        tina.page.get_by_role("button", name="Sign in").click()
        tina.page.wait_for_url(lambda address: "/login" not in address)  # with its script
        tina.page.get_by_label("Prompt").fill("Hello")
        tina.page.get_by_role("button", name="Generate").click()
        expect(tina.page.locator("#answer")).to_have_text("well")
        tina.page.get_by_role("button", name="Stop generating").press("Enter")
        expect(tina.page.get_by_role("button", name="Stop generating")).to_be_hidden()
        expect(tina.page.get_by_role("button", name="Generate")).to_be_focused()
        assert pausing_is_over.wait(60)
        tina.goto("/tina/mute/try")
        tina.page.get_by_label("Prompt").fill("Hello")
        tina.page.get_by_role("button", name="Generate").click()
        expect(tina.page.get_by_role("status")).to_contain_text("the answer appears here")
        tina.goto("/tina/silent/try")
        tina.page.get_by_label("Prompt").fill("Hello")
        tina.page.get_by_role("button", name="Generate").click()
        expect(tina.page.get_by_role("status")).to_contain_text("The model wrote nothing")
        tina.goto("/tina/failing/try")
        tina.page.get_by_label("Prompt").fill("Hello")
        tina.page.get_by_role("button", name="Generate").click()
        expect(tina.page.get_by_role("alert")).to_contain_text("out of memory")
        expect(tina.page.locator("#answer")).to_have_text("well")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refusing", "answers with status 500"),
        ("babbling", "sends what is no answer"),
        ("failing", "out of memory"),
        ("endless", "too long and was cut off"),
        ("gone", "does not answer"),
    ],
)
def test_a_server_that_fails_is_one_clear_line(browser: Browser, name: str, message: str):
    page = browser.get(f"/tina/{name}/try")
    failed = browser.submit(page, f"/tina/{name}/try", prompt="Hello", mode="chat")
    assert failed.status_code == 502
    alert = next(each for each in Page(failed.text).all("p") if each.attributes.get("role") == "alert")
    assert message in alert.text
    assert "Hello" in failed.text
    streamed = browser.client.post(f"/tina/{name}/try/stream", data={"prompt": "Hello", "form": secret(page)})
    kind, data = events(streamed.text)[-1]
    assert kind == "failed"
    assert message in data["message"]


def test_what_the_server_refuses_is_said_in_its_words(browser: Browser):
    page = browser.get("/tina/good/try")
    refused = browser.submit(page, "/tina/good/try", prompt="word " * 1500, mode="text")
    assert refused.status_code == 400
    assert "The model&#39;s server refuses this" in refused.text


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": " "},
        {"prompt": "x" * 9000},
        {"temperature": "3"},
        {"temperature": "nan"},
        {"top_p": "0"},
        {"max_tokens": "100000"},
        {"seed": "-1"},
        {"seed": "often"},
        {"mode": "sing"},
    ],
)
def test_a_question_that_cannot_be_is_refused(fields: dict[str, str]):
    with pytest.raises(BadRequest):
        Question.parse({"prompt": "Hello", **fields})


def test_strangers_and_forms_of_other_sites_ask_nothing(trying: HubProcess, browser: Browser):
    anonymous = Browser(trying)
    assert "Sign in to try" in anonymous.get("/tina/good/try").text
    form = {"prompt": "Hello", "form": secret(browser.get("/tina/good/try"))}
    assert anonymous.client.post("/tina/good/try/stream", data=form).status_code == 403
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert browser.client.post("/tina/good/try/stream", data=form, headers=foreign).status_code == 403
    assert browser.client.post("/tina/good/try", data={"prompt": "Hello"}).status_code == 403


def test_a_private_model_is_tried_by_those_who_may_read_it(trying: HubProcess, browser: Browser):
    trying.add_user("tom")
    trying.command("user", "password", "tom", typed=f"{PASSWORD}\n")
    with trying.rooms() as rooms:
        owner = rooms.tokens.actor(rooms.tokens.add("tina", "t", "write"))
        rooms.repositories.change(owner, "model", "tina/gone", private=True)
    tom = Browser(trying)
    tom.sign_in("tom", PASSWORD)
    assert tom.get("/tina/gone/try").status_code == 404
    form = {"prompt": "Hello", "form": secret(tom.get("/tina/good/try"))}
    assert tom.client.post("/tina/gone/try/stream", data=form).status_code == 404


@pytest.mark.parametrize("wrong", ["m=http://h", "a/m", "a/m=ftp://h", "a/m=http://", "a/m=http://[", "a/b/c=http://h"])
def test_an_endpoint_that_cannot_be_is_one_line(tmp_path: Path, wrong: str):
    with pytest.raises(RequestError, match="write NAMESPACE/NAME=URL"):
        Settings.make(tmp_path, try_models=[wrong])
    done = lmc_hub("serve", "--data", tmp_path / "hub", "--port", "0", "--try", wrong)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
