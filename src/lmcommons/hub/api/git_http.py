"""Clone, fetch and push over smart HTTP: gitprotocol-http(5). Fetches are answered by `git upload-pack`."""

import asyncio
import logging
import re
import tempfile
import zlib
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.addresses import type_of
from lmcommons.hub.api.dependencies import actor, find_repository, spool
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, NotSupported, RepositoryNotFound, TooLarge, Unauthorized, storage_errors
from lmcommons.hub.repos import push
from lmcommons.hub.repos.maintenance import git_environment
from lmcommons.hub.rooms import Hub

LOGGER = logging.getLogger(__name__)

REQUEST_LIMIT = 16 << 20  # bytes; what a client wants and has, not content
PACK_LIMIT = 8 << 30  # bytes of one push; large files go to the object store
BLOCK = 64 << 10  # bytes read from git at a time
INFLATED = 1 << 20  # bytes of a compressed body at a time
IDLE_LIMIT = 300  # seconds that git waits for a client to take what it sends
PROCESS_LIMIT = 32  # gits at once

UPLOAD_PACK, RECEIVE_PACK = "git-upload-pack", "git-receive-pack"
ACTIONS = {UPLOAD_PACK: Action.READ, RECEIVE_PACK: Action.DISCUSS}  # pull requests take pushes of their authors
FRESH = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}


async def info_refs(request: Request) -> Response:
    """What there is to fetch, or what a push may start from; the first request of every clone, fetch and push."""
    service = request.query_params.get("service", "")
    hub, _, repository = await run_in_threadpool(_find, request, ACTIONS.get(service, Action.READ))
    git = hub.repositories.git(repository)
    protocol = _protocol(request)
    if service == RECEIVE_PACK:
        refs, protocol = await run_in_threadpool(push.advertisement, git), "version=0"
    elif service == UPLOAD_PACK:
        async with _turn(request):
            process = await _upload_pack(str(git.path), protocol, asyncio.subprocess.DEVNULL, "--advertise-refs")
            refs, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"git upload-pack ended with {process.returncode} for {git.path}")
    else:
        raise NotSupported("Only git's smart protocol is offered: use git 1.6.6 or newer")
    announcement = b"" if protocol == "version=2" else push.packet(f"# service={service}\n".encode()) + b"0000"
    return Response(announcement + refs, headers=FRESH, media_type=f"application/x-{service}-advertisement")


async def upload_pack(request: Request) -> Response:
    """The objects that a client wants and does not have, streamed."""
    hub, _, repository = await run_in_threadpool(_find, request, ACTIONS[UPLOAD_PACK])
    asked = tempfile.TemporaryFile()  # noqa: SIM115 - closed by what reads it
    try:
        await spool(_content(request, UPLOAD_PACK, REQUEST_LIMIT), asked)
    except BaseException:
        asked.close()
        raise
    path = str(hub.repositories.git(repository).path)
    output = _packed(_turn(request), path, _protocol(request), asked)
    return StreamingResponse(output, headers=FRESH, media_type=f"application/x-{UPLOAD_PACK}-result")


async def receive_pack(request: Request) -> Response:
    """A push: commands, then a pack that goes to disk as it comes, then the report."""
    hub, sender, repository = await run_in_threadpool(_find, request, ACTIONS[RECEIVE_PACK])
    content = _content(request, RECEIVE_PACK, PACK_LIMIT)
    sent = bytearray()
    while (parsed := push.parse(sent)) is None:
        block = await anext(content, b"")
        if not block:
            raise BadRequest("The push ends before its commands do")
        sent += block
        if len(sent) > push.COMMANDS_LIMIT + BLOCK and push.parse(sent) is None:
            raise TooLarge(f"The commands of a push are at most {push.COMMANDS_LIMIT:,} bytes: push fewer refs at once")
    asked, length = parsed
    if not asked.changes:
        # What git sends first when the pack is large, to learn whether it may.
        return Response(b"", headers=FRESH, media_type=f"application/x-{RECEIVE_PACK}-result")
    path = hub.repositories.git(repository).path
    with storage_errors(), tempfile.TemporaryFile(dir=path) as pack:
        pack.write(sent[length:])
        await spool(content, pack)
        require_write = hub.pull_requests.require_write
        async with _turn(request):
            report = await run_in_threadpool(hub.pushes.receive, sender, repository, asked, pack, require_write)
    return Response(push.answer(asked, report), headers=FRESH, media_type=f"application/x-{RECEIVE_PACK}-result")


def _find(request: Request, action: Action) -> tuple[Hub, Actor, Repository]:
    """The repository that the address names, with or without `.git`.

    Raises:
        Unauthorized: there is none that everybody may read, and nobody is signed in: git then asks for a token.
    """
    namespace, name = request.path_params["namespace"], request.path_params["name"].removesuffix(".git")
    try:
        return find_repository(request, type_of(request).plural, namespace, name, action)
    except RepositoryNotFound as error:
        if actor(request).is_anonymous:
            raise Unauthorized(f"{error.message}; if it is private, sign in with a token as the password") from error
        raise


def _turn(request: Request) -> asyncio.Semaphore:
    """Limits how many gits run at once; further clients wait."""
    turn: asyncio.Semaphore = request.app.state.git_processes
    return turn


def _protocol(request: Request) -> str:
    asked = re.search(r"version=[012]", request.headers.get("git-protocol", ""))
    return asked[0] if asked else "version=0"


async def _content(request: Request, service: str, limit: int) -> AsyncIterator[bytes]:
    """The body in blocks, inflated.

    Raises:
        BadRequest: of another type, or not gzip where it says so. TooLarge: past `limit` bytes.
    """
    if request.headers.get("content-type") != f"application/x-{service}-request":
        raise BadRequest(f"Expected the content type application/x-{service}-request")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise BadRequest(f"Content-Encoding {encoding!r} is not understood: use gzip or none")
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS) if encoding != "identity" else None
    size = 0
    async for block in request.stream():
        while block:
            try:
                plain = inflater.decompress(block, INFLATED) if inflater else block
            except zlib.error as error:
                raise BadRequest(f"The body is not gzip: {error}") from error
            block = inflater.unconsumed_tail if inflater else b""
            size += len(plain)
            if size > limit:
                raise TooLarge(f"The body is larger than {limit:,} bytes")
            if plain:
                yield plain
    if inflater and not inflater.eof:
        raise BadRequest("The body is not gzip: it ends too early")


async def _upload_pack(path: str, protocol: str, stdin: int | IO[bytes], *options: str) -> Process:
    """Start git; what it has to say to the operator goes where the hub's own log goes."""
    return await asyncio.create_subprocess_exec(
        *("git", "upload-pack", "--stateless-rpc", "--strict", *options, path),
        stdin=stdin,
        stdout=PIPE,
        env=git_environment() | {"GIT_PROTOCOL": protocol},
    )


async def _packed(turn: asyncio.Semaphore, path: str, protocol: str, asked: IO[bytes]) -> AsyncIterator[bytes]:
    # From a file git takes the request at its own pace, so that neither side can wait for the other.
    with asked:
        async with turn:
            process = await _upload_pack(path, protocol, asked, f"--timeout={IDLE_LIMIT}")
            assert process.stdout is not None
            try:
                while block := await process.stdout.read(BLOCK):
                    yield block
                if await process.wait():
                    LOGGER.warning("git upload-pack ended with %s for %s", process.returncode, path)
            finally:
                if process.returncode is None:
                    process.kill()


routes = [
    Route(f"/{kind.prefix}{{namespace}}/{{name}}/{address}", handler, methods=methods)
    for kind in RepositoryType
    for address, handler, methods in (
        ("info/refs", info_refs, ["GET"]),
        (UPLOAD_PACK, upload_pack, ["POST"]),
        (RECEIVE_PACK, receive_pack, ["POST"]),
    )
]
