"""`lmc hub serve`: one process, or a supervisor of several that share the listening socket."""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmcommons.cli.hub.opening import Data, Database, Objects
from lmcommons.errors import CommandError, RequestError
from lmcommons.hub.settings import HOST, PORT, Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from lmcommons.hub.rooms import Hub

LOG_LEVELS = ("info", "warning", "error")
HANGING = 60  # seconds without a sign of life after which a worker is replaced


def serve(
    data: Data,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 for all")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535)] = PORT,
    database: Database = None,
    objects: Objects = None,
    accel: Annotated[
        str | None, typer.Option(help="nginx's internal location of the objects, which then sends large files")
    ] = None,
    public_url: Annotated[str | None, typer.Option(help="the address that users see, behind a proxy")] = None,
    sign_up: Annotated[str, typer.Option(help="who may make an account: open, invite or closed")] = Settings.sign_up,
    member_organisations: Annotated[
        bool, typer.Option("--member-organisations", help="every user may make organisations")
    ] = Settings.member_organisations,
    rate_limit: Annotated[
        int, typer.Option(min=0, help="requests of one account or address in five minutes; 0: no limit")
    ] = Settings.rate_limit,
    allow_private_webhooks: Annotated[
        bool, typer.Option("--allow-private-webhooks", help="webhooks may reach addresses of the hub's own network")
    ] = Settings.allow_private_webhooks,
    stall_limit: Annotated[
        float, typer.Option(min=0.1, help="seconds for a request's header, and that its body or a clone may pause")
    ] = Settings.stall_limit,
    smtp: Annotated[
        str | None, typer.Option(help="server for mail, smtp://[user@]host:port; password in LMC_SMTP_PASSWORD")
    ] = None,
    mail_from: Annotated[str | None, typer.Option(help="the address that mail is from")] = None,
    about: Annotated[
        Path | None, typer.Option(help="a Markdown file with which the first page begins: what this commons is")
    ] = None,
    try_models: Annotated[
        list[str] | None,
        typer.Option(
            "--try", metavar="MODEL=URL", help="a server with OpenAI's API for a model's page; token in LMC_TRY_TOKEN"
        ),
    ] = None,
    import_from: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="a hub from which members may import what is public there"),
    ] = None,
    ssh_port: Annotated[int | None, typer.Option(min=0, max=65535, help="serve git over SSH too, on this port")] = None,
    ssh_host: Annotated[str, typer.Option(help="address to listen on for SSH; 0.0.0.0 for all")] = HOST,
    ssh_url: Annotated[
        str | None, typer.Option(help="what users write before a name, where another port leads here: ssh://git@HOST")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes that answer requests")] = 1,
    log_level: Annotated[str, typer.Option(help="info (a line a request), warning or error")] = "warning",
    log_format: Annotated[str, typer.Option(help="text or json")] = "text",
) -> None:
    """Serve the hub until SIGTERM or Ctrl-C."""
    from lmcommons.hub.api.connection import Connection
    from lmcommons.hub.operating.logs import LogFormat, configuration

    if log_format not in list(LogFormat):
        raise RequestError(f"--log-format {log_format}: one of {', '.join(LogFormat)}")
    if log_level not in LOG_LEVELS:
        raise RequestError(f"--log-level {log_level}: one of {', '.join(LOG_LEVELS)}")
    with _listen(host, port) as listener, ExitStack() as opened:
        port = listener.getsockname()[1]
        ssh = opened.enter_context(_listen(ssh_host, ssh_port, "--ssh-")) if ssh_port is not None else None
        settings = Settings.make(
            data,
            host=host,
            port=port,
            public_url=public_url,
            database=database,
            objects=objects,
            accel=accel,
            sign_up=sign_up,
            member_organisations=member_organisations,
            rate_limit=rate_limit,
            allow_private_webhooks=allow_private_webhooks,
            stall_limit=stall_limit,
            smtp=smtp,
            mail_from=mail_from,
            smtp_password=os.environ.get("LMC_SMTP_PASSWORD"),
            about=about,
            try_models=try_models or (),
            try_token=os.environ.get("LMC_TRY_TOKEN"),
            ssh_port=ssh.getsockname()[1] if ssh else None,
            ssh_url=ssh_url,
            import_from=import_from or (),
        )
        options = {
            "http": partial(Connection, seconds=stall_limit),
            "log_config": configuration(LogFormat(log_format), log_level),
            "log_level": "warning",
            "access_log": False,
            "server_header": False,
            "proxy_headers": True,
            "timeout_graceful_shutdown": 10,
            # Longer than Python's clients keep an idle connection (5): one that both sides end at once fails a request.
            "timeout_keep_alive": 20,
        }
        if workers == 1:
            _serve_alone(settings, listener, ssh, options)
        else:
            _supervise(settings, listener, ssh, workers, options)


def _serve_alone(
    settings: "Settings", listener: socket.socket, ssh: socket.socket | None, options: dict[str, Any]
) -> None:
    import uvicorn

    from lmcommons.hub.app import create_app

    app = create_app(settings, ssh)
    server = uvicorn.Server(uvicorn.Config(app, **options))
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: sys.exit(0))  # uvicorn stops gracefully, then raises the signal again
    _announce(app.state.hub)
    server.run(sockets=[listener])
    if not server.started:
        raise CommandError("the hub could not start")


def _supervise(
    settings: "Settings",
    listener: socket.socket,
    ssh: socket.socket | None,
    workers: int,
    options: dict[str, Any],
) -> None:
    """Keep `workers` processes: one that dies is replaced, SIGHUP replaces all in turn, SIGTERM and Ctrl-C end all."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from lmcommons.hub.rooms import Hub

    with tempfile.TemporaryDirectory(prefix="lmc-counts-") as counts:
        settings = replace(settings, counters=Path(counts) / "requests")
        hub = Hub(settings)  # what is wrong is said once, and here
        hub.close()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
        config = uvicorn.Config(
            partial(_worker, settings, ssh),
            factory=True,
            workers=workers,
            timeout_worker_healthcheck=HANGING,
            **options,
        )
        supervisor = Multiprocess(config, [listener])
        _announce(hub)
        supervisor.run()
    if any(process.exitcode == uvicorn.config.STARTUP_FAILURE for process in supervisor.processes):
        raise CommandError("the hub could not start")


def _worker(settings: "Settings", ssh: socket.socket | None) -> "FastAPI":
    from lmcommons.hub.app import create_app

    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    return create_app(settings, ssh)


def _end_with_supervisor() -> None:
    # A supervisor that was killed leaves nobody to stop its workers, and they would hold the port.
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    supervisor.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _announce(hub: "Hub") -> None:
    typer.echo(f"lmc: hub at {hub.settings.public_url}", err=True)
    if hub.settings.ssh_url is not None:
        typer.echo(f"lmc: git at {hub.settings.ssh_url}, host key {hub.keys.host_key.get_fingerprint()}", err=True)


@contextmanager
def _listen(host: str, port: int, option: str = "--") -> Iterator[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except socket.gaierror as error:
        raise RequestError(f"{option}host {host}: not an address of this machine") from error
    except OSError as error:
        raise CommandError(
            f"{host}:{port}: {error.strerror}; choose another {option}port or stop what listens there"
        ) from error
    with listener:
        yield listener
