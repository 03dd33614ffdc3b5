"""Rate limits: who is counted, when they are refused, and what the client makes of it."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hub_process import PATIENCE, HubProcess, start_hub
from huggingface_hub import HfApi

from lmcommons.hub.accounts import limits
from lmcommons.hub.accounts.limits import WINDOW, Limits
from lmcommons.hub.errors import TooManyRequests

WHOAMI = "/api/whoami-v2"


class Clock:
    now = 10.0 * WINDOW

    def __call__(self) -> float:
        return self.now


def test_each_kind_and_each_caller_is_counted_apart_and_a_new_window_begins_anew():
    clock = Clock()
    counted = Limits(2, clock=clock)
    left = [counted.take("api", "a").remaining for _ in range(3)]
    assert left == [1, 0, 0]
    assert counted.take("api", "a").exceeded
    assert not counted.take("api", "b").exceeded
    assert not counted.take("pages", "a").exceeded
    assert counted.take("resolvers", "a").remaining == 19
    clock.now += WINDOW
    assert counted.take("api", "a").remaining == 1


def test_the_answer_says_when_to_come_back():
    clock = Clock()
    counted = Limits(1, clock=clock)
    clock.now += 100
    counted.take("api", "a").require()
    with pytest.raises(TooManyRequests, match=r"More than 1 requests \(api\) in 300 seconds") as refused:
        counted.take("api", "a").require()
    assert refused.value.headers == {
        "RateLimit": '"api";r=0;t=201',
        "RateLimit-Policy": '"fixed window";"api";q=1;w=300',
        "Retry-After": "201",
    }


def test_without_a_limit_nothing_is_counted_but_attempts_to_sign_in():
    counted = Limits(0)
    assert counted.take("api", "a") is None
    for _ in range(limits.SIGN_IN_BY_NAME):
        counted.take_sign_in("192.0.2.1", "Ada")
    with pytest.raises(TooManyRequests):
        counted.take_sign_in("192.0.2.2", "ada")
    counted.take_sign_in("192.0.2.1", "bob")


def test_one_address_cannot_try_many_names():
    counted = Limits(0)
    for number in range(limits.SIGN_IN_BY_ADDRESS):
        counted.take_sign_in("2001:db8::1", f"user{number}")
    with pytest.raises(TooManyRequests):
        counted.take_sign_in("2001:db8::2", "another")  # the same network
    counted.take_sign_in("2001:db8:0:1::1", "another")


def test_an_address_that_is_none_is_counted_as_it_is():
    counted = Limits(1)
    for address in ("a:b", "192.0.2.1:80", ""):
        assert counted.caller("", address) == f"address {address}"


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "SLOTS", 16)
    monkeypatch.setattr(limits, "KNOWN_LIMIT", 10)
    counted = Limits(1)
    for number in range(100):
        counted.take("api", f"address {number}")
        counted.remember(f"hash {number}", number)
    assert len(counted._known) <= 10
    exceeded = [counted.take("api", f"address {number}").exceeded for number in range(100)]
    assert exceeded.count(True) == 16  # those that have a slot; the others are let through


def test_processes_that_share_a_file_lose_no_count(tmp_path: Path):
    program = """
        import sys
        from pathlib import Path
        from lmcommons.hub.accounts.limits import Limits
        counted = Limits(10**6, Path(sys.argv[1]), clock=lambda: 0)
        for number in range(6000):
            counted.take("api", f"account {number % 3}")
    """
    file = tmp_path / "requests"
    command = [sys.executable, "-c", textwrap.dedent(program), str(file)]
    for process in [subprocess.Popen(command) for _ in range(3)]:
        assert process.wait(PATIENCE) == 0
    counted = Limits(10**6, file, clock=lambda: 0)
    assert [10**6 - counted.take("api", f"account {number}").remaining for number in range(3)] == [6001] * 3


def test_a_process_that_dies_leaves_the_others_counting(tmp_path: Path):
    file = tmp_path / "requests"
    counted = Limits(10, file)
    held = os.open(file, os.O_RDWR)
    dying = os.fork()
    if not dying:
        fcntl.flock(held, fcntl.LOCK_EX)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(held)
    os.waitpid(dying, 0)
    assert counted.take("api", "a").remaining == 9


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("strict") / "hub", "--rate-limit", "8", "--workers", "1") as running:
        yield running


def calling(hub: HubProcess, number: int) -> httpx.Client:
    """From an address of its own, whose requests nobody else has counted; each request by a new connection."""
    transport = httpx.HTTPTransport(local_address=f"127.0.0.{number}", limits=httpx.Limits(max_keepalive_connections=0))
    return httpx.Client(base_url=hub.endpoint, transport=transport)


@pytest.mark.usefixtures("window")
def test_past_the_limit_the_client_is_told_so_and_others_are_not_stopped(strict: HubProcess):
    ada = {"Authorization": f"Bearer {strict.add_user('ada')}"}
    bob = {"Authorization": f"Bearer {strict.add_user('bob')}"}
    client = calling(strict, 2)
    client.get(WHOAMI, headers=ada)  # from here on the token is known
    answers = [client.get(WHOAMI, headers=ada) for _ in range(9)]
    assert [answer.status_code for answer in answers] == [200] * 8 + [429]
    assert answers[0].headers["ratelimit"].startswith('"api";r=7;t=')
    assert answers[0].headers["ratelimit-policy"] == '"fixed window";"api";q=8;w=300'
    assert int(answers[8].headers["retry-after"]) <= WINDOW + 1
    assert "More than 8 requests" in answers[8].json()["error"]
    assert answers[8].headers["x-request-id"]
    with pytest.raises(Exception, match="rate limit") as refused:
        HfApi(strict.endpoint, token=ada["Authorization"].removeprefix("Bearer ")).whoami()
    assert refused.value.response.status_code == 429
    assert client.get(WHOAMI, headers=bob).status_code == 200
    assert client.get("/models").status_code == 200
    assert client.get("/healthz").status_code == 200


@pytest.mark.usefixtures("window")
def test_guessing_tokens_counts_against_the_address(strict: HubProcess):
    client = calling(strict, 3)
    answers = [client.get(WHOAMI, headers={"Authorization": f"Bearer hf_{number}"}) for number in range(9)]
    assert [answer.status_code for answer in answers] == [401] * 8 + [429]


@pytest.fixture
def three_workers(tmp_path: Path) -> Iterator[HubProcess]:
    with start_hub(tmp_path / "hub", "--rate-limit", "20", "--workers", "3") as running:
        yield running


def test_workers_count_together(three_workers: HubProcess, window: None):  # the window is looked at when they run
    headers = {"Authorization": f"Bearer {three_workers.add_user('ada')}"}
    client = calling(three_workers, 2)
    answers = [client.get(WHOAMI, headers=headers).status_code for _ in range(60)]
    assert set(answers) == {200, 429}
    assert 20 <= answers.count(200) <= 23  # a worker counts the first request with a token as one of the address
