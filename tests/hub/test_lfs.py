"""Large files: sent once, verified, and given to nobody who merely knows their hash."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from hub_process import PATIENCE, HubProcess, free_port
from huggingface_hub import CommitOperationAdd, HfApi

from lmcommons.hub.app import create_app
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings

PART = 1 << 20


@pytest.fixture(scope="module")
def api(hub: HubProcess) -> HfApi:
    api = HfApi(hub.endpoint, token=hub.add_user("sender"))
    api.create_repo("sender/m")
    return api


@pytest.fixture(scope="module")
def stranger(hub: HubProcess) -> HfApi:
    api = HfApi(hub.endpoint, token=hub.add_user("lfs-stranger"))
    api.create_repo("lfs-stranger/m")
    return api


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def batch(api: HfApi, repo: str, content: bytes, operation: str = "upload", **more: object) -> dict:
    """The answer for one object."""
    answer = httpx.post(
        f"{api.endpoint}/{repo}.git/info/lfs/objects/batch",
        json={"operation": operation, "objects": [{"oid": sha256(content), "size": len(content)}], **more},
        headers={"Authorization": f"Bearer {api.token}"},
    )
    answer.raise_for_status()
    assert answer.headers["content-type"].startswith("application/vnd.git-lfs+json")
    return answer.json()["objects"][0]


def commit(api: HfApi, repo: str, path: str, oid: str, size: int | None) -> httpx.Response:
    size_field = "" if size is None else f', "size": {size}'
    body = '{"key": "header", "value": {"summary": "t"}}\n'
    body += f'{{"key": "lfsFile", "value": {{"path": "{path}", "algo": "sha256", "oid": "{oid}"{size_field}}}}}\n'
    return httpx.post(
        f"{api.endpoint}/api/models/{repo}/commit/main",
        content=body,
        headers={"Authorization": f"Bearer {api.token}"},
    )


def stored(hub: HubProcess, oid: str) -> bool:
    with hub.rooms() as rooms:
        return rooms.objects.size(oid) is not None


def test_an_object_is_sent_verified_committed_and_fetched(api: HfApi, hub: HubProcess):
    content = os.urandom(3_000_000)
    actions = batch(api, "sender/m", content)["actions"]
    assert httpx.put(actions["upload"]["href"], content=content).status_code == 200
    assert httpx.post(actions["verify"]["href"], json={}).status_code == 200
    assert "actions" not in batch(api, "sender/m", content)
    assert commit(api, "sender/m", "w.bin", sha256(content), len(content)).status_code == 200
    download = batch(api, "sender/m", content, "download")["actions"]["download"]["href"]
    assert httpx.get(download, follow_redirects=True).content == content
    part = httpx.get(download, headers={"Range": "bytes=1000-1999"}, follow_redirects=True)
    assert (part.status_code, part.content) == (206, content[1000:2000])


@pytest.mark.embedded("a bucket takes what is sent, and the hub looks at it afterwards: test_s3.py")
def test_other_content_than_announced_is_refused_and_not_stored(api: HfApi, hub: HubProcess):
    content = b"right content"
    upload = batch(api, "sender/m", content)["actions"]["upload"]["href"]
    wrong = httpx.put(upload, content=b"wrong content")
    assert wrong.status_code == 400
    assert sha256(content) in wrong.json()["error"]
    assert sha256(b"wrong content") in wrong.json()["error"]
    short = httpx.put(upload, content=b"right")
    assert (short.status_code, "5 bytes" in short.json()["error"]) == (400, True)
    chunked = httpx.put(upload, content=iter([b"right content", b" and more"]))
    assert chunked.status_code == 400
    assert not stored(hub, sha256(content))
    assert not stored(hub, sha256(b"wrong content"))
    verify = batch(api, "sender/m", content)["actions"]["verify"]["href"]
    assert httpx.post(verify).status_code == 404


def test_an_upload_that_breaks_off_leaves_nothing(api: HfApi, hub: HubProcess):
    content = os.urandom(3_000_000)
    upload = batch(api, "sender/m", content)["actions"]["upload"]["href"]
    logged, incoming = len(hub.log.read_text()), hub.data / "objects" / "incoming"
    before = set(incoming.iterdir())

    def broken() -> Iterator[bytes]:
        yield content[:2_000_000]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        httpx.put(upload, content=broken(), headers={"Content-Length": str(len(content))})
    deadline = time.monotonic() + PATIENCE
    while (left := set(incoming.iterdir()) - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == set()
    assert not stored(hub, sha256(content))
    said = hub.log.read_text()[logged:]
    assert [word for word in ("Traceback", sha256(content), "/api/lfs/") if word in said] == []


def test_an_upload_to_a_repository_that_is_deleted_meanwhile_is_refused(api: HfApi):
    api.create_repo("sender/doomed")
    actions = batch(api, "sender/doomed", b"too late")["actions"]
    api.delete_repo("sender/doomed")
    late = httpx.put(actions["upload"]["href"], content=b"too late")
    if late.status_code == 200:  # from the bucket, which knows no repositories
        late = httpx.post(actions["verify"]["href"], json={})
    assert (late.status_code, late.headers["x-error-code"]) == (404, "RepoNotFound")


def test_a_commit_with_an_object_that_was_never_uploaded_names_file_and_hash(api: HfApi):
    head = api.model_info("sender/m").sha
    answer = commit(api, "sender/m", "ghost.bin", sha256(b"ghost"), 5)
    assert answer.status_code == 400
    assert "ghost.bin" in answer.json()["error"]
    assert sha256(b"ghost") in answer.json()["error"]
    assert api.model_info("sender/m").sha == head


def test_a_commit_with_the_wrong_size_is_refused(api: HfApi):
    content = b"sized content"
    api.upload_file(path_or_fileobj=content, path_in_repo="sized.bin", repo_id="sender/m")
    answer = commit(api, "sender/m", "other.bin", sha256(content), 999)
    assert (answer.status_code, "13 bytes, not 999" in answer.json()["error"]) == (400, True)
    assert commit(api, "sender/m", "other.bin", sha256(content), None).status_code == 200
    assert api.model_info("sender/m", files_metadata=True).siblings[-2].size == 13


def test_knowing_a_hash_gives_nothing_of_a_private_repository(api: HfApi, stranger: HfApi):
    secret = b"the secret weights"
    api.create_repo("sender/secret", private=True)
    api.upload_file(path_or_fileobj=secret, path_in_repo="w.bin", repo_id="sender/secret")
    # It has to be sent again, it cannot be committed by its hash, and a pointer in a text file is no way around.
    assert "actions" in batch(stranger, "lfs-stranger/m", secret)
    assert commit(stranger, "lfs-stranger/m", "w.bin", sha256(secret), len(secret)).status_code == 400
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(secret)}\nsize {len(secret)}\n"
    with pytest.raises(Exception, match="never uploaded"):
        stranger.upload_file(path_or_fileobj=pointer.encode(), path_in_repo="w.txt", repo_id="lfs-stranger/m")
    assert batch(stranger, "lfs-stranger/m", secret, "download")["error"]["code"] == 404
    # Who has the content may send it, and then owns it too.
    stranger.upload_file(path_or_fileobj=secret, path_in_repo="w.bin", repo_id="lfs-stranger/m")
    assert "actions" in batch(stranger, "lfs-stranger/m", secret, "download")


def test_what_a_public_repository_has_need_not_be_sent_again(api: HfApi, stranger: HfApi):
    content = os.urandom(1_000)
    api.upload_file(path_or_fileobj=content, path_in_repo="shared.bin", repo_id="sender/m")
    assert "actions" not in batch(stranger, "lfs-stranger/m", content)
    assert commit(stranger, "lfs-stranger/m", "shared.bin", sha256(content), len(content)).status_code == 200


@pytest.mark.embedded("a bucket checks the signatures of its own addresses")
def test_addresses_are_for_one_purpose_one_object_and_one_day(api: HfApi):
    content = b"signed content"
    href = httpx.URL(batch(api, "sender/m", content)["actions"]["upload"]["href"])
    for forged in (
        href.copy_set_param("signature", "0" * 64),
        href.copy_set_param("expires", "9999999999"),
        href.copy_set_param("size", "15"),
        href.copy_remove_param("size"),
        href.copy_set_param("sha256", sha256(b"signed kontent")),
        href.copy_set_param("scope", "repository:12345"),
        href.copy_set_param("account", "12345"),
        href.copy_set_param("token", ""),
        href.copy_with(query=None),
    ):
        assert httpx.put(forged, content=b"signed kontent").status_code == 403
    assert httpx.get(href).status_code == 403
    assert httpx.post(href.copy_with(path=href.path + "/complete")).status_code == 403


def test_reading_needs_no_write_access_and_writing_does(hub: HubProcess, api: HfApi, stranger: HfApi):
    content = b"public content"
    api.upload_file(path_or_fileobj=content, path_in_repo="public.bin", repo_id="sender/m")
    anonymous = HfApi(hub.endpoint, token=False)
    body = {"objects": [{"oid": sha256(content), "size": len(content)}]}
    url = f"{hub.endpoint}/sender/m.git/info/lfs/objects/batch"
    read = httpx.post(url, json={"operation": "download", **body})
    assert "download" in read.json()["objects"][0]["actions"]
    assert httpx.post(url, json={"operation": "upload", **body}).status_code == 401
    headers = {"Authorization": f"Bearer {hub.add_token('lfs-stranger', 'read')}"}
    assert httpx.post(url, json={"operation": "upload", **body}, headers=headers).status_code == 403
    assert anonymous.file_exists("sender/m", "public.bin")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"operation": "burn", "objects": []},
        {"operation": "upload", "objects": [{"oid": "../x", "size": 1}]},
        {"operation": "upload", "objects": [{"oid": "0" * 64, "size": -1}]},
        {"operation": "upload", "objects": [{"oid": "0" * 64}]},
        {"operation": "upload", "objects": ["x"]},
        {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1}] * 1001},
    ],
)
def test_batches_that_make_no_sense_are_refused(api: HfApi, body: dict):
    answer = httpx.post(
        f"{api.endpoint}/sender/m.git/info/lfs/objects/batch",
        json=body,
        headers={"Authorization": f"Bearer {api.token}"},
    )
    assert answer.status_code in (400, 413)
    assert "\n" not in answer.json()["error"]


@pytest.fixture
def small_hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub whose objects are sent in parts above 1 MiB."""
    port = free_port()
    app = create_app(replace(Settings.make(tmp_path / "hub", port=port), part_size=PART))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield app.state.hub
    server.should_exit = True
    thread.join()


@pytest.fixture
def small_parts(small_hub: Hub) -> HfApi:
    """Its user `ada`."""
    return HfApi(small_hub.settings.public_url, token=small_hub.accounts.add_user("ada"))


def test_the_client_sends_large_objects_in_parts(small_parts: HfApi, tmp_path: Path):
    small_parts.create_repo("ada/m")
    content = os.urandom(3 * PART + 12_345)
    (tmp_path / "w.bin").write_bytes(content)
    action = batch(small_parts, "ada/m", content, transfers=["basic", "multipart"])["actions"]["upload"]
    assert list(action["header"]) == ["chunk_size", "00001", "00002", "00003", "00004"]
    small_parts.create_commit("ada/m", [CommitOperationAdd("w.bin", tmp_path / "w.bin")], commit_message="w")
    file = small_parts.model_info("ada/m", files_metadata=True).siblings[-1]
    assert (file.size, file.lfs.sha256) == (len(content), sha256(content))
    assert list((tmp_path / "hub/objects/incoming").iterdir()) == []


def test_parts_that_do_not_make_the_object_are_refused(small_parts: HfApi):
    small_parts.create_repo("ada/m")
    content = os.urandom(PART + 10)

    def parts() -> tuple[str, str, str]:
        upload = batch(small_parts, "ada/m", content, transfers=["basic", "multipart"])["actions"]["upload"]
        return upload["href"], upload["header"]["00001"], upload["header"]["00002"]

    complete, first, second = parts()
    assert httpx.put(first, content=content[:PART]).status_code == 200
    missing = httpx.post(complete, json={})
    assert (missing.status_code, f"{PART} of its {PART + 10} bytes" in missing.json()["error"]) == (400, True)
    assert httpx.put(second, content=b"too short").status_code == 400
    assert httpx.put(second, content=b"0123456789").status_code == 200
    wrong = httpx.post(complete, json={})
    assert (wrong.status_code, "nothing was stored" in wrong.json()["error"]) == (400, True)
    assert commit(small_parts, "ada/m", "w.bin", sha256(content), len(content)).status_code == 400
    complete, first, second = parts()
    assert httpx.put(second, content=content[PART:]).status_code == 200
    assert httpx.put(first, content=content[:PART]).status_code == 200
    assert httpx.post(complete, json={}).status_code == 200
    assert httpx.post(complete, json={}).status_code == 200
    assert commit(small_parts, "ada/m", "w.bin", sha256(content), len(content)).status_code == 200


def test_a_hash_alone_does_not_complete_or_verify_an_upload(small_hub: Hub, small_parts: HfApi):
    content = os.urandom(PART + 10)
    small_parts.create_repo("ada/private", private=True)
    upload = batch(small_parts, "ada/private", content)["actions"]["upload"]["href"]
    assert httpx.put(upload, content=content).status_code == 200
    eve = HfApi(small_parts.endpoint, token=small_hub.accounts.add_user("eve"))
    eve.create_repo("eve/m")
    for transfers in (["basic"], ["basic", "multipart"]):
        actions = batch(eve, "eve/m", content, transfers=transfers)["actions"]
        assert httpx.post(actions["verify"]["href"], json={}).status_code == 404
        if "multipart" in transfers:
            assert httpx.post(actions["upload"]["href"], json={}).status_code == 400
    assert commit(eve, "eve/m", "w.bin", sha256(content), len(content)).status_code == 400


def test_git_lfs_without_parts_sends_large_objects_whole(small_parts: HfApi):
    small_parts.create_repo("ada/m")
    action = batch(small_parts, "ada/m", os.urandom(2 * PART))["actions"]["upload"]
    assert "header" not in action


def test_more_than_the_quota_is_refused_before_it_is_sent_and_when_it_comes(small_hub: Hub, small_parts: HfApi):
    small_parts.create_repo("ada/m")
    content = os.urandom(2_000)
    upload = batch(small_parts, "ada/m", content)["actions"]["upload"]["href"]
    small_hub.accounts.set_quota("ada", 1_000)
    late = httpx.put(upload, content=content)
    assert (late.status_code, "quota" in late.json()["error"].lower()) == (403, True)
    assert late.json()["message"] == late.json()["error"]  # git-lfs reads the first, the Python client the second
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        batch(small_parts, "ada/m", content)
    small_hub.accounts.set_quota("ada", None)
    assert httpx.put(upload, content=content).status_code == 200
