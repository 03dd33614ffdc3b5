"""`lmc import DIR_OR_REPO --out DIR` and `lmc export DIR --out DIR`: models to and from `transformers` directories.

Our models are `transformers` directories already, so both read every weight, refuse what we do not compute exactly, and
write the same model anew: tensors in safetensors, the tokenizer's files, and nothing that could run code.
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Models to and from `transformers` directories.")


class Precision(StrEnum):
    """Of the weights that are written."""

    stored = "stored"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Out = Annotated[Path, typer.Option(help="directory to write; must not be there yet")]
Dtype = Annotated[Precision, typer.Option(help="precision of the weights that are written; stored: as they are")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(metavar="DIR_OR_REPO", help="directory, or namespace/name[@revision] on the hub")
    ],
    out: Out,
    dtype: Dtype = Precision.stored,
    as_json: Json = False,
) -> None:
    """Read a LlamaForCausalLM from a directory or the hub and write it as a model of ours."""
    from lmcommons.client import model_directory

    _convert(model_directory(source), out, dtype, as_json)


@app.command("export")
def export(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="directory of a model")],
    out: Out,
    dtype: Dtype = Precision.stored,
    as_json: Json = False,
) -> None:
    """Write a model as a directory that `transformers` loads."""
    _convert(source, out, dtype, as_json)


def _convert(source: Path, out: Path, dtype: Precision, as_json: bool) -> None:
    import torch

    from lmcommons.model import convert

    model = convert(source, out, dtype=None if dtype is Precision.stored else getattr(torch, dtype))
    parameters = model.config.parameters(model.config.vocab_size)
    stored = str(model.embedding.dtype).removeprefix("torch.")
    if as_json:
        typer.echo(json.dumps({"directory": str(out), "parameters": parameters, "dtype": stored}))
    else:
        typer.echo(f"{out}: LlamaForCausalLM, {parameters:,} parameters, {stored}")
