"""`lmc import DIR_OR_REPO --out DIR` and `lmc export DIR --out PATH`: models from and to the formats of others.

Our models are `transformers` directories already. `import` reads one of ours or of theirs, or a GGUF file, refuses what
we do not compute exactly, and writes the model anew: tensors in safetensors, the tokenizer's files, and nothing that
could run code. `export` also writes GGUF for llama.cpp and what CTranslate2 reads.
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmcommons.errors import RequestError

if TYPE_CHECKING:
    import torch

    from lmcommons.model import Model

app = typer.Typer(no_args_is_help=True, help="Models from and to the formats of others.")

FAMILIES = "GPT-2, Llama and Qwen2, BERT, T5, Marian, XLNet"


class Format(StrEnum):
    """What `export` writes."""

    transformers = "transformers"
    gguf = "gguf"
    ctranslate2 = "ctranslate2"


class Precision(StrEnum):
    """Of the weights that `import` writes."""

    stored = "stored"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


# the precisions of each format, by its own names; the first is the one that is written where none is asked for
PRECISIONS: dict[Format, tuple[str, ...]] = {
    Format.transformers: tuple(Precision),
    Format.gguf: ("f32", "bf16", "q8_0"),
    Format.ctranslate2: ("float32", "int8"),
}
Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]


@app.command("import", help=f"Read a model and write it as one of ours. Families: {FAMILIES}.")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR_OR_REPO",
            help="directory, GGUF file (Llama, Qwen2, GPT-2), namespace/name or namespace/name@revision on a hub",
        ),
    ],
    out: Annotated[Path, typer.Option(help="directory to write; must not be there yet")],
    dtype: Annotated[
        Precision, typer.Option(help="precision of the weights; stored: as they are, quantised ones in float32")
    ] = Precision.stored,
    as_json: Json = False,
) -> None:
    from lmcommons.client import model_directory
    from lmcommons.model import convert

    precision = _torch_dtype(dtype)
    if source.endswith(".gguf") and Path(source).is_file():
        from lmcommons.model.interop import gguf

        model = gguf.convert(Path(source), out, dtype=precision)
    else:
        model = convert(model_directory(source), out, dtype=precision)
    _report(model, out, str(model.embedding.dtype).removeprefix("torch."), as_json)


@app.command("export")
def export(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="directory of a model")],
    out: Annotated[Path, typer.Option(help="directory (gguf: file) to write; must not be there yet")],
    format_: Annotated[
        Format,
        typer.Option("--format", help="gguf: Llama, Qwen2, GPT-2; ctranslate2: these and T5, Marian, BERT states"),
    ] = Format.transformers,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            "--quantization",
            help="; ".join(f"{name}: {'|'.join(names)}" for name, names in PRECISIONS.items()),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model for `transformers`, llama.cpp (GGUF) or CTranslate2."""
    precision = dtype or PRECISIONS[format_][0]
    if precision not in PRECISIONS[format_]:
        raise RequestError(f"--dtype {precision}: {format_} is written as one of {', '.join(PRECISIONS[format_])}")
    from lmcommons.model import convert, load

    if format_ is Format.transformers:
        model = convert(source, out, dtype=_torch_dtype(precision))
        precision = str(model.embedding.dtype).removeprefix("torch.")
    elif format_ is Format.gguf:
        from lmcommons.model.interop import gguf

        model = load(source)
        gguf.write(model, source, out, precision)
    else:
        from lmcommons.model.interop import ctranslate2

        model = load(source)
        ctranslate2.write(model, source, out, precision)
    _report(model, out, precision, as_json)


def _torch_dtype(name: str) -> "torch.dtype | None":
    import torch

    return None if name == Precision.stored else getattr(torch, name)


def _report(model: "Model", out: Path, precision: str, as_json: bool) -> None:
    from lmcommons.model.interop.directory import config_fields

    (architecture,) = config_fields(model.config)["architectures"]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if as_json:
        report = {"family": model.config.family, "architecture": architecture, "parameters": parameters}
        typer.echo(json.dumps({"out": str(out), **report, "dtype": precision}))
    else:
        typer.echo(f"{out}: {architecture} of the family {model.config.family}, {parameters:,} parameters, {precision}")
