"""Clone, fetch and push over smart HTTP: gitprotocol-http(5)."""

import asyncio
import logging
import os
import re
import subprocess
import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
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
from lmcommons.hub.api.dependencies import actor, find_repository
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, Busy, NotSupported, RepositoryNotFound, TooLarge, Unauthorized
from lmcommons.hub.objects.spooling import spool
from lmcommons.hub.repos import hidden, push, transport
from lmcommons.hub.repos.transport import ACTIONS, BLOCK, PACK_LIMIT, RECEIVE_PACK, REQUEST_LIMIT, UPLOAD_PACK
from lmcommons.hub.rooms import Hub

LOGGER = logging.getLogger(__name__)

INFLATED = 1 << 20  # bytes of a compressed body at a time
ANSWER_LIMIT = 60  # seconds that git takes for what is not a pack
LS_REFS = re.compile(rb"[0-9a-f]{4}command=ls-refs\n?")  # gitprotocol-v2(5)
LINE = 64  # bytes in which a request says what it is
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
        if hidden.has_hidden(path):
            await run_in_threadpool(hidden.require_visible, path, os.pread(asked.fileno(), REQUEST_LIMIT, 0))
    except BaseException:
        asked.close()
        raise
    output = _packed(_turns(request).clones, path, protocol, asked)
    return PackResponse(output, hub.settings.stall_limit, headers=FRESH, media_type=media_type)


async def receive_pack(request: Request) -> Response:
    """A push: commands, then a pack that goes to disk as it comes, then the report."""
    hub, sender, repository = await run_in_threadpool(_find, request, ACTIONS[RECEIVE_PACK])
    content = _content(request, RECEIVE_PACK, PACK_LIMIT)
    asked, pack = await transport.commands(content)
    if not asked.changes:
        # What git sends first when the pack is large, to learn whether it may.
        return Response(b"", headers=FRESH, media_type=f"application/x-{RECEIVE_PACK}-result")
    # What a refused push still sends is left to the server, which drops it.
    report = await transport.receive(
        hub.pushes,
        hub.repositories,
        sender,
        repository,
        asked,
        pack,
        hub.pull_requests.require_write,
        _turns(request).pushes,
    )
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


def _turns(request: Request) -> transport.Turns:
    turns: transport.Turns = request.app.state.git_turns
    return turns


def _protocol(request: Request) -> str:
    return transport.protocol(request.headers.get("git-protocol", ""))


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


def _answer(path: Path, protocol: str, asked: int | IO[bytes], *options: str) -> bytes:
    """What git says at once; what it has to say to the operator goes where the hub's own log goes.

    Raises:
        BadRequest: git cannot answer. Busy: it takes too long.
    """
    command = transport.upload_pack(path, "--stateless-rpc", *options)
    try:
        done = subprocess.run(
            command, stdin=asked, stdout=PIPE, env=transport.environment(protocol), timeout=ANSWER_LIMIT, check=False
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
        async with turn, transport.answering(path, protocol, "--stateless-rpc", asked=asked) as answering:
            while block := await answering.said.read(BLOCK):
                yield block


routes = [
    Route(f"/{kind.prefix}{{namespace}}/{{name}}/{address}", handler, methods=methods)
    for kind in RepositoryType
    for address, handler, methods in (
        ("info/refs", info_refs, ["GET"]),
        (UPLOAD_PACK, upload_pack, ["POST"]),
        (RECEIVE_PACK, receive_pack, ["POST"]),
    )
]
