"""`lmc generate MODEL --prompt TEXT`."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmcommons.cli.options import Device, Dtype, Model
from lmcommons.errors import RequestError

if TYPE_CHECKING:
    from lmcommons.generation import Delta, Sequence

app = typer.Typer()


class Strategy(StrEnum):
    """How the next token is chosen."""

    greedy = "greedy"
    beam = "beam"
    sample = "sample"


@app.command("generate")
def generate(
    model: Model,
    prompt: Annotated[str, typer.Option(help="text to continue")],
    strategy: Annotated[
        Strategy | None, typer.Option(help="default: the one whose options are given, else greedy")
    ] = None,
    num_beams: Annotated[int | None, typer.Option(help="beam: continuations kept at each step; default 4")] = None,
    length_penalty: Annotated[float | None, typer.Option(help="beam: above 0 favours long texts; default 1")] = None,
    temperature: Annotated[float | None, typer.Option(help="sampling: lower is more predictable; default 1")] = None,
    top_k: Annotated[int | None, typer.Option(help="sampling: keep the K best tokens; default all")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="sampling: keep the best tokens of probability P; default 1")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="tokens to generate at most")] = 128,
    seed: Annotated[int | None, typer.Option(help="sampling: the same seed gives the same text")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="text that ends the continuation; may be repeated")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object at the end")] = False,
) -> None:
    """Continue a prompt; the text is printed as it is made."""
    sampling = {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p, "--seed": seed}
    searching = {"--num-beams": num_beams, "--length-penalty": length_penalty}
    chosen = strategy or _implied(sampling, searching)
    for belongs, options in ((Strategy.sample, sampling), (Strategy.beam, searching)):
        given = next((option for option, value in options.items() if value is not None), None)
        if given and chosen is not belongs:
            raise RequestError(f"{given} belongs to --strategy {belongs}; the strategy is {chosen}")
    if stop and chosen is Strategy.beam:
        raise RequestError("--stop does not work with --strategy beam")
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise RequestError("--prompt is not UTF-8 text")

    from lmcommons.generation import BeamParameters, SamplingParameters, Sequence, beam_search, stream
    from lmcommons.generation.loading import load

    parameters: BeamParameters | SamplingParameters
    if chosen is Strategy.beam:
        parameters = BeamParameters(
            num_beams=4 if num_beams is None else num_beams,
            max_tokens=max_new_tokens,
            length_penalty=1.0 if length_penalty is None else length_penalty,
        )
    else:
        default_temperature = 1.0 if chosen is Strategy.sample else 0.0
        parameters = SamplingParameters(
            max_tokens=max_new_tokens,
            temperature=default_temperature if temperature is None else temperature,
            top_k=top_k or 0,
            top_p=1.0 if top_p is None else top_p,
            seed=seed,
            stop=tuple(stop or ()),
        )
    decoder, tokenizer = load(model, device, dtype)
    tokens = [tokenizer.bos_token_id, *tokenizer.encode(prompt)]
    result: dict[str, Any] = {"model": model, "prompt": prompt, "prompt_tokens": len(tokens), "strategy": chosen}
    if isinstance(parameters, BeamParameters):
        best = beam_search(decoder, tokenizer, tokens, parameters)[0]
        result |= {"text": tokenizer.decode(best.tokens), "generated_tokens": len(best.tokens), "score": best.score}
        result["finish_reason"] = best.finish_reason
        pieces = iter([result["text"]])
    else:
        sequence = Sequence(tokens, parameters)
        pieces = _follow(stream(decoder, tokenizer, sequence), sequence, result)
    for piece in pieces:
        if not as_json:
            typer.echo(piece, nl=False)
    typer.echo(json.dumps(result | {"parameters": asdict(parameters)}, ensure_ascii=False) if as_json else "")


def _implied(sampling: dict[str, Any], searching: dict[str, Any]) -> Strategy:
    """The strategy that the given options belong to."""
    if any(value is not None for value in searching.values()):
        return Strategy.beam
    return Strategy.sample if any(value is not None for value in sampling.values()) else Strategy.greedy


def _follow(deltas: Iterator["Delta"], sequence: "Sequence", result: dict[str, Any]) -> Iterator[str]:
    """Yield each piece of text as it is made, and put the whole into `result`."""
    result["text"] = ""
    for delta in deltas:
        result["text"] += delta.text
        result["generated_tokens"] = len(sequence.generated)
        result["finish_reason"] = delta.finish_reason
        yield delta.text
