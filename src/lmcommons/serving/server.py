"""From a free port to the last request: binds, serves, and ends cleanly on SIGINT or SIGTERM."""

import asyncio
import errno
import socket
from types import FrameType
from typing import Self

import uvicorn
from fastapi import FastAPI

from lmcommons.errors import CommandError
from lmcommons.progress import say
from lmcommons.serving.engine import Engine

GRACE = 5.0  # seconds that running requests get to end after a signal


class Binding:
    """A port, taken before the model is loaded, so that a taken one is known at once.

    It listens from the beginning: a port that is only bound may be bound a second time. Who connects early waits.
    """

    def __init__(self, host: str, port: int) -> None:
        """Bind and listen.

        Raises:
            CommandError: the port is taken or not allowed, or the host is none of this machine's addresses.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.socket.bind((host, port))
            self.socket.listen()
        except UnicodeError as error:
            self.socket.close()
            raise CommandError(f"cannot listen on {host}: not the name of a host") from error
        except OSError as error:
            self.socket.close()
            if error.errno == errno.EADDRINUSE:
                raise CommandError(f"port {port} on {host} is taken; choose another with --port") from error
            raise CommandError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        self.url = f"http://{shown}:{self.socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, and that a signal ends with exit code 0."""

    def __init__(self, config: uvicorn.Config, engine: Engine, greeting: str) -> None:
        super().__init__(config)
        self._engine, self._greeting = engine, greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        say(self._greeting)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        abort = asyncio.get_running_loop().call_later(GRACE, self._engine.abort)
        await super().shutdown(sockets)
        abort.cancel()


def run(app: FastAPI, engine: Engine, binding: Binding, name: str) -> None:
    """Serve until SIGINT or SIGTERM; then running requests get `GRACE` seconds. A second signal ends at once."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=round(2 * GRACE))
    greeting = f"lmc serve: {name} is ready at {binding.url}/v1"
    _Server(config, engine, greeting).run(sockets=[binding.socket])
