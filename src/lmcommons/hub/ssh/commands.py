"""What an SSH client may run: `git-upload-pack`, `git-receive-pack` and `git-lfs-authenticate`, and nothing else.

Sources: gitprotocol-pack(5); https://github.com/git-lfs/git-lfs/blob/main/docs/api/server-discovery.md
"""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anyio.to_thread import run_sync
from asyncssh import SSHReader, SSHWriter

from lmcommons.hub import addresses
from lmcommons.hub.accounts.keys import TICKET_LIFE
from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, TooLarge
from lmcommons.hub.repos import hidden, push, transport
from lmcommons.hub.repos.transport import ACTIONS, BLOCK, PACK_LIMIT, RECEIVE_PACK, REQUEST_LIMIT, UPLOAD_PACK
from lmcommons.hub.rooms import Hub

LFS_AUTHENTICATE = "git-lfs-authenticate"
LFS_RIGHTS = {"download": (Action.READ, Action.READ), "upload": (Action.DISCUSS, Action.WRITE)}  # asked for, and given
LARGE_FILES = 24 * 3600  # seconds that git-lfs has to send them, as long as it may


@dataclass(frozen=True)
class Client:
    """Who runs a command, and the two ends of the connection."""

    hub: Hub
    turns: transport.Turns
    actor: Actor
    fingerprint: str  # of the key
    protocol: str  # of git, as `version=2`
    stdin: SSHReader[bytes]
    stdout: SSHWriter[bytes]


async def run(client: Client, command: str | None) -> int:
    """Answer a command; returns its exit status.

    Raises:
        HubError: it is refused. TimeoutError: the client has stalled. OSError: it has gone.
    """
    try:
        words = shlex.split(command or "")
    except ValueError as error:
        raise BadRequest("The command cannot be read: {error}", error=error) from error
    if not words:
        await _say(client, f"Hi {client.actor.name}. This hub runs git over SSH, and no shell.\n".encode())
        return 0
    name, *arguments = words
    if name not in COMMANDS:
        raise BadRequest("{name}: this hub runs git over SSH, and nothing else", name=name[:80])
    answer, form = COMMANDS[name]
    if len(arguments) < form.count(" "):
        raise BadRequest("Write {form}", form=form)
    return await answer(client, *arguments[:2])


async def _fetch(client: Client, address: str, *_: str) -> int:
    """The refs and objects that a client asks for, in one turn from its beginning to its end."""
    repository = await run_sync(_find, client, address, ACTIONS[UPLOAD_PACK])
    path, seconds = client.hub.repositories.git(repository).path, client.hub.settings.stall_limit
    loop = asyncio.get_running_loop()
    async with (
        client.turns.clones,
        transport.answering(path, client.protocol) as git,
        asyncio.timeout(seconds) as limit,
    ):
        asking = asyncio.create_task(_ask(client, git.asked, path, lambda: limit.reschedule(loop.time() + seconds)))
        try:
            while block := await git.said.read(BLOCK):
                await _say(client, block)
                limit.reschedule(loop.time() + seconds)
            if asking.done():
                asking.result()
        finally:
            asking.cancel()
    return git.process.returncode


async def _ask(client: Client, git: asyncio.StreamWriter, path: Path, note_progress: Callable[[], None]) -> None:
    """Hand on what a client wants and has."""
    try:
        with suppress(ConnectionError):  # git has ended
            async for lines in _lines(client.stdin):
                note_progress()
                if hidden.has_hidden(path):
                    await run_sync(hidden.require_visible, path, lines)
                git.write(lines)
                await git.drain()
    finally:
        with suppress(OSError):
            git.write_eof()


async def _lines(stdin: SSHReader[bytes]) -> AsyncIterator[bytes]:
    """What comes in, in whole pkt-lines (gitprotocol-common(5)).

    Raises:
        BadRequest: it is none. TooLarge: it is past a request's limit.
    """
    waiting, size = b"", 0
    while block := await stdin.read(BLOCK):
        size += len(block)
        if size > REQUEST_LIMIT:
            raise TooLarge("The request is larger than {limit:,} bytes", limit=REQUEST_LIMIT)
        waiting += block
        end = push.whole_packets(waiting)
        if end:
            yield waiting[:end]
            waiting = waiting[end:]


async def _push(client: Client, address: str, *_: str) -> int:
    """The refs that a push may start from, then the push; a refused one is read to its end, as git sends it whole."""
    repository = await run_sync(_find, client, address, ACTIONS[RECEIVE_PACK])
    hub = client.hub
    await _say(client, await run_sync(push.advertisement, hub.repositories.git(repository)))
    asked, pack = await transport.commands(_content(client.stdin, hub.settings.stall_limit))
    if not asked.changes:
        return 0
    report = await transport.receive(
        hub.pushes,
        hub.repositories,
        client.actor,
        repository,
        asked,
        pack,
        hub.pull_requests.require_write,
        client.turns.pushes,
    )
    async for _block in pack:
        pass
    await _say(client, push.answer(asked, report))
    return 0


async def _content(stdin: SSHReader[bytes], seconds: float) -> AsyncIterator[bytes]:
    """A push as it comes: late perhaps, because git-lfs sends its files first, and then without a long pause."""
    size = 0
    while True:
        async with asyncio.timeout(seconds if size else LARGE_FILES):
            block = await stdin.read(BLOCK)
        if not block:
            return
        size += len(block)
        if size > PACK_LIMIT:
            raise TooLarge("The push is larger than {limit:,} bytes", limit=PACK_LIMIT)
        yield block


async def _authenticate_lfs(client: Client, address: str, operation: str) -> int:
    """Where large files go, which travel over HTTP, and what signs git-lfs in there for an hour."""
    if operation not in LFS_RIGHTS:
        raise BadRequest("The operation is 'download' or 'upload', not {operation}", operation=operation[:80])
    action, right = LFS_RIGHTS[operation]
    repository = await run_sync(_find, client, address, action)
    ticket = await run_sync(client.hub.keys.ticket, client.fingerprint, repository.id, right)
    answer = {
        "href": f"{client.hub.settings.public_url}{addresses.repository(repository)}.git/info/lfs",
        "header": {"Authorization": f"Bearer {ticket}"},
        "expires_in": TICKET_LIFE,
    }
    await _say(client, json.dumps(answer).encode())
    return 0


def _find(client: Client, address: str, action: Action) -> Repository:
    """The repository at the path of an address, with or without `.git`."""
    path = address.strip("/").removesuffix(".git")
    kind = next((kind for kind in RepositoryType if kind.prefix and path.startswith(kind.prefix)), RepositoryType.MODEL)
    return client.hub.repositories.find(client.actor, kind, path.removeprefix(kind.prefix), action)


async def _say(client: Client, content: bytes) -> None:
    async with asyncio.timeout(client.hub.settings.stall_limit):
        client.stdout.write(content)
        await client.stdout.drain()


COMMANDS: dict[str, tuple[Callable[..., Awaitable[int]], str]] = {
    UPLOAD_PACK: (_fetch, f"{UPLOAD_PACK} NAMESPACE/NAME"),
    RECEIVE_PACK: (_push, f"{RECEIVE_PACK} NAMESPACE/NAME"),
    LFS_AUTHENTICATE: (_authenticate_lfs, f"{LFS_AUTHENTICATE} NAMESPACE/NAME OPERATION"),
}
