"""What nobody means well, at every door: each gets a clear answer, the hub stays up, and nothing is stored.

`test_schemathesis.py` sends what is random, `test_upload.py`, `test_xet_formats.py`, `test_push.py` and others what is
hostile to one door alone; here the same hostile values go to all doors.
"""

# ruff: noqa: E501 - tables of requests, one a line

import base64
import contextlib
import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import stack
from hub_process import PATIENCE, HubProcess, start_hub

from lmcommons.hub.api.connection import HEADER_LIMIT

ADDRESS_LIMIT = 10_000  # bytes of a value that goes into an address
STALL = 2  # seconds that a body may pause at this hub
REPO = "/api/models/ada/m"
LFS = {"Content-Type": "application/vnd.git-lfs+json"}

# What leaves a folder, is not the caller's, ends a text early, or looks like something else.
PATHS = {
    "parent": "../x",
    "inner parent": "a/../../x",
    "absolute": "/etc/passwd",
    "git": ".git/config",
    "git as HFS+ reads it": ".g\u200cit/config",
    "git as NTFS reads it": "GIT~1/config",
    "NUL": "a\0b",
    "line break": "a\r\nX-Injected: yes",
    "long": "x" * 300,
    "deep": "a/" * 600 + "b",
    "backslash": "..\\..\\x",
    "empty": "",
}
NAMES = PATHS | {
    "confusable": "аda/m",
    "full width": "\uff41\uff44\uff41/m",
    "right to left": "ada/m\u202e",
    "half a character": "\ud800",
    "huge": "x" * 100_000,
    "quoted": "%2e%2e%2fx",
    "HTML": "<script>alert(1)</script>",
    "SQL": "x' OR '1'='1",
    "template": "{{ 7*7 }}${7*7}",
}
VALUES: dict[str, Any] = NAMES | {
    "number": 7,
    "huge number": 2**70,
    "negative": -1,
    "true": True,
    "array": ["x"],
    "object": {"x": "y"},
    "nested": json.loads("[" * 500 + "]" * 500),
}


@dataclass(frozen=True)
class Door:
    """A request with a place for a hostile value."""

    method: str
    address: str  # `{}` is the place, where the body has none
    body: Callable[[Any], Any] | None = None
    form: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.address}"

    def send(self, client: httpx.Client, value: Any) -> httpx.Response:
        url, headers, content = self.address, {}, None
        if self.body is None:
            text = str(value).encode(errors="surrogatepass")[:ADDRESS_LIMIT]
            url = url.replace("{}", quote(text, safe=""))
        elif self.form:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            found = {key: str(item).encode(errors="surrogatepass") for key, item in self.body(value).items()}
            content = "&".join(f"{key}={quote(item, safe='')}" for key, item in found.items()).encode()
        else:
            found = self.body(value)
            lines = found if isinstance(found, tuple) else (found,)
            content = b"\n".join(json.dumps(line).encode() for line in lines)
            headers = LFS if "/info/lfs/" in url else {"Content-Type": "application/json"}
        return client.request(self.method, url, content=content, headers=headers)


def commit_with(key: str, **fields: Any) -> tuple[dict[str, Any], ...]:
    header = {"key": "header", "value": {"summary": "title"}}
    value = {"path": "a.txt", "content": "eA=="} if key == "file" else {}
    return (header, {"key": key, "value": {**value, **fields}})


FIELDS = [
    Door("POST", "/api/repos/create", lambda v: {"name": v}),
    Door("POST", "/api/repos/create", lambda v: {"name": "x1", "organization": v}),
    Door("POST", "/api/repos/create", lambda v: {"name": "x2", "type": v}),
    Door("POST", "/api/repos/create", lambda v: {"name": "x3", "type": "space", "sdk": v}),
    Door("POST", "/api/repos/create", lambda v: {"name": "x4", "visibility": v}),
    Door("POST", "/api/repos/move", lambda v: {"fromRepo": v, "toRepo": "ada/new"}),
    Door("POST", "/api/repos/move", lambda v: {"fromRepo": "ada/m", "toRepo": v}),
    Door("POST", "/api/repos/move", lambda v: {"fromRepo": "ada/b", "toRepo": v, "type": "bucket"}),
    Door("DELETE", "/api/repos/delete", lambda v: {"name": v}),
    Door("DELETE", "/api/repos/delete", lambda v: {"name": "ada/none", "type": v}),
    Door("POST", f"{REPO}/duplicate", lambda v: {"repository": v}),
    Door("PUT", f"{REPO}/settings", lambda v: {"gated": v if v is not True else "x"}),
    Door("PUT", f"{REPO}/settings", lambda v: {"visibility": v}),
    Door("PUT", f"{REPO}/settings", lambda v: {"defaultBranch": v or "x"}),
    Door("POST", f"{REPO}/branch/{{}}"),
    Door("POST", f"{REPO}/branch/new", lambda v: {"startingPoint": v or "x"}),
    Door("DELETE", f"{REPO}/branch/{{}}"),
    Door("POST", f"{REPO}/tag/main", lambda v: {"tag": v}),
    Door("POST", f"{REPO}/tag/{{}}", None),
    Door("DELETE", f"{REPO}/tag/{{}}"),
    Door("POST", f"{REPO}/super-squash/{{}}"),
    Door("POST", f"{REPO}/preupload/main", lambda v: {"files": [{"path": v, "size": 1}]}),
    Door("POST", f"{REPO}/preupload/main", lambda v: {"files": [{"path": "a", "size": v if v != 7 else "7"}]}),
    Door("POST", f"{REPO}/preupload/{{}}"),
    Door("POST", f"{REPO}/commit/main", lambda v: commit_with("file", path=v)),
    Door("POST", f"{REPO}/commit/main", lambda v: commit_with("file", content=v if v != "" else "?")),
    Door("POST", f"{REPO}/commit/main", lambda v: commit_with("deletedFile", path=v)),
    Door("POST", f"{REPO}/commit/main", lambda v: commit_with("deletedFolder", path=v)),
    Door("POST", f"{REPO}/commit/main", lambda v: commit_with("lfsFile", path=v, oid="0" * 64, size=1)),
    Door("POST", f"{REPO}/commit/main", lambda v: commit_with("lfsFile", path="a", oid=v, size=1)),
    Door("POST", f"{REPO}/commit/main", lambda v: commit_with("lfsFile", path="a", oid="0" * 64, size=v)),
    Door("POST", f"{REPO}/commit/main", lambda v: commit_with("copyFile", path=v, srcPath="README.md")),
    Door("POST", f"{REPO}/commit/main", lambda v: commit_with("copyFile", path="b", srcPath=v)),
    Door(
        "POST",
        f"{REPO}/commit/main",
        lambda v: commit_with("copyFile", path="b", srcPath="README.md", srcRevision=v or "x"),
    ),
    Door("POST", f"{REPO}/commit/main", lambda v: ({"key": "header", "value": {"summary": "x", "parentCommit": v or "x"}},)),
    Door("POST", f"{REPO}/commit/{{}}"),
    Door("POST", f"{REPO}/lfs-files/batch", lambda v: {"deletions": {"sha": [v]}}),
    Door("POST", f"{REPO}/lfs-files/duplicate", lambda v: {"target": v, "source": v}),
    Door("POST", f"{REPO}/discussions/1/status", lambda v: {"status": v}),
    Door("POST", f"{REPO}/discussions/1/comment/{{}}/edit"),
    Door("POST", f"{REPO}/discussions/1/comment/{{}}/hide"),
    Door("POST", f"{REPO}/discussions/{{}}/comment"),
    Door("POST", f"{REPO}/user-access-request/grant", lambda v: {"user": v}),
    Door("POST", f"{REPO}/user-access-request/handle", lambda v: {"user": v, "status": "accepted"}),
    Door("POST", f"{REPO}/user-access-request/handle", lambda v: {"user": "bob", "status": v}),
    Door("POST", f"{REPO}/user-access-request/handle", lambda v: {"requestId": v, "status": "accepted"}),
    Door("GET", f"{REPO}/user-access-request/{{}}"),
    Door("POST", "/api/collections", lambda v: {"namespace": v, "title": "t"}),
    Door("POST", "/api/collections/ada/none/items", lambda v: {"item": {"type": "model", "id": v}}),
    Door("PATCH", "/api/collections/ada/{}"),
    Door("POST", "/api/settings/webhooks", lambda v: {"url": v, "watched": [{"type": "user", "name": "ada"}]}),
    Door("POST", "/api/settings/webhooks", lambda v: {"url": "https://example.org", "watched": [{"type": v, "name": "ada"}]}),
    Door("POST", "/api/settings/webhooks", lambda v: {"url": "https://example.org", "watched": [{"type": "user", "name": v}]}),
    Door(
        "POST",
        "/api/settings/webhooks",
        lambda v: {"url": "https://example.org", "watched": [{"type": "user", "name": "ada"}], "domains": [v]},
    ),
    Door("POST", "/api/settings/webhooks/{}"),
    Door("POST", "/api/buckets/ada/{}", None),
    Door("POST", "/api/buckets/ada/b/batch", lambda v: {"type": "addFile", "path": v, "xetHash": "0" * 64}),
    Door("POST", "/api/buckets/ada/b/batch", lambda v: {"type": "addFile", "path": "a", "xetHash": v}),
    Door("POST", "/api/buckets/ada/b/batch", lambda v: {"type": v, "path": "a"}),
    Door("POST", "/api/buckets/ada/b/batch", lambda v: {"type": "deleteFile", "path": v}),
    Door(
        "POST",
        "/api/buckets/ada/b/batch",
        lambda v: {"type": "copyFile", "path": "a", "xetHash": "0" * 64, "sourceRepoType": "model", "sourceRepoId": v},
    ),
    Door(
        "POST",
        "/api/buckets/ada/b/batch",
        lambda v: {"type": "addFile", "path": "a", "xetHash": "0" * 64, "contentType": v or "x"},
    ),
    Door("POST", "/ada/m.git/info/lfs/objects/batch", lambda v: {"operation": v, "objects": []}),
    Door("POST", "/ada/m.git/info/lfs/objects/batch", lambda v: {"operation": "upload", "objects": [{"oid": v, "size": 1}]}),
    Door(
        "POST",
        "/ada/m.git/info/lfs/objects/batch",
        lambda v: {"operation": "upload", "objects": [{"oid": "0" * 64, "size": v if v != 7 else "7"}]},
    ),
    Door("POST", "/ada/m.git/info/lfs/locks", lambda v: {"path": v}),
    Door("POST", "/ada/m.git/info/lfs/locks/{}/unlock"),
    Door("POST", "/ada/m.git/info/lfs/locks/verify", lambda v: {"cursor": v or "x"}),
    Door("POST", "/oauth/token", lambda v: {"grant_type": v}, form=True),
    Door("POST", "/oauth/token", lambda v: {"grant_type": "refresh_token", "refresh_token": v}, form=True),
    Door("POST", "/join", lambda v: {"name": v, "password": "a long password"}, form=True),
    Door("POST", "/settings/tokens", lambda v: {"name": v}, form=True),
    Door("POST", "/settings/tokens/{}/revoke"),
    Door("POST", "/settings/password", lambda v: {"present": v}, form=True),
    Door("POST", "/oauth/device/answer", lambda v: {"user_code": v}, form=True),
    Door("POST", "/ada/m/ask-access", lambda v: {"x": v}, form=True),
    Door("PUT", "/api/lfs/{}"),
    Door("GET", "/api/lfs/{}"),
    Door("POST", "/xet/x/v1/xorbs/default/{}"),
    Door("GET", "/xet/x/v1/chunks/default/{}"),
    Door("GET", "/xet/x/v1/reconstructions/{}"),
    Door("GET", "/xet/xorbs/{}"),
    Door("GET", f"{REPO}/xet-read-token/{{}}"),
]  # fmt: skip

ADDRESSES = [
    "/{}/m", "/ada/{}", "/api/models/ada/{}", "/api/models/{}/m", "/api/models/ada/m/revision/{}", "/api/models/{}",
    "/ada/m/resolve/main/{}", "/ada/m/resolve/{}/README.md", "/ada/m/raw/main/{}", "/ada/m/blob/main/{}",
    "/ada/m/tree/main/{}", "/ada/m/tree/{}", "/ada/m/commits/{}", "/ada/m/commit/{}", "/datasets/{}/d",
    "/ada/m/compare/{}", "/ada/m/compare/main..{}", "/ada/m/compare?head={}", "/ada/m/commit/main?file={}",
    "/ada/m/tensor/main/{}", "/ada/m/tensor/main/README.md?name={}", "/ada/m/difference/main..main/{}",
    "/ada/m/blob/main/README.md?within={}", "/ada/m/blob/main/README.md?tag={}", "/ada/m/blob/main/README.md?page={}",
    "/api/models/ada/m/tree/main/{}", "/api/models/ada/m/tree/{}", "/api/models/ada/m/commits/{}",
    "/api/models/ada/m/tree/main?cursor={}", "/api/models/ada/m/tree/main?limit={}", "/api/models/ada/m/commits/main?p={}",
    "/api/models?search={}", "/api/models?filter={}", "/api/models?author={}", "/api/models?sort={}",
    "/api/models?cursor={}", "/api/models?limit={}", "/api/models?expand={}", "/api/models?num_parameters={}",
    "/api/datasets?search={}", "/api/models-tags-by-type?type={}", "/models?search={}", "/models?p={}", "/?q={}",
    "/api/models/ada/m/discussions?p={}", "/api/models/ada/m/discussions?author={}", "/api/models/ada/m/discussions?status={}",
    "/api/models/ada/m/discussions/{}", "/api/collections?q={}", "/api/collections?owner={}", "/api/collections?item={}",
    "/api/collections?skip={}", "/api/collections/ada/{}", "/api/settings/webhooks/{}", "/api/x/webhooks/{}/deliveries",
    "/api/users/{}/overview", "/api/organizations/{}/overview", "/api/organizations/{}/members", "/api/users/{}/likes",
    "/api/users/{}/followers", "/api/models/ada/m/likers?p={}", "/api/models/ada/m/lfs-files?cursor={}",
    "/api/buckets/{}", "/api/buckets/ada?search={}", "/api/buckets/ada?cursor={}", "/api/buckets/ada/b/tree/{}",
    "/api/buckets/ada/b/tree?cursor={}", "/buckets/ada/b/resolve/{}", "/api/datasets/ada/d/rows?config={}",
    "/api/datasets/ada/d/rows?split={}", "/api/datasets/ada/d/rows?offset={}", "/api/datasets/ada/d/rows?length={}",
    "/api/datasets/ada/d/parquet/{}", "/api/datasets/ada/d/parquet/default/{}", "/api/datasets/ada/d/leaderboard?task={}",
    "/api/datasets/ada/d/parquet/default/train/{}.parquet", "/api/datasets/ada/d/splits?x={}",
    "/api/models/ada/m/safetensors-metadata/{}", "/ada/m.git/info/refs?service={}", "/ada/m.git/info/lfs/locks?path={}",
    "/ada/m.git/info/lfs/locks?id={}", "/ada/m.git/info/lfs/locks?limit={}", "/uploads/{}", "/api/lfs/{}/x",
    "/login?next={}", "/join?code={}", "/oauth/device?user_code={}", "/static/{}", "/api/{}", "/{}",
]  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    options = ("--rate-limit", "0", "--stall-limit", str(STALL))
    with start_hub(tmp_path_factory.mktemp("hostile") / "hub", *options) as hub:
        yield hub


@pytest.fixture(scope="module")
def client(running: HubProcess) -> Iterator[httpx.Client]:
    """The administrator of a model with a discussion, a dataset with rows and a bucket."""
    headers = {"Authorization": f"Bearer {running.add_user('ada')}"}
    running.add_user("bob")
    with httpx.Client(base_url=running.endpoint, headers=headers, timeout=PATIENCE) as client:
        for body in ({"name": "m"}, {"name": "d", "type": "dataset"}):
            client.post("/api/repos/create", json=body).raise_for_status()
        client.post("/api/buckets/ada/b").raise_for_status()
        client.post(f"{REPO}/discussions", json={"title": "t", "description": "d"}).raise_for_status()
        rows = (
            {"key": "header", "value": {"summary": "t"}},
            {"key": "file", "value": {"path": "train.csv", "content": base64.b64encode(b"a\n1\n").decode()}},
        )
        commit(client, *rows, repo="/api/datasets/ada/d").raise_for_status()
        yield client


def post(client: httpx.Client, address: str, body: Any) -> httpx.Response:
    """With `\\u` in the place of what UTF-8 cannot write."""
    return client.post(address, content=json.dumps(body).encode())


def commit(client: httpx.Client, *lines: Any, repo: str = REPO, query: str = "") -> httpx.Response:
    body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return client.post(f"{repo}/commit/main{query}", content=body, headers={"Content-Type": "application/x-ndjson"})


def told_clearly(answer: httpx.Response) -> None:
    """The answer is a refusal or none, in one bounded line and without what a reader's program would run."""
    assert answer.status_code < 500, f"{answer.status_code}: {answer.text[:300]}"
    assert "x-injected" not in answer.headers
    assert "Traceback" not in answer.text
    if answer.status_code >= 400 and answer.headers.get("content-type") == "application/json":
        said = answer.json()
        line = said.get("error") or (said.get("failed") or said["errors"])[0]
        line = line if isinstance(line, str) else line.get("error") or line["message"]
        assert line, answer.text
        assert len(line) < 5_000, line[:200]
        assert "\n" not in line, line


@pytest.mark.parametrize("door", FIELDS, ids=[f"{number}-{door}" for number, door in enumerate(FIELDS)])
def test_no_value_in_any_field_is_taken_for_what_it_is_not(client: httpx.Client, door: Door):
    for value in VALUES.values():
        answer = door.send(client, value)
        told_clearly(answer)


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_value_in_any_address_is_taken_for_what_it_is_not(client: httpx.Client, address: str):
    for value in NAMES.values():
        answer = Door("GET", address).send(client, value)
        told_clearly(answer)


# ------------------------------------------------------------ paths


WRITERS: dict[str, Callable[[httpx.Client, str], httpx.Response]] = {
    "commit": lambda client, path: commit(client, *commit_with("file", path=path)),
    "copy": lambda client, path: commit(client, *commit_with("copyFile", path=path, srcPath=".gitattributes")),
    "large file": lambda client, path: commit(client, *commit_with("lfsFile", path=path, oid="0" * 64, size=1)),
    "pull request": lambda client, path: commit(client, *commit_with("file", path=path), query="?create_pr=1"),
    "preupload": lambda client, path: post(client, f"{REPO}/preupload/main", {"files": [{"path": path, "size": 1}]}),
    "lock": lambda client, path: post(client, "/ada/m.git/info/lfs/locks", {"path": path}),
    "bucket": lambda client, path: post(
        client, "/api/buckets/ada/b/batch", {"type": "addFile", "path": path, "xetHash": "0" * 64}
    ),
}


def kept(client: httpx.Client) -> list[str]:
    """What readers see of the repository and the bucket."""
    addresses = (
        f"{REPO}/refs?include_prs=1",
        f"{REPO}/discussions",
        f"{REPO}/tree/main?recursive=true",
        "/ada/m.git/info/lfs/locks",
        "/api/buckets/ada/b/tree",
    )
    return [client.get(address).raise_for_status().text for address in addresses]


@pytest.mark.parametrize("door", WRITERS)
def test_no_door_writes_to_a_path_that_leads_elsewhere(client: httpx.Client, door: str):
    before = kept(client)
    for name in (*PATHS, "right to left", "half a character", "huge"):
        answer = WRITERS[door](client, NAMES[name])
        assert 400 <= answer.status_code < 500, name
        told_clearly(answer)
    assert kept(client) == before


# ------------------------------------------------------------ bodies that are too much


BODIES: dict[str, Callable[[], bytes]] = {
    "deep JSON": lambda: b'{"a":' * 100_000,
    "deep array": lambda: b"[" * 1_000_000,
    "long number": lambda: b'{"a":' + b"9" * 100_000 + b"}",
    "not JSON": lambda: b"\xff\xfe{",
    "gzip": lambda: gzip.compress(b"{}" * 1_000_000),
    "five megabytes": lambda: json.dumps({"title": "x" * (5 << 20)}).encode(),
}
JSON_DOORS = [
    ("POST", "/api/repos/create"),
    ("POST", "/api/repos/move"),
    ("DELETE", "/api/repos/delete"),
    ("PUT", f"{REPO}/settings"),
    ("POST", f"{REPO}/duplicate"),
    ("POST", f"{REPO}/branch/new"),
    ("POST", f"{REPO}/tag/main"),
    ("POST", f"{REPO}/super-squash/main"),
    ("POST", f"{REPO}/preupload/main"),
    ("POST", f"{REPO}/commit/main"),
    ("POST", f"{REPO}/paths-info/main"),
    ("POST", f"{REPO}/discussions"),
    ("POST", f"{REPO}/discussions/1/comment"),
    ("POST", f"{REPO}/discussions/1/merge"),
    ("POST", f"{REPO}/lfs-files/batch"),
    ("POST", f"{REPO}/user-access-request/grant"),
    ("POST", "/api/collections"),
    ("POST", "/api/settings/webhooks"),
    ("POST", "/api/validate-yaml"),
    ("POST", "/api/buckets/ada/new"),
    ("POST", "/api/buckets/ada/b/batch"),
    ("POST", "/api/buckets/ada/b/paths-info"),
    ("PUT", "/api/buckets/ada/b/settings"),
    ("POST", "/ada/m.git/info/lfs/objects/batch"),
    ("POST", "/ada/m.git/info/lfs/locks"),
    ("POST", "/ada/m/ask-access"),
    ("POST", "/oauth/token"),
    ("POST", "/login"),
    ("POST", "/join"),
    ("POST", "/uploads"),
    ("POST", "/ada/m.git/git-upload-pack"),
    ("POST", "/ada/m.git/git-receive-pack"),
    ("PUT", "/api/lfs/x"),
    ("POST", "/xet/x/v1/shards"),
    ("POST", "/xet/x/v1/xorbs/default/" + "0" * 64),
]


@pytest.mark.parametrize(("method", "address"), JSON_DOORS, ids=[f"{method} {door}" for method, door in JSON_DOORS])
def test_no_body_is_too_much(running: HubProcess, client: httpx.Client, method: str, address: str):
    before = running.stored()
    for name, make in BODIES.items():
        answer = client.request(method, address, content=make(), headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500, name
        told_clearly(answer)
    assert running.stored() == before


def memory(running: HubProcess) -> int:
    """The most that the hub ever had, in bytes."""
    with open(f"/proc/{running.process.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


def test_bombs_take_neither_memory_nor_time(running: HubProcess, client: httpx.Client):
    head = client.get(REPO).json()["sha"]
    most, began = memory(running), time.monotonic()
    header = json.dumps({"key": "header", "value": {"summary": "t"}}).encode() + b"\n"
    operation = json.dumps({"key": "deletedFile", "value": {"path": "a"}}).encode() + b"\n"
    for address, content, headers, status in (
        (f"{REPO}/commit/main", header + operation * 200_000, {}, 413),
        (f"{REPO}/commit/main", header + b'{"key":"file","value":"' + b"x" * (17 << 20), {}, 413),
        (f"{REPO}/commit/main", header + b"\n" * (8 << 20), {}, 200),
        ("/api/buckets/ada/b/batch", b'{"type":"deleteFile","path":"a"}\n' * 20_000, {}, 413),
        (
            "/ada/m.git/git-upload-pack",
            gzip.compress(bytes(256 << 20), 1),
            {"Content-Type": "application/x-git-upload-pack-request", "Content-Encoding": "gzip"},
            413,
        ),
        (
            "/ada/m.git/git-receive-pack",
            gzip.compress(bytes(256 << 20), 1),
            {"Content-Type": "application/x-git-receive-pack-request", "Content-Encoding": "gzip"},
            400,
        ),
        ("/oauth/token", b"a=1&" * 100_000, {}, 413),
        (f"{REPO}/paths-info/main", b"paths=a&" * 100_000, {}, 400),
    ):
        answer = client.post(address, content=content, headers=headers)
        assert answer.status_code == status, f"{address}: {answer.text[:200]}"
        told_clearly(answer)
    assert client.get(REPO).json()["sha"] == head
    assert memory(running) - most < 128 << 20
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize(
    "card",
    [
        "---\n" + "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
        ) + "---\n",
        "---\na: " + "[" * 100_000 + "\n---\n",
        "---\ntitle: x\n---\n" + "word *emphasis* [link](x) <b>bold</b>\n" * 130_000,
        "---\ntags: [" + "x," * 100_000 + "]\n---\n",
        "[" * 500_000 + "\n" + ">" * 100_000 + "\n" + "*" * 100_000,
    ],
    ids=["aliases", "depth", "five megabytes", "many tags", "brackets"],
)  # fmt: skip
def test_a_card_costs_no_more_than_seconds(running: HubProcess, client: httpx.Client, card: str):
    most, began = memory(running), time.monotonic()
    content = base64.b64encode(card.encode()).decode()
    assert commit(client, *commit_with("file", path="README.md", content=content)).status_code == 200
    told_clearly(client.post("/api/validate-yaml", json={"content": card[: 3 << 20]}))
    assert client.get(REPO).status_code == 200
    assert client.get("/api/models?full=true&cardData=true").status_code == 200
    assert client.get("/ada/m", headers={"Accept": "text/html"}).status_code == 200
    assert time.monotonic() - began < 60
    assert memory(running) - most < 192 << 20


# ------------------------------------------------------------ connections


def connect(running: HubProcess, sent: bytes) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)
    opened.sendall(sent)
    return opened


def heard(opened: socket.socket) -> bytes:
    """All that the hub says until it closes."""
    said = b""
    try:
        while block := opened.recv(65536):
            said += block
    except ConnectionResetError:
        pass
    return said


STALLED = [
    ("POST", f"{REPO}/commit/main"),
    ("POST", f"{REPO}/preupload/main"),
    ("POST", f"{REPO}/discussions"),
    ("POST", f"{REPO}/paths-info/main"),
    ("POST", "/api/buckets/ada/b/batch"),
    ("POST", "/ada/m.git/info/lfs/objects/batch"),
    ("POST", "/ada/m.git/git-upload-pack"),
    ("POST", "/ada/m.git/git-receive-pack"),
    ("POST", "/uploads"),
    ("POST", "/oauth/token"),
    ("POST", "/login"),
    *([] if stack.is_cluster() else [("PUT", "{lfs}")]),  # a bucket is a door of its own
    ("POST", "{xet}/v1/shards"),
    ("POST", "{xet}/v1/xorbs/default/" + "0" * 64),
]


def opened_doors(client: httpx.Client) -> dict[str, str]:
    """Addresses that the hub gives for an upload."""
    objects = {"operation": "upload", "objects": [{"oid": "1" * 64, "size": 100}]}
    batch = client.post("/ada/m.git/info/lfs/objects/batch", json=objects).json()
    lfs = httpx.URL(batch["objects"][0]["actions"]["upload"]["href"]).raw_path.decode()
    token = client.get(f"{REPO}/xet-write-token/main").raise_for_status()
    return {
        "lfs": lfs,
        "xet": httpx.URL(token.json()["casUrl"]).raw_path.decode(),
        "token": token.json()["accessToken"],
    }


def begin(running: HubProcess, client: httpx.Client, method: str, address: str, *, length: int = 100) -> socket.socket:
    """A request whose body has begun."""
    doors = opened_doors(client)
    token = doors["token"] if "{xet}" in address else client.headers["authorization"].split()[1]
    service = address.rpartition("/")[2]
    kind = f"application/x-{service}-request" if service.startswith("git-") else "application/x-www-form-urlencoded"
    head = (
        f"{method} {address.format(**doors)} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
    return connect(running, head.encode() + b"0")


def test_a_body_that_stops_is_ended_at_every_door(running: HubProcess, client: httpx.Client):
    before = running.stored()
    opened = [begin(running, client, method, address) for method, address in STALLED]
    began = time.monotonic()
    for (method, address), connection in zip(STALLED, opened, strict=True):
        with connection:
            said = heard(connection)
        assert said.startswith(b"HTTP/1.1 408 "), f"{method} {address}: {said[:300]!r}"
        assert b"connection: close" in said.lower()
        assert b"No byte of the body came for 2 seconds" in said
    assert time.monotonic() - began < STALL + 60
    assert running.stored() == before


def test_a_body_that_breaks_off_leaves_nothing_at_any_door(running: HubProcess, client: httpx.Client):
    before = running.stored()
    for method, address in STALLED:
        begin(running, client, method, address).close()
    assert client.get("/healthz").status_code == 200
    assert running.stored() == before


def test_a_body_may_take_as_long_as_it_comes(running: HubProcess, client: httpx.Client):
    body = json.dumps({"title": "slow", "description": "body"}).encode().ljust(100)

    def answer() -> bytes:
        with begin(running, client, "POST", f"{REPO}/discussions", length=101) as connection:
            began = time.monotonic()
            with contextlib.suppress(OSError):  # the hub has closed it
                for byte in range(0, 100, 10):
                    time.sleep(STALL * 0.15)
                    connection.sendall(body[byte : byte + 10])
                assert time.monotonic() - began > STALL
                return connection.recv(65536)
        return b""

    # It begins with the 0 that began it; on a busy machine one of the pauses may be longer than the hub waits.
    assert any(answer().startswith(b"HTTP/1.1 400 ") for _ in range(5))


def test_a_header_has_an_end_in_time(running: HubProcess):
    silent, slow = connect(running, b""), connect(running, b"GET / HTTP/1.1\r\n")
    began = time.monotonic()
    with silent, slow:
        try:
            while time.monotonic() - began < PATIENCE:
                slow.sendall(b"A: b\r\n")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - began < PATIENCE / 2
        assert b"408 Request Timeout" in heard(silent)


def test_a_header_has_an_end_in_bytes(running: HubProcess, client: httpx.Client):
    most = memory(running)
    for header in (b"A: b\r\n" * 1_700_000, b"A: " + b"x" * (10 << 20) + b"\r\n", b"x" * (10 << 20)):
        with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as connection:
            with contextlib.suppress(OSError):  # the hub has closed it
                connection.sendall(b"GET /" + (b" HTTP/1.1\r\n" if header[:1] == b"A" else b"") + header)
            assert not heard(connection).startswith(b"HTTP/1.1 200")
    answer = client.get("/healthz", headers={"X-Long": "x" * (HEADER_LIMIT - 2_000)})
    assert answer.status_code == 200
    assert memory(running) - most < 8 << 20


def test_a_connection_does_not_wait_for_the_rest_of_a_refused_body(running: HubProcess):
    with connect(running, b"PUT /api/lfs/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nx") as connection:
        connection.sendall(b"x")
        assert heard(connection).startswith(b"HTTP/1.1 404 ")


def test_two_lengths_are_no_request(running: HubProcess):
    for lengths in (
        b"Content-Length: 1\r\nTransfer-Encoding: chunked",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999999",
    ):
        with connect(running, b"POST /login HTTP/1.1\r\nHost: h\r\n" + lengths + b"\r\n\r\n0\r\n\r\n") as connection:
            assert heard(connection).startswith(b"HTTP/1.1 400 ")


def test_many_ranges_are_no_work(client: httpx.Client):
    for value in (
        "bytes=" + "0-0," * 10_000 + "1-1",
        "bytes=" + "9" * 5_000 + "-",
        "bytes=-" + "9" * 5_000,
        "bytes=5-1",
    ):
        answer = client.get("/ada/m/resolve/main/.gitattributes", headers={"Range": value})
        assert answer.status_code in (200, 206, 416), value[:40]


# ------------------------------------------------------------ what is deep and what is much


def test_deep_paths_are_listed_and_shown(client: httpx.Client):
    path = "d/" * 500 + "end.txt"
    assert commit(client, *commit_with("file", path=path)).status_code == 200
    began = time.monotonic()
    listed = client.get(f"{REPO}/tree/main?recursive=true").raise_for_status()
    assert path in {entry["path"] for entry in listed.json()}
    for address in (f"/ada/m/resolve/main/{path}", f"/ada/m/blob/main/{path}", f"/ada/m/tree/main/{path[:-8]}"):
        assert client.get(address).status_code == 200
    assert client.post(f"{REPO}/paths-info/main", json={"paths": [path], "expand": True}).json()[0]["path"] == path
    assert time.monotonic() - began < 60


def test_a_folder_of_fifty_thousand_files_is_listed_in_pages(running: HubProcess, client: httpx.Client):
    client.post("/api/repos/create", json={"name": "many"}).raise_for_status()
    header = json.dumps({"key": "header", "value": {"summary": "t"}}).encode()
    most = memory(running)
    for part in range(2):
        lines = [
            f'{{"key":"file","value":{{"path":"all/{number:05}.txt","content":"eA=="}}}}'.encode()
            for number in range(part * 25_000, (part + 1) * 25_000)
        ]
        began = time.monotonic()
        commit(client, header, *lines, repo="/api/models/ada/many").raise_for_status()
        assert time.monotonic() - began < PATIENCE
    address, found, slowest = "/api/models/ada/many/tree/main?recursive=true", 0, 0.0
    while address:
        began = time.monotonic()
        page = client.get(address).raise_for_status()
        slowest, found = max(slowest, time.monotonic() - began), found + len(page.json())
        address = page.links.get("next", {}).get("url", "")
    assert found == 50_000 + 2
    assert slowest < 20
    for address in (
        "/api/models/ada/many/tree/main/all?expand=true",
        "/ada/many/tree/main/all",
        "/api/models/ada/many",
    ):
        began = time.monotonic()
        client.get(address).raise_for_status()
        assert time.monotonic() - began < 60, address
    assert memory(running) - most < 256 << 20


def test_the_hub_is_up_and_its_log_is_clean(running: HubProcess, client: httpx.Client):
    assert client.get("/healthz").status_code == 200
    assert "Traceback" not in running.log.read_text()
    assert running.command("fsck") is not None
