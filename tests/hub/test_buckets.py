"""Buckets: the unmodified client against a real hub, and what that client never sends."""

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_process import PATIENCE, HubProcess, start_hub
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import BucketBatchError, BucketNotFoundError, HfHubHTTPError
from starlette.testclient import TestClient

from lmcommons.hub.api.bucket_events import STREAM_LIMIT
from lmcommons.hub.app import create_app
from lmcommons.hub.settings import Settings

LARGE = secrets.token_bytes(300_000)
KNOWN = {"a.txt": b"first", "runs/1/model.bin": LARGE, "runs/1/done": b"", "runs.txt": b"list"}


@pytest.fixture(scope="session")
def other_token(hub: HubProcess) -> str:
    """The write token of the user `bob`."""
    return hub.add_user("bob")


@pytest.fixture(scope="session")
def other(hub: HubProcess, other_token: str) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=other_token)


@pytest.fixture(scope="session")
def anonymous(hub: HubProcess) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


@pytest.fixture
def new_bucket(api: HfApi) -> Callable[..., str]:
    """Makes an empty bucket of `ann` with a new name."""
    return lambda **more: api.create_bucket(f"ann/b{secrets.token_hex(6)}", **more).bucket_id


@pytest.fixture(scope="session")
def filled(api: HfApi) -> str:
    """A public bucket of `ann` that holds KNOWN; not to be changed."""
    bucket_id = api.create_bucket("ann/known").bucket_id
    api.batch_bucket_files(bucket_id, add=[(content, path) for path, content in KNOWN.items()])
    return bucket_id


@pytest.fixture(scope="session")
def secret(api: HfApi) -> str:
    """A private bucket of `ann` with one file."""
    bucket_id = api.create_bucket("ann/secret", private=True).bucket_id
    api.batch_bucket_files(bucket_id, add=[(b"secret", "file.txt")])
    return bucket_id


@pytest.fixture
def http(hub: HubProcess, token: str) -> Iterator[httpx.Client]:
    """Raw requests as `ann`."""
    with httpx.Client(base_url=hub.endpoint, headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


def paths(api: HfApi, bucket_id: str) -> set[str]:
    return {file.path for file in api.list_bucket_tree(bucket_id)}


def content(http: httpx.Client, bucket_id: str, path: str) -> bytes:
    return http.get(f"/buckets/{bucket_id}/resolve/{path}").raise_for_status().content


def hash_of(api: HfApi, bucket_id: str, path: str) -> str:
    (file,) = api.get_bucket_paths_info(bucket_id, [path])
    return file.xet_hash


def send(http: httpx.Client, bucket_id: str, *lines: Any) -> httpx.Response:
    """A batch: dicts as JSON, texts as they are."""
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return http.post(f"/api/buckets/{bucket_id}/batch", content=body.encode("utf-8", "surrogatepass"))


def add(path: str, xet_hash: str, **more: Any) -> dict[str, Any]:
    return {"type": "addFile", "path": path, "xetHash": xet_hash, **more}


# ------------------------------------------------------------ buckets


def test_a_bucket_is_made_once_and_its_address_is_told(hub: HubProcess, api: HfApi, new_bucket: Callable[..., str]):
    bucket_id = new_bucket()
    info = api.bucket_info(bucket_id)
    assert (info.id, info.private, info.size, info.total_files) == (bucket_id, False, 0, 0)
    with pytest.raises(HfHubHTTPError, match=f"You already created this bucket: {bucket_id}") as refused:
        api.create_bucket(bucket_id)
    assert refused.value.response.status_code == 409
    assert api.create_bucket(bucket_id, exist_ok=True).url == f"{hub.endpoint}/buckets/{bucket_id}"
    name = bucket_id.partition("/")[2].upper()
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_bucket(name)  # in the user's namespace; names differ by more than case


def test_names_and_wishes_that_cannot_be_are_refused(http: httpx.Client):
    for name in ("a--b", "x" * 97, "-a", "a.git"):
        answer = http.post(f"/api/buckets/ann/{name}", json={})
        assert (answer.status_code, "Bucket name" in answer.json()["error"]) == (400, True)
    for body in ({"visibility": "protected"}, {"private": "yes"}, {"resourceGroupId": "1"}):
        assert http.post(f"/api/buckets/ann/b{secrets.token_hex(4)}", json=body).status_code == 400
    assert http.post("/api/buckets/nobody-of-this-name/b", json={}).status_code == 404


def test_only_who_may_create_in_a_namespace_makes_buckets_there(api: HfApi, other: HfApi, anonymous: HfApi):
    for somebody, status in ((other, 403), (anonymous, 401)):
        with pytest.raises(HfHubHTTPError) as refused:
            somebody.create_bucket("ann/mine")
        assert refused.value.response.status_code == status
    with pytest.raises(HfHubHTTPError, match="must be signed in to have buckets"):
        list(anonymous.list_buckets())


def test_buckets_of_an_organisation_are_private_when_it_says_so(hub: HubProcess, api: HfApi, other: HfApi, filled: str):
    hub.add_organisation("lab", "--member", "ann:admin", "--member", "bob:contributor", "--private-by-default")
    assert api.bucket_info(api.create_bucket("lab/ann-made").bucket_id).private
    other.create_bucket("lab/bob-made", private=False)
    other.delete_bucket("lab/bob-made")
    with pytest.raises(HfHubHTTPError, match="bob may not manage"):
        other.delete_bucket("lab/ann-made")
    assert [bucket.id for bucket in other.list_buckets("lab")] == ["lab/ann-made"]


def test_a_private_bucket_cannot_be_told_from_a_missing_one(
    hub: HubProcess, other_token: str, secret: str, http: httpx.Client
):
    requests = [
        ("GET", "/api/buckets/{}"),
        ("DELETE", "/api/buckets/{}"),
        ("GET", "/api/buckets/{}/tree"),
        ("POST", "/api/buckets/{}/batch"),
        ("GET", "/api/buckets/{}/xet-read-token"),
        ("GET", "/api/buckets/{}/xet-write-token"),
        ("GET", "/api/buckets/{}/events"),
        ("HEAD", "/buckets/{}/resolve/file.txt"),
    ]
    for headers in ({"Authorization": f"Bearer {other_token}"}, {}):
        for method, address in requests:
            answers = [
                httpx.request(method, hub.endpoint + address.format(name), headers=headers)
                for name in (secret, "ann/absent")
            ]
            assert answers[0].status_code == answers[1].status_code == (404 if headers else 401)
            assert answers[0].content == answers[1].content
            assert answers[0].headers["X-Error-Code"] == "RepoNotFound"
    assert http.get(f"/api/buckets/{secret}").status_code == 200


def test_lists_show_what_may_be_seen_in_pages(
    api: HfApi, other: HfApi, anonymous: HfApi, secret: str, filled: str, http: httpx.Client
):
    own = [bucket.id for bucket in api.list_buckets()]
    assert own == sorted(own)
    assert {secret, filled} <= set(own)
    for stranger in (other, anonymous):
        seen = {bucket.id for bucket in stranger.list_buckets("ann")}
        assert (filled in seen, secret in seen) == (True, False)
    assert [bucket.id for bucket in api.list_buckets(search="SECR")] == [secret]
    assert list(api.list_buckets(search="100%_")) == []
    found, address = [], "/api/buckets/ann?limit=1"
    while address:
        answer = http.get(address).raise_for_status()
        found += [bucket["id"] for bucket in answer.json()]
        address = answer.links.get("next", {}).get("url")
    assert found == own


def test_buckets_count_in_what_an_account_stores(api: HfApi, other: HfApi, filled: str, secret: str):
    stored = {item.id: (item.type, item.visibility, item.storage) for item in api.list_user_repos()}
    assert stored[filled] == ("bucket", "public", sum(map(len, KNOWN.values())))
    assert stored[secret] == ("bucket", "private", len(b"secret"))
    assert filled not in {item.id for item in other.list_user_repos()}


def test_settings_hide_and_show(api: HfApi, other: HfApi, new_bucket: Callable[..., str]):
    bucket_id = new_bucket()
    with pytest.raises(HfHubHTTPError, match="bob may not manage"):
        other.update_bucket_settings(bucket_id, private=True)
    api.update_bucket_settings(bucket_id, private=True)
    with pytest.raises(BucketNotFoundError):
        other.bucket_info(bucket_id)
    api.update_bucket_settings(bucket_id, private=False)
    assert not other.bucket_info(bucket_id).private


def test_a_former_name_leads_to_the_present_one_until_it_is_used_again(
    api: HfApi, other: HfApi, new_bucket: Callable[..., str], filled: str
):
    former = new_bucket()
    api.batch_bucket_files(former, add=[(b"kept", "a.txt")])
    current = f"{former}-moved"
    api.move_bucket(former, current)
    assert api.bucket_info(former).id == current
    assert paths(other, former) == {"a.txt"}
    api.batch_bucket_files(former, add=[(b"by its former name", "b.txt")])
    assert paths(api, current) == {"a.txt", "b.txt"}
    with pytest.raises(HfHubHTTPError, match=f"A bucket called {filled} already exists"):
        api.move_bucket(current, filled)
    with pytest.raises(HfHubHTTPError, match="bob may not manage"):
        other.move_bucket(current, "bob/taken")
    with pytest.raises(HfHubHTTPError, match="may not create in bob"):
        api.move_bucket(current, "bob/given")
    api.create_bucket(former)
    assert paths(api, former) == set()


def test_a_deleted_bucket_is_gone_with_its_files(api: HfApi, new_bucket: Callable[..., str]):
    bucket_id = new_bucket()
    api.batch_bucket_files(bucket_id, add=[(b"x", "a.txt")])
    api.delete_bucket(bucket_id)
    with pytest.raises(BucketNotFoundError):
        api.delete_bucket(bucket_id)
    api.delete_bucket(bucket_id, missing_ok=True)
    api.create_bucket(bucket_id)
    assert paths(api, bucket_id) == set()


# ------------------------------------------------------------ files


def test_files_come_back_as_they_were_sent(api: HfApi, filled: str, http: httpx.Client, tmp_path: Path):
    assert paths(api, filled) == set(KNOWN)
    info = api.bucket_info(filled)
    assert (info.size, info.total_files) == (sum(map(len, KNOWN.values())), len(KNOWN))
    api.download_bucket_files(filled, [(path, tmp_path / path) for path in KNOWN])
    for path, expected in KNOWN.items():
        assert (tmp_path / path).read_bytes() == expected
        assert content(http, filled, path) == expected


def test_folders_are_what_paths_have_in_common(api: HfApi, filled: str, http: httpx.Client):
    top = [(entry.type, entry.path) for entry in api.list_bucket_tree(filled, recursive=False)]
    assert top == [("file", "a.txt"), ("file", "runs.txt"), ("directory", "runs")]
    inside = [(entry.type, entry.path) for entry in api.list_bucket_tree(filled, prefix="runs", recursive=False)]
    assert inside == [("file", "runs.txt"), ("directory", "runs/1")]
    pages, address = [], f"/api/buckets/{filled}/tree?limit=2&recursive=true"
    while address:
        answer = http.get(address).raise_for_status()
        pages.append([entry["path"] for entry in answer.json()])
        address = answer.links.get("next", {}).get("url")
    assert pages == [["a.txt", "runs.txt"], ["runs/1/done", "runs/1/model.bin"]]
    for query in ("cursor=!", "cursor=AA==", "limit=0"):
        assert http.get(f"/api/buckets/{filled}/tree?{query}").status_code == 400


def test_paths_are_asked_for_many_at_a_time(api: HfApi, filled: str, http: httpx.Client):
    found = api.get_bucket_paths_info(filled, ["runs", "runs.txt", "absent", "", "a.txt", "../a.txt"])
    assert [file.path for file in found] == ["runs.txt", "a.txt"]
    address = f"/api/buckets/{filled}/paths-info"
    for body in (
        {"paths": ["a"] * 1001},
        {"paths": [1]},
        {"paths": "a"},
        {},
        {"paths": ["a\0"]},
        {"paths": ["\ud800"]},
    ):
        assert http.post(address, content=json.dumps(body)).status_code == 400


def test_a_file_says_what_clients_and_caches_ask(filled: str, http: httpx.Client, api: HfApi):
    address = f"/buckets/{filled}/resolve/runs%2F1%2Fmodel.bin"
    head = http.head(address)
    assert head.headers["X-Xet-Hash"] == hash_of(api, filled, "runs/1/model.bin")
    assert head.links["xet-auth"]["url"].endswith(f"/api/buckets/{filled}/xet-read-token")
    assert head.headers["Content-Length"] == head.headers["X-Linked-Size"] == str(len(LARGE))
    assert abs(datetime.now(UTC) - parsedate_to_datetime(head.headers["Last-Modified"])) < timedelta(hours=1)
    part = http.get(address, headers={"Range": "bytes=100000-100099"})
    assert (part.status_code, part.content) == (206, LARGE[100_000:100_100])
    assert part.headers["Content-Range"] == f"bytes 100000-100099/{len(LARGE)}"
    assert http.get(address, headers={"Range": "bytes=-5"}).content == LARGE[-5:]
    assert http.get(address, headers={"Range": f"bytes={len(LARGE)}-"}).status_code == 416
    assert http.get(address, headers={"If-None-Match": head.headers["ETag"]}).status_code == 304
    absent = http.get(f"/buckets/{filled}/resolve/runs")
    assert (absent.status_code, absent.headers["X-Error-Code"]) == (404, "EntryNotFound")


def test_a_file_never_runs_in_the_reader_s_browser(api: HfApi, new_bucket: Callable[..., str], http: httpx.Client):
    bucket_id = new_bucket()
    api.batch_bucket_files(bucket_id, add=[(b"<script>alert(1)</script>", "page.html"), (b"x", "picture.png")])
    xet_hash = hash_of(api, bucket_id, "page.html")
    disguises = {"disguised": "text/html", "unknown.ext": "application/x-checkpoint"}
    send(http, bucket_id, *(add(path, xet_hash, contentType=kind) for path, kind in disguises.items()))
    for path, kind in (
        ("page.html", "text/plain; charset=utf-8"),
        ("disguised", "text/plain; charset=utf-8"),
        ("picture.png", "image/png"),
        ("unknown.ext", "application/x-checkpoint"),
    ):
        answer = http.get(f"/buckets/{bucket_id}/resolve/{path}")
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_a_folder_is_synchronised_both_ways(
    hub: HubProcess, token: str, new_bucket: Callable[..., str], tmp_path: Path
):
    source, target, bucket_id = tmp_path / "source", tmp_path / "target", new_bucket()
    for number in range(3):
        path = source / f"step-{number}" / "weights.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(LARGE[number:])
    target.mkdir()

    def hf(*arguments: object) -> str:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HOME": str(tmp_path / "home"), "PATH": ""}
        command = [sys.executable, "-c", "from huggingface_hub.cli.hf import main; main()", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert "Sync completed" in hf("buckets", "sync", source, f"hf://buckets/{bucket_id}/run")
    assert "Nothing to sync" in hf("buckets", "sync", source, f"hf://buckets/{bucket_id}/run")
    hf("buckets", "sync", f"hf://buckets/{bucket_id}/run", target)
    assert {path.relative_to(target): path.read_bytes() for path in target.rglob("*.bin")} == {
        path.relative_to(source): path.read_bytes() for path in source.rglob("*.bin")
    }
    (source / "step-0" / "weights.bin").unlink()
    hf("buckets", "sync", source, f"hf://buckets/{bucket_id}/run", "--delete")
    listed = hf("buckets", "list", bucket_id, "-R", "--quiet").split()
    assert listed == ["run/step-1/weights.bin", "run/step-2/weights.bin"]


def test_the_file_system_reads_and_writes(hub: HubProcess, token: str, new_bucket: Callable[..., str]):
    fs = HfFileSystem(endpoint=hub.endpoint, token=token, skip_instance_cache=True)
    root = f"buckets/{new_bucket()}"
    with fs.open(f"{root}/logs/train.jsonl", "w") as file:
        file.write('{"loss": 2.5}\n')
    fs.cp_file(f"{root}/logs/train.jsonl", f"{root}/logs/copy.jsonl")
    fs.rm(f"{root}/logs/train.jsonl")
    assert fs.find(root) == [f"{root}/logs/copy.jsonl"]
    assert fs.read_text(f"{root}/logs/copy.jsonl") == '{"loss": 2.5}\n'


# ------------------------------------------------------------ batches


def test_operations_are_applied_in_order_and_each_for_itself(
    api: HfApi, new_bucket: Callable[..., str], http: httpx.Client, filled: str
):
    bucket_id = new_bucket()
    api.batch_bucket_files(bucket_id, add=[(b"one", "1"), (b"three", "3")])
    one, three = hash_of(api, bucket_id, "1"), hash_of(api, bucket_id, "3")
    answer = send(
        http,
        bucket_id,
        add("moved", one, mtime=1_700_000_000_123),
        {"type": "deleteFile", "path": "1"},
        add("twice", one),
        add("twice", three),
        add("gone", one),
        {"type": "deleteFile", "path": "gone"},
        {"type": "deleteFile", "path": "never/there"},
        add("unknown", "0" * 63 + "1"),
    )
    assert answer.status_code == 200
    assert (answer.json()["processed"], answer.json()["succeeded"]) == (8, 7)
    (failure,) = answer.json()["failed"]
    assert failure["path"] == "unknown"
    assert "There is no file with the Xet hash 000" in failure["error"]
    assert {file.path: file.size for file in api.list_bucket_tree(bucket_id)} == {"3": 5, "moved": 3, "twice": 5}
    (moved,) = api.get_bucket_paths_info(bucket_id, ["moved"])
    assert moved.mtime == datetime.fromtimestamp(1_700_000_000.123, UTC)
    info = api.bucket_info(bucket_id)
    assert (info.size, info.total_files) == (13, 3)


def test_knowing_a_hash_gives_nothing(
    api: HfApi, other: HfApi, secret: str, filled: str, hub: HubProcess, other_token: str
):
    mine = other.create_bucket(f"bob/b{secrets.token_hex(6)}").bucket_id
    hashes = {secret: hash_of(api, secret, "file.txt"), filled: hash_of(api, filled, "a.txt")}
    with httpx.Client(base_url=hub.endpoint, headers={"Authorization": f"Bearer {other_token}"}) as as_bob:
        for xet_hash in hashes.values():
            refused = send(as_bob, mine, add("taken", xet_hash))
            assert (refused.status_code, len(refused.json()["failed"])) == (422, 1)
    with pytest.raises(BucketBatchError, match="bucket ann/secret to copy from was not found") as hidden:
        other.batch_bucket_files(mine, copy=[("bucket", secret, hashes[secret], "taken")])
    with pytest.raises(BucketBatchError, match="bucket ann/absent to copy from was not found"):
        other.batch_bucket_files(mine, copy=[("bucket", "ann/absent", hashes[secret], "taken")])
    assert hidden.value.failures[0]["path"] == "taken"
    with pytest.raises(BucketBatchError, match="There is no file with the Xet hash"):
        other.batch_bucket_files(mine, copy=[("bucket", filled, hashes[secret], "taken")])
    assert paths(other, mine) == set()
    other.batch_bucket_files(mine, copy=[("bucket", filled, hashes[filled], "copied")])
    assert content(httpx.Client(base_url=hub.endpoint), mine, "copied") == b"first"


def test_files_of_repositories_are_copied_by_those_who_may_read_them(
    hub: HubProcess, token: str, other: HfApi, tmp_path: Path
):
    script = """
import secrets, sys
from huggingface_hub import HfApi
api = HfApi()
for name, private in (("open", False), ("closed", True)):
    repo = api.create_repo(f"ann/{sys.argv[1]}-{name}", private=private).repo_id
    api.upload_file(path_or_fileobj=secrets.token_bytes(200_000), path_in_repo="model.safetensors", repo_id=repo)
    (file,) = api.get_paths_info(repo, ["model.safetensors"])
    print(repo, file.xet_hash, file.lfs.sha256)
"""
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script, f"r{secrets.token_hex(6)}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (public, xet_hash, sha256), (private, hidden, _) = (line.split() for line in done.stdout.splitlines())
    mine = other.create_bucket(f"bob/b{secrets.token_hex(6)}").bucket_id
    other.batch_bucket_files(mine, copy=[("model", public, xet_hash, "model.safetensors")])
    other.download_bucket_files(mine, [("model.safetensors", tmp_path / "copy")])
    etag = httpx.head(f"{hub.endpoint}/buckets/{mine}/resolve/model.safetensors").headers["ETag"]
    assert etag == f'"{sha256}"'
    assert (tmp_path / "copy").stat().st_size == 200_000
    for source in ((private, hidden), (public, hidden)):
        with pytest.raises(BucketBatchError):
            other.batch_bucket_files(mine, copy=[("model", *source, "taken")])
    with pytest.raises(BucketBatchError, match="Nothing of the type 'paper' can be copied from"):
        other.batch_bucket_files(mine, copy=[("paper", public, xet_hash, "taken")])
    assert paths(other, mine) == {"model.safetensors"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Line 1: not JSON"),
        ("[" * 100_000, "Line 1: not JSON"),
        ("[]", "Line 1: must be a JSON object"),
        ({"type": "addFile", "xetHash": "0" * 64}, "'path' must be a string"),
        (add("a", "f" * 63), "a: `xetHash` must be 64"),
        (add("a", "F" * 64), "a: `xetHash` must be 64"),
        (add("a", "0" * 64, mtime=10**20), "`mtime` must be milliseconds"),
        (add("a", "0" * 64, mtime=1.5), "'mtime' must be a whole number"),
        (add("a", "0" * 64, contentType="text/html; x=\r\ny"), "`contentType` must be a type"),
        ({"type": "link", "path": "a"}, "unknown type 'link'"),
        ({**add("a", "0" * 64), "type": "copyFile", "sourceRepoType": "model", "sourceRepoId": "x"}, "namespace/name"),
        ('{"type": "deleteFile", "path": "\\ud800"}', "not valid Unicode"),
    ],
)
def test_a_batch_that_cannot_be_read_changes_nothing(filled: str, http: httpx.Client, line: Any, message: str):
    answer = send(http, filled, line, {"type": "deleteFile", "path": "a.txt"})
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert content(http, filled, "a.txt") == b"first"


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", ".git/config", "a\0b", "..\\b", "x" * 256, "x/" * 600 + "x"]
)
def test_paths_that_some_system_cannot_hold_are_refused(api: HfApi, filled: str, http: httpx.Client, path: str):
    answer = send(http, filled, add(path, hash_of(api, filled, "a.txt")))
    assert answer.status_code == 422
    assert answer.json()["failed"][0]["error"].startswith("path ")
    assert paths(api, filled) == set(KNOWN)


def test_a_batch_has_limits(filled: str, http: httpx.Client):
    assert send(http, filled).json()["processed"] == 0
    many = '{"type": "deleteFile", "path": "x"}\n' * 10_001
    assert send(http, filled, many).status_code == 413
    assert send(http, filled, " " * (17 << 20)).status_code == 413


def test_only_who_may_write_changes_a_bucket(hub: HubProcess, other: HfApi, anonymous: HfApi, filled: str):
    reader = HfApi(endpoint=hub.endpoint, token=hub.add_token("ann", "read"))
    for somebody, status in ((other, 403), (reader, 403), (anonymous, 401)):
        with pytest.raises(HfHubHTTPError) as refused:
            somebody.batch_bucket_files(filled, delete=["a.txt"])
        assert refused.value.response.status_code == status


def test_a_quota_ends_what_can_be_put(hub: HubProcess, filled: str):
    poor = HfApi(endpoint=hub.endpoint, token=hub.add_user("poor"))
    bucket_id = poor.create_bucket("poor/small").bucket_id
    poor.batch_bucket_files(bucket_id, add=[(LARGE[:1000], "a")])
    hub.command("user", "quota", "poor", "1500")
    with pytest.raises(HfHubHTTPError, match="The quota of poor is 1,500 bytes, 1,000 are used"):
        poor.batch_bucket_files(bucket_id, copy=[("bucket", filled, hash_of(poor, filled, "runs/1/model.bin"), "b")])
    poor.batch_bucket_files(bucket_id, copy=[("bucket", filled, hash_of(poor, filled, "a.txt"), "a")])  # smaller
    assert poor.bucket_info(bucket_id).size == 5


# ------------------------------------------------------------ changes


def follow(
    http: httpx.Client, bucket_id: str, until: Callable[[str, dict[str, Any]], bool], **query: str
) -> list[tuple[str, Any]]:
    """The events of a bucket up to the first that `until` is true for."""
    found, kind = [], ""
    with http.stream("GET", f"/api/buckets/{bucket_id}/events", params=query) as stream:
        stream.raise_for_status()
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                found.append((kind, json.loads(line[6:])))
                if until(*found[-1]):
                    return found
    return found


def test_changes_are_told_as_they_happen_and_again_after_a_cursor(
    api: HfApi, new_bucket: Callable[..., str], http: httpx.Client
):
    bucket_id = new_bucket()
    before = http.get(f"/api/buckets/{bucket_id}").json()["updatedAt"]

    def change(kind: str, data: dict[str, Any]) -> bool:
        if kind == "ready":
            api.batch_bucket_files(bucket_id, add=[(b"one", "1"), (b"two", "2")])
        return kind == "changes"

    (_, ready), (_, told) = follow(http, bucket_id, change)
    assert ready == {"cursor": "0"}
    assert [(item["op"], item["path"], item["size"]) for item in told["changes"]] == [("add", "1", 3), ("add", "2", 3)]
    assert told["changes"][0]["xetHash"] == hash_of(api, bucket_id, "1")
    assert {"uploadedAt", "mtime"} <= told["changes"][0].keys()
    api.batch_bucket_files(bucket_id, add=[(b"more", "2")], delete=["1"])
    (_, later), _ = follow(http, bucket_id, lambda kind, _: kind == "ready", cursor=told["cursor"])
    assert [(item["op"], item["path"]) for item in later["changes"]] == [("update", "2"), ("delete", "1")]
    (_, everything), _ = follow(http, bucket_id, lambda kind, _: kind == "ready", since=before)
    assert len(everything["changes"]) == 4
    for query in ("cursor=5", "cursor=x", "cursor=-1", "since=yesterday"):
        assert http.get(f"/api/buckets/{bucket_id}/events?{query}").status_code == 400


def test_who_may_no_longer_see_a_bucket_no_longer_follows_it(
    hub: HubProcess, api: HfApi, other_token: str, new_bucket: Callable[..., str]
):
    bucket_id = new_bucket()

    def hide(kind: str, data: dict[str, Any]) -> bool:
        if kind == "ready":
            api.update_bucket_settings(bucket_id, private=True)
            api.batch_bucket_files(bucket_id, add=[(b"x", "hidden.txt")])
        return False

    with httpx.Client(base_url=hub.endpoint, headers={"Authorization": f"Bearer {other_token}"}) as as_bob:
        began = time.monotonic()
        events = follow(as_bob, bucket_id, hide)
    assert [kind for kind, _ in events] == ["ready", "reconnect"]
    assert time.monotonic() - began < STREAM_LIMIT / 5


def test_followers_past_the_limit_are_sent_away_for_a_while(tmp_path: Path):
    app = create_app(Settings.make(tmp_path))
    app.state.bucket_followers = asyncio.Semaphore(0)
    with TestClient(app) as client:
        answer = client.get("/api/buckets/ann/logs/events")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")


def test_a_hub_that_stops_ends_the_streams_of_followers(tmp_path: Path):
    with start_hub(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.add_user("ann"))
        bucket_id = api.create_bucket("logs").bucket_id

        def stop(kind: str, data: dict[str, Any]) -> bool:
            if kind == "ready":
                hub.process.terminate()
            return False

        with httpx.Client(base_url=hub.endpoint) as anybody:
            assert [kind for kind, _ in follow(anybody, bucket_id, stop)] == ["ready", "reconnect"]
        assert hub.process.wait(PATIENCE) == 0
        assert "Traceback" not in hub.log.read_text()
