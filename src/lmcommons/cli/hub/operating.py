"""`lmc hub fsck`, `backup`, `restore`, `export`, `import` and `mirror`: care for a hub's data."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lmcommons.cli.hub.opening import Data, Database, Objects, open_present_hub
from lmcommons.errors import CommandError, RequestError


def fsck(data: Data, database: Database = None) -> None:
    """Hash every object again and follow every ref; list what is wrong, and exit 1 when something is."""
    with open_present_hub(data, database) as hub:
        _tell(data, hub.check())


def backup(
    data: Data,
    out: Annotated[Path, typer.Option(help="directory of the backup; the next one there copies only what is new")],
    database: Database = None,
) -> None:
    """Copy all of a hub while it serves: accounts, repositories, objects."""
    from lmcommons.hub.operating.backup import back_up

    with open_present_hub(data, database) as hub:
        done = back_up(hub, out, _report)
    typer.echo(f"lmc: {out}: {done.repositories:,} repositories; {done.copied:,} bytes of objects were new", err=True)


def restore(
    source: Annotated[Path, typer.Option("--from", help="directory that `lmc hub backup` made")],
    data: Data,
    database: Database = None,
    objects: Objects = None,
) -> None:
    """Make a new hub from a backup, on any database and store; every object and ref is checked."""
    from lmcommons.hub.operating.backup import restore
    from lmcommons.hub.settings import Settings

    settings = Settings.make(data, database=database, objects=objects)
    _tell(data, restore(source, settings, _report))


def export(
    repositories: Annotated[
        list[str], typer.Argument(metavar="REPO...", help="namespace/name, datasets/namespace/name")
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="the bundle's file")],
    database: Database = None,
) -> None:
    """Write repositories to one file for `import`; print the sha256 that vouches for it, alone, on standard output."""
    from lmcommons.hub.operating.bundle import write_bundle

    with open_present_hub(data, database) as hub:
        typer.echo(write_bundle(hub, repositories, out, _report))


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a bundle that `export` wrote")],
    data: Data,
    sha256: Annotated[str | None, typer.Option(help="what `export` printed; another bundle is refused")] = None,
    force: Annotated[bool, typer.Option("--force", help="also replace work that is only here")] = False,
    database: Database = None,
) -> None:
    """Make or update the repositories of a bundle."""
    from lmcommons.hub.operating.bundle import read_bundle

    with open_present_hub(data, database) as hub:
        names = read_bundle(hub, file, _report, sha256=sha256, force=force)
    typer.echo(f"lmc: {data}: has {', '.join(names)}", err=True)


def mirror(
    name: Annotated[
        str, typer.Argument(metavar="NAMESPACE[/NAME]", help="a repository, or all of a user or organisation")
    ],
    data: Data,
    origin: Annotated[str, typer.Option("--from", help="address of the other hub")],
    type_: Annotated[str | None, typer.Option("--type", help="model, dataset or space")] = None,
    token_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="environment variable with a token there")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="also replace work that is only here")] = False,
    database: Database = None,
) -> None:
    """Bring repositories to the state that they have on another hub: commits, branches, tags and large files."""
    from lmcommons.hub.database.tables import RepositoryType
    from lmcommons.hub.operating.mirror import Origin, mirror

    if type_ is not None and type_ not in list(RepositoryType):
        raise RequestError(f"--type {type_}: one of {', '.join(RepositoryType)}")
    if token_env is not None and not os.environ.get(token_env):
        raise RequestError(f"--token-env {token_env}: the environment has no such variable")
    source = Origin(origin.rstrip("/"), os.environ[token_env] if token_env else None)
    with open_present_hub(data, database) as hub:
        kind = RepositoryType(type_) if type_ else None
        problems = mirror(hub, source, name, _report, type_=kind, force=force)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise CommandError(f"{name}: {len(problems)} not mirrored")


def _tell(data: Path, problems: list[str]) -> None:
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise CommandError(f"{data}: {len(problems)} problem{'s' if len(problems) > 1 else ''}")
    typer.echo(f"lmc: {data}: every object and ref is intact", err=True)


def _report(line: str) -> None:
    typer.echo(f"lmc: {line}", err=True)
