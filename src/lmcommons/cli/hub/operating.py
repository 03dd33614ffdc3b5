"""`lmc hub fsck …`: care for a hub's data."""

import typer

from lmcommons.cli.hub.opening import Data, Database, open_hub
from lmcommons.errors import CommandError, RequestError


def fsck(data: Data, database: Database = None) -> None:
    """Hash every object again and follow every ref; list what is wrong, and exit 1 when something is."""
    if not data.is_dir():
        raise RequestError(f"{data}: no such directory")
    with open_hub(data, database) as hub:
        problems = hub.check()
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise CommandError(f"{data}: {len(problems)} problem{'s' if len(problems) > 1 else ''}")
    typer.echo(f"lmc: {data}: every object and ref is intact", err=True)
