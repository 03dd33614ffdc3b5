"""What nobody means well, at every door: each gets a clear answer, the hub stays up, and nothing is stored.

`test_schemathesis.py` sends what is random, `test_upload.py`, `test_xet_formats.py`, `test_push.py` and others what is
hostile to one door alone; here the same hostile values go to all doors.
"""

import base64
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hub_process import HubProcess, start_hub

from lmcommons.hub.api.connection import HEADER_LIMIT

ROWS=open('/tmp/I/rows.txt','w')
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
    "confusable": "аda/m",  # noqa: RUF001 - the first letter is Cyrillic
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
            text = str(value).encode(errors="surrogatepass")
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
    Door("POST", "/login", lambda v: {"name": v, "password": "x"}, form=True),
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
    "/api/buckets/ada/b/events?cursor={}",
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
    with httpx.Client(base_url=running.endpoint, headers=headers, timeout=30) as client:
        for body in ({"name": "m"}, {"name": "d", "type": "dataset"}):
            client.post("/api/repos/create", json=body).raise_for_status()
        client.post("/api/buckets/ada/b").raise_for_status()
        client.post(f"{REPO}/discussions", json={"title": "t", "description": "d"}).raise_for_status()
        rows = ({"key": "header", "value": {"summary": "t"}}, {"key": "file", "value": {"path": "train.csv", "content": base64.b64encode(b"a\n1\n").decode()}})
        commit(client, *rows, repo="/api/datasets/ada/d").raise_for_status()
        yield client


def commit(client: httpx.Client, *lines: Any, repo: str = REPO) -> httpx.Response:
    body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return client.post(f"{repo}/commit/main", content=body, headers={"Content-Type": "application/x-ndjson"})


def told_clearly(answer: httpx.Response) -> None:
    """The answer is a refusal or none, in one bounded line and without what a reader's program would run."""
    assert answer.status_code < 500, f"{answer.status_code}: {answer.text[:300]}"
    assert "x-injected" not in answer.headers
    assert "Traceback" not in answer.text
    if answer.status_code >= 400 and answer.headers.get("content-type") == "application/json":
        said = answer.json()
        line = said.get("error") or said["failed"][0]["error"]
        assert line, answer.text
        assert len(line) < 5_000, line[:200]
        assert "\n" not in line, line


@pytest.mark.parametrize("door", FIELDS, ids=[f"{number}-{door}" for number, door in enumerate(FIELDS)])
def test_no_value_in_any_field_is_taken_for_what_it_is_not(client: httpx.Client, door: Door):
    for name, value in VALUES.items():
        answer = door.send(client, value)
        told_clearly(answer)
        ROWS.write(f"{door}|{name}|{answer.status_code}|{answer.text[:100]!r}\n")
    


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_value_in_any_address_is_taken_for_what_it_is_not(client: httpx.Client, address: str):
    for name, value in NAMES.items():
        if name == "huge":
            value = "x" * 20_000
        answer = Door("GET", address).send(client, value)
        told_clearly(answer)
        ROWS.write(f"GET {address}|{name}|{answer.status_code}|{answer.text[:100]!r}\n")
    
