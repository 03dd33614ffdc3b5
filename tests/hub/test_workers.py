"""A hub of several processes: one address, one supervisor, and workers that are replaced when they die.

`LMC_COMMITS=500` has them make as many commits to one branch; by default thirty.
"""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hub_process import PATIENCE, HubProcess, lmc_hub, start_hub
from huggingface_hub import CommitOperationAdd, HfApi

COMMITS = int(os.environ.get("LMC_COMMITS", "30"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with start_hub(tmp_path / "hub", "--workers", "2") as running:
        yield running


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def answers(hub: HubProcess) -> bool:
    try:
        return httpx.get(f"{hub.endpoint}/healthz", timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


def test_workers_share_the_work_and_a_dead_one_is_replaced(hub: HubProcess):
    token = hub.add_user("root", "--admin")
    HfApi(hub.endpoint, token=token).create_repo("root/m")
    wait_for(lambda: len(hub.workers()) == 2, "no second worker")
    first = hub.workers()
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(hub.workers() - {victim}) == 2, "no new worker")
    wait_for(lambda: all(answers(hub) for _ in range(8)), "no answer")
    assert HfApi(hub.endpoint, token=token).model_info("root/m").id == "root/m"
    assert hub.stop() == 0
    assert hub.log.read_text().count("lmc: hub at") == 1


def test_the_counts_of_all_workers_are_one(hub: HubProcess):
    token = hub.add_user("root", "--admin")
    wait_for(lambda: len(hub.workers()) == 2, "no second worker")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: answers(hub), range(100)))
    answer = httpx.get(f"{hub.endpoint}/metrics", headers={"Authorization": f"Bearer {token}"})
    (line,) = [line for line in answer.text.splitlines() if 'seconds_count{method="GET",route="/healthz"}' in line]
    assert float(line.split()[-1]) == 100


@pytest.mark.timeout(max(300, COMMITS))
def test_commits_through_several_processes_lose_nothing(hub: HubProcess):
    api = HfApi(hub.endpoint, token=hub.add_user("ada"))
    api.create_repo("ada/m")

    def commit(number: int) -> str:
        files = [
            CommitOperationAdd(f"{number}.txt", b"%d" % number),
            CommitOperationAdd(f"{number}.bin", b"%d" % number),
        ]
        return api.create_commit("ada/m", files, commit_message=str(number)).oid

    with ThreadPoolExecutor(6) as pool:
        acknowledged = set(pool.map(commit, range(COMMITS)))
    assert len(acknowledged) == COMMITS
    assert acknowledged <= {found.commit_id for found in api.list_repo_commits("ada/m")}
    assert len(api.list_repo_files("ada/m")) == 1 + 2 * COMMITS
    assert hub.command("fsck") == ""


def test_all_workers_are_replaced_without_a_refused_request(hub: HubProcess):
    wait_for(lambda: len(hub.workers()) == 2 and answers(hub), "no second worker")
    first = hub.workers()
    os.kill(hub.process.pid, signal.SIGHUP)
    refused = 0

    def replaced() -> bool:
        nonlocal refused
        refused += not answers(hub)
        return len(hub.workers()) == 2 and not hub.workers() & first

    wait_for(replaced, "the old workers stay")
    assert refused == 0


def test_workers_end_with_their_supervisor(hub: HubProcess):
    wait_for(lambda: len(hub.workers()) == 2, "no second worker")
    orphans = hub.workers()
    os.kill(hub.process.pid, signal.SIGKILL)
    hub.process.wait(PATIENCE)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), "a worker holds the port")


def test_what_is_wrong_is_said_once_before_workers_start(tmp_path: Path):
    (tmp_path / "file").touch()
    done = lmc_hub("serve", "--data", tmp_path, "--port", 0, "--workers", 2)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
