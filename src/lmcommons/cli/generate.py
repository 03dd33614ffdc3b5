"""`lmc generate MODEL --prompt TEXT`."""

import json
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lmcommons.cli.lines import Input, is_text, read_lines
from lmcommons.cli.options import Device, Dtype, Model
from lmcommons.errors import RequestError

if TYPE_CHECKING:
    from lmcommons.generation import Continuation

app = typer.Typer()


class Strategy(StrEnum):
    """How the next token is chosen."""

    greedy = "greedy"
    beam = "beam"
    sample = "sample"


@app.command("generate")
def generate(
    model: Model,
    prompt: Annotated[str | None, typer.Option(help="text to continue, or that an encoder-decoder reads")] = None,
    input_file: Input = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(help="default: the one whose options are given, else greedy; sample with --num-beams draws beams"),
    ] = None,
    num_beams: Annotated[int | None, typer.Option(help="beam: continuations kept at each step; default 4")] = None,
    length_penalty: Annotated[float | None, typer.Option(help="beam: above 0 favours long texts; default 1")] = None,
    early_stopping: Annotated[
        Literal["true", "false", "never"] | None,
        typer.Option(
            help="beam: true ends with num-beams finished texts, never when none can be better; default false"
        ),
    ] = None,
    num_return_sequences: Annotated[int, typer.Option(help="texts for each prompt")] = 1,
    temperature: Annotated[float | None, typer.Option(help="sampling: lower is more predictable; default 1")] = None,
    top_k: Annotated[int | None, typer.Option(help="sampling: keep the K best tokens; default all")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="sampling: keep the best tokens of probability P; default 1")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="sampling: keep tokens of P times the best one's probability; default 0")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="sampling: the same seed gives the same text")] = None,
    repetition_penalty: Annotated[float, typer.Option(help="above 1 makes tokens that were said less likely")] = 1.0,
    no_repeat_ngram_size: Annotated[int, typer.Option(help="so many tokens in a row never come twice; 0: may")] = 0,
    bad_word: Annotated[list[str] | None, typer.Option(help="text that is never written; may be repeated")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="tokens to generate at most")] = 128,
    min_new_tokens: Annotated[int, typer.Option(help="no end before so many tokens")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="text that ends the continuation; may be repeated")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object at the end")] = False,
) -> None:
    """Continue a prompt; the text is printed as it is made.

    The score of a text is the sum of its tokens' log-probabilities in nats, of beams divided by their number to the
    power of the length penalty.
    """
    sampling = {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p, "--min-p": min_p, "--seed": seed}
    searching = {"--num-beams": num_beams, "--length-penalty": length_penalty, "--early-stopping": early_stopping}
    chosen = strategy or _implied(sampling, searching)
    beams = chosen is Strategy.beam or num_beams is not None
    _check_strategy(chosen, sampling, searching, num_return_sequences)
    prompts = _prompts(prompt, input_file)

    from lmcommons.generation import BeamParameters, SamplingParameters, Sequence, continuations, prompt_tokens, stream
    from lmcommons.generation.foreign_tokenizer import ForeignTokenizer
    from lmcommons.generation.loading import load

    shared: dict[str, Any] = {
        "max_tokens": max_new_tokens,
        "min_tokens": min_new_tokens,
        "temperature": (1.0 if temperature is None else temperature) if chosen is Strategy.sample else 0.0,
        "top_k": top_k or 0,
        "top_p": 1.0 if top_p is None else top_p,
        "min_p": min_p or 0.0,
        "repetition_penalty": repetition_penalty,
        "no_repeat_ngram_size": no_repeat_ngram_size,
        "seed": seed,
        "stop": tuple(stop or ()),
    }
    parameters: BeamParameters | SamplingParameters
    if beams:
        parameters = BeamParameters(
            num_beams=4 if num_beams is None else num_beams,
            num_return_sequences=num_return_sequences,
            length_penalty=1.0 if length_penalty is None else length_penalty,
            early_stopping="never" if early_stopping == "never" else early_stopping == "true",
            **shared,
        )
    else:
        parameters = SamplingParameters(logprobs=0, **shared)
    found, tokenizer = load(model, device, dtype)
    # A word has other tokens where a space stands before it.
    spelled = [tuple(tokenizer.encode(before + word)) for word in bad_word or () for before in ("", " ")]
    parameters = replace(parameters, bad_words=tuple(dict.fromkeys(spelled)))
    tokens = [prompt_tokens(found, tokenizer, text) for text in prompts]
    printed = as_json or input_file is not None
    single = not printed and num_return_sequences == 1 and found.config.kind != "encoder-decoder"
    if single and isinstance(parameters, SamplingParameters):
        for delta in stream(found, tokenizer, Sequence(tokens[0], parameters)):
            typer.echo(delta.text, nl=False)
        typer.echo()
        return
    results = continuations(found, tokenizer, tokens, parameters, num_return_sequences)
    if found.config.kind == "encoder-decoder" and isinstance(tokenizer, ForeignTokenizer):
        # Its tokens bring the space before a word, which the first word of a text does not have.
        results = [[replace(each, text=each.text.removeprefix(" ")) for each in texts] for texts in results]
    for text, read, texts in zip(prompts, tokens, results, strict=True):
        if printed:
            typer.echo(json.dumps(_report(text, chosen, len(read), texts), ensure_ascii=False))
        else:
            typer.echo("\n".join(each.text for each in texts))


def _implied(sampling: dict[str, Any], searching: dict[str, Any]) -> Strategy:
    """The strategy that the given options belong to."""
    if any(value is not None for value in sampling.values()):
        return Strategy.sample
    return Strategy.beam if any(value is not None for value in searching.values()) else Strategy.greedy


def _check_strategy(chosen: Strategy, sampling: dict[str, Any], searching: dict[str, Any], count: int) -> None:
    given = next((option for option, value in sampling.items() if value is not None), None)
    if given and chosen is not Strategy.sample:
        raise RequestError(f"{given} belongs to --strategy sample; the strategy is {chosen}")
    given = next((option for option, value in searching.items() if value is not None), None)
    if given and (chosen is Strategy.greedy or (chosen is Strategy.sample and searching["--num-beams"] is None)):
        raise RequestError(f"{given} belongs to --strategy beam; the strategy is {chosen}")
    if count < 1:
        raise RequestError(f"num_return_sequences must be at least 1, not {count}")
    if count > 1 and chosen is Strategy.greedy:
        raise RequestError("--num-return-sequences: greedy has one text; use --strategy sample or beam")


def _prompts(prompt: str | None, input_file: Path | None) -> list[str]:
    if (prompt is None) == (input_file is None):
        raise RequestError("give either --prompt or --input")
    if input_file is not None:
        return [row["prompt"] for row in read_lines(input_file, "prompt")]
    if not is_text(prompt or ""):
        raise RequestError("--prompt is not UTF-8 text")
    return [prompt or ""]


def _report(prompt: str, strategy: Strategy, prompt_tokens: int, texts: "list[Continuation]") -> dict[str, Any]:
    """What is printed of a prompt; `token_ids` are the generated ones, that of the end included."""
    sequences = [
        {"text": each.text, "token_ids": each.token_ids, "score": each.score, "finish_reason": each.finish_reason}
        for each in texts
    ]
    written = sum(len(each.token_ids) for each in texts)
    return {
        "prompt": prompt,
        "strategy": strategy,
        "sequences": sequences,
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": written,
            "total_tokens": prompt_tokens + written,
        },
    }
