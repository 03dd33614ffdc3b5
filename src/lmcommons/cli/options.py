"""Arguments and options that several commands share."""

from typing import Annotated, Literal

import typer

Model = Annotated[str, typer.Argument(metavar="MODEL", help="directory, or namespace/name[@revision] on the hub")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: the GPU where there is one")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(help="precision of the weights; auto: float32 on a CPU, bfloat16 on a GPU"),
]
