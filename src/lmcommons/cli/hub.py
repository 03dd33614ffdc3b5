"""`lmc hub serve`, `user add`, `token add`, `org add` and `fsck`."""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmcommons.errors import CommandError, RequestError

if TYPE_CHECKING:
    from lmcommons.hub.rooms import Hub

app = typer.Typer(no_args_is_help=True, help="Host a hub.")
user = typer.Typer(no_args_is_help=True, help="People who use the hub.")
org = typer.Typer(no_args_is_help=True, help="Organisations that own repositories together.")
token = typer.Typer(no_args_is_help=True, help="Access tokens of users.")
app.add_typer(user, name="user")
app.add_typer(token, name="token")
app.add_typer(org, name="org")

Data = Annotated[Path, typer.Option("--data", help="the hub's directory; made when it does not exist")]
Database = Annotated[str | None, typer.Option("--database", help="SQLAlchemy URL; default: SQLite in the directory")]


@app.command()
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


@user.command("add")
def add_user(
    name: str,
    data: Data,
    fullname: Annotated[str | None, typer.Option()] = None,
    email: Annotated[str | None, typer.Option()] = None,
    admin: Annotated[bool, typer.Option("--admin", help="may do everything in every namespace")] = False,
    database: Database = None,
) -> None:
    """Make a user and print a write token, alone, on standard output; it is not shown again."""
    with _open(data, database) as hub:
        typer.echo(hub.accounts.add_user(name, fullname=fullname, email=email, admin=admin))


@token.command("add")
def add_token(
    user_name: Annotated[str, typer.Argument(metavar="USER")],
    data: Data,
    name: Annotated[str, typer.Option(help="what the token is for")] = "default",
    role: Annotated[str, typer.Option(help="read or write")] = "write",
    database: Database = None,
) -> None:
    """Print another token of a user, alone, on standard output; it is not shown again."""
    from lmcommons.hub.database.tables import TokenRole

    if role not in list(TokenRole):
        raise RequestError(f"--role {role}: one of {', '.join(TokenRole)}")
    with _open(data, database) as hub:
        typer.echo(hub.accounts.add_token(user_name, name, TokenRole(role)))


@org.command("add")
def add_organisation(
    name: str,
    data: Data,
    fullname: Annotated[str | None, typer.Option()] = None,
    member: Annotated[
        list[str] | None, typer.Option(metavar="USER:ROLE", help="role: read, contributor, write or admin")
    ] = None,
    private_by_default: Annotated[bool, typer.Option("--private-by-default", help="of new repositories")] = False,
    database: Database = None,
) -> None:
    """Make an organisation."""
    from lmcommons.hub.database.tables import Role

    members = []
    for text in member or []:
        user_name, _, role = text.partition(":")
        if role not in list(Role):
            raise RequestError(f"--member {text}: write USER:ROLE, with a role of {', '.join(Role)}")
        members.append((user_name, Role(role)))
    with _open(data, database) as hub:
        hub.accounts.add_organisation(name, fullname=fullname, members=members, private_by_default=private_by_default)


@app.command()
def fsck(data: Data, database: Database = None) -> None:
    """Hash every object again and follow every ref; list what is wrong, and exit 1 when something is."""
    if not data.is_dir():
        raise RequestError(f"{data}: no such directory")
    with _open(data, database) as hub:
        problems = hub.check()
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise CommandError(f"{data}: {len(problems)} problem{'s' if len(problems) > 1 else ''}")
    typer.echo(f"lmc: {data}: every object and ref is intact", err=True)


@contextmanager
def _open(data: Path, database: str | None) -> Iterator["Hub"]:
    """The hub's rooms; what they refuse becomes a wrong request, and what fails in them a failed command."""
    from lmcommons.hub.errors import HubError
    from lmcommons.hub.rooms import Hub
    from lmcommons.hub.settings import Settings

    hub = Hub(Settings.make(data, database=database))
    try:
        yield hub
    except HubError as error:
        raise (RequestError if error.status < 500 else CommandError)(error.message) from error
    finally:
        hub.close()


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
