"""Chapter 4: large files by the Git LFS protocol, in one piece or in parts.

Clients send content without a token, so the addresses that a batch answers with are signed: one object, one
repository, one kind of request, one day, and only as long as whoever asked may do it (`tickets.py`). Where objects lie
in a bucket, content goes to it without passing through the hub; the request to `verify`, which follows, has the hub
read it back once. An object belongs to the repository, and can be named in a commit, from the moment when its size and
sha256 are verified: not before, and not for its hash alone.
Source: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

import math
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from fastapi.concurrency import contextmanager_in_threadpool
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.content import SAFETY, object_response
from lmcommons.hub.api.dependencies import field, find_repository, hub_of, json_body, required
from lmcommons.hub.api.tickets import Ticket, admit, read_address, signed_address
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, Busy, EntryNotFound, HubError, TooLarge
from lmcommons.hub.objects.s3 import PUT_LIMIT
from lmcommons.hub.objects.store import BLOCK, SHA256, Incoming, object_key
from lmcommons.hub.rooms import Hub

OBJECTS_LIMIT = 1_000  # in one batch; clients send 100 or 256
PARTS_LIMIT = 10_000
VALID = 24 * 3600  # seconds that an address can be used
LFS_JSON = "application/vnd.git-lfs+json"
PREFIX = "/api/lfs"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Upload:
    """The object that a signed address is for.

    Each upload has a `name` of its own, and where it goes to a bucket in parts, what the bucket calls these.
    """

    sha256: str
    size: int
    name: str = ""
    parts: str = ""


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
    # Whoever may open a pull request may send its objects; they are nothing until a commit names them.
    action = Action.DISCUSS if operation == "upload" else Action.READ
    namespace, name = request.path_params["namespace"], request.path_params["name"]
    hub, sender, repository = find_repository(request, kind, namespace, name, action)
    if operation == "download":
        stored = hub.contents.stored(repository, wanted)
        ticket = Ticket.give(sender, repository.scope, "read", VALID)
        objects = [
            _download(hub, ticket, Upload(sha256, size)) if sha256 in stored else _missing(sha256, size, repository)
            for sha256, size in wanted.items()
        ]
        return {"transfer": "basic", "objects": objects, "hash_algo": "sha256"}
    linked = hub.repositories.linked_objects(repository.id, wanted)
    hub.accounts.require_room(repository.account_id, sum(size for name, size in wanted.items() if name not in linked))
    needed = hub.contents.needed(sender, repository, wanted)
    # All or none in parts: git-lfs gives one program the whole batch.
    largest = max((wanted[name] for name in needed), default=0)
    in_parts = "multipart" in (field(body, "transfers", list) or []) and largest > hub.settings.part_size
    ticket = Ticket.give(sender, repository.scope, "discuss", VALID)
    objects = [
        _upload(hub, ticket, sha256, size, in_parts=in_parts) if sha256 in needed else {"oid": sha256, "size": size}
        for sha256, size in wanted.items()
    ]
    return {"transfer": "multipart" if in_parts else "basic", "objects": objects, "hash_algo": "sha256"}


async def put_object(request: Request) -> Response:
    """Receive an object in one piece."""
    hub, repository, upload = await run_in_threadpool(_signed, request)
    await run_in_threadpool(hub.accounts.require_room, repository.account_id, upload.size)
    await _receive(request, hub.objects.receive(upload.sha256, upload.size), upload.size)
    await run_in_threadpool(_link, hub, repository, upload)
    return Response(headers={"ETag": f'"{upload.sha256}"'})


async def put_part(request: Request) -> Response:
    """Receive one part of an object; clients want an ETag and send it back with the request that ends the upload."""
    hub, repository, upload = await run_in_threadpool(_signed, request)
    part: int = request.path_params["part"]
    await run_in_threadpool(hub.accounts.require_room, repository.account_id, upload.size)
    start, size = _part(hub, upload, part)
    await _receive(request, hub.objects.receive_part(upload.name, start, size), size)
    return Response(headers={"ETag": f'"{upload.name}-{part}"'})


async def complete(request: Request) -> Response:
    """Make an object of its parts."""
    hub, repository, upload = await run_in_threadpool(_signed, request)
    body = await json_body(request)

    def join() -> None:
        if _is_linked(hub, repository, upload):  # a repeated request
            return
        if (bucket := hub.objects.direct) is not None:
            bucket.join_parts(upload.name, upload.parts, _etags(body, _parts(hub, upload)))
        else:
            hub.objects.join_parts(upload.name, upload.sha256, upload.size)
            _link(hub, repository, upload)

    await run_in_threadpool(join)
    return JSONResponse({"success": True})


async def verify(request: Request) -> Response:
    """Whether an object has arrived; one that was sent to the bucket is read back here."""

    def check() -> None:
        hub, repository, upload = _signed(request)
        if _is_linked(hub, repository, upload):
            return
        if (bucket := hub.objects.direct) is None:
            raise EntryNotFound(f"Object {upload.sha256} of {upload.size} bytes was not uploaded")
        hub.accounts.require_room(repository.account_id, upload.size)
        try:
            bucket.accept(upload.name, object_key(upload.sha256), upload.sha256, upload.size)
        except FileNotFoundError as error:
            raise EntryNotFound(f"Object {upload.sha256} of {upload.size} bytes was not uploaded") from error
        _link(hub, repository, upload)

    await run_in_threadpool(check)
    return JSONResponse({"success": True})


async def get_object(request: Request) -> Response:
    """An object's content, whole or a range of it."""

    def find() -> tuple[Hub, Upload]:
        hub, repository, upload = _signed(request)
        if not _is_linked(hub, repository, upload):
            raise EntryNotFound(f"No object {upload.sha256} in {repository.full_name}")
        return hub, upload

    hub, upload = await run_in_threadpool(find)
    headers = {
        "ETag": f'"{upload.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        **SAFETY,
    }
    return await object_response(request, hub, upload.sha256, upload.size, headers)


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


def _etags(body: dict[str, Any], count: int) -> list[str]:
    """What the client was answered for its parts, in their order.

    Raises:
        BadRequest: they are not `count` numbered ETags.
    """
    parts = required(body, "parts", list)
    if len(parts) != count or not all(isinstance(part, dict) for part in parts):
        raise BadRequest(f"`parts` must be an array of {count} objects with `partNumber` and `etag`")
    return [required(part, "etag", str) for part in sorted(parts, key=lambda part: required(part, "partNumber", int))]


def _download(hub: Hub, ticket: Ticket, upload: Upload) -> dict[str, Any]:
    action = _action(_address(hub, "GET", ticket, upload))
    return {"oid": upload.sha256, "size": upload.size, "authenticated": True, "actions": {"download": action}}


def _missing(sha256: str, size: int, repository: Repository) -> dict[str, Any]:
    error = {"code": 404, "message": f"No such object in {repository.full_name}"}
    return {"oid": sha256, "size": size, "authenticated": True, "error": error}


def _upload(hub: Hub, ticket: Ticket, sha256: str, size: int, *, in_parts: bool) -> dict[str, Any]:
    part_size, bucket = hub.settings.part_size, hub.objects.direct
    if size > part_size * PARTS_LIMIT:
        error = {"code": 422, "message": f"Larger than {part_size * PARTS_LIMIT:,} bytes"}
        return {"oid": sha256, "size": size, "error": error}
    upload = Upload(sha256, size, secrets.token_hex(16))
    if in_parts:
        if bucket is not None:
            upload = replace(upload, parts=bucket.begin_parts(upload.name))
        send = _action(_address(hub, "POST", ticket, upload, "/complete"))
        send["header"] = {"chunk_size": str(part_size)}
        for part in range(1, _parts(hub, upload) + 1):
            # Padded, because git-lfs hands them on in the order of text.
            send["header"][f"{part:05}"] = _part_address(hub, ticket, upload, part)
    elif bucket is not None and 0 < size <= PUT_LIMIT:
        send = _action(bucket.upload_address(upload.name, size, VALID))
    else:
        send = _action(_address(hub, "PUT", ticket, upload))
    actions = {"upload": send, "verify": _action(_address(hub, "POST", ticket, upload, "/verify"))}
    return {"oid": sha256, "size": size, "authenticated": True, "actions": actions}


def _part_address(hub: Hub, ticket: Ticket, upload: Upload, part: int) -> str:
    if (bucket := hub.objects.direct) is not None:
        return bucket.part_address(upload.name, upload.parts, part, _part(hub, upload, part)[1], VALID)
    return _address(hub, "PUT", ticket, upload, f"/{part}")


def _parts(hub: Hub, upload: Upload) -> int:
    return math.ceil(upload.size / hub.settings.part_size)


def _part(hub: Hub, upload: Upload, part: int) -> tuple[int, int]:
    """Where part `part` (from 1) begins, and its bytes."""
    start = (part - 1) * hub.settings.part_size
    return start, min(hub.settings.part_size, upload.size - start)


def _is_linked(hub: Hub, repository: Repository, upload: Upload) -> bool:
    return upload.sha256 in hub.repositories.linked_objects(repository.id, [upload.sha256])


def _link(hub: Hub, repository: Repository, upload: Upload) -> None:
    """Give the repository an object that has just been verified."""
    if hub.contents.link(repository.id, {upload.sha256: upload.size}):
        raise Busy(f"Object {upload.sha256} was removed as garbage just now; send it again", seconds=1)


def _action(address: str) -> dict[str, Any]:
    return {"href": address, "expires_in": VALID}


def _address(hub: Hub, method: str, ticket: Ticket, upload: Upload, rest: str = "") -> str:
    return signed_address(hub, method, PREFIX + rest, ticket, **asdict(upload))


def _signed(request: Request) -> tuple[Hub, Repository, Upload]:
    """What a signed address is for.

    Raises:
        Forbidden: the signature is wrong or too old. HubError: as `admit`.
    """
    hub = hub_of(request)
    ticket, values = read_address(request)
    _, repository = admit(hub, ticket)
    assert isinstance(repository, Repository)  # a bucket has no objects of LFS
    return hub, repository, Upload(values["sha256"], int(values["size"]), values["name"], values["parts"])


async def _receive(request: Request, receiving: AbstractContextManager[Incoming], size: int) -> None:
    """Write the body to the store, some blocks at a time; a body that is too long is not read to its end."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) != size:
        raise BadRequest(f"{announced} bytes were sent and {size} expected; nothing was stored")
    async with contextmanager_in_threadpool(receiving) as incoming:
        blocks: list[bytes] = []
        waiting = 0
        async for block in request.stream():
            blocks.append(block)
            waiting += len(block)
            if waiting >= BLOCK:
                await run_in_threadpool(_write, incoming, blocks)
                blocks, waiting = [], 0
        await run_in_threadpool(_write, incoming, blocks)


def _write(incoming: Incoming, blocks: list[bytes]) -> None:
    for block in blocks:
        incoming.write(block)


async def _explained(request: Request, *, handler: Handler, kind: RepositoryType | None = None) -> Response:
    """Call a handler; git-lfs reads in the field `message` what went wrong."""
    if kind is not None:
        request.path_params["kind"] = kind.plural
    try:
        return await handler(request)
    except HubError as error:
        error.fields.setdefault("message", error.message)
        raise


def _route(path: str, handler: Handler, method: str, kind: RepositoryType | None = None) -> Route:
    return Route(path, partial(_explained, handler=handler, kind=kind), methods=[method], name=handler.__name__)


routes = [
    _route(PREFIX, put_object, "PUT"),
    _route(PREFIX, get_object, "GET"),
    _route(f"{PREFIX}/complete", complete, "POST"),
    _route(f"{PREFIX}/verify", verify, "POST"),
    _route(f"{PREFIX}/{{part:int}}", put_part, "PUT"),
    *(
        _route(f"/{kind.prefix}{{namespace}}/{{name}}.git/info/lfs/objects/batch", batch, "POST", kind)
        for kind in RepositoryType
    ),
]
