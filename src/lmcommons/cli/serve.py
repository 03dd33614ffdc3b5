"""`lmc serve MODEL --port P`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lmcommons.cli.options import Device, Dtype, Model

app = typer.Typer()


@app.command("serve")
def serve(
    model: Model,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = 8000,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 for all of this machine's")] = "127.0.0.1",
    name: Annotated[str | None, typer.Option(help="what clients call the model; default: MODEL's own name")] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=1024, help="requests that are continued at once")] = 16,
    max_waiting: Annotated[int, typer.Option(min=1, help="requests that wait for room; more get 503")] = 256,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="tokens of prompt and reply; default: the model's")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Serve a model at http://HOST:PORT/v1 until Ctrl-C.

    With LMC_API_KEY in the environment, clients must send it as their API key.
    """
    from lmcommons.generation import Batch
    from lmcommons.generation.loading import load_decoder
    from lmcommons.serving import Binding, Engine, create_app, run

    with Binding(host, port) as binding:
        decoder, tokenizer = load_decoder(model, device, dtype)
        engine = Engine(Batch(decoder, tokenizer, max_rows=max_batch, max_length=max_length), max_waiting=max_waiting)
        del decoder  # the batch has its own layout of the weights
        served = name or (Path(model).resolve().name if Path(model).is_dir() else model)
        run(create_app(engine, tokenizer, served, os.environ.get("LMC_API_KEY")), engine, binding, served)
