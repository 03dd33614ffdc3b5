"""`lmc hub gc`: the room that a hub's data takes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from lmcommons.cli.hub.opening import Data, Database, open_present_hub
from lmcommons.errors import CommandError


def gc(
    data: Data,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be removed, and leave it")] = False,
    grace: Annotated[
        float, typer.Option(min=0, metavar="HOURS", help="what was uploaded since then is kept, committed or not")
    ] = 48,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
    database: Database = None,
) -> None:
    """Remove what nothing refers to: objects that no commit names, deleted repositories, unfinished uploads.

    The hub may serve meanwhile.
    """
    from lmcommons.hub.operating.garbage import collect

    with open_present_hub(data, database) as hub:
        done = collect(hub, datetime.now(UTC) - timedelta(hours=grace), dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(done.as_json()))
    else:
        typer.echo(
            f"{'would free' if dry_run else 'freed'} {done.size:,} bytes: {done.objects.count:,} objects, "
            f"{done.xorbs.count:,} xorbs, {done.uploads.count:,} unfinished uploads; {done.unlinked:,} objects left "
            f"their repository, {done.repositories + done.temporary:,} leftovers in git directories"
        )
    if done.problems:
        raise CommandError("; ".join(done.problems))
