"""`lmc finetune RECIPE`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lmcommons.finetuning import run

app = typer.Typer(no_args_is_help=True)


@app.command("finetune")
def finetune(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="fine-tuning recipe, YAML")],
    out: Annotated[Path, typer.Option("--out", help="results go to OUT/NAME/finetuning/KEY")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="print key, directory and report as JSON")] = False,
) -> None:
    """Fine-tune a model to a task, and measure it on the test rows; goes on where a killed run stopped."""
    summary = run(recipe, out)
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    typer.echo(f"finetuning\t{summary['directory']}")
    if "published" in summary:
        typer.echo(f"model\t{summary['published']['url']}")
    for split, measurements in summary["report"]["tests"].items():
        for found in measurements:
            typer.echo(
                f"{split}\t{found['metric']} {found['value']:.4g} ({found['low']:.4g} to {found['high']:.4g}, "
                f"n = {found['n']}); {found['baseline']} {found['baseline_value']:.4g}"
            )
