"""`lmc run RECIPE`, and `lmc data|tokenizer|pretrain|evaluate|publish RECIPE` for the stages up to one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lmcommons.pipeline import run as run_stages
from lmcommons.processes import Processes

app = typer.Typer(no_args_is_help=True)

# command: (the last stage that it runs, its help)
COMMANDS = {
    "run": ("publishing", "Run all stages of a recipe; a stage whose inputs have not changed is not run again."),
    "data": ("data", "Build the dataset of a recipe: read, clean, deduplicate, split."),
    "tokenizer": ("tokenizer", "Train the tokenizer of a recipe, after its data."),
    "pretrain": ("pretraining", "Pretrain the model of a recipe; goes on where a killed run stopped."),
    "evaluate": ("evaluation", "Measure the model of a recipe on the test split, after the stages before."),
    "publish": ("publishing", "Publish dataset and model on the hub that HF_ENDPOINT names, with HF_TOKEN."),
}


def _command(until: str) -> Callable[..., None]:
    def run(
        recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe, YAML")],
        out: Annotated[Path, typer.Option("--out", help="results go to OUT/NAME/STAGE/KEY")] = Path("runs"),
        as_json: Annotated[bool, typer.Option("--json", help="print keys and reports of the stages as JSON")] = False,
        per_node: Annotated[
            int, typer.Option("--nproc-per-node", min=1, help="processes that pretrain on this machine, by torchrun")
        ] = 1,
        nodes: Annotated[int, typer.Option("--nnodes", min=1, help="machines that run this command together")] = 1,
        node_rank: Annotated[int, typer.Option(min=0, help="which of the machines this is, from 0")] = 0,
        rdzv_endpoint: Annotated[str, typer.Option(metavar="HOST:PORT", help="of the first machine")] = "",
    ) -> None:
        summary = run_stages(recipe, out, until, Processes(per_node, nodes, node_rank, rdzv_endpoint))
        if as_json:
            typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
            return
        for stage, result in summary.items():
            typer.echo(f"{stage}\t{result['directory']}")
            if stage == "publishing":
                for kind in ("dataset", "model"):
                    typer.echo(f"{kind}\t{result['report'][kind]['url']}")

    return run


for _name, (_until, _help) in COMMANDS.items():
    app.command(_name, help=_help)(_command(_until))
