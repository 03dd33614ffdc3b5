"""Large files in a bucket: clients send and fetch them without the hub, which verifies each before it is anybody's."""

import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from hub_process import free_port, lmc_hub
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from s3_server import S3Server
from test_attachments import png

from lmcommons.hub.app import create_app
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings

PART = 5 << 20  # bytes: the least that S3 allows


@pytest.fixture(scope="module")
def hub(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub whose objects lie in a bucket, in parts above 5 MiB."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        settings = Settings.make(tmp_path_factory.mktemp("s3") / "hub", port=port, objects=s3.url("a/prefix"))
        app = create_app(replace(settings, part_size=PART))
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield app.state.hub
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def api(hub: Hub) -> HfApi:
    api = HfApi(hub.settings.public_url, token=hub.accounts.add_user("ada"))
    api.create_repo("ada/m")
    return api


@pytest.fixture(scope="module")
def batch(api: HfApi) -> Callable:
    """Asks how to send or fetch one object of `ada/m`."""

    def ask(content: bytes, operation: str = "upload", repo: str = "ada/m", token: str | None = None) -> dict:
        body = {"operation": operation, "objects": [{"oid": sha256(content), "size": len(content)}]}
        answer = httpx.post(
            f"{api.endpoint}/{repo}.git/info/lfs/objects/batch",
            json=body | {"transfers": ["basic", "multipart"]},
            headers={"Authorization": f"Bearer {token or api.token}"},
        )
        return answer.raise_for_status().json()["objects"][0]

    return ask


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [100_000, 2 * PART + 12_345], ids=["whole", "in parts"])
def test_the_client_uploads_to_the_bucket_and_downloads_from_it(hub: Hub, api: HfApi, tmp_path: Path, size: int):
    content = os.urandom(size)
    (tmp_path / "w.bin").write_bytes(content)
    name = f"w{size}.bin"
    api.create_commit("ada/m", [CommitOperationAdd(name, tmp_path / "w.bin")], commit_message="w")
    head = httpx.head(f"{api.endpoint}/ada/m/resolve/main/{name}")
    assert (head.status_code, head.headers["content-length"]) == (200, str(size))
    assert (head.headers["x-linked-size"], head.headers["x-linked-etag"]) == (str(size), f'"{sha256(content)}"')
    found = hf_hub_download("ada/m", name, endpoint=api.endpoint, local_dir=tmp_path / "down", token=api.token)
    assert Path(found).read_bytes() == content
    address = httpx.get(f"{api.endpoint}/ada/m/resolve/main/{name}").headers["location"]
    assert httpx.URL(address).params["X-Amz-Expires"] == "300"
    part = httpx.get(address, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, content[1000:2000])
    assert list(hub.objects.blobs.left(datetime.now(UTC) + timedelta(hours=1))) == []
    assert list(hub.objects.blobs.staging.iterdir()) == []
    assert hub.check() == []


def test_a_browser_is_told_the_name_and_the_type_of_what_the_bucket_sends(api: HfApi):
    api.upload_file(path_or_fileobj=b"RIFF", path_in_repo="sounds/a b.wav", repo_id="ada/m")
    answer = httpx.get(f"{api.endpoint}/ada/m/resolve/main/sounds/a%20b.wav?download", follow_redirects=True)
    assert answer.content == b"RIFF"
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''a%20b.wav")


def test_no_cache_keeps_the_way_to_the_bucket_which_ends_before_it(api: HfApi, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(b"kept for a year where the hub sends it"))
    address = api.upload_attachment(tmp_path / "a.png")
    led = httpx.get(address)
    assert (led.status_code, led.headers["cache-control"]) == (302, "no-store")
    assert httpx.get(led.headers["location"]).content == (tmp_path / "a.png").read_bytes()


def test_nothing_belongs_to_a_repository_before_it_is_verified(hub: Hub, batch: Callable):
    content = os.urandom(1_000)
    actions = batch(content)["actions"]
    assert httpx.post(actions["verify"]["href"], json={}).status_code == 404
    assert httpx.put(actions["upload"]["href"], content=content).status_code == 200
    assert "error" in batch(content, "download")
    assert hub.objects.size(sha256(content)) is None
    assert httpx.post(actions["verify"]["href"], json={}).status_code == 200
    assert httpx.post(actions["verify"]["href"], json={}).status_code == 200
    assert (
        httpx.get(batch(content, "download")["actions"]["download"]["href"], follow_redirects=True).content == content
    )
    assert "actions" not in batch(content)


def test_other_content_is_refused_when_it_is_verified(hub: Hub, batch: Callable):
    content = os.urandom(1_000)
    actions = batch(content)["actions"]
    assert httpx.put(actions["upload"]["href"], content=os.urandom(1_000)).status_code == 200
    refused = httpx.post(actions["verify"]["href"], json={})
    assert (refused.status_code, "nothing was stored" in refused.json()["error"]) == (400, True)
    assert hub.objects.size(sha256(content)) is None
    assert httpx.put(actions["upload"]["href"], content=b"another size").status_code == 403


def test_a_hash_alone_does_not_give_the_content_of_others(hub: Hub, api: HfApi, batch: Callable):
    content = os.urandom(2 * PART)
    api.create_repo("ada/private", private=True)
    api.upload_file(path_or_fileobj=content, path_in_repo="w.bin", repo_id="ada/private")
    token = hub.accounts.add_user("eve")
    HfApi(api.endpoint, token=token).create_repo("eve/m")
    actions = batch(content, repo="eve/m", token=token)["actions"]
    assert httpx.post(actions["verify"]["href"], json={}).status_code == 404
    assert httpx.post(actions["upload"]["href"], json={"parts": []}).status_code == 400
    assert "error" in batch(content, "download", repo="eve/m", token=token)


def test_content_that_is_sent_again_after_it_was_verified_changes_nothing(hub: Hub, batch: Callable):
    content = os.urandom(1_000)
    actions = batch(content)["actions"]
    assert httpx.put(actions["upload"]["href"], content=content).status_code == 200
    assert httpx.post(actions["verify"]["href"], json={}).status_code == 200
    assert httpx.put(actions["upload"]["href"], content=bytes(1_000)).status_code == 200
    assert hub.objects.is_intact(sha256(content))


@pytest.mark.parametrize("body", [{}, {"parts": ["x"]}, {"parts": [{"partNumber": 1}]}, {"parts": [{"etag": "x"}]}])
def test_an_upload_cannot_be_completed_without_its_parts(batch: Callable, body: dict):
    upload = batch(os.urandom(PART + 1))["actions"]["upload"]
    assert httpx.post(upload["href"], json=body).status_code == 400


def git(directory: Path, *arguments: str) -> None:
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": str(directory.parent / "gitconfig")}
    subprocess.run(["git", *arguments], cwd=directory, env=environment, check=True, capture_output=True)


def test_git_lfs_pushes_to_the_bucket_and_clones_from_it(api: HfApi, tmp_path: Path):
    (tmp_path / "work").mkdir()
    git(tmp_path / "work", "lfs", "install")
    git(tmp_path / "work", "config", "--global", "user.name", "ada")
    git(tmp_path / "work", "config", "--global", "user.email", "ada@example.org")
    address = api.endpoint.replace("://", f"://ada:{api.token}@") + "/ada/m"
    git(tmp_path / "work", "clone", address, "first")
    content = os.urandom(100_000)
    (tmp_path / "work/first/pushed.bin").write_bytes(content)
    git(tmp_path / "work/first", "add", "pushed.bin")
    git(tmp_path / "work/first", "-c", "user.name=ada", "-c", "user.email=a@example.org", "commit", "-m", "Push")
    git(tmp_path / "work/first", "push")
    git(tmp_path / "work", "clone", address, "second")
    assert (tmp_path / "work/second/pushed.bin").read_bytes() == content


@pytest.mark.embedded("takes the keys away, which are the cluster's too")
def test_a_bucket_that_cannot_be_used_is_one_line_when_the_hub_starts(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def start(url: str) -> str:
        done = lmc_hub("serve", "--port", "0", "--data", tmp_path / "hub", "--objects", url)
        assert (done.returncode != 0, done.stderr.count("\n")) == (True, 1)
        return done.stderr

    for name in s3.environment:
        monkeypatch.delenv(name, raising=False)
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment" in start(s3.url())
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    assert "NoSuchBucket" in start(s3.url().replace("commons", "absent"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "SignatureDoesNotMatch" in start(s3.url())


def test_the_data_directory_remembers_the_bucket_and_not_its_keys(s3: S3Server, hub: Hub):
    assert json.loads((hub.settings.data / "hub.json").read_text())["objects"] == s3.url("a/prefix")
    for path in hub.settings.data.rglob("*"):
        if path.is_file():
            assert s3.environment["AWS_SECRET_ACCESS_KEY"].encode() not in path.read_bytes()
