"""Xet where the hub's surroundings matter: objects in a bucket, a proxy that reads the disk, long work on a shard."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from hub_process import PATIENCE, free_port
from huggingface_hub import HfApi
from s3_server import S3Server
from xet_parts import File, Term, shard, xorb

from lmcommons.hub.api import cas
from lmcommons.hub.app import create_app
from lmcommons.hub.objects.xet.xorb import CHUNK_LIMIT
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings

CLIENT = """
import sys
from huggingface_hub import HfApi, hf_hub_download
HfApi().upload_file(path_or_fileobj=sys.argv[2], path_in_repo="w.bin", repo_id=sys.argv[1])
print(hf_hub_download(sys.argv[1], "w.bin", force_download=True))
"""


def there_and_back(hub: Hub, token: str, repo: str, file: Path, home: Path) -> bytes:
    """What the reference client downloads of a file that it has just uploaded; what it remembers is in `home`."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
    environment |= {"HF_ENDPOINT": hub.settings.public_url, "HF_TOKEN": token, "HF_HOME": str(home)}
    command = [sys.executable, "-c", CLIENT, repo, str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip()).read_bytes()


@contextmanager
def serve(settings: Settings) -> Iterator[FastAPI]:
    """A hub in this process."""
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=settings.port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield app
    finally:
        server.should_exit = True
        thread.join()


class Repository:
    """A new repository, and Xet tokens for it."""

    def __init__(self, hub: Hub, user: str) -> None:
        self.hub, self.token = hub, hub.accounts.add_user(user)
        self.name = HfApi(hub.settings.public_url, token=self.token).create_repo(f"{user}/m").repo_id

    def post(self, path: str, body: bytes) -> httpx.Response:
        address, headers = self._open("write", self.token)
        return httpx.post(address + path, content=body, headers=headers).raise_for_status()

    def upload(self, *files: File) -> None:
        for sent in {term.xorb.hash: term.xorb for file in files for term in file.terms}.values():
            self.post(f"/v1/xorbs/default/{sent.hash}", sent.body)
        self.post("/v1/shards", shard(*files))

    def fetch(self, file: File, token: str | None = None) -> list[tuple[str, dict[str, int]]]:
        """Addresses and ranges that a file is fetched from."""
        address, headers = self._open("read", token)
        answer = httpx.get(f"{address}/v1/reconstructions/{file.hash}", headers=headers).raise_for_status().json()
        return [(run["url"], run["url_range"]) for runs in answer["fetch_info"].values() for run in runs]

    def _open(self, right: str, token: str | None) -> tuple[str, dict[str, str]]:
        route = f"{self.hub.settings.public_url}/api/models/{self.name}/xet-{right}-token/main"
        answer = httpx.get(route, headers={"Authorization": f"Bearer {token}"} if token else {}).raise_for_status()
        return answer.json()["casUrl"], {"Authorization": f"Bearer {answer.json()['accessToken']}"}


def test_from_a_bucket_whole_xorbs_are_fetched_there_and_parts_from_the_hub(s3: S3Server, tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        settings = Settings.make(tmp_path / "hub", port=free_port(), objects=s3.url("xet"))
        with serve(settings) as app:
            hub: Hub = app.state.hub
            ada = Repository(hub, "ada")
            (tmp_path / "w.bin").write_bytes(os.urandom(5_000_000))
            came = there_and_back(hub, ada.token, "ada/m", tmp_path / "w.bin", tmp_path / "home")
            assert came == (tmp_path / "w.bin").read_bytes()
            plain = httpx.get(f"{hub.settings.public_url}/ada/m/resolve/main/w.bin")
            assert plain.content == (tmp_path / "w.bin").read_bytes()

            bob, sent = Repository(hub, "bob"), xorb(os.urandom(100_000))
            part, whole = File((Term(sent, 2, 5),)), File((Term(sent),))
            bob.upload(part)
            ((url, wanted),) = bob.fetch(part)
            assert url.startswith(hub.settings.public_url)
            ranged = {"Range": f"bytes={wanted['start']}-{wanted['end']}"}
            assert httpx.get(url, headers=ranged).content == sent.body[wanted["start"] : wanted["end"] + 1]
            bob.upload(whole)
            for file in (part, whole):
                ((url, wanted),) = bob.fetch(file)
                assert url.startswith(s3.endpoint)
                ranged = {"Range": f"bytes={wanted['start']}-{wanted['end']}"}
                assert httpx.get(url, headers=ranged).content == sent.body[wanted["start"] : wanted["end"] + 1]


def test_a_proxy_sends_the_range_that_the_hub_has_checked(tmp_path: Path):
    with serve(Settings.make(tmp_path / "hub", port=free_port(), accel="/internal/")) as app:
        hub: Hub = app.state.hub
        ada, sent = Repository(hub, "ada"), xorb(os.urandom(100_000))
        file = File((Term(sent, 2, 5),))
        ada.upload(file)
        ((url, wanted),) = ada.fetch(file)
        first, last = wanted["start"], wanted["end"]
        handed = httpx.get(url, headers={"Range": f"bytes={first}-{last}"})
        path = handed.headers["x-accel-redirect"].removeprefix("/internal/")
        assert (hub.settings.data / "objects" / path).read_bytes() == sent.body
        assert httpx.get(url, headers={"Range": f"bytes=0-{last}"}).status_code == 403
        whole = httpx.get(url)  # the proxy would send all of the xorb
        assert "x-accel-redirect" not in whole.headers
        assert whole.content == sent.body[first : last + 1]


def test_the_client_asks_anew_for_addresses_that_have_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lives, made = iter([-1]), cas._address

    def make(*values: Any) -> str:
        monkeypatch.setattr(cas, "VALID", next(lives, 300))
        return made(*values)

    monkeypatch.setattr(cas, "_address", make)
    with serve(Settings.make(tmp_path / "hub", port=free_port())) as app:
        ada = Repository(app.state.hub, "ada")
        (tmp_path / "w.bin").write_bytes(os.urandom(100_000))
        came = there_and_back(app.state.hub, ada.token, "ada/m", tmp_path / "w.bin", tmp_path / "home")
        assert came == (tmp_path / "w.bin").read_bytes()
        assert next(lives, None) is None


def test_a_long_work_on_a_shard_shows_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cas, "HEARTBEAT", 0.001)
    with serve(Settings.make(tmp_path / "hub", port=free_port())) as app:
        ada, sent = Repository(app.state.hub, "ada"), xorb(os.urandom(30_000_000), size=CHUNK_LIMIT)
        ada.post(f"/v1/xorbs/default/{sent.hash}", sent.body)
        answer = ada.post("/v2/shards", shard(File((Term(sent),))))
        *beats, last = map(json.loads, answer.text.splitlines())
        assert last == {"type": "result"}
        assert beats
        assert {beat["type"] for beat in beats} == {"validating"}
        verified = [beat["verified"] for beat in beats]
        assert verified == sorted(verified)
        assert {beat["total"] for beat in beats} == {30_000_000}


def test_work_on_a_shard_ends_when_its_sender_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cas, "HEARTBEAT", 0.001)
    with serve(Settings.make(tmp_path / "hub", port=free_port())) as app:
        ada, sent = Repository(app.state.hub, "ada"), xorb(os.urandom(20_000_000), size=CHUNK_LIMIT)
        file = File((Term(sent),) * 60)  # 1.2 GB of content
        ada.post(f"/v1/xorbs/default/{sent.hash}", sent.body)
        address, headers = ada._open("write", ada.token)
        with httpx.stream("POST", f"{address}/v2/shards", content=shard(file), headers=headers) as answer:
            next(answer.iter_lines())
        deadline = time.monotonic() + PATIENCE
        while app.state.xet_work.borrowed_tokens and time.monotonic() < deadline:
            time.sleep(0.01)
        assert app.state.hub.objects.xet.sha256_of([file.hash]) == {}
        ada.upload(File((Term(sent, 0, 1),)))


def test_what_a_client_remembers_of_deleted_content_or_of_another_account_is_no_trap(tmp_path: Path):
    # The client keeps for weeks which chunks it has sent, and does not send them again: not to this address.
    with serve(Settings.make(tmp_path / "hub", port=free_port())) as app:
        hub: Hub = app.state.hub
        ada, bob, file, home = Repository(hub, "ada"), Repository(hub, "bob"), tmp_path / "w.bin", tmp_path / "home"
        file.write_bytes(os.urandom(1_000_000))
        api = HfApi(hub.settings.public_url, token=ada.token)
        api.update_repo_settings("ada/m", visibility="private")
        there_and_back(hub, ada.token, "ada/m", file, home)
        assert there_and_back(hub, bob.token, "bob/m", file, home) == file.read_bytes()
        for repo, token in (("ada/m", ada.token), ("bob/m", bob.token)):
            api.delete_repo(repo, token=token)
        assert hub.objects.xet.collect(datetime.now(UTC)).xorbs == 1
        api.create_repo("ada/again")
        assert there_and_back(hub, ada.token, "ada/again", file, home) == file.read_bytes()
