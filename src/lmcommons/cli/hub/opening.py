"""What the `lmc hub` commands share: their common options, and the opened hub."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmcommons.errors import CommandError, RequestError

if TYPE_CHECKING:
    from lmcommons.hub.rooms import Hub

OBJECTS = "LMC_OBJECTS"  # in the environment: any command may be the one that makes the hub

Data = Annotated[Path, typer.Option("--data", help="the hub's directory; made when it does not exist")]
Database = Annotated[
    str | None,
    typer.Option("--database", envvar="LMC_DATABASE", help="SQLAlchemy URL; default: SQLite in the directory"),
]
Objects = Annotated[
    str | None,
    typer.Option(
        "--objects",
        envvar=OBJECTS,
        help="directory or s3://BUCKET/PREFIX for large files; default: in DATA, remembered",
    ),
]


@contextmanager
def open_hub(data: Path, database: str | None) -> Iterator["Hub"]:
    """The hub's rooms; what they refuse becomes a wrong request, and what fails in them a failed command."""
    from lmcommons.hub.errors import HubError
    from lmcommons.hub.rooms import Hub
    from lmcommons.hub.settings import Settings

    hub = Hub(Settings.make(data, database=database, objects=os.environ.get(OBJECTS)))
    try:
        yield hub
    except HubError as error:
        raise (RequestError if error.status < 500 else CommandError)(error.message) from error
    finally:
        hub.close()


@contextmanager
def open_present_hub(data: Path, database: str | None) -> Iterator["Hub"]:
    """As `open_hub`, for commands that make no new hub."""
    if not data.is_dir():
        raise RequestError(f"{data}: no such directory")
    with open_hub(data, database) as hub:
        yield hub
