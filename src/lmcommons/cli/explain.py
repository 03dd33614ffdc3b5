"""`lmc explain MODEL --text TEXT --out PAGE.html`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from lmcommons.cli.lines import is_text
from lmcommons.cli.options import Device, Model
from lmcommons.errors import RequestError

app = typer.Typer()


@app.command("explain")
def explain(
    model: Model,
    text: Annotated[
        str, typer.Option(help="text to classify, to go on from, to find an answer in, or with one [MASK]")
    ],
    out: Annotated[Path, typer.Option(help="HTML file to write")],
    source: Annotated[
        str | None, typer.Option(help="of an encoder-decoder: what it reads; --text is its answer")
    ] = None,
    question: Annotated[str | None, typer.Option(help="of a question-answering model: what is asked of --text")] = None,
    word: Annotated[
        int | None, typer.Option(help="of a model for words' classes: which word of --text, from 1 on")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="class, token or answer to explain; default: the likeliest")
    ] = None,
    language: Annotated[
        Literal["en", "zh"] | None, typer.Option(help="of the page; default: the environment's")
    ] = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="also print the attributions as one JSON object")] = False,
) -> None:
    """Show who reads whom in a model, and how much each token adds to its output, as one page."""
    if not all(is_text(value) for value in (text, source or "", question or "", target or "")):
        raise RequestError("--text, --source, --question and --target must be UTF-8 text")
    if out.is_dir():
        raise RequestError(f"{out} is a directory; name the HTML file to write")

    from lmcommons import explaining
    from lmcommons.explaining.words import environment_language
    from lmcommons.inference import load

    loaded = load(model, device, "float32")
    found = explaining.explain(loaded, text, source=source, question=question, word=word, target=target)
    explaining.write_page(out, found, language or environment_language())
    if not as_json:
        typer.echo(f"{out}: {found.target!r} with probability {found.probability:.3f}")
        return
    attributions = found.attributions
    report = {
        "out": str(out),
        "target": found.target,
        "probability": found.probability,
        "attributions": [
            [{"token": token, "attribution": value} for token, value in zip(part.shown, values, strict=True)]
            for part, values in zip(found.subject.parts, attributions.values, strict=True)
        ],
        "total": attributions.total,
        "difference": attributions.difference,
        "steps": attributions.steps,
    }
    typer.echo(json.dumps(report, ensure_ascii=False))
