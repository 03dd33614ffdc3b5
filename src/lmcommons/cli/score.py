"""`lmc score MODEL --text TEXT`."""

import json
from typing import Annotated

import typer

from lmcommons.cli.lines import Input, is_text, read_lines
from lmcommons.cli.options import Device, Dtype, Model
from lmcommons.errors import RequestError

app = typer.Typer()


@app.command("score")
def score(
    model: Model,
    text: Annotated[str | None, typer.Option(help="text whose tokens are scored")] = None,
    prompt: Annotated[str, typer.Option(help="what the text follows; for an encoder-decoder: its source")] = "",
    input_file: Input = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Print the log-probability of each token of a text, in nats; the score is their sum."""
    if (text is None) == (input_file is None):
        raise RequestError("give either --text or --input")
    if not (is_text(text or "") and is_text(prompt)):
        raise RequestError("--text and --prompt must be UTF-8 text")
    texts = [text or ""] if input_file is None else [row["text"] for row in read_lines(input_file, "text")]

    from lmcommons.generation import log_probabilities, prompt_tokens
    from lmcommons.generation.loading import load

    found, tokenizer = load(model, device, dtype)
    before = prompt_tokens(found, tokenizer, prompt)
    for each in texts:
        tokens = tokenizer.encode(each)
        logprobs = log_probabilities(found, before, tokens)
        if as_json or input_file is not None:
            report = {"text": each, "token_ids": tokens, "logprobs": logprobs, "score": sum(logprobs)}
            typer.echo(json.dumps(report, ensure_ascii=False))
        else:
            for token, logprob in zip(tokens, logprobs, strict=True):
                typer.echo(f"{logprob:9.4f}  {tokenizer.decode([token])!r}")
            typer.echo(f"{sum(logprobs):9.4f}  {len(tokens)} tokens")
