"""Clone, fetch and push over smart HTTP: gitprotocol-http(5). Fetches are answered by `git upload-pack`."""

import asyncio
import logging
import os
import re
import subprocess
import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.addresses import type_of
from lmcommons.hub.api.dependencies import actor, find_repository, spool
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import (
    BadRequest,
    Busy,
    NotSupported,
    RepositoryNotFound,
    TooLarge,
    Unauthorized,
    storage_errors,
)
from lmcommons.hub.repos import push
from lmcommons.hub.repos.maintenance import git_environment
from lmcommons.hub.rooms import Hub

LOGGER = logging.getLogger(__name__)

REQUEST_LIMIT = 16 << 20  # bytes; what a client wants and has, not content
PACK_LIMIT = 8 << 30  # bytes of one push; large files go to the object store
BLOCK = 256 << 10  # bytes of a pack, or of a request, at a time
INFLATED = 1 << 20  # bytes of a compressed body at a time
ANSWER_LIMIT = 60  # seconds that git takes for what is not a pack
CLONES_LIMIT = 32  # packs on their way to clients
PUSHES_LIMIT = 8  # packs being checked, each in one of the threads that answer requests
DELTA_LIMIT = 1 << 20  # bytes; git would take minutes to find what larger files share, so they go as they are stored

UPLOAD_PACK, RECEIVE_PACK = "git-upload-pack", "git-receive-pack"
ACTIONS = {UPLOAD_PACK: Action.READ, RECEIVE_PACK: Action.DISCUSS}  # pull requests take pushes of their authors
LS_REFS = re.compile(rb"[0-9a-f]{4}command=ls-refs\n?")  # gitprotocol-v2(5)
LINE = 64  # bytes in which a request says what it is
FRESH = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}


@dataclass(frozen=True)
class Turns:
    """Limits on what takes long: further clients wait. What is short waits for nobody."""

    clones: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CLONES_LIMIT))
    pushes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PUSHES_LIMIT))


async def info_refs(request: Request) -> Response:
    """What there is to fetch, or what a push may start from; the first request of every clone, fetch and push."""
    service = request.query_params.get("service", "")
    hub, _, repository = await run_in_threadpool(_find, request, ACTIONS.get(service, Action.READ))
    git = hub.repositories.git(repository)
    protocol = _protocol(request)
    if service == RECEIVE_PACK:
        refs, protocol = await run_in_threadpool(push.advertisement, git), "version=0"
    elif service == UPLOAD_PACK:
        refs = await run_in_threadpool(_answer, git.path, protocol, subprocess.DEVNULL, "--advertise-refs")
    else:
        raise NotSupported("Only git's smart protocol is offered: use git 1.6.6 or newer")
    announcement = b"" if protocol == "version=2" else push.packet(f"# service={service}\n".encode()) + b"0000"
    return Response(announcement + refs, headers=FRESH, media_type=f"application/x-{service}-advertisement")


async def upload_pack(request: Request) -> Response:
    """The refs that a client asks for; or the objects that it wants and does not have, streamed."""
    hub, _, repository = await run_in_threadpool(_find, request, ACTIONS[UPLOAD_PACK])
    path, protocol = hub.repositories.git(repository).path, _protocol(request)
    media_type = f"application/x-{UPLOAD_PACK}-result"
    asked = tempfile.TemporaryFile()  # noqa: SIM115 - closed by what reads it
    try:
        await spool(_content(request, UPLOAD_PACK, REQUEST_LIMIT), asked)
        if LS_REFS.match(os.pread(asked.fileno(), LINE, 0)):
            with asked:
                refs = await run_in_threadpool(_answer, path, protocol, asked)
            return Response(refs, headers=FRESH, media_type=media_type)
    except BaseException:
        asked.close()
        raise
    output = _packed(_turns(request).clones, path, protocol, asked)
    return PackResponse(output, hub.settings.stall_limit, headers=FRESH, media_type=media_type)


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
    require_write = hub.pull_requests.require_write
    report = await run_in_threadpool(hub.pushes.judge, sender, repository, asked, require_write)
    if not report.is_refused:  # else what follows is left to the server, which drops it
        path = hub.repositories.git(repository).path
        with storage_errors(), tempfile.TemporaryFile(dir=path) as pack:
            pack.write(sent[length:])
            await spool(content, pack)
            async with _turns(request).pushes:
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


class PackResponse(StreamingResponse):
    """A pack; a client that takes nothing of it for some `seconds` is cut off, and another has its turn."""

    def __init__(self, content: AsyncGenerator[bytes, None], seconds: float, **more: Any) -> None:
        super().__init__(content, **more)
        self._content = content
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._seconds):
                await send(message)

        async with aclosing(self._content):
            try:
                await super().__call__(scope, receive, send_in_time)
            except TimeoutError:  # the server closes a connection whose answer has no end
                LOGGER.warning("A client took nothing of a clone for %g seconds: %s", self._seconds, scope["path"])


def _turns(request: Request) -> Turns:
    turns: Turns = request.app.state.git_turns
    return turns


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


def _upload_pack(*options: str) -> list[str]:
    return ["git", "-c", f"core.bigFileThreshold={DELTA_LIMIT}", "upload-pack", "--stateless-rpc", "--strict", *options]


def _environment(protocol: str) -> dict[str, str]:
    return git_environment() | {"GIT_PROTOCOL": protocol}


def _answer(path: Path, protocol: str, asked: int | IO[bytes], *options: str) -> bytes:
    """What git says at once; what it has to say to the operator goes where the hub's own log goes.

    Raises:
        BadRequest: git cannot answer. Busy: it takes too long.
    """
    command = _upload_pack(*options, str(path))
    try:
        done = subprocess.run(
            command, stdin=asked, stdout=PIPE, env=_environment(protocol), timeout=ANSWER_LIMIT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Busy("The hub is busy: git did not answer in time", seconds=ANSWER_LIMIT) from error
    if done.returncode:
        LOGGER.warning("git upload-pack ended with %s for %s", done.returncode, path)
        raise BadRequest("git cannot answer this: it is not its protocol, or the repository is damaged")
    return done.stdout


async def _packed(turn: asyncio.Semaphore, path: Path, protocol: str, asked: IO[bytes]) -> AsyncGenerator[bytes, None]:
    # From a file git takes the request at its own pace, so that neither side can wait for the other.
    with asked:
        async with turn:
            # uvloop would copy the memory map of this process to start another: 6 ms in which all clients wait.
            process = subprocess.Popen(  # noqa: ASYNC220
                _upload_pack(str(path)), stdin=asked, stdout=PIPE, env=_environment(protocol), pipesize=BLOCK
            )
            loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=BLOCK)
            try:
                pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
                with closing(pipe):
                    while block := await reader.read(BLOCK):
                        yield block
                if await run_in_threadpool(process.wait):
                    LOGGER.warning("git upload-pack ended with %s for %s", process.returncode, path)
            finally:
                if process.returncode is None:
                    process.kill()
                    loop.run_in_executor(None, process.wait)


routes = [
    Route(f"/{kind.prefix}{{namespace}}/{{name}}/{address}", handler, methods=methods)
    for kind in RepositoryType
    for address, handler, methods in (
        ("info/refs", info_refs, ["GET"]),
        (UPLOAD_PACK, upload_pack, ["POST"]),
        (RECEIVE_PACK, receive_pack, ["POST"]),
    )
]
