"""Webhooks: what is sent, signed, to whom, how often, and never into the hub's own network."""

import hashlib
import hmac
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_process import PATIENCE, HubProcess, start_hub
from huggingface_hub import HfApi, WebhookPayload
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from open_rooms import open_rooms

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.community import outgoing
from lmcommons.hub.community.deliveries import ATTEMPTS, Deliveries
from lmcommons.hub.community.outgoing import RefusedAddressError, check_url, is_public, post
from lmcommons.hub.database.events import record
from lmcommons.hub.database.tables import Repository, RepositoryType, now
from lmcommons.hub.errors import BadRequest, NotFound
from lmcommons.hub.repos.git import AddFile
from lmcommons.hub.rooms import Hub


class Receiver:
    """A server that keeps what it is sent and answers with the statuses given to it, the last one again and again."""

    def __init__(self, *statuses: int, headers: dict[str, str] | None = None, answer: str = "") -> None:
        receiver = self
        self.received: list[tuple[dict[str, str], bytes]] = []
        left = list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((dict(self.headers), body))
                self.send_response(left.pop(0) if len(left) > 1 else left[0])
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.format_map(self.headers).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?q=1"

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.received]

    @property
    def events(self) -> list[str]:
        return [f"{sent['event']['action']} {sent['event']['scope']}" for sent in self.payloads]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    receivers: list[Receiver] = []

    def make(*statuses: int, **more: Any) -> Receiver:
        receivers.append(Receiver(*(statuses or (200,)), **more))
        return receivers[-1]

    yield make
    for receiver in receivers:
        receiver.close()


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Hub]:
    rooms = open_rooms(tmp_path / "hub", public_url="https://hub.example.org", allow_private_webhooks=True)
    yield rooms
    rooms.close()


@pytest.fixture
def ann(rooms: Hub) -> Actor:
    return rooms.tokens.actor(rooms.accounts.add_user("ann"))


@pytest.fixture
def bob(rooms: Hub) -> Actor:
    return rooms.tokens.actor(rooms.accounts.add_user("bob"))


@pytest.fixture
def repository(rooms: Hub, ann: Actor) -> Repository:
    return rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "m")


WATCH_ANN = [{"type": "user", "name": "Ann"}]


def test_an_event_is_sent_signed_and_as_the_client_reads_it(rooms: Hub, ann: Actor, repository: Repository, receive):
    receiver = receive()
    webhook = rooms.webhooks.create(ann, receiver.url, WATCH_ANN, secret="s3cret")
    rooms.discussions.open(ann, repository, "Hi", "there <b>")
    assert rooms.deliveries.deliver_due() == 1
    headers, body = receiver.received[0]
    assert headers["X-Webhook-Secret"] == "s3cret"
    signature = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["X-Hub-Signature-256"] == f"sha256={signature}"
    sent = WebhookPayload(**json.loads(body))
    assert (sent.event.action, sent.event.scope, sent.webhook.version) == ("create", "discussion", 3)
    assert (sent.repo.name, sent.repo.url.web) == ("ann/m", "https://hub.example.org/ann/m")
    assert (sent.discussion.num, sent.discussion.title, sent.discussion.status) == (1, "Hi", "open")
    assert (sent.comment.content, sent.comment.hidden) == ("there <b>", False)
    log = rooms.webhooks.deliveries(ann, webhook.id)
    assert [(line.status, line.error, line.attempts, line.next_at) for line in log] == [(200, None, 1, None)]


def test_every_kind_of_event_is_told(rooms: Hub, ann: Actor, receive):
    receiver = receive()
    rooms.webhooks.create(ann, receiver.url, WATCH_ANN)
    repository = rooms.commits.create_repository(ann, RepositoryType.DATASET, None, "d")
    head = rooms.commits.commit(ann, repository, "main", [AddFile("a", b"a")], message="a")
    number = rooms.pull_requests.propose(ann, repository, "main", [AddFile("b", b"b")], title="b")[0].number
    comment = rooms.discussions.comment(ann, repository, number, "well")
    rooms.discussions.edit(ann, repository, number, comment.id, "well done")
    rooms.discussions.hide(ann, repository, number, comment.id)
    rooms.discussions.rename(ann, repository, number, "bee")
    rooms.pull_requests.merge(ann, repository, number)
    rooms.repositories.change(ann, RepositoryType.DATASET, "ann/d", private=True)
    rooms.repositories.move(ann, RepositoryType.DATASET, "ann/d", "ann/e")
    rooms.repositories.delete(ann, RepositoryType.DATASET, "ann/e")
    while rooms.deliveries.deliver_due():
        pass
    # What is told is what is true when it is sent: of a repository that is gone, only that.
    assert receiver.events == ["delete repo"]
    assert receiver.payloads[0]["repo"]["name"] == "ann/e"
    del receiver.received[:]
    repository = rooms.commits.create_repository(ann, RepositoryType.DATASET, None, "d")

    def told(act: Callable[[], object]) -> list[str]:
        del receiver.received[:]
        act()
        while rooms.deliveries.deliver_due():
            pass
        return receiver.events

    assert told(lambda: None) == ["create repo"]
    assert told(lambda: rooms.commits.commit(ann, repository, "main", [AddFile("a", b"a")], message="a")) == [
        "update repo.content"
    ]
    assert receiver.payloads[0]["updatedRefs"][0]["ref"] == "refs/heads/main"
    assert receiver.payloads[0]["updatedRefs"][0]["newSha"] == receiver.payloads[0]["repo"]["headSha"]
    assert head
    assert told(lambda: rooms.pull_requests.open(ann, repository, "b", "d")) == [
        "create discussion",
        "update repo.content",
    ]
    assert told(lambda: rooms.discussions.comment(ann, repository, 1, "well")) == ["create discussion.comment"]
    number = int(receiver.payloads[0]["comment"]["id"], 16)
    assert told(lambda: rooms.discussions.edit(ann, repository, 1, number, "secret")) == ["update discussion.comment"]
    assert told(lambda: rooms.discussions.hide(ann, repository, 1, number)) == ["update discussion.comment"]
    assert "content" not in receiver.payloads[0]["comment"]
    assert told(lambda: rooms.discussions.rename(ann, repository, 1, "bee")) == ["update discussion"]
    assert told(lambda: rooms.discussions.set_status(ann, repository, 1, "closed")) == ["update discussion"]
    assert told(lambda: rooms.repositories.change(ann, RepositoryType.DATASET, "ann/d", private=True)) == [
        "update repo.config"
    ]
    assert receiver.payloads[0]["updatedConfig"] == {"private": True}
    assert told(lambda: rooms.repositories.move(ann, RepositoryType.DATASET, "ann/d", "ann/e")) == ["move repo"]
    assert (receiver.payloads[0]["repo"]["name"], receiver.payloads[0]["movedTo"]["name"]) == ("ann/d", "ann/e")
    for sent in receiver.payloads:
        WebhookPayload(**sent)


def test_a_webhook_hears_what_it_watches_in_its_domains(rooms: Hub, ann: Actor, repository: Repository, receive):
    model, dataset, discussions, disabled = (receive() for _ in range(4))
    rooms.webhooks.create(ann, model.url, [{"type": "model", "name": "ANN/M"}])
    rooms.webhooks.create(ann, dataset.url, [{"type": "dataset", "name": "ann/m"}])
    rooms.webhooks.create(ann, discussions.url, WATCH_ANN, ["discussion"])
    off = rooms.webhooks.create(ann, disabled.url, WATCH_ANN)
    rooms.discussions.open(ann, repository, "t", "d")
    rooms.webhooks.set_disabled(ann, off.id, True)
    rooms.commits.commit(ann, repository, "main", [AddFile("a", b"a")], message="a")
    while rooms.deliveries.deliver_due():
        pass
    assert model.events == ["create discussion", "update repo.content"]
    assert discussions.events == ["create discussion"]
    assert dataset.events == disabled.events == []


def test_what_happened_last_is_sent_as_a_test_and_any_delivery_again(rooms: Hub, ann: Actor, bob: Actor, receive):
    receiver = receive(500, 200)
    webhook = rooms.webhooks.create(ann, receiver.url, [{"type": "model", "name": "ann/m"}])
    with pytest.raises(BadRequest, match="Nothing has happened"):
        rooms.webhooks.send_again(ann, webhook.id)
    rooms.commits.create_repository(ann, RepositoryType.DATASET, None, "m")
    rooms.commits.create_repository(bob, RepositoryType.MODEL, None, "m")
    made = rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    rooms.deliveries.deliver_due()
    failed = rooms.webhooks.deliveries(ann, webhook.id)[0]
    assert (failed.status, failed.attempts) == (500, 1)
    rooms.webhooks.send_again(ann, webhook.id, failed.id)
    rooms.discussions.open(bob, made, "t", "d")
    rooms.webhooks.send_again(ann, webhook.id)
    while rooms.deliveries.deliver_due():
        pass
    assert receiver.events == ["create repo", "create repo", "create discussion", "create discussion"]
    other = rooms.webhooks.create(ann, receiver.url, [{"type": "org", "name": "nobody"}])
    for actor, number, delivery in ((bob, webhook.id, None), (ann, other.id, failed.id), (ann, webhook.id, 999)):
        with pytest.raises(NotFound):
            rooms.webhooks.send_again(actor, number, delivery)
    rooms.webhooks.set_disabled(ann, webhook.id, True)
    with pytest.raises(BadRequest, match="disabled"):
        rooms.webhooks.send_again(ann, webhook.id)


def test_nothing_is_told_of_what_the_owner_may_not_see(rooms: Hub, ann: Actor, bob: Actor, receive):
    receiver = receive()
    webhook = rooms.webhooks.create(bob, receiver.url, WATCH_ANN)
    rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "secret", private=True)
    rooms.repositories.delete(ann, RepositoryType.MODEL, "ann/secret")
    public = rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "open")
    rooms.discussions.open(ann, public, "t", "d")
    assert {line.event.data["name"] for line in rooms.webhooks.deliveries(bob, webhook.id)} == {"ann/open"}
    rooms.repositories.change(ann, RepositoryType.MODEL, "ann/open", private=True)
    assert rooms.webhooks.deliveries(bob, webhook.id) == []
    while rooms.deliveries.deliver_due():
        pass
    assert receiver.received == []
    assert rooms.webhooks.deliveries(bob, webhook.id) == []


def test_a_failed_delivery_is_tried_again_later_and_later(rooms: Hub, ann: Actor, repository: Repository, receive):
    receiver = receive(500, 503, 200, answer="No \0 such\n queue 队列 for {X-Webhook-Secret}" + 50_000 * "!")
    webhook = rooms.webhooks.create(ann, receiver.url, WATCH_ANN, secret="not to be shown")
    rooms.discussions.open(ann, repository, "t", "d")
    start = now()
    assert rooms.deliveries.deliver_due(start) == 1
    assert rooms.deliveries.deliver_due(start + timedelta(seconds=9)) == 0
    assert rooms.deliveries.deliver_due(start + timedelta(seconds=10)) == 1
    assert rooms.deliveries.deliver_due(start + timedelta(seconds=49)) == 0
    said = rooms.webhooks.deliveries(ann, webhook.id)[0].error or ""
    assert re.fullmatch(r"answered with status 503 after \d+\.\d s: No such queue 队列 for \[hidden\]!{50,}", said)
    assert len(said) <= 300
    assert rooms.deliveries.deliver_due(start + timedelta(seconds=50)) == 1
    assert len(receiver.received) == 3
    assert len({headers["X-Webhook-Delivery"] for headers, _ in receiver.received}) == 1
    line = rooms.webhooks.deliveries(ann, webhook.id)[0]
    assert (line.status, line.error, line.attempts, line.next_at) == (200, None, 3, None)


def test_an_event_that_cannot_be_told_holds_up_no_other(
    rooms: Hub, ann: Actor, repository: Repository, receive, caplog: pytest.LogCaptureFixture
):
    receiver = receive()
    webhook = rooms.webhooks.create(ann, receiver.url, WATCH_ANN)
    with rooms.database.write() as session:
        record(session, "repository.moved", "ann", session.get_one(Repository, repository.id))  # from where is missing
    rooms.discussions.open(ann, repository, "t", "d")
    began = now()
    rooms.deliveries.start()
    deadline = time.monotonic() + PATIENCE
    while not receiver.received and time.monotonic() < deadline:
        time.sleep(0.02)
    rooms.deliveries.stop()
    rooms.deliveries.join()
    assert receiver.events == ["create discussion"]
    failed = rooms.webhooks.deliveries(ann, webhook.id)[-1]
    assert (failed.event.kind, failed.error) == ("repository.moved", "the hub failed; its log says how")
    assert failed.next_at - began > timedelta(seconds=5)
    assert "KeyError: 'former'" in caplog.text


def test_it_ends_after_the_last_attempt(rooms: Hub, ann: Actor, repository: Repository, receive):
    receiver = receive(404)
    webhook = rooms.webhooks.create(ann, receiver.url, WATCH_ANN)
    rooms.discussions.open(ann, repository, "t", "d")
    for day in range(ATTEMPTS + 2):
        rooms.deliveries.deliver_due(now() + timedelta(days=day))
    assert len(receiver.received) == ATTEMPTS
    line = rooms.webhooks.deliveries(ann, webhook.id)[0]
    assert (line.status, line.next_at) == (404, None)
    assert (line.error or "").startswith("answered with status 404 after ")


def test_redirections_are_not_followed(rooms: Hub, ann: Actor, repository: Repository, receive):
    inner = receive()
    outer = receive(307, headers={"Location": inner.url})
    webhook = rooms.webhooks.create(ann, outer.url, WATCH_ANN)
    rooms.discussions.open(ann, repository, "t", "d")
    rooms.deliveries.deliver_due()
    assert inner.received == []
    assert (rooms.webhooks.deliveries(ann, webhook.id)[0].error or "").startswith("answered with status 307 after ")


def test_two_deliverers_send_each_event_once(rooms: Hub, ann: Actor, repository: Repository, receive):
    receivers = [receive() for _ in range(4)]
    for receiver in receivers:
        rooms.webhooks.create(ann, receiver.url, WATCH_ANN)
    for number in range(5):
        rooms.discussions.open(ann, repository, f"t{number}", "d")
    others = [Deliveries(rooms.database, "http://h", allow_private=True) for _ in range(3)]

    def deliver(deliveries: Deliveries) -> None:
        while deliveries.deliver_due():
            pass

    threads = [threading.Thread(target=deliver, args=(each,)) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for receiver in receivers:
        assert sorted(sent["discussion"]["num"] for sent in receiver.payloads) == [1, 2, 3, 4, 5]


def test_what_a_dead_process_had_taken_is_sent_by_another(rooms: Hub, ann: Actor, repository: Repository, receive):
    receiver = receive()
    rooms.webhooks.create(ann, receiver.url, WATCH_ANN)
    rooms.discussions.open(ann, repository, "t", "d")
    start = now()
    rooms.deliveries._take(start)  # and it dies
    assert rooms.deliveries.deliver_due(start + timedelta(minutes=1)) == 0
    assert rooms.deliveries.deliver_due(start + timedelta(minutes=2)) == 1
    assert receiver.events == ["create discussion"]


def test_an_answer_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                try:
                    for _ in range(1000):
                        connection.sendall(b"H")
                        time.sleep(0.1)
                except OSError:
                    pass

        threading.Thread(target=drip, daemon=True).start()
        started = time.monotonic()
        with pytest.raises(outgoing.Failures):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, allow_private=True, timeout=0.5)
        assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "192.0.0.8", "198.18.0.1", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1"),
    ],
)
def test_addresses_that_are_not_of_the_internet(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001::8a"])
def test_addresses_of_the_internet(address: str):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://[::1]:8000/x"),
        *("http://localhost/", "http://a.localhost/", "http://printer.local/", "http://metadata.google.internal/"),
        *("https://169.254.169.254/latest", "http://[::ffff:127.0.0.1]/", "ftp://8.8.8.8/", "8.8.8.8", "http://"),
        *("http://u:p@8.8.8.8/", "http://8.8.8.8:0/", "http://8.8.8.8:99999/", "http://8.8.8.8/ x", "http://é.org/"),
        *("http://" + "a" * 64 + ".org/", "http://8.8.8.8/" + "a" * 2_000, "http://8.8.8.8/\r\nX: y", "http://[/"),
    ],
)
def test_urls_that_lead_elsewhere_are_refused_at_once(url: str):
    with pytest.raises(RefusedAddressError):
        check_url(url, allow_private=False)


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_used(monkeypatch: pytest.MonkeyPatch, receive):
    receiver = receive()
    port = int(receiver.url.split(":")[2].split("/")[0])
    asked: list[str] = []

    def resolve(host: str, port: int | None, *_: Any, flags: int = 0, **__: Any) -> list[Any]:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror
        asked.append(host)
        addresses = {"inside.example.org": ["127.0.0.1"], "mixed.example.org": ["8.8.8.8", "10.0.0.1"]}[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for host in ("inside.example.org", "mixed.example.org"):
        with pytest.raises(RefusedAddressError, match="is not a public address"):
            post(f"http://{host}:{port}/", b"{}", {}, allow_private=False)
    assert asked == ["inside.example.org", "mixed.example.org"], "a name is asked for once"
    assert receiver.received == []


def test_the_hub_delivers_by_itself_where_its_operator_allows_it(tmp_path: Path, receive):
    receiver = receive()
    with start_hub(tmp_path / "hub", "--allow-private-webhooks") as running:
        api = HfApi(running.endpoint, token=running.add_user("ada"))
        webhook = api.create_webhook(url=receiver.url, watched=[{"type": "user", "name": "ada"}])
        api.create_repo("ada/m")
        address = f"{running.endpoint}/api/x/webhooks/{webhook.id}/deliveries"
        deadline = time.monotonic() + PATIENCE
        while True:
            log = httpx.get(address, headers={"Authorization": f"Bearer {api.token}"}).json()
            if log and log[-1]["state"] == "delivered":
                break
            assert time.monotonic() < deadline, log
            time.sleep(0.05)
        assert log[-1]["repo"] == {"type": "model", "name": "ada/m"}
        assert receiver.events[0] == "create repo"


def test_private_addresses_are_refused(api: HfApi):
    for url in ("http://127.0.0.1:9/", "http://localhost/", "http://[::1]/"):
        with pytest.raises(BadRequestError, match="not a public address"):
            api.create_webhook(url=url, watched=[{"type": "user", "name": "ann"}])


def test_a_webhook_is_its_owners_alone(api: HfApi, hub: HubProcess):
    webhook = api.create_webhook(
        url="https://example.org/hook", watched=[{"type": "org", "name": "o"}], domains=["repo"], secret="s"
    )
    assert api.get_webhook(webhook.id) == webhook
    changed = api.update_webhook(webhook.id, url="https://example.org/other")
    assert (changed.url, changed.watched, changed.domains) == (
        "https://example.org/other",
        webhook.watched,
        ["repo"],
    )
    other = HfApi(api.endpoint, token=hub.add_user("webhook-stranger"))
    for act in (other.get_webhook, other.delete_webhook, other.enable_webhook):
        with pytest.raises(HfHubHTTPError) as refused:
            act(webhook.id)
        assert refused.value.response.status_code == 404
    reader = HfApi(api.endpoint, token=hub.add_token("ann", "read"))
    with pytest.raises(HfHubHTTPError) as refused:
        reader.list_webhooks()
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"url": "https://e.org", "watched": []}, "`watched` is empty"),
        ({"url": "https://e.org", "watched": [{"type": "moon", "name": "a"}]}, "needs a `type`"),
        ({"url": "https://e.org", "watched": ["a"]}, "array of objects"),
        ({"url": "https://e.org", "watched": [{"type": "user", "name": "a"}], "domains": ["x"]}, "`domains`"),
        ({"url": "https://e.org", "watched": [{"type": "user", "name": "a"}], "secret": "a\nb"}, "`secret`"),
        ({"url": "gopher://e.org", "watched": [{"type": "user", "name": "a"}]}, "`url`"),
        ({"jobSourceId": "x", "watched": [{"type": "user", "name": "a"}]}, "runs no jobs"),
    ],
)
def test_what_cannot_work_is_refused(api: HfApi, body: dict[str, Any], reason: str):
    answer = httpx.post(
        f"{api.endpoint}/api/settings/webhooks", json=body, headers={"Authorization": f"Bearer {api.token}"}
    )
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
