"""A run shows itself on a hub while it trains, whatever befalls the run or the hub."""

import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_process import HubProcess, start_hub
from tiny_run import TINY, write_documents

from lmcommons import recipe
from lmcommons.errors import CommandError, StoppedError
from lmcommons.publishing import reported

LIMIT = 240  # seconds for what should take a few; a busy machine is slow
STEPS = 400
# `lmc` that reports so often that no run is over, however fast its machine, before it was heard of in its midst.
OFTEN = """
from lmcommons.cli.main import main
from lmcommons.publishing import reporting
reporting.FIRST = reporting.INTERVAL = 0.05
main()
"""
LONG = TINY.replace("steps: 30", f"steps: {STEPS}").replace("batch_size: 4", "batch_size: 16")
KEY = "0123456789abcdef"


@dataclass
class Watcher:
    """A member of a hub, and what the hub tells of the member's only run."""

    home: Path
    endpoint: str
    name: str
    token: str

    @property
    def recipe(self) -> Path:
        """A recipe that reports itself."""
        path = self.home / "tiny.yaml"
        path.write_text(LONG.replace("publishing: {}", "publishing: {report_progress: true, private: true}"))
        return path

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.endpoint + path, headers={"Authorization": f"Bearer {self.token}"}, timeout=LIMIT)

    def runs(self) -> list[dict[str, Any]]:
        answer = self.get(f"/api/x/models/{self.name}/tiny/runs")
        return answer.json() if answer.status_code == 200 else []

    def run(self) -> dict[str, Any]:
        """The run with its curves."""
        (run,) = self.runs()
        found: dict[str, Any] = self.get(f"/api/x/models/{self.name}/tiny/runs/{run['id']}").json()
        return found

    def wait(self, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The run, as soon as it is so."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            runs = self.runs()
            assert len(runs) <= 1
            if runs and until(runs[0]):
                return runs[0]
            time.sleep(0.1)
        raise AssertionError(f"not in {LIMIT} s: {self.runs()}")

    @contextmanager
    def reported(self, key: str = KEY) -> "Iterator[Metrics]":
        """The block is a run of the recipe, which writes the metrics that it gets."""
        directory = self.home / "runs" / key
        with reported(recipe.load(self.recipe), "pretraining", directory, lambda _: STEPS):
            yield Metrics(directory / "metrics.jsonl")


class Metrics:
    """The metrics of a run, written as training does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, *steps: int) -> None:
        """A new file with the lines that a checkpoint leaves."""
        whole = self.path.with_suffix(".new")
        whole.write_text("".join(line(step) for step in steps))
        whole.replace(self.path)

    def add(self, *steps: int, of: float = 8.0) -> None:
        with self.path.open("a") as file:
            file.write("".join(line(step, of) for step in steps))


def line(step: int, of: float = 8.0) -> str:
    return json.dumps({"step": step, "tokens": 64 * step, "loss": of / step}) + "\n"


def curve(lines: list[dict[str, Any]], name: str = "loss") -> dict[str, Any]:
    told = [each for each in lines if name in each]
    return {"steps": [each["step"] for each in told], "values": [each[name] for each in told]} | {
        "tokens": [each["tokens"] for each in told]
    }


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[HubProcess], Watcher]:
    """Makes a member of a hub, whose token this process has."""

    def make(hub: HubProcess) -> Watcher:
        name = f"ada{secrets.token_hex(4)}"
        watcher = Watcher(tmp_path, hub.endpoint, name, hub.add_user(name))
        monkeypatch.setenv("HF_ENDPOINT", watcher.endpoint)
        monkeypatch.setenv("HF_TOKEN", watcher.token)
        return watcher

    return make


@pytest.fixture
def watcher(watch: Callable[[HubProcess], Watcher], hub: HubProcess) -> Watcher:
    return watch(hub)


@contextmanager
def pretraining(watcher: Watcher) -> Iterator[subprocess.Popen[bytes]]:
    """`lmc pretrain` while the block runs."""
    arguments = ["pretrain", watcher.recipe, "--out", watcher.home / "runs"]
    with subprocess.Popen([sys.executable, "-c", OFTEN, *arguments]) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(900)
def test_a_run_is_seen_while_it_trains_and_stays_the_same_one_over_kill_9_and_a_stop(watcher: Watcher):
    write_documents(watcher.home)
    with pretraining(watcher) as process:
        seen = watcher.wait(lambda run: 0 < run["step"] < STEPS)
        process.send_signal(signal.SIGKILL)
    assert (seen["name"], seen["stage"], seen["state"], seen["steps"]) == ("tiny", "pretraining", "running", STEPS)
    assert seen["recipe"].startswith("tiny@")
    assert (seen["reporter"], seen["silent"]) == (watcher.name, False)
    assert seen["machine"]
    (metrics,) = watcher.home.glob("runs/tiny/pretraining/*/metrics.jsonl")
    reached = len(metrics.read_text().splitlines())  # which the next process tells too, before it has imported all
    with pretraining(watcher) as process:
        watcher.wait(lambda run: reached < run["step"] < STEPS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 1
    assert watcher.run()["state"] == "stopped"
    with pretraining(watcher) as process:
        assert process.wait(LIMIT) == 0
    ended = watcher.run()
    assert (ended["id"], ended["state"], ended["step"]) == (seen["id"], "finished", STEPS)
    assert ended["tokens"] == STEPS * 16 * 64
    written = [json.loads(each) for each in metrics.read_text().splitlines()]
    assert ended["curves"]["loss"] == curve(written)
    assert ended["curves"]["validation_loss"] == curve(written, "validation_loss")
    assert watcher.get(f"/api/models/{watcher.name}/tiny").json()["private"] is True


@pytest.mark.parametrize(
    ("error", "state"), [(StoppedError, "stopped"), (KeyboardInterrupt, "stopped"), (CommandError, "failed")]
)
def test_how_a_run_ended_is_told(watcher: Watcher, error: type[BaseException], state: str):
    with pytest.raises(error), watcher.reported() as metrics:  # noqa: PT012 - the error ends the run
        metrics.add(1, 2)
        raise error("so it goes")
    ended = watcher.run()
    assert (ended["state"], ended["step"], ended["curves"]["loss"]["steps"]) == (state, 2, [1, 2])


def test_a_run_that_goes_on_replaces_what_it_had_told_past_its_checkpoint(watcher: Watcher):
    with pytest.raises(StoppedError), watcher.reported() as metrics:  # noqa: PT012 - the error ends the run
        metrics.add(1, 2, 3, 4)
        raise StoppedError("stopped")
    with watcher.reported() as metrics:
        watcher.wait(lambda run: run["state"] == "running" and run["step"] == 4)
        metrics.begin(1, 2)
        metrics.add(3, of=9.0)
    ended = watcher.run()
    assert (ended["state"], ended["step"], ended["steps"]) == ("finished", 3, 3)
    assert ended["curves"]["loss"] == {"steps": [1, 2, 3], "values": [8.0, 4.0, 3.0], "tokens": [64, 128, 192]}


def test_the_time_left_is_that_of_the_pace_so_far(watcher: Watcher):
    with watcher.reported() as metrics:
        metrics.begin(10)
        watcher.wait(lambda run: run["step"] == 10)
        metrics.add(20)
        left = watcher.wait(lambda run: run["step"] == 20)["secondsLeft"]
        assert 1 <= left / (STEPS - 20) * 10 <= LIMIT  # ten steps took so many seconds
    assert watcher.run()["secondsLeft"] is None


def test_numbers_that_are_not_finite_are_left_out(watcher: Watcher):
    with watcher.reported() as metrics:
        metrics.path.write_text('{"step": 1, "loss": 2.0, "gradient_norm": NaN}\n{"step": 2, "loss": Infinity}\n{"st')
    assert watcher.run()["curves"] == {"loss": {"steps": [1], "values": [2.0], "tokens": None}}


def test_a_hub_that_was_away_hears_what_it_missed(watch, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with start_hub(tmp_path / "hub") as hub:
        watcher = watch(hub)
        with watcher.reported() as metrics:
            metrics.add(1)
            watcher.wait(lambda run: run["step"] == 1)
            hub.kill()
            metrics.add(2)
            while "reported" not in capfd.readouterr().err:
                time.sleep(0.1)
            metrics.add(3)
            hub.start()
            watcher.wait(lambda run: run["step"] == 3)
        ended = watcher.run()
    assert (ended["state"], ended["curves"]["loss"]["steps"]) == ("finished", [1, 2, 3])
    assert "reported" not in capfd.readouterr().err  # it was said once


def test_a_run_whose_repository_was_deleted_is_begun_anew(watcher: Watcher):
    with watcher.reported() as metrics:
        metrics.add(1, 2)
        watcher.wait(lambda run: run["step"] == 2)
        body, headers = {"name": "tiny"}, {"Authorization": f"Bearer {watcher.token}"}
        address = f"{watcher.endpoint}/api/repos/delete"
        assert httpx.request("DELETE", address, json=body, headers=headers).is_success
        watcher.wait(lambda run: run["step"] == 2)
    assert watcher.run()["curves"]["loss"]["steps"] == [1, 2]


class OtherHub(BaseHTTPRequestHandler):
    """A hub that knows its user and no runs."""

    asked: list[str]

    def answer(self) -> None:
        self.asked.append(self.command)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known = self.path == "/api/whoami-v2"
        content = json.dumps({"name": "ada"} if known else {"error": "Not Found"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_PATCH = do_POST = answer  # noqa: N815 - the names that http.server looks for

    def log_request(self, *values: object) -> None:
        """Say nothing."""


def test_a_hub_that_shows_no_runs_is_asked_once_and_gets_no_repository(watcher: Watcher, monkeypatch, capfd):
    handler = type("Handler", (OtherHub,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with watcher.reported() as metrics:
            metrics.add(1)
            time.sleep(2)
        server.shutdown()
    assert handler.asked == ["GET", "PUT"]
    assert _told(capfd) == [
        f"progress is not reported: http://127.0.0.1:{server.server_port} is no hub that shows runs"
    ]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HF_ENDPOINT", "", "HF_ENDPOINT is not set"),
        ("HF_ENDPOINT", "http://127.0.0.1:9", "does not answer"),
        ("HF_TOKEN", "", "HF_TOKEN is not set"),
        ("HF_TOKEN", "hf_unknown", "401"),
    ],
)
def test_a_hub_that_cannot_be_told_costs_a_line(watcher: Watcher, monkeypatch, capfd, variable, value, said):
    monkeypatch.setenv(variable, value)
    with watcher.reported() as metrics:
        metrics.add(1)
    (told,) = _told(capfd)
    assert said in told


def test_a_token_that_only_reads_costs_a_line(watcher: Watcher, hub: HubProcess, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", hub.add_token(watcher.name, "read"))
    with watcher.reported() as metrics:
        metrics.add(1)
    (told,) = _told(capfd)
    assert "403" in told


def test_nothing_is_reported_without_being_asked_for(watcher: Watcher):
    with reported(recipe.parse(TINY), "pretraining", watcher.home / "run", lambda _: STEPS):
        pass
    assert not (watcher.home / "run").exists()
    assert watcher.runs() == []


def _told(capfd: pytest.CaptureFixture[str]) -> list[str]:
    lines = capfd.readouterr().err.splitlines()
    assert not any("Traceback" in each for each in lines)
    return [each for each in lines if "reported" in each]
