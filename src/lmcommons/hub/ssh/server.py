"""Connections by SSH: a key of an account opens them, nothing else does, and they end when nothing moves on them."""

import asyncio
import logging
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncssh
from anyio.to_thread import run_sync
from asyncssh import SSHReader, SSHWriter

from lmcommons.hub.accounts.keys import KINDS
from lmcommons.hub.errors import HubError, TooManyRequests, Unauthorized
from lmcommons.hub.repos.transport import Turns, protocol
from lmcommons.hub.rooms import Hub
from lmcommons.hub.ssh import commands

CONNECTIONS_LIMIT = 256  # at once, of one process
COMMANDS_LIMIT = 16  # of one account at once; further ones wait
KEYS_LIMIT = 10  # that one connection may try
LOGIN_LIMIT = 30  # seconds
SIGNATURES = [*(kind for kind in KINDS if kind != "ssh-rsa"), "rsa-sha2-512", "rsa-sha2-256"]  # RFC 8332: no SHA-1
SIGN_OF_LIFE = 30  # seconds after which a silent client is asked for one, three times
ENDING = 10  # seconds that running commands have when the hub stops

LOGGER = logging.getLogger(__name__)


@dataclass
class Server:
    """What all connections of a process share."""

    hub: Hub
    turns: Turns
    open: set["Connection"] = field(default_factory=set)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)  # running commands
    running: dict[int | None, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(COMMANDS_LIMIT))
    )  # by account


@asynccontextmanager
async def serving(hub: Hub, listener: socket.socket | None, turns: Turns) -> AsyncIterator[None]:
    """Answer on `listener`, which processes may share, while the block runs; None: there is no SSH."""
    if listener is None:
        yield
        return
    server = Server(hub, turns)
    acceptor = await asyncssh.listen(
        sock=listener,
        server_factory=lambda: Connection(server),
        server_host_keys=[hub.keys.host_key],
        server_version="lmcommons",
        encoding=None,
        signature_algs=SIGNATURES,
        allow_pty=False,
        line_editor=False,
        agent_forwarding=False,
        compression_algs=None,  # packs are compressed
        gss_host=None,
        login_timeout=LOGIN_LIMIT,
        keepalive_interval=SIGN_OF_LIFE,
    )
    try:
        yield
    finally:
        acceptor.close()
        if server.tasks:
            await asyncio.wait(server.tasks, timeout=ENDING)
        for connection in list(server.open):
            connection.end(asyncssh.DISC_BY_APPLICATION, "The hub stops; try again in a minute")


class Connection(asyncssh.SSHServer):
    """One client: its key, and the commands that it runs."""

    def __init__(self, server: Server) -> None:
        self._commands = 0  # running
        self._server = server
        self._hub = server.hub
        self._key = ""  # the fingerprint of the last one that is somebody's
        self._is_signed_in = False
        self._refused = 0  # keys that are nobody's
        self._idle: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------ as asyncssh calls it

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._address = str(conn.get_extra_info("peername")[0])
        if len(self._server.open) >= CONNECTIONS_LIMIT:
            LOGGER.warning("%d SSH connections are open: one from %s was refused", CONNECTIONS_LIMIT, self._address)
            conn.abort()
        self._server.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.open.discard(self)
        self._stay()
        if self._refused and not self._is_signed_in:
            with suppress(TooManyRequests):
                self._hub.limits.take_sign_in(self._address)

    def begin_auth(self, username: str) -> bool:
        """Keys are asked for, whatever the name; it is `git` in addresses."""
        try:
            self._hub.limits.take_sign_in(self._address, attempts=0)
        except TooManyRequests as error:
            self.end(asyncssh.DISC_BY_APPLICATION, error.message)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether a key is somebody's: asked before the client signs with it, and again when it has."""
        fingerprint = key.get_fingerprint()
        try:
            await run_sync(self._hub.keys.actor, fingerprint)
        except Unauthorized:
            self._refused += 1
            if self._refused >= KEYS_LIMIT:
                reason = "Too many keys that this hub does not know: choose one by ssh -o IdentitiesOnly=yes -i FILE"
                self.end(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, reason)
            return False
        self._key = fingerprint
        return True

    def auth_completed(self) -> None:
        self._is_signed_in = True
        self._leave_soon()

    def session_requested(self) -> asyncssh.SSHServerSessionFactory:
        return self._run

    # ------------------------------------------------------------ commands

    async def _run(self, stdin: SSHReader[bytes], stdout: SSHWriter[bytes], stderr: SSHWriter[bytes]) -> None:
        channel = stdin.channel
        assert isinstance(channel, asyncssh.SSHServerChannel)
        task = asyncio.current_task()
        assert task is not None
        self._server.tasks.add(task)
        self._commands += 1
        self._stay()
        try:
            status = await self._answer(channel, stdin, stdout, stderr)
            channel.exit(status)
        except TimeoutError:
            LOGGER.warning("An SSH client at %s has stalled", self._address)
            channel.abort()
        except (OSError, asyncssh.Error):  # the client has gone
            channel.abort()
        finally:
            self._server.tasks.discard(task)
            self._commands -= 1
            if not self._commands:
                self._leave_soon()

    async def _answer(
        self,
        channel: asyncssh.SSHServerChannel[bytes],
        stdin: SSHReader[bytes],
        stdout: SSHWriter[bytes],
        stderr: SSHWriter[bytes],
    ) -> int:
        hub, begun, command = self._hub, time.monotonic(), channel.get_command()
        name = (command or channel.get_subsystem() or "shell").partition(" ")[0][:80]
        fields: dict[str, object] = {"address": self._address}
        try:
            actor = await run_sync(hub.keys.actor, self._key)  # it may have been removed since
            fields["account"] = actor.name
            hub.limits.remember(self._key, actor.account_id or 0)
            standing = hub.limits.take("api", hub.limits.caller(self._key, self._address))
            if standing is not None:
                standing.require()
            await run_sync(hub.keys.note_use, self._key)
            asked = channel.get_environment_bytes().get(b"GIT_PROTOCOL", b"").decode(errors="replace")
            client = commands.Client(hub, self._server.turns, actor, self._key, protocol(asked), stdin, stdout)
            async with self._server.running[actor.account_id]:
                status = await commands.run(client, command or channel.get_subsystem())
        except HubError as error:
            stderr.write(f"{error.message}\n".encode())
            status = 1
        except (OSError, asyncssh.Error):
            raise
        except Exception:
            LOGGER.exception("%s over SSH failed", name)
            stderr.write(b"The hub failed; its operator finds the reason in the log\n")
            status = 1
        fields |= {"status": status, "seconds": f"{time.monotonic() - begun:.3f}"}
        LOGGER.info("SSH %s", name, extra={"fields": fields})
        return status

    # ------------------------------------------------------------ the end

    def end(self, code: int, reason: str) -> None:
        """Close the connection with a line that says why."""
        self._connection.disconnect(code, reason)

    def _leave_soon(self) -> None:
        """End the connection unless a command is run soon."""
        self._stay()
        reason = "Nothing was asked for"
        seconds = self._hub.settings.stall_limit
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(seconds, self.end, asyncssh.DISC_BY_APPLICATION, reason)

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
