"""Fetches and pushes as git's clients speak them, through whichever door they come, and the turns that they take.

A fetch is answered by `git upload-pack`, a process for each; a push is taken by our own `push.py`.
"""

import asyncio
import hashlib
import logging
import re
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from anyio.to_thread import run_sync

from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import BadRequest, TooLarge, storage_errors
from lmcommons.hub.objects.spooling import spool
from lmcommons.hub.repos import push
from lmcommons.hub.repos.maintenance import git_environment
from lmcommons.hub.repos.references import HIDDEN
from lmcommons.hub.repos.repositories import Repositories

LOGGER = logging.getLogger(__name__)

UPLOAD_PACK, RECEIVE_PACK = "git-upload-pack", "git-receive-pack"
ACTIONS = {UPLOAD_PACK: Action.READ, RECEIVE_PACK: Action.DISCUSS}  # pull requests take pushes of their authors
REQUEST_LIMIT = 16 << 20  # bytes; what a client wants and has, not content
PACK_LIMIT = 8 << 30  # bytes of one push; large files go to the object store
BLOCK = 256 << 10  # bytes of a pack, or of a request, at a time
CLONES_LIMIT = 32  # packs on their way to clients
PUSHES_LIMIT = 8  # packs being checked, each in one of the threads that answer requests
DELTA_LIMIT = 1 << 20  # bytes; git would take minutes to find what larger files share, so they go as they are stored
CHECKSUM = 20  # bytes: the SHA-1 that ends a pack, of all before it (gitformat-pack(5))


@dataclass(frozen=True)
class Turns:
    """Limits on what takes long: further clients wait. What is short waits for nobody."""

    clones: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CLONES_LIMIT))
    pushes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PUSHES_LIMIT))


@dataclass(frozen=True)
class Answering:
    """A running `git upload-pack`: what it says, and what it is asked, where that does not come from a file."""

    process: "subprocess.Popen[bytes]"
    said: asyncio.StreamReader
    asked: asyncio.StreamWriter


def upload_pack(path: Path, *options: str) -> list[str]:
    """The command that answers fetches from the repository at `path`."""
    settings = ("-c", f"core.bigFileThreshold={DELTA_LIMIT}", "-c", f"uploadpack.hideRefs={HIDDEN.rstrip('/')}")
    return ["git", *settings, "upload-pack", "--strict", *options, str(path)]


def protocol(asked: str) -> str:
    """The version of git's protocol that a client asks for: `version=2`; of what it cannot be, `version=0`."""
    found = re.search(r"version=[012]", asked)
    return found[0] if found else "version=0"


def environment(protocol: str) -> dict[str, str]:
    """What that command finds in its environment; `protocol` is as `version=2`."""
    return git_environment() | {"GIT_PROTOCOL": protocol}


@asynccontextmanager
async def answering(
    path: Path, protocol: str, *options: str, asked: IO[bytes] | None = None
) -> AsyncIterator[Answering]:
    """`git upload-pack` while the block runs; it is killed where the block fails.

    Args:
        asked: a file with all that it is asked; None: that is written to it.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # uvloop would copy the memory map of this process to start another: 6 ms in which all clients wait.
        process = subprocess.Popen(  # noqa: ASYNC220
            upload_pack(path, *options),
            stdin=theirs.fileno() if asked is None else asked,
            stdout=theirs.fileno(),
            env=environment(protocol),
        )
        theirs.close()
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=BLOCK)
            try:
                yield Answering(process, reader, writer)
            finally:
                writer.close()
            if await run_sync(process.wait):
                LOGGER.warning("git upload-pack ended with %s for %s", process.returncode, path)
        finally:
            if process.returncode is None:
                process.kill()
                asyncio.get_running_loop().run_in_executor(None, process.wait)


async def commands(content: AsyncIterator[bytes]) -> tuple[push.Push, AsyncIterator[bytes]]:
    """What a push asks for, and its pack, read no further than its end.

    Raises:
        BadRequest: it does not begin as a push. TooLarge: its commands have no end.
    """
    sent = bytearray()
    while (parsed := push.parse(sent)) is None:
        block = await anext(content, b"")
        if not block:
            raise BadRequest("The push ends before its commands do")
        sent += block
        if len(sent) > push.COMMANDS_LIMIT + BLOCK and push.parse(sent) is None:
            raise TooLarge(
                "The commands of a push are at most {limit:,} bytes: push fewer refs at once", limit=push.COMMANDS_LIMIT
            )
    asked, length = parsed
    return asked, _pack(asked, bytes(sent[length:]), content)


async def receive(
    pushes: push.Pushes,
    repositories: Repositories,
    actor: Actor,
    repository: Repository,
    asked: push.Push,
    pack: AsyncIterator[bytes],
    require_write: push.RequireWrite,
    turn: asyncio.Semaphore,
) -> push.Report:
    """Take a push: its pack goes to disk as it comes, and is checked in its turn; of a refused one nothing is read.

    Raises:
        InsufficientStorage: the disk is full; nothing was changed.
    """
    report = await run_sync(pushes.judge, actor, repository, asked, require_write)
    if not report.is_refused:
        with storage_errors(), tempfile.TemporaryFile(dir=repositories.git(repository).path) as file:
            await spool(pack, file)
            async with turn:
                report = await run_sync(pushes.receive, actor, repository, asked, file, require_write)
    return report


async def _pack(asked: push.Push, block: bytes, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pack of a push, which ends with its checksum: a client that waits for the report may leave its side open."""
    if all(change.after is None for change in asked.changes):
        return  # removals have none
    digest, last = hashlib.sha1(usedforsecurity=False), b""
    while True:
        if block:
            yield block
            read = last + block
            digest.update(read[:-CHECKSUM])
            last = read[-CHECKSUM:]
            if digest.digest() == last:
                return
        block = await anext(content, b"")
        if not block:
            return
