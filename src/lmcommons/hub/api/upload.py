"""Chapter 4: how files must be sent, and the commit that puts them in place."""

import binascii
import json
import tempfile
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import IO, Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import Body, Kind, field, find_repository, required
from lmcommons.hub.errors import BadRequest, NotSupported, TooLarge, storage_errors
from lmcommons.hub.objects.store import SHA256
from lmcommons.hub.repos.git import AddFile, AddLfs, CopyFile, DeleteFile, DeleteFolder, Operation

FILES_LIMIT = 2_000  # files in one preupload request; the client sends 256
COMMIT_LIMIT = 256 << 20  # bytes of a commit's body; larger files go to the object store
OPERATIONS_LIMIT = 25_000
LINE_LIMIT = 64 << 20  # bytes
MEMORY = 4 << 20  # bytes of a body that are kept in memory
NO_XET = "set-HF_HUB_DISABLE_XET=1-and-run-again"
MESSAGE_LIMIT = 64 << 10  # characters

router = APIRouter(prefix="/api/{kind}/{namespace}/{name}")


@router.post("/preupload/{revision:path}")
def preupload(request: Request, kind: Kind, namespace: str, name: str, revision: str, body: Body) -> dict[str, Any]:
    """For each file: a large object or a part of the commit's body, ignored or not, and what is there now."""
    _refuse_pull_request(request)
    hub, _, repository = find_repository(request, kind, namespace, name, Action.WRITE)
    files = required(body, "files", list)
    if len(files) > FILES_LIMIT:
        raise TooLarge(f"{len(files)} files in one request; at most {FILES_LIMIT}")
    sizes = [(required(file, "path", str), required(file, "size", int)) for file in _objects(files)]
    modes = hub.commits.upload_modes(repository, revision, sizes, field(body, "gitIgnore", str))
    return {
        "files": [
            {
                "path": mode.path,
                "uploadMode": "lfs" if mode.lfs else "regular",
                "shouldIgnore": mode.ignored,
                **({"oid": mode.oid} if mode.oid else {}),
            }
            for mode in modes
        ],
    }


@router.get("/xet-{access}-token/{revision:path}")
def xet_token(request: Request, kind: Kind, namespace: str, name: str, access: str, revision: str) -> Response:
    """Xet is not offered yet. The client's Xet library shows only which address failed, so that says what to do."""
    find_repository(request, kind, namespace, name)
    return RedirectResponse(f"/api/{kind}/{namespace}/{name}/no-xet-here/{NO_XET}")


@router.get(f"/no-xet-here/{NO_XET}")
def no_xet() -> None:
    """Where Xet uploads end."""
    raise NotSupported("This hub does not speak Xet yet: set HF_HUB_DISABLE_XET=1 and run the same command again")


@router.post("/commit/{revision:path}")
async def commit(request: Request, kind: Kind, namespace: str, name: str, revision: str) -> dict[str, Any]:
    """Apply the operations of an NDJSON body to a branch, all or nothing."""
    _refuse_pull_request(request)
    hub, sender, repository = await run_in_threadpool(find_repository, request, kind, namespace, name, Action.WRITE)
    with storage_errors(), tempfile.SpooledTemporaryFile(MEMORY, dir=str(hub.settings.objects_dir)) as body:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > COMMIT_LIMIT:
                raise TooLarge(f"The commit is larger than {COMMIT_LIMIT:,} bytes; send large files as LFS objects")
            body.write(chunk)

        def apply() -> str:
            body.seek(0)
            found = parse_commit(body, revision, hub.objects.size)
            return hub.commits.commit(
                sender, repository, revision, found.operations, message=found.message, parent=found.parent
            )

        oid = await run_in_threadpool(apply)
    return {
        "success": True,
        "commitOid": oid,
        "commitUrl": f"{hub.settings.public_url}/{repository.path}/commit/{oid}",
        "hookOutput": "",
    }


@dataclass
class CommitRequest:
    """A commit as the client describes it."""

    message: str = ""
    parent: str | None = None
    operations: list[Operation] = attribute(default_factory=list)


def parse_commit(body: IO[bytes], branch: str, stored_size: Callable[[str], int | None]) -> CommitRequest:
    """Read an NDJSON body: a `header` line, then one line an operation.

    Args:
        branch: where copies come from when they do not say it.
        stored_size: bytes of an object by its sha256, for copies of large files, which do not say it.

    Raises:
        BadRequest: a line that cannot be read, by number. TooLarge: too many, or one too long.
    """
    found = CommitRequest()
    for number, line in _lines(body):
        key, value = line.get("key"), line.get("value")
        if not isinstance(value, dict):
            raise BadRequest(f"Line {number}: `value` must be an object")
        try:
            if key == "header":
                title, description = required(value, "summary", str), field(value, "description", str) or ""
                found.message = f"{title}\n\n{description}".strip()
                found.parent = field(value, "parentCommit", str)
                if len(found.message) > MESSAGE_LIMIT:
                    raise TooLarge(f"the message is longer than {MESSAGE_LIMIT:,} characters")
                continue
            found.operations.append(_operation(key, value, branch, stored_size))
        except BadRequest as error:
            raise BadRequest(f"Line {number}: {error.message}") from error
        if len(found.operations) > OPERATIONS_LIMIT:
            raise TooLarge(f"More than {OPERATIONS_LIMIT:,} operations in one commit; make several")
    if not found.message:
        raise BadRequest("The commit has no title: a `header` line with a `summary` is missing")
    return found


def _operation(key: Any, value: dict[str, Any], branch: str, stored_size: Callable[[str], int | None]) -> Operation:
    path = required(value, "path", str)
    match key:
        case "file":
            if value.get("encoding", "base64") != "base64":
                raise BadRequest(f"{path}: `encoding` must be base64")
            try:
                return AddFile(path, b64decode(required(value, "content", str), validate=True))
            except (binascii.Error, ValueError) as error:
                raise BadRequest(f"{path}: `content` is not base64 ({error})") from error
        case "lfsFile":
            sha256, size = required(value, "oid", str), field(value, "size", int)
            if value.get("algo", "sha256") != "sha256" or not SHA256.fullmatch(sha256):
                raise BadRequest(f"{path}: `oid` must be a sha256 in 64 lower-case hexadecimal digits")
            return AddLfs(path, sha256, size if size is not None else stored_size(sha256) or 0)
        case "deletedFile" | "deletedEntry":
            return DeleteFile(path)
        case "deletedFolder":
            return DeleteFolder(path.rstrip("/"))
        case "copyFile":
            return CopyFile(path, required(value, "srcPath", str), field(value, "srcRevision", str) or branch)
    raise BadRequest(f"unknown operation {key!r}")


def _lines(body: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    while line := body.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) > LINE_LIMIT:
            raise TooLarge(f"Line {number} is longer than {LINE_LIMIT:,} bytes; send the file as an LFS object")
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"Line {number}: not JSON ({error})") from error
        if not isinstance(value, dict):
            raise BadRequest(f"Line {number}: must be a JSON object with `key` and `value`")
        yield number, value


def _objects(values: list[Any]) -> Iterator[dict[str, Any]]:
    for value in values:
        if not isinstance(value, dict):
            raise BadRequest("`files` must be an array of objects with `path` and `size`")
        yield value


def _refuse_pull_request(request: Request) -> None:
    if request.query_params.get("create_pr", "").lower() in ("1", "true"):
        raise NotSupported("This hub does not take pull requests yet: commit to a branch instead")
