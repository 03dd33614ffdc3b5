"""`lmc fill|classify|translate|answer MODEL`: what a trained model is for, one text at a time or a file of them."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lmcommons.cli.lines import Input, is_text, read_lines
from lmcommons.cli.options import Device, Dtype, Model
from lmcommons.errors import RequestError

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="print one JSON object; --input does so a line")]
Beams = Annotated[
    int | None, typer.Option(help="of writing: texts kept at each step; 1 takes the best token each time; default 4")
]
LengthPenalty = Annotated[float | None, typer.Option(help="of writing: above 0 favours long texts; default 1")]
MaxNewTokens = Annotated[int | None, typer.Option(help="of writing: tokens of a text at most; default 128")]
Row = dict[str, str]
Prompt = Annotated[str | None, typer.Option(help="of writing: what the model reads, as it was trained")]


@app.command("fill")
def fill(
    model: Model,
    text: Annotated[str | None, typer.Option(help="text with [MASK] where a token is to be found")] = None,
    input_file: Input = None,
    top_k: Annotated[int, typer.Option(help="candidates for each mask")] = 5,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Find the likeliest tokens for each [MASK] of a text, with their probabilities."""
    rows = _rows(input_file, {"text": text})
    from lmcommons.inference import load
    from lmcommons.inference.fill import fill as fill_texts

    loaded = load(model, device, dtype)
    with _named(input_file):
        found = fill_texts(loaded, [row["text"] for row in rows], top_k=top_k)
    results = [{"masks": [[asdict(candidate) for candidate in mask] for mask in masks]} for masks in found]
    _print(rows, results, _filled, as_json=as_json or input_file is not None)


@app.command("classify")
def classify(
    model: Model,
    text: Annotated[str | None, typer.Option(help="text to classify, or whose words are")] = None,
    text_pair: Annotated[str | None, typer.Option(help="second text, of a model for pairs")] = None,
    input_file: Input = None,
    top_k: Annotated[int | None, typer.Option(help="classes of a text; default all")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Find the class of a text, or of each of its words, with probabilities."""
    rows = _rows(input_file, {"text": text}, {"text_pair": text_pair})
    if any(row.keys() != rows[0].keys() for row in rows):
        raise RequestError(f"{input_file}: text_pair must be in all lines or in none")
    from lmcommons.inference import load
    from lmcommons.inference.classify import classify as classify_texts
    from lmcommons.inference.classify import classify_words

    loaded, texts = load(model, device, dtype), [row["text"] for row in rows]
    pairs = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
    results: list[dict[str, Any]]
    with _named(input_file):
        if loaded.config.task == "token-classification":
            if pairs or top_k is not None:
                raise RequestError(f"{model} classifies words: it takes no --text-pair and no --top-k")
            results = [{"words": [asdict(word) for word in words]} for words in classify_words(loaded, texts)]
        else:
            found = classify_texts(loaded, texts, pairs, top_k=top_k)
            results = [{"labels": [asdict(label) for label in labels]} for labels in found]
    _print(rows, results, _classified, as_json=as_json or input_file is not None)


@app.command("translate")
def translate(
    model: Model,
    text: Annotated[str | None, typer.Option(help="text to translate")] = None,
    input_file: Input = None,
    prompt: Prompt = None,
    num_beams: Beams = None,
    length_penalty: LengthPenalty = None,
    num_return_sequences: Annotated[int, typer.Option(help="translations of each text")] = 1,
    max_new_tokens: MaxNewTokens = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Translate a text.

    A model that was trained with a prompt needs it again, with {source} where the text stands: T5's is
    "translate English to German: {source}".
    """
    rows = _rows(input_file, {"text": text})
    from lmcommons.inference import load
    from lmcommons.inference.write import decoding, write

    parameters = decoding(num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens)
    loaded = load(model, device, dtype)
    loaded.require("lmc translate")
    sources = [row["text"] for row in rows]
    with _named(input_file):
        found = write(loaded, sources, parameters, prompt=prompt or "{source}", count=num_return_sequences)
    results = [{"translations": [asdict(each) for each in texts]} for texts in found]
    _print(rows, results, _written, as_json=as_json or input_file is not None)


@app.command("answer")
def answer(
    model: Model,
    question: Annotated[str | None, typer.Option(help="what is asked")] = None,
    context: Annotated[str | None, typer.Option(help="the text that it is asked about")] = None,
    input_file: Input = None,
    top_k: Annotated[int, typer.Option(help="answers, best first")] = 1,
    max_answer_tokens: Annotated[
        int | None, typer.Option(help="of finding: tokens of an answer at most; default 64")
    ] = None,
    unanswerable: Annotated[bool, typer.Option(help="of finding: there may be no answer")] = False,
    prompt: Prompt = None,
    num_beams: Beams = None,
    length_penalty: LengthPenalty = None,
    max_new_tokens: MaxNewTokens = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Answer a question about a text: with a part of the text, or in the model's own words.

    A question-answering model finds the part, other models write, with the prompt "question: {question} context:
    {context}" unless they were trained with another.
    """
    rows = _rows(input_file, {"question": question, "context": context})
    from lmcommons.inference import load
    from lmcommons.inference.answer import PROMPT, Question, answer_in_words, extract
    from lmcommons.inference.spans import LONGEST
    from lmcommons.inference.write import decoding

    parameters = decoding(num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens)
    loaded = load(model, device, dtype)
    loaded.require("lmc answer")
    finds = loaded.config.task == "question-answering"
    finding = {"--max-answer-tokens": max_answer_tokens, "--unanswerable": unanswerable or None}
    writing = {
        "--prompt": prompt, "--num-beams": num_beams, "--length-penalty": length_penalty,
        "--max-new-tokens": max_new_tokens,
    }  # fmt: skip
    for option, value in (writing if finds else finding).items():
        if value is not None:
            raise RequestError(f"{option} is not for {model}: it {'finds' if finds else 'writes'} its answers")
    questions = [Question(**row) for row in rows]
    found: Sequence[Sequence[Any]]
    with _named(input_file):
        if finds:
            longest = LONGEST if max_answer_tokens is None else max_answer_tokens
            found = extract(loaded, questions, top_k=top_k, longest=longest, unanswerable=unanswerable)
        else:
            found = answer_in_words(loaded, questions, parameters, prompt=prompt or PROMPT, count=top_k)
    results = [{"answers": [asdict(each) for each in answers]} for answers in found]
    _print(rows, results, _answered, as_json=as_json or input_file is not None)


def _rows(
    input_file: Path | None, needed: dict[str, str | None], optional: dict[str, str | None] | None = None
) -> list[Row]:
    """The texts of the options or of the file."""
    options = needed | (optional or {})
    given = {name: value for name, value in options.items() if value is not None}
    names = " and ".join(f"--{name.replace('_', '-')}" for name in needed)
    if input_file is not None:
        if given:
            raise RequestError(f"give either {names} or --input")
        return read_lines(input_file, *needed, optional=tuple(optional or ()))
    if not needed.keys() <= given.keys():
        raise RequestError(f"give {names}, or --input with a file of them")
    for name, value in given.items():
        if not is_text(value):
            raise RequestError(f"--{name.replace('_', '-')} is not UTF-8 text")
    return [given]


@contextmanager
def _named(input_file: Path | None) -> Iterator[None]:
    """Say of a text that cannot be read where it stands."""
    from lmcommons.inference import TextError

    try:
        yield
    except TextError as error:
        if input_file is None:
            raise
        raise RequestError(f"{input_file}, line {error.place + 1}: {error}") from error


def _print(
    rows: Sequence[Row],
    results: Sequence[dict[str, Any]],
    lines: Callable[[dict[str, Any]], Iterable[str]],
    *,
    as_json: bool,
) -> None:
    """Each result with what it is for as JSON, or the `lines` that show it."""
    for row, result in zip(rows, results, strict=True):
        if as_json:
            typer.echo(json.dumps(row | result, ensure_ascii=False))
        else:
            for line in lines(result):
                typer.echo(line)


def _filled(result: dict[str, Any]) -> Iterator[str]:
    for number, candidates in enumerate(result["masks"]):
        if number:
            yield ""
        for each in candidates:
            yield f"{each['probability']:7.2%}  {each['text']}"


def _classified(result: dict[str, Any]) -> Iterator[str]:
    for each in result["words" if "words" in result else "labels"]:
        yield f"{each['probability']:7.2%}  {each['label']}" + (f"\t{each['word']}" if "word" in each else "")


def _written(result: dict[str, Any]) -> Iterator[str]:
    return (each["text"] for each in result["translations"])


def _answered(result: dict[str, Any]) -> Iterator[str]:
    for each in result["answers"]:
        text = each["text"] or "(no answer)"
        yield text if "start" not in each else f"{each['probability']:7.2%}  {text}  [{each['start']}:{each['stop']}]"
