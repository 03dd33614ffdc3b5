"""`lmc recipe check FILE` and `lmc recipe schema`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lmcommons import environment, recipe

app = typer.Typer(no_args_is_help=True, help="Check a recipe; print the recipe's JSON Schema.")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="recipe, YAML")],
    as_json: Annotated[bool, typer.Option("--json", help="print the resolved recipe as JSON")] = False,
) -> None:
    """Read a recipe, fill in the defaults, and say what it would do."""
    checked = recipe.load_any(file)
    if isinstance(checked, recipe.Recipe):
        recipe.check_memory(checked, environment.memory())
    if as_json:
        typer.echo(json.dumps(checked.model_dump(mode="json"), indent=2, ensure_ascii=False))
        return
    if isinstance(checked, recipe.TaskRecipe):
        wanted = checked.finetuning
        typer.echo(
            f"{file}: right. {checked.name}: {wanted.task} from {wanted.model}, method {wanted.method.name}, "
            f"at most {wanted.epochs} epochs over {wanted.data.path}"
        )
        return
    parameters = checked.model.parameters(checked.tokenizer.vocab_size)
    typer.echo(
        f"{file}: right. {checked.name}: {parameters:,} parameters, {checked.tokens:,} training tokens, "
        f"at least {checked.training_memory() / 2**30:.2f} GiB of memory a step"
    )


@app.command()
def schema(
    finetuning: Annotated[bool, typer.Option("--finetuning", help="of fine-tuning recipes")] = False,
) -> None:
    """Print the JSON Schema of recipes, for editors that complete and check YAML."""
    kind = recipe.TaskRecipe if finetuning else recipe.Recipe
    typer.echo(json.dumps(kind.model_json_schema(), indent=2, ensure_ascii=False))
