"""`lmc run RECIPE`, and `lmc data|tokenizer|pretrain|evaluate|publish RECIPE` for the stages up to one."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lmcommons.pipeline import run as run_stages

app = typer.Typer(no_args_is_help=True)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe, YAML")]
Out = Annotated[Path, typer.Option("--out", help="results go to OUT/NAME/STAGE/KEY")]
AsJson = Annotated[bool, typer.Option("--json", help="print directories, keys and reports of the stages as JSON")]


@app.command("run")
def run(recipe: RecipeFile, out: Out = Path("runs"), as_json: AsJson = False) -> None:
    """Run all stages of a recipe; a stage whose inputs have not changed is not run again."""
    _run(recipe, out, "publishing", as_json)


@app.command("data")
def data(recipe: RecipeFile, out: Out = Path("runs"), as_json: AsJson = False) -> None:
    """Build the dataset of a recipe: read, clean, deduplicate, split."""
    _run(recipe, out, "data", as_json)


@app.command("tokenizer")
def tokenizer(recipe: RecipeFile, out: Out = Path("runs"), as_json: AsJson = False) -> None:
    """Train the tokenizer of a recipe, after its data."""
    _run(recipe, out, "tokenizer", as_json)


@app.command("pretrain")
def pretrain(recipe: RecipeFile, out: Out = Path("runs"), as_json: AsJson = False) -> None:
    """Pretrain the model of a recipe, after its data and tokenizer; goes on where a killed run stopped."""
    _run(recipe, out, "pretraining", as_json)


@app.command("evaluate")
def evaluate(recipe: RecipeFile, out: Out = Path("runs"), as_json: AsJson = False) -> None:
    """Measure the model of a recipe on the test split, after the stages before."""
    _run(recipe, out, "evaluation", as_json)


@app.command("publish")
def publish(recipe: RecipeFile, out: Out = Path("runs"), as_json: AsJson = False) -> None:
    """Publish dataset and model on the hub that HF_ENDPOINT names, after the stages before."""
    _run(recipe, out, "publishing", as_json)


def _run(recipe: Path, out: Path, until: str, as_json: bool) -> None:
    summary = run_stages(recipe, out, until)
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    for stage, result in summary.items():
        typer.echo(f"{stage}\t{result['directory']}")
        if stage == "publishing":
            for kind in ("dataset", "model"):
                typer.echo(f"{kind}\t{result['report'][kind]['url']}")
