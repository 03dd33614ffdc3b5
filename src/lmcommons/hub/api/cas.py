"""Chapters 4 and 5: the content-addressed store that Xet tokens (`xet.py`) open: xorbs, shards, reconstructions.

Source: https://huggingface.co/docs/xet/api
"""

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from fastapi.concurrency import contextmanager_in_threadpool
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from lmcommons.hub.accounts.permissions import Actor, readable, readable_buckets
from lmcommons.hub.api.content import parse_range
from lmcommons.hub.api.dependencies import hub_of, read_body
from lmcommons.hub.api.tickets import Ticket, admit, read_address, signed_address
from lmcommons.hub.api.xet import VALID, admit_request
from lmcommons.hub.errors import (
    BadRequest,
    EntryNotFound,
    Forbidden,
    HubError,
    NotFound,
    RangeNotSatisfiable,
    TooLarge,
)
from lmcommons.hub.objects.xet.files import Step
from lmcommons.hub.objects.xet.hashing import from_text
from lmcommons.hub.objects.xet.reach import Reach, parse_scope
from lmcommons.hub.objects.xet.shard import SHARD_LIMIT, ShardFile, parse_files
from lmcommons.hub.objects.xet.store import Run
from lmcommons.hub.objects.xet.xorb import BODY_LIMIT
from lmcommons.hub.rooms import Hub

LOGGER = logging.getLogger(__name__)

BLOCK = 512 << 10  # bytes that are sent at a time
RECEIVED = 2 << 20  # bytes of a xorb that are handed to a thread at a time
HEARTBEAT = 5.0  # seconds between signs of life while a shard is verified


def _reach(actor: Actor) -> Reach:
    return Reach(actor.account_id, readable(actor), readable_buckets(actor))


# ------------------------------------------------------------ sending


async def put_xorb(request: Request) -> Response:
    """Receive a xorb."""
    hub, ticket, _, target = await run_in_threadpool(admit_request, request, writing=True)
    account, name, announced = ticket.account, _hash_in(request), request.headers.get("content-length", "")
    assert account is not None  # nobody else has a right to write
    await run_in_threadpool(
        hub.accounts.require_room, target.account_id, int(announced) if announced.isdecimal() else 0
    )
    async with contextmanager_in_threadpool(hub.objects.xet.receive_xorb(account, name)) as incoming:
        size, parts, pending = 0, [], 0
        async for part in request.stream():
            size += len(part)
            if size > BODY_LIMIT:
                raise TooLarge(f"The xorb is larger than {BODY_LIMIT:,} bytes")
            parts.append(part)
            pending += len(part)
            if pending >= RECEIVED:
                await run_in_threadpool(incoming.write, parts)
                parts, pending = [], 0
        await run_in_threadpool(incoming.write, parts)
    return JSONResponse({"was_inserted": incoming.inserted})


async def put_shard(request: Request, version: int) -> Response:
    """Verify the files of a shard and take them; clients of version 2 are told how far that is, every five seconds."""
    hub, ticket, actor, _ = await run_in_threadpool(admit_request, request, writing=True)
    files = await run_in_threadpool(parse_files, await read_body(request, SHARD_LIMIT))
    progress = Progress(sum(term.size for file in files for term in file.terms))
    limiter: anyio.CapacityLimiter = request.app.state.xet_work
    register = partial(_register, hub, ticket, actor, files, progress.step)
    work = asyncio.create_task(anyio.to_thread.run_sync(register, limiter=limiter))
    if version == 1:
        await work
        return JSONResponse({"result": 1})
    return StreamingResponse(_report(work, progress), media_type="application/x-ndjson")


class Progress:
    """How far the work on a shard is, in bytes of content; `stopped` ends the work."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.verified = 0
        self.stopped = False

    def step(self, size: int) -> None:
        """Count what was verified.

        Raises:
            ClientDisconnect: nobody waits for the answer any more.
        """
        if self.stopped:
            raise ClientDisconnect
        self.verified += size


async def _report(work: asyncio.Task[None], progress: Progress) -> AsyncIterator[bytes]:
    """Lines of JSON: where the work is, and at the end whether the files were taken or why not."""
    try:
        while not (await asyncio.wait({work}, timeout=HEARTBEAT))[0]:
            yield _line(type="validating", verified=progress.verified, total=progress.total)
        error = work.exception()
        if error is None:
            yield _line(type="result")
        elif isinstance(error, HubError):
            yield _line(type="error", message=error.message, retryable=error.status >= 500)
        else:
            LOGGER.error("a shard was not taken", exc_info=error)
            yield _line(type="error", message="The hub failed on this shard; its log says more", retryable=True)
    finally:
        progress.stopped = True
        work.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody asks for it any more


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _register(hub: Hub, ticket: Ticket, actor: Actor, files: list[ShardFile], step: Step) -> None:
    registered = hub.objects.xet.register(ticket.scope, files, _reach(actor), step)
    kind, number = parse_scope(ticket.scope)
    if kind == "repository":
        hub.repositories.link_objects(number, {file.sha256: file.size for file in registered})


async def no_grant(request: Request) -> Response:
    """Xorbs are sent to the hub itself; the client goes on with `put_xorb`."""
    raise NotFound("This hub gives no grants to send xorbs elsewhere")


async def known_chunk(request: Request) -> Response:
    """What need not be sent of a file that has a chunk, when the sender may read a file that has it too."""

    def find() -> bytes | None:
        hub, _, actor, _ = admit_request(request, writing=True)
        key = hmac.digest(hub.secret, b"xet chunks", hashlib.sha256)
        return hub.objects.xet.known(_hash_in(request), _reach(actor), key, VALID)

    shard = await run_in_threadpool(find)
    if shard is None:
        raise NotFound("No chunk with this hash is known to you")
    return Response(shard, media_type="application/octet-stream")


# ------------------------------------------------------------ fetching


async def reconstruction(request: Request, version: int) -> Response:
    """How a file, or the range of it that is asked for, is made of chunks, and where these are."""
    return JSONResponse(
        await run_in_threadpool(_reconstruction, request, version), headers={"Cache-Control": "no-store"}
    )


def _reconstruction(request: Request, version: int) -> dict[str, Any]:
    hub, ticket, actor, _ = admit_request(request, writing=False)
    xet, name = hub.objects.xet, _hash_in(request)
    if name not in xet.in_scope(ticket.scope, [name]):
        raise EntryNotFound(f"No file with the Xet hash {name} in {ticket.scope}")
    _, size = xet.sha256_of([name])[name]
    start, stop = parse_range(request.headers.get("range"), size) or (0, size)
    found = xet.reconstruction(name, start, stop)
    if found is None:
        raise RangeNotSatisfiable("The file has no byte", headers={"Content-Range": f"bytes */{size}"})
    terms = [
        {"hash": piece.xorb_hash, "unpacked_length": piece.size, "range": {"start": piece.start, "end": piece.stop}}
        for piece in found.pieces
    ]
    answer: dict[str, Any] = {"offset_into_first_range": found.skip, "terms": terms}
    address = partial(_address, hub, ticket, name, _reach(actor))
    field, fetch = ("fetch_info", _fetch) if version == 1 else ("xorbs", _fetch_v2)
    return answer | {field: {xorb: [fetch(address, run) for run in runs] for xorb, runs in found.runs.items()}}


def _fetch(address: Callable[[Run], str], run: Run) -> dict[str, Any]:
    """Where a run of chunks is fetched; of bytes, the last one is named, of chunks the one after the last."""
    return {
        "range": {"start": run.start, "end": run.stop},
        "url": address(run),
        "url_range": {"start": run.first, "end": run.end - 1},
    }


def _fetch_v2(address: Callable[[Run], str], run: Run) -> dict[str, Any]:
    chunks, stored = {"start": run.start, "end": run.stop}, {"start": run.first, "end": run.end - 1}
    return {"url": address(run), "ranges": [{"chunks": chunks, "bytes": stored}]}


def _address(hub: Hub, ticket: Ticket, file: str, reach: Reach, run: Run) -> str:
    """Where the run can be fetched as a part of a file; an address at the object store gives all of a xorb."""
    objects = hub.objects
    if (direct := objects.blobs.address(run.xorb.key)) and objects.xet.is_whole(run.xorb.hash, reach):
        return direct
    fetching = replace(ticket, right="read", expires=int(time.time()) + VALID)
    return signed_address(hub, "GET", f"/xet/{run.xorb.key}", fetching, file=file, first=run.first, end=run.end)


async def get_xorb(request: Request) -> Response:
    """Stored bytes of a xorb: those that the signed address names, or a range within them."""
    hub, key = hub_of(request), f"xorbs/{request.path_params['key']}"
    ticket, values = read_address(request)
    first, end = int(values["first"]), int(values["end"])

    def find() -> int:
        admit(hub, ticket)
        size = hub.objects.blobs.size(key)
        if size is None or not hub.objects.xet.in_scope(ticket.scope, [values["file"]]):
            raise EntryNotFound("The file was removed; ask for its reconstruction again")
        return size

    size = await run_in_threadpool(find)
    start, stop = parse_range(request.headers.get("range"), size) or (first, end)
    if not first <= start < stop <= end:
        raise Forbidden(f"This address is for the bytes {first} to {end - 1}")
    headers = {
        "Content-Length": str(stop - start),
        "Content-Range": f"bytes {start}-{stop - 1}/{size}",
        "Accept-Ranges": "bytes",
    }
    if hub.settings.accel is not None and "range" in request.headers:  # the proxy sends the range that was just checked
        return Response(headers={"X-Accel-Redirect": hub.settings.accel + key})
    return StreamingResponse(_stream(hub, key, start, stop), 206, headers, media_type="application/octet-stream")


async def _stream(hub: Hub, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
    while start < stop:
        block = await run_in_threadpool(hub.objects.blobs.read, key, start, min(stop, start + BLOCK))
        if not block:
            raise OSError(f"blob {key} ends at byte {start}, before {stop}")
        start += len(block)
        yield block


def _hash_in(request: Request) -> str:
    """The hash that ends the address.

    Raises:
        BadRequest: it is none.
    """
    text: str = request.path_params["hash"]
    try:
        from_text(text)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    return text


routes: list[BaseRoute] = [
    Route("/xet/xorbs/{key:path}", get_xorb, methods=["GET"]),
    Route("/xet/{memory}/v1/chunks/{prefix}/{hash}", known_chunk, methods=["GET"]),
    Route("/xet/{memory}/v1/xorb-grants/{prefix}/{hash}", no_grant, methods=["POST"]),
    Route("/xet/{memory}/v1/xorbs/{prefix}/{hash}", put_xorb, methods=["POST"]),
    *(
        Route(f"/xet/{{memory}}/v{version}{path}", partial(handler, version=version), methods=[method])
        for version in (1, 2)
        for path, handler, method in (
            ("/shards", put_shard, "POST"),
            ("/reconstructions/{hash}", reconstruction, "GET"),
        )
    ),
]
