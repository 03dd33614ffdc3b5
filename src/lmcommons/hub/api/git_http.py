"""Clone and fetch over smart HTTP: the requests of any git, answered by `git upload-pack`: gitprotocol-http(5).

Nothing is pushed this way yet: `git push` is refused in words that git shows.
"""

import asyncio
import logging
import re
import tempfile
import zlib
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from lmcommons.hub.addresses import type_of
from lmcommons.hub.api.dependencies import actor, find_repository, read_body
from lmcommons.hub.errors import BadRequest, NotSupported, RepositoryNotFound, TooLarge, Unauthorized
from lmcommons.hub.repos.maintenance import git_environment

LOGGER = logging.getLogger(__name__)

REQUEST_LIMIT = 16 << 20  # bytes; what a client wants and has, not content
BLOCK = 64 << 10  # bytes read from git at a time
IDLE_LIMIT = 300  # seconds that git waits for a client to take what it sends
PROCESS_LIMIT = 32  # gits at once

UPLOAD_PACK, RECEIVE_PACK = "git-upload-pack", "git-receive-pack"
NO_PUSH = "This hub does not take git push yet: upload with `hf upload` or huggingface_hub's upload_folder.\n"
FRESH = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}


async def info_refs(request: Request) -> Response:
    """What there is to fetch; the first request of every clone and fetch."""
    service = request.query_params.get("service")
    if service == RECEIVE_PACK:
        return _refuse_push()
    path = await run_in_threadpool(_git_directory, request)
    if service != UPLOAD_PACK:
        raise NotSupported("Only git's smart protocol is offered: use git 1.6.6 or newer")
    protocol = _protocol(request)
    async with _turn(request):
        process = await _upload_pack(path, protocol, asyncio.subprocess.DEVNULL, "--advertise-refs")
        refs, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"git upload-pack ended with {process.returncode} for {path}")
    announcement = b"" if protocol == "version=2" else b"001e# service=git-upload-pack\n0000"
    return Response(announcement + refs, headers=FRESH, media_type=f"application/x-{UPLOAD_PACK}-advertisement")


async def upload_pack(request: Request) -> Response:
    """The objects that a client wants and does not have, streamed."""
    path = await run_in_threadpool(_git_directory, request)
    if request.headers.get("content-type") != f"application/x-{UPLOAD_PACK}-request":
        raise BadRequest(f"Expected the content type application/x-{UPLOAD_PACK}-request")
    body = _inflated(await read_body(request, REQUEST_LIMIT), request.headers.get("content-encoding", "identity"))
    output = _packed(_turn(request), path, _protocol(request), body)
    return StreamingResponse(output, headers=FRESH, media_type=f"application/x-{UPLOAD_PACK}-result")


async def receive_pack(request: Request) -> Response:
    """Refuse a push that did not ask first."""
    return _refuse_push()


def _refuse_push() -> Response:
    return Response(NO_PUSH, 403, media_type="text/plain")


def _git_directory(request: Request) -> Path:
    """The repository that the address names, with or without `.git`.

    Raises:
        Unauthorized: there is none that everybody may read, and nobody is signed in: git then asks for a token.
    """
    namespace, name = request.path_params["namespace"], request.path_params["name"].removesuffix(".git")
    try:
        hub, _, repository = find_repository(request, type_of(request).plural, namespace, name)
    except RepositoryNotFound as error:
        if actor(request).is_anonymous:
            raise Unauthorized(f"{error.message}; if it is private, sign in with a token as the password") from error
        raise
    return hub.repositories.git(repository).path


def _turn(request: Request) -> asyncio.Semaphore:
    """Limits how many gits run at once; further clients wait."""
    turn: asyncio.Semaphore = request.app.state.git_processes
    return turn


def _protocol(request: Request) -> str:
    asked = re.search(r"version=[012]", request.headers.get("git-protocol", ""))
    return asked[0] if asked else "version=0"


def _inflated(body: bytes, encoding: str) -> bytes:
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise BadRequest(f"Content-Encoding {encoding!r} is not understood: use gzip or none")
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(body, REQUEST_LIMIT)
    except zlib.error as error:
        raise BadRequest(f"The body is not gzip: {error}") from error
    if inflater.unconsumed_tail:
        raise TooLarge(f"The body is larger than {REQUEST_LIMIT:,} bytes")
    if not inflater.eof:
        raise BadRequest("The body is not gzip: it ends too early")
    return plain


def _as_file(body: bytes) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(body)
    file.seek(0)
    return file


async def _upload_pack(path: Path, protocol: str, stdin: int | IO[bytes], *options: str) -> Process:
    """Start git; what it has to say to the operator goes where the hub's own log goes."""
    return await asyncio.create_subprocess_exec(
        *("git", "upload-pack", "--stateless-rpc", "--strict", *options, str(path)),
        stdin=stdin,
        stdout=PIPE,
        env=git_environment() | {"GIT_PROTOCOL": protocol},
    )


async def _packed(turn: asyncio.Semaphore, path: Path, protocol: str, body: bytes) -> AsyncIterator[bytes]:
    async with turn:
        # From a file git takes the request at its own pace, so that neither side can wait for the other.
        with await run_in_threadpool(_as_file, body) as asked:
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
    Route(f"{prefix}/{{namespace}}/{{name}}/{address}", handler, methods=methods)
    for prefix in ("", "/datasets")
    for address, handler, methods in (
        ("info/refs", info_refs, ["GET"]),
        (UPLOAD_PACK, upload_pack, ["POST"]),
        (RECEIVE_PACK, receive_pack, ["POST"]),
    )
]
