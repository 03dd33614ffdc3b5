"""Xet over HTTP: the unmodified client with no setting, tokens and what they open, and clients that lie."""

import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import lz4.frame
import pytest
from hub_process import PATIENCE, HubProcess, start_hub
from huggingface_hub import HfApi
from xet_parts import File, Term, Xorb, header, shard, xorb

from lmcommons.hub.objects.xet.hashing import chunk_hash, to_text
from lmcommons.hub.objects.xet.xorb import CHUNK_LIMIT, Compression

UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().upload_folder(folder_path=sys.argv[2], repo_id=sys.argv[1])
"""
DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], cache_dir=sys.argv[2]))
"""


def start_client(hub: HubProcess, token: str, home: Path, script: str, *arguments: object) -> "subprocess.Popen[str]":
    """The reference client in a process of its own, with Xet on and what it remembers in `home`."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HOME": str(home)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def client(hub: HubProcess, token: str, home: Path, script: str, *arguments: object) -> str:
    """What a client prints, once it has ended well."""
    process = start_client(hub, token, home, script, *arguments)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return output.strip()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stored_bytes(hub: HubProcess) -> int:
    with hub.rooms() as rooms:
        return sum(blob.size for blob in rooms.objects.blobs.entries("xorbs"))


# ------------------------------------------------------------ the unmodified client


@dataclass
class Uploaded:
    """A repository that the client filled over Xet, and what is in it."""

    repo: str
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def uploaded(hub: HubProcess, api: HfApi, tmp_path_factory: pytest.TempPathFactory) -> Uploaded:
    folder, home = tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("home")
    random = os.urandom(15_000_000)
    files = {
        "random.bin": random + random[:5_000_000] + os.urandom(10_000_000),  # 30 MB, some of it twice
        "numbers.safetensors": b"".join(number.to_bytes(4, "little") for number in range(250_000)),
        "one.bin": b"1",
        "notes.txt": b"small files are part of the commit",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    repo = api.create_repo(f"ann/x{secrets.token_hex(6)}").repo_id
    client(hub, str(api.token), home, UPLOAD, repo, folder)
    return Uploaded(repo, files)


def test_a_client_with_no_setting_uploads_and_downloads(
    hub: HubProcess, api: HfApi, uploaded: Uploaded, tmp_path: Path
):
    home, logged = tmp_path / "home", len(hub.log.read_text())
    folder = client(hub, str(api.token), home, DOWNLOAD, uploaded.repo, tmp_path / "cache")
    for name, content in uploaded.files.items():
        assert (Path(folder) / name).read_bytes() == content
    assert hub.log.read_text()[logged:] == ""


def test_equal_parts_of_what_was_uploaded_are_stored_once(hub: HubProcess, uploaded: Uploaded):
    sent = xorbs_of(hub, uploaded)
    assert 25_000_000 < sent < 27_000_000


def xorbs_of(hub: HubProcess, uploaded: Uploaded) -> int:
    """Bytes stored of the xorbs that a repository's files are made of."""
    named: set[str] = set()
    for name in ("random.bin", "numbers.safetensors"):
        answer = reconstruction(hub, uploaded.repo, name)
        named.update(answer["xorbs"])
    with hub.rooms() as rooms:
        blobs = list(rooms.objects.blobs.entries("xorbs"))
    return sum(blob.size for blob in blobs if Path(blob.key).stem in named)


def reconstruction(hub: HubProcess, repo: str, name: str) -> dict[str, Any]:
    head = httpx.head(f"{hub.endpoint}/{repo}/resolve/main/{name}")
    opened = cas(hub, f"/api/models/{repo}/xet-read-token/main", None)
    return opened.get(f"/v2/reconstructions/{head.headers['x-xet-hash']}").raise_for_status().json()


def test_a_plain_download_is_made_from_the_chunks(hub: HubProcess, uploaded: Uploaded):
    for name, content in uploaded.files.items():
        address = f"{hub.endpoint}/{uploaded.repo}/resolve/main/{name}"
        answer = httpx.get(address)
        assert answer.content == content
        if name == "notes.txt":
            assert "x-xet-hash" not in answer.headers
            continue
        assert answer.headers["etag"] == f'"{sha256(content)}"'
    address = f"{hub.endpoint}/{uploaded.repo}/resolve/main/random.bin"
    content = uploaded.files["random.bin"]
    for first, last in ((0, 0), (1_000_000, 1_999_999), (14_999_990, 20_000_010), (29_999_999, 40_000_000)):
        part = httpx.get(address, headers={"Range": f"bytes={first}-{last}"})
        assert (part.status_code, part.content) == (206, content[first : last + 1])
    assert httpx.get(address, headers={"Range": "bytes=30000000-"}).status_code == 416


def test_metadata_says_which_files_can_be_fetched_in_chunks(hub: HubProcess, api: HfApi, uploaded: Uploaded):
    head = httpx.head(f"{hub.endpoint}/{uploaded.repo}/resolve/main/random.bin")
    route = head.links["xet-auth"]["url"]
    assert route.startswith(f"{hub.endpoint}/api/models/{uploaded.repo}/xet-read-token/")
    assert httpx.get(route).status_code == 200
    tree = {entry.path: entry for entry in api.list_repo_tree(uploaded.repo)}
    assert tree["random.bin"].xet_hash == head.headers["x-xet-hash"]
    assert tree["notes.txt"].xet_hash is None
    (info,) = api.get_paths_info(uploaded.repo, ["random.bin"])
    assert (info.xet_hash, info.lfs.sha256) == (head.headers["x-xet-hash"], sha256(uploaded.files["random.bin"]))
    api.upload_file(path_or_fileobj=b"\0by LFS", path_in_repo="plain.bin", repo_id=uploaded.repo)
    assert "x-xet-hash" not in httpx.head(f"{hub.endpoint}/{uploaded.repo}/resolve/main/plain.bin").headers


def test_headers_of_safetensors_are_read_out_of_chunks(hub: HubProcess, api: HfApi, tmp_path: Path):
    repo = api.create_repo(f"ann/x{secrets.token_hex(6)}").repo_id
    described = json.dumps({"w": {"dtype": "F32", "shape": [300_000], "data_offsets": [0, 1_200_000]}}).encode()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(len(described).to_bytes(8, "little") + described + bytes(1_200_000))
    client(hub, str(api.token), tmp_path / "home", UPLOAD, repo, folder)
    assert api.model_info(repo).safetensors.total == 300_000


def test_a_second_upload_sends_what_is_new(hub: HubProcess, api: HfApi, tmp_path: Path):
    """Of a JSONL file with 1 % appended at most 5 % is sent, by a client that remembers nothing."""
    lines = [json.dumps({"id": secrets.token_hex(8), "text": secrets.token_urlsafe(150)}) for _ in range(101_000)]
    repo = api.create_repo(f"ann/x{secrets.token_hex(6)}", repo_type="dataset").repo_id
    folder = tmp_path / "folder"
    folder.mkdir()
    script = UPLOAD.replace("repo_id=sys.argv[1]", "repo_id=sys.argv[1], repo_type='dataset'")
    sent = []
    for count, home in ((100_000, "first"), (101_000, "second")):
        before = stored_bytes(hub)
        (folder / "data.jsonl").write_text("\n".join(lines[:count]))
        client(hub, str(api.token), tmp_path / home, script, repo, folder)
        sent.append(stored_bytes(hub) - before)
    assert sent[0] > 15_000_000
    assert sent[1] <= 0.05 * sent[0]
    content = httpx.get(f"{hub.endpoint}/datasets/{repo}/resolve/main/data.jsonl").text
    assert content == "\n".join(lines)


def test_after_a_kill_in_the_middle_of_an_upload_it_succeeds_the_second_time(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "large.bin").write_bytes(os.urandom(70_000_000))
    with start_hub(tmp_path / "hub") as hub:
        token = hub.add_user("ada")
        HfApi(hub.endpoint, token=token).create_repo("ada/m")
        interrupted = start_client(hub, token, tmp_path / "home", UPLOAD, "ada/m", folder)
        deadline = time.monotonic() + PATIENCE
        with hub.rooms() as rooms:  # opened once: the client needs less time for the rest than opening takes
            while not any(rooms.objects.blobs.entries("xorbs")) and time.monotonic() < deadline:
                time.sleep(0.01)
            hub.kill()
        interrupted.kill()
        interrupted.wait(PATIENCE)
        assert stored_bytes(hub) > 0
        hub.start()
        assert [file.rfilename for file in HfApi(hub.endpoint).model_info("ada/m").siblings] == [".gitattributes"]
        client(hub, token, tmp_path / "home", UPLOAD, "ada/m", folder)
        answer = httpx.get(f"{hub.endpoint}/ada/m/resolve/main/large.bin")
        assert answer.content == (folder / "large.bin").read_bytes()
    # What was stored and not acknowledged is garbage, and everything else is whole.
    with hub.rooms() as rooms:
        rooms.objects.xet.collect(datetime.now(UTC))
        assert rooms.check() == []
    assert stored_bytes(hub) < 71_000_000


# ------------------------------------------------------------ tokens


@dataclass
class Cas:
    """The store behind a Xet token."""

    address: str
    token: str
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = {"Authorization": f"Bearer {self.token}"}

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.address + path, headers={**self.headers, **headers})

    def send(self, sent: Xorb, body: bytes | None = None) -> httpx.Response:
        content = sent.body if body is None else body
        return httpx.post(f"{self.address}/v1/xorbs/default/{sent.hash}", content=content, headers=self.headers)

    def register(self, *files: File, version: int = 1) -> httpx.Response:
        return httpx.post(f"{self.address}/v{version}/shards", content=shard(*files), headers=self.headers)

    def upload(self, content: bytes) -> File:
        sent = xorb(content)
        file = File((Term(sent),))
        assert self.send(sent).status_code == 200
        assert self.register(file).json() == {"result": 1}
        return file


def ask(hub: HubProcess, route: str, token: str | None) -> httpx.Response:
    return httpx.get(hub.endpoint + route, headers={"Authorization": f"Bearer {token}"} if token else {})


def cas(hub: HubProcess, route: str, token: str | None) -> Cas:
    answer = ask(hub, route, token).raise_for_status()
    body = answer.json()
    assert answer.headers["x-xet-cas-url"] == body["casUrl"]
    assert answer.headers["x-xet-access-token"] == body["accessToken"]
    assert answer.headers["x-xet-token-expiration"] == str(body["exp"])
    assert 3500 < body["exp"] - time.time() <= 3600
    return Cas(body["casUrl"], body["accessToken"])


@pytest.fixture(scope="module")
def eve(hub: HubProcess) -> str:
    return hub.add_user("xet-eve")


@pytest.fixture
def repo(new_repository: Callable[..., str]) -> str:
    return new_repository()


@pytest.fixture
def private(new_repository: Callable[..., str]) -> str:
    return new_repository(private=True)


def opened(hub: HubProcess, token: str | None, repo: str, right: str, rest: str = "main") -> Cas:
    return cas(hub, f"/api/models/{repo}/xet-{right}-token/{rest}", token)


def test_tokens_are_given_to_those_who_may_read_or_write(
    hub: HubProcess, token: str, eve: str, repo: str, private: str
):
    reader = hub.add_token("ann", "read")

    def status(whose: str | None, where: str, right: str, rest: str = "main") -> int:
        return ask(hub, f"/api/models/{where}/xet-{right}-token/{rest}", whose).status_code

    assert [status(who, repo, "read") for who in (None, eve, reader, token)] == [200] * 4
    assert [status(who, repo, "write") for who in (None, eve, reader, token)] == [401, 403, 403, 200]
    assert [status(who, private, "read") for who in (None, eve, reader, token)] == [404, 404, 200, 200]
    assert [status(who, private, "write") for who in (None, eve, reader, token)] == [404, 404, 403, 200]
    for proposal in ("main?create_pr=1", "None", "refs%2Fpr%2F1"):
        assert [status(who, repo, "write", proposal) for who in (None, eve, reader, token)] == [401, 200, 403, 200]
        assert [status(who, private, "write", proposal) for who in (None, eve, reader, token)] == [404, 404, 403, 200]
    missing = ask(hub, f"/api/models/{repo}/xet-read-token/nowhere", token)
    assert (missing.status_code, missing.headers["x-error-code"]) == (404, "RevisionNotFound")


def test_a_token_opens_one_scope_for_one_right(hub: HubProcess, token: str, repo: str, private: str):
    file = opened(hub, token, private, "write").upload(os.urandom(50_000))
    path = f"/v1/reconstructions/{file.hash}"
    assert opened(hub, token, private, "read").get(path).status_code == 200
    assert opened(hub, token, repo, "read").get(path).status_code == 404
    reading = opened(hub, token, repo, "read")
    assert reading.send(xorb(b"content")).status_code == 403
    assert reading.register(file).status_code == 403
    assert reading.get(f"/v1/chunks/default/{file.hash}").status_code == 403


def test_a_token_ends_with_the_hour_its_account_its_right_and_its_repository(
    hub: HubProcess, api: HfApi, token: str, eve: str
):
    repo = api.create_repo(f"xet-eve/r{secrets.token_hex(4)}", token=eve).repo_id
    second = hub.add_token("xet-eve", "write")
    writing = opened(hub, second, repo, "write")
    file = writing.upload(b"some content")
    path = f"/v1/reconstructions/{file.hash}"
    reading = opened(hub, None, repo, "read")
    assert reading.get(path).status_code == 200

    payload, _, _ = reading.token.rpartition(".")
    ticket = json.loads(urlsafe_b64decode(payload))
    for change, status in (({"expires": int(time.time()) - 1}, 401), ({"expires": int(time.time()) + 900}, 200)):
        changed = urlsafe_b64encode(json.dumps(ticket | change).encode()).decode()
        secret = bytes.fromhex((hub.data / "secret").read_text())
        signed = hmac.new(secret, f"xet token {changed}".encode(), hashlib.sha256).hexdigest()
        assert Cas(reading.address, f"{changed}.{signed}").get(path).status_code == status
    for forged in ("x", ".", f"{payload}.", f"{payload}.{'0' * 64}", f"{changed}.{reading.token[-64:]}", "é.é"):
        assert httpx.get(
            reading.address + path, headers={"Authorization": f"Bearer {forged}".encode()}
        ).status_code == 401  # fmt: skip

    hub.command("token", "revoke", "xet-eve", newest_token(hub, "xet-eve"))
    assert writing.send(xorb(b"more content")).status_code == 401
    api.update_repo_settings(repo, visibility="private", token=eve)
    hidden = reading.get(path)
    assert (hidden.status_code, hidden.headers["x-error-code"]) == (404, "RepoNotFound")
    last = opened(hub, eve, repo, "write")
    api.delete_repo(repo, token=eve)
    assert last.get(path).status_code == 404
    assert last.send(xorb(b"more content")).status_code == 404


def newest_token(hub: HubProcess, user: str) -> str:
    found = json.loads(hub.command("token", "list", user, "--json"))
    return str(max(entry["id"] for entry in found))


def test_tokens_are_never_logged(hub: HubProcess, token: str, repo: str):
    writing = opened(hub, token, repo, "write")
    writing.upload(b"content that is logged nowhere")
    assert writing.token not in hub.log.read_text()


def test_what_a_client_remembers_is_kept_apart_by_account(hub: HubProcess, token: str, eve: str, repo: str):
    addresses = {opened(hub, who, repo, "read").address for who in (token, eve, None)}
    assert len(addresses) == 3
    assert opened(hub, token, repo, "read").address in addresses


# ------------------------------------------------------------ fetching


def test_a_reconstruction_is_answered_for_both_versions_and_for_ranges(hub: HubProcess, token: str, repo: str):
    content = os.urandom(55_000)
    file = opened(hub, token, repo, "write").upload(content)
    reading = opened(hub, None, repo, "read")
    first = reading.get(f"/v1/reconstructions/{file.hash}").json()
    second = reading.get(f"/v2/reconstructions/{file.hash}").json()
    assert first["terms"] == second["terms"]
    ((xorb_hash, (fetch,)),) = first["fetch_info"].items()
    assert fetch["range"] == {"start": 0, "end": 6}
    assert second["xorbs"][xorb_hash][0]["ranges"] == [{"chunks": fetch["range"], "bytes": fetch["url_range"]}]
    part = reading.get(f"/v1/reconstructions/{file.hash}", Range="bytes=15000-24999").json()
    assert part["offset_into_first_range"] == 5000
    assert [term["range"] for term in part["terms"]] == [{"start": 1, "end": 3}]
    assert reading.get(f"/v1/reconstructions/{file.hash}", Range="bytes=55000-99999").status_code == 416
    assert reading.get(f"/v1/reconstructions/{'0' * 64}").status_code == 404
    assert reading.get("/v1/reconstructions/nonsense").status_code == 400
    assert reading.get(f"/v3/reconstructions/{file.hash}").status_code == 404


@pytest.mark.embedded("a bucket checks the signatures of its own addresses")
def test_an_address_of_a_xorb_gives_its_chunks_for_an_hour_and_no_others(hub: HubProcess, token: str, repo: str):
    file = opened(hub, token, repo, "write").upload(os.urandom(55_000))
    stored = file.terms[0].xorb.body
    reading = opened(hub, None, repo, "read")
    answer = reading.get(f"/v1/reconstructions/{file.hash}", Range="bytes=10000-29999").json()
    ((_, (fetch,)),) = answer["fetch_info"].items()
    url, first, last = httpx.URL(fetch["url"]), fetch["url_range"]["start"], fetch["url_range"]["end"]
    whole = httpx.get(url, headers={"Range": f"bytes={first}-{last}"})
    assert (whole.status_code, whole.content) == (206, stored[first : last + 1])
    assert whole.headers["content-range"] == f"bytes {first}-{last}/{len(stored)}"
    part = httpx.get(url, headers={"Range": f"bytes={first + 10}-{last - 10}"})
    assert part.content == stored[first + 10 : last - 9]
    for wanted in (f"bytes={first - 1}-{last}", f"bytes={first}-{last + 1}", "bytes=0-", "bytes=-1"):
        assert httpx.get(url, headers={"Range": wanted}).status_code == 403
    for name, value in (
        ("first", "0"),
        ("end", "999999"),
        ("expires", "99999999999"),
        ("signature", "0"),
        ("end", "x"),
    ):
        assert httpx.get(url.copy_set_param(name, value)).status_code == 403
    assert httpx.get(url.copy_with(query=None)).status_code == 403
    assert httpx.get(url.copy_with(path=url.path + "0")).status_code == 403


# ------------------------------------------------------------ senders that lie


def test_a_xorb_is_taken_once_and_grants_are_not_given(hub: HubProcess, token: str, repo: str):
    writing, sent = opened(hub, token, repo, "write"), xorb(os.urandom(30_000), Compression.GROUPED_LZ4)
    assert writing.send(sent).json() == {"was_inserted": True}
    assert writing.send(sent).json() == {"was_inserted": False}
    grant = httpx.post(f"{writing.address}/v1/xorb-grants/default/{sent.hash}", headers=writing.headers)
    assert grant.status_code == 404


ZEROS = lz4.frame.compress(bytes(60_000_000))
BOMB = header(len(ZEROS), 1, CHUNK_LIMIT) + ZEROS


@pytest.mark.parametrize(
    "body",
    [b"", xorb(b"other content").body, xorb(b"the content").body[:-1], header(100, 0, 11) + b"the content", BOMB],
)
def test_a_xorb_that_lies_is_refused_and_leaves_nothing(hub: HubProcess, token: str, repo: str, body: bytes):
    before, incoming = stored_bytes(hub), hub.data / "objects" / "incoming"
    answer = opened(hub, token, repo, "write").send(xorb(b"the content"), body)
    assert answer.status_code == 400
    assert "\n" not in answer.json()["error"]
    assert stored_bytes(hub) == before
    assert list(incoming.iterdir()) == []


def test_a_xorb_that_does_not_end_is_refused(hub: HubProcess, token: str, repo: str):
    writing = opened(hub, token, repo, "write")
    footer = (b"XETBLOB\0" * (1 << 17) for _ in range(70))
    answer = httpx.post(f"{writing.address}/v1/xorbs/default/{'0' * 64}", content=footer, headers=writing.headers)
    assert answer.status_code == 413
    assert list((hub.data / "objects" / "incoming").iterdir()) == []


@pytest.mark.parametrize("version", [1, 2])
def test_a_shard_that_lies_is_refused_in_the_words_of_its_version(hub: HubProcess, token: str, repo: str, version: int):
    writing, sent = opened(hub, token, repo, "write"), xorb(os.urandom(30_000))
    writing.send(sent)
    answer = writing.register(File((Term(sent),), sha256="0" * 64), version=version)
    complaint = "its content has sha256"
    if version == 1:
        assert answer.status_code == 400
        assert complaint in answer.json()["error"]
    else:
        *_, last = map(json.loads, answer.text.splitlines())
        assert (last["type"], last["retryable"]) == ("error", False)
        assert complaint in last["message"]
    assert httpx.post(f"{writing.address}/v{version}/shards", content=b"x", headers=writing.headers).status_code == 400
    good = writing.register(File((Term(sent),)), version=version)
    assert good.json() == ({"result": 1} if version == 1 else {"type": "result"})


def test_content_of_a_private_repository_cannot_be_taken_over_by_its_hashes(
    hub: HubProcess, api: HfApi, token: str, eve: str, private: str
):
    file = opened(hub, token, private, "write").upload(os.urandom(40_000))
    repo = api.create_repo(f"xet-eve/r{secrets.token_hex(4)}", token=eve).repo_id
    thief = opened(hub, eve, repo, "write")
    first_chunk = to_text(chunk_hash(file.content[:10_000]))
    assert opened(hub, token, private, "write").get(f"/v1/chunks/default/{first_chunk}").status_code == 200
    assert thief.get(f"/v1/chunks/default/{first_chunk}").status_code == 404
    assert thief.register(file).status_code == 400
    assert thief.get(f"/v1/reconstructions/{file.hash}").status_code == 404
    line = {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": file.true_sha256, "size": 40_000}}
    commit = httpx.post(
        f"{hub.endpoint}/api/models/{repo}/commit/main",
        content=json.dumps({"key": "header", "value": {"summary": "mine"}}) + "\n" + json.dumps(line),
        headers={"Authorization": f"Bearer {eve}"},
    )
    assert commit.status_code == 400
    assert "never uploaded" in commit.json()["error"]
