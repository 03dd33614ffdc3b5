"""A hub that is killed in the middle of uploads and commits: each is whole or absent, and none that was told is lost.

`LMC_CRASH_ROUNDS=20` kills it as often; by default it dies three times.
"""

import hashlib
import json
import os
import random
import threading
import time
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess, free_port
from huggingface_hub import HfApi

ROUNDS = int(os.environ.get("LMC_CRASH_ROUNDS", "3"))
WRITERS = 4
REPOSITORY = "ada/m"


@dataclass
class Writer:
    """Sends commits of two regular and two large files until the hub is gone; keeps what was acknowledged."""

    hub: HubProcess
    token: str
    name: str
    acknowledged: dict[str, str] = field(default_factory=dict)  # folder by commit

    def run(self) -> None:
        generator = random.Random(self.name)
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(base_url=self.hub.endpoint, headers=headers) as client:
            for number in range(10_000):
                try:
                    self._commit(client, f"{self.name}/{number}", generator)
                except httpx.TransportError:
                    return

    def _commit(self, client: httpx.Client, folder: str, generator: random.Random) -> None:
        large = {f"{folder}/{n}.bin": generator.randbytes(generator.randrange(1, 300_000)) for n in range(2)}
        objects = {path: {"oid": hashlib.sha256(body).hexdigest(), "size": len(body)} for path, body in large.items()}
        asked = {"operation": "upload", "transfers": ["basic"], "objects": list(objects.values())}
        offered = client.post(f"/{REPOSITORY}.git/info/lfs/objects/batch", json=asked).json()["objects"]
        by_oid = {found["oid"]: found for found in offered}
        for path, body in large.items():
            actions = by_oid[objects[path]["oid"]]["actions"]
            assert httpx.put(actions["upload"]["href"], content=body).status_code == 200
            assert client.post(actions["verify"]["href"], json=objects[path]).status_code == 200
        regular = {"encoding": "base64", "content": b64encode(folder.encode()).decode()}
        lines = [
            {"key": "header", "value": {"summary": folder, "description": ""}},
            *({"key": "file", "value": {"path": f"{folder}/{n}.txt", **regular}} for n in range(2)),
            *({"key": "lfsFile", "value": {"path": path, "algo": "sha256", **objects[path]}} for path in large),
        ]
        body = "\n".join(map(json.dumps, lines))
        answer = client.post(
            f"/api/models/{REPOSITORY}/commit/main", content=body, headers={"Content-Type": "application/x-ndjson"}
        )
        assert answer.status_code == 200, answer.text
        self.acknowledged[answer.json()["commitOid"]] = folder


@pytest.mark.timeout(100 * ROUNDS)
def test_what_was_acknowledged_survives_and_nothing_is_half_there(tmp_path: Path):
    delays = random.Random(7)
    hub = HubProcess(tmp_path / "hub", free_port())
    acknowledged: dict[str, str] = {}
    token = ""
    for attempt in range(ROUNDS):
        hub.start()
        try:
            if not token:
                token = hub.add_user("ada")
                HfApi(hub.endpoint, token=token).create_repo(REPOSITORY)
            writers = [Writer(hub, token, f"{attempt}-{number}") for number in range(WRITERS)]
            threads = [threading.Thread(target=writer.run) for writer in writers]
            for thread in threads:
                thread.start()
            wanted = delays.randrange(1, 12)
            deadline = time.monotonic() + 60
            while sum(len(writer.acknowledged) for writer in writers) < wanted and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(delays.uniform(0, 0.5))
        finally:
            hub.kill()
        for thread in threads:
            thread.join()
        for writer in writers:
            acknowledged |= writer.acknowledged
        hub.start()
        try:
            assert hub.command("fsck") == ""
            _check(hub, token, acknowledged)
        finally:
            hub.kill()
    assert len(acknowledged) >= ROUNDS


def _check(hub: HubProcess, token: str, acknowledged: dict[str, str]) -> None:
    api = HfApi(hub.endpoint, token=token)
    titles = {commit.commit_id: commit.title for commit in api.list_repo_commits(REPOSITORY)}
    assert acknowledged.items() <= titles.items()
    files = set(api.list_repo_files(REPOSITORY))
    folders = [title for title in titles.values() if "-" in title]
    assert files == {
        ".gitattributes",
        *(f"{folder}/{n}.{kind}" for folder in folders for n in range(2) for kind in ("txt", "bin")),
    }
    with httpx.Client(
        base_url=hub.endpoint, headers={"Authorization": f"Bearer {token}"}, follow_redirects=True
    ) as client:
        for entry in api.list_repo_tree(REPOSITORY, recursive=True):
            lfs = getattr(entry, "lfs", None)
            if lfs is not None:
                body = client.get(f"/{REPOSITORY}/resolve/main/{entry.path}").content
                assert hashlib.sha256(body).hexdigest() == lfs.sha256
