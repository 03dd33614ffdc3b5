"""Chapter 4: large files by the Git LFS protocol, in one piece or in parts.

Clients send content without a token, so the addresses that a batch answers with are signed: one object, one
repository, one kind of request, one day.
Source: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

import hashlib
import hmac
import math
import time
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlencode

from fastapi.concurrency import contextmanager_in_threadpool
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import field, find_repository, hub_of, json_body, required
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import BadRequest, EntryNotFound, Forbidden, TooLarge
from lmcommons.hub.objects.store import BLOCK, SHA256, Incoming
from lmcommons.hub.rooms import Hub

OBJECTS_LIMIT = 1_000  # in one batch; clients send 100 or 256
PARTS_LIMIT = 10_000
VALID = 24 * 3600  # seconds that an address can be used
LFS_JSON = "application/vnd.git-lfs+json"


async def batch(request: Request) -> Response:
    """Where to send or fetch each object; nothing for those that need no sending."""
    body = await json_body(request)
    answer = await run_in_threadpool(_batch, request, body)
    return JSONResponse(answer, media_type=LFS_JSON)


def _batch(request: Request, body: dict[str, Any]) -> dict[str, Any]:
    operation = required(body, "operation", str)
    if operation not in ("upload", "download"):
        raise BadRequest(f"operation is 'upload' or 'download', not {operation!r}")
    wanted = _objects(required(body, "objects", list))
    kind = request.path_params["kind"]
    action = Action.WRITE if operation == "upload" else Action.READ
    namespace, name = request.path_params["namespace"], request.path_params["name"]
    hub, sender, repository = find_repository(request, kind, namespace, name, action)
    if operation == "download":
        stored = hub.contents.stored(repository, wanted)
        objects = [_download(hub, repository, sha256, size, sha256 in stored) for sha256, size in wanted.items()]
    else:
        needed = hub.contents.needed(sender, repository, wanted)
        in_parts = "multipart" in (field(body, "transfers", list) or [])
        objects = [
            _upload(hub, repository, sha256, size, in_parts=in_parts)
            if sha256 in needed
            else {"oid": sha256, "size": size}
            for sha256, size in wanted.items()
        ]
    return {"transfer": "basic", "objects": objects, "hash_algo": "sha256"}


async def put_object(request: Request) -> Response:
    """Receive an object in one piece."""
    hub, repository_id, sha256, size = _signed(request, "put")
    await _receive(request, hub.objects.receive(sha256, size), size)
    await run_in_threadpool(hub.repositories.link_objects, repository_id, {sha256: size})
    return Response(headers={"ETag": f'"{sha256}"'})


async def put_part(request: Request) -> Response:
    """Receive one part of an object; the answer's ETag names what was received."""
    part: int = request.path_params["part"]
    hub, repository_id, sha256, size = _signed(request, f"part{part}")
    expected = min(hub.settings.part_size, size - (part - 1) * hub.settings.part_size)
    upload = f"{repository_id}-{sha256}"
    incoming = await _receive(request, hub.objects.receive_part(upload, part, expected), expected)
    return Response(headers={"ETag": f'"{incoming.sha256}"'})


async def complete(request: Request) -> Response:
    """Make an object of its parts."""
    hub, repository_id, sha256, size = _signed(request, "complete")

    def join() -> None:
        count = math.ceil(size / hub.settings.part_size)
        if hub.objects.size(sha256) != size:  # a repeated request finds it made
            hub.objects.join_parts(f"{repository_id}-{sha256}", count, sha256, size)
        hub.repositories.link_objects(repository_id, {sha256: size})

    await run_in_threadpool(join)
    return JSONResponse({"success": True})


async def verify(request: Request) -> Response:
    """Whether an object has arrived."""
    hub, _, sha256, size = _signed(request, "verify")
    if await run_in_threadpool(hub.objects.size, sha256) != size:
        raise EntryNotFound(f"Object {sha256} of {size} bytes was not uploaded")
    return JSONResponse({"success": True})


async def get_object(request: Request) -> Response:
    """An object's content, whole or a range of it."""
    hub, _, sha256, _ = _signed(request, "get")
    if await run_in_threadpool(hub.objects.size, sha256) is None:
        raise EntryNotFound(f"Object {sha256} is missing from the store")
    headers = {"ETag": f'"{sha256}"', "X-Content-Type-Options": "nosniff"}
    return FileResponse(hub.objects.path(sha256), headers=headers, media_type="application/octet-stream")


def _objects(values: list[Any]) -> dict[str, int]:
    if len(values) > OBJECTS_LIMIT:
        raise TooLarge(f"{len(values)} objects in one batch; at most {OBJECTS_LIMIT}")
    wanted: dict[str, int] = {}
    for value in values:
        if not isinstance(value, dict):
            raise BadRequest("`objects` must be an array of objects with `oid` and `size`")
        sha256, size = required(value, "oid", str), required(value, "size", int)
        if not SHA256.fullmatch(sha256) or size < 0:
            raise BadRequest(f"{sha256[:80]!r}: `oid` must be a sha256 and `size` a number of bytes")
        wanted[sha256] = size
    return wanted


def _download(hub: Hub, repository: Repository, sha256: str, size: int, stored: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"oid": sha256, "size": size, "authenticated": True}
    if not stored:
        return found | {"error": {"code": 404, "message": f"No such object in {repository.full_name}"}}
    return found | {"actions": {"download": _action(hub, repository, sha256, size, "get")}}


def _upload(hub: Hub, repository: Repository, sha256: str, size: int, *, in_parts: bool) -> dict[str, Any]:
    part_size = hub.settings.part_size
    if in_parts and size > part_size:
        count = math.ceil(size / part_size)
        if count > PARTS_LIMIT:
            return {
                "oid": sha256,
                "size": size,
                "error": {"code": 422, "message": f"Larger than {part_size * PARTS_LIMIT:,} bytes"},
            }
        upload = _action(hub, repository, sha256, size, "complete")
        addresses = {
            str(part): _action(hub, repository, sha256, size, f"part{part}")["href"] for part in range(1, count + 1)
        }
        upload["header"] = {"chunk_size": str(part_size), **addresses}
    else:
        upload = _action(hub, repository, sha256, size, "put")
    actions = {"upload": upload, "verify": _action(hub, repository, sha256, size, "verify")}
    return {"oid": sha256, "size": size, "authenticated": True, "actions": actions}


def _action(hub: Hub, repository: Repository, sha256: str, size: int, purpose: str) -> dict[str, Any]:
    expires = int(time.time()) + VALID
    path = f"/api/lfs/{repository.id}/{sha256}"
    if purpose.startswith("part"):
        path += f"/{purpose.removeprefix('part')}"
    elif purpose in ("complete", "verify"):
        path += f"/{purpose}"
    signature = _signature(hub, repository.id, sha256, size, purpose, expires)
    query = urlencode({"size": size, "expires": expires, "signature": signature})
    return {"href": f"{hub.settings.public_url}{path}?{query}", "expires_in": VALID}


def _signature(hub: Hub, repository_id: int, sha256: str, size: int, purpose: str, expires: int) -> str:
    text = f"{repository_id} {sha256} {size} {purpose} {expires}"
    return hmac.new(hub.secret, text.encode(), hashlib.sha256).hexdigest()


def _signed(request: Request, purpose: str) -> tuple[Hub, int, str, int]:
    """The hub, repository id, sha256 and size of a signed address.

    Raises:
        Forbidden: the signature is wrong or too old.
    """
    hub, query = hub_of(request), request.query_params
    repository_id: int = request.path_params["repository_id"]
    sha256: str = request.path_params["sha256"]
    try:
        size, expires = int(query.get("size", "")), int(query.get("expires", ""))
    except ValueError as error:
        raise Forbidden("This address is incomplete; ask for a new one with a batch request") from error
    expected = _signature(hub, repository_id, sha256, size, purpose, expires)
    if not hmac.compare_digest(expected, query.get("signature", "")) or expires < time.time():
        raise Forbidden("This address is no longer valid; ask for a new one with a batch request")
    return hub, repository_id, sha256, size


async def _receive(request: Request, receiving: AbstractContextManager[Incoming], size: int) -> Incoming:
    """Write the body to the store in blocks of 1 MiB; a body that is too long is not read to its end."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) != size:
        raise BadRequest(f"{announced} bytes were sent and {size} expected; nothing was stored")
    async with contextmanager_in_threadpool(receiving) as incoming:
        block = bytearray()
        async for chunk in request.stream():
            block += chunk
            if len(block) >= BLOCK:
                await run_in_threadpool(incoming.write, bytes(block))
                block.clear()
                if incoming.size > size:
                    break
        await run_in_threadpool(incoming.write, bytes(block))
    return incoming


def _routes() -> list[BaseRoute]:
    path = "/{namespace}/{name}.git/info/lfs/objects/batch"
    stored = "/api/lfs/{repository_id:int}/{sha256}"
    found: list[BaseRoute] = [
        Route(stored, put_object, methods=["PUT"]),
        Route(stored, get_object, methods=["GET"]),
        Route(f"{stored}/complete", complete, methods=["POST"]),
        Route(f"{stored}/verify", verify, methods=["POST"]),
        Route(f"{stored}/{{part:int}}", put_part, methods=["PUT"]),
    ]
    prefixes = {"datasets": "/datasets", "spaces": "/spaces", "models": ""}
    return [*found, *(Route(prefix + path, _of_kind(kind), methods=["POST"]) for kind, prefix in prefixes.items())]


def _of_kind(kind: str) -> Any:
    async def endpoint(request: Request) -> Response:
        request.path_params["kind"] = kind
        return await batch(request)

    return endpoint


routes = _routes()
