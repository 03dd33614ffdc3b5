"""`lmc hub serve`."""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from lmcommons.cli.hub.opening import Data, Database
from lmcommons.errors import CommandError, RequestError


def serve(
    data: Data,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 for all")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 7860,
    database: Database = None,
    objects: Annotated[str | None, typer.Option(help="directory for large files; default: in DATA, remembered")] = None,
    public_url: Annotated[str | None, typer.Option(help="the address that users see, behind a proxy")] = None,
) -> None:
    """Serve the hub until SIGTERM or Ctrl-C."""
    import uvicorn

    from lmcommons.hub.app import create_app
    from lmcommons.hub.settings import Settings

    with _listen(host, port) as listener:
        port = listener.getsockname()[1]
        settings = Settings.make(data, host=host, port=port, public_url=public_url, database=database, objects=objects)
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(settings),
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=True,
                timeout_graceful_shutdown=10,
            )
        )
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, lambda *_: sys.exit(0))  # uvicorn stops gracefully, then raises the signal again
        typer.echo(f"lmc: hub at {settings.public_url}", err=True)
        server.run(sockets=[listener])
    if not server.started:
        raise CommandError("the hub could not start")


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except socket.gaierror as error:
        raise RequestError(f"--host {host}: not an address of this machine") from error
    except OSError as error:
        raise CommandError(
            f"{host}:{port}: {error.strerror}; choose another --port or stop what listens there"
        ) from error
    with listener:
        yield listener
