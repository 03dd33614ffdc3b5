"""The answer to a question about a text: a part of the text, or one that the model writes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmcommons.errors import RequestError
from lmcommons.generation import BeamParameters, SamplingParameters
from lmcommons.inference.batches import Batch, Row, read
from lmcommons.inference.loading import NO_TEXTS, Loaded, TextError
from lmcommons.inference.spans import LONGEST, Span, Window, best_spans, span_scores, windows
from lmcommons.inference.write import Written, write

UNBOUNDED = 512  # tokens of a window for a model that reads any number
PROMPT = "question: {question} context: {context}"  # Raffel et al. 2020, appendix D.15


@dataclass(frozen=True)
class Question:
    """A question, and the text that it is about."""

    question: str
    context: str


@dataclass(frozen=True)
class Answer:
    """`context[start:stop]`, or nothing where there is no answer.

    `score` is the sum of two logits, `probability` the answer's share among all that could be given.
    """

    text: str
    start: int
    stop: int
    score: float
    probability: float


def extract(
    loaded: Loaded,
    questions: Sequence[Question],
    *,
    top_k: int = 1,
    longest: int = LONGEST,
    unanswerable: bool = False,
) -> list[list[Answer]]:
    """The `top_k` likeliest answers of at most `longest` tokens to each question, best first.

    A long context is read in windows that overlap. With `unanswerable` an empty answer is one of those that can be
    given; its score is that of the first token, the lowest of all windows (Devlin et al. 2019, §4.3). The probability
    is the softmax of scores over all spans of all windows.

    Raises:
        RequestError: the model does not find answers, there are no questions, or `top_k` or `longest` is below 1.
        TextError: a question or a context is empty, or the question leaves no room for its context.
        CommandError: the model's weights are damaged.
    """
    if loaded.config.task != "question-answering":
        raise RequestError(f"{loaded.name}: the model has no head that finds answers")
    for name, value in (("top_k", top_k), ("max_answer_tokens", longest)):
        if value < 1:
            raise RequestError(f"{name} must be at least 1, not {value}")
    if not questions:
        raise RequestError(NO_TEXTS)
    found = [(place, window) for place, asked in enumerate(questions) for window in _windows(loaded, place, asked)]
    rows = [Row(window.tokens, window.token_types if loaded.has_segments else None) for _, window in found]

    def compute(batch: Batch) -> Tensor:
        return loaded.model.task_logits(
            batch.tokens, attention_mask=batch.attention_mask, token_types=batch.token_types
        )

    parts: list[list[tuple[Window, Tensor]]] = [[] for _ in questions]
    for number, logits in read(loaded, rows, compute):
        place, window = found[number]
        parts[place].append((window, logits))
    return [
        _answers(asked.context, part, top_k, longest, unanswerable=unanswerable)
        for asked, part in zip(questions, parts, strict=True)
    ]


def answer_in_words(
    loaded: Loaded,
    questions: Sequence[Question],
    parameters: SamplingParameters | BeamParameters,
    *,
    prompt: str = PROMPT,
    count: int = 1,
) -> list[list[Written]]:
    """The `count` best answers that the model writes to each question, best first.

    Raises:
        RequestError: `prompt` has no place for question and context, or the parameters do not fit the model.
        TextError: a question or a context is empty, or both are longer than the model reads.
        CommandError: the model's weights are damaged.
    """
    for name in ("{question}", "{context}"):
        if name not in prompt:
            raise RequestError(f"the prompt {prompt!r} must have {name}")
    sources = []
    for place, asked in enumerate(questions):
        _require_text(place, asked)
        values = {"question": asked.question, "context": asked.context}
        parts = re.split(r"\{(question|context)\}", prompt)
        sources.append("".join(values[part] if number % 2 else part for number, part in enumerate(parts)))
    return write(loaded, sources, parameters, count=count)


def _windows(loaded: Loaded, place: int, asked: Question) -> list[Window]:
    _require_text(place, asked)
    try:
        found = windows(loaded.tokenizer, asked.question, asked.context, loaded.limit or UNBOUNDED)
    except RequestError as error:
        raise TextError(place, str(error)) from error
    if not (kept := [window for window in found if any(window.spans)]):
        raise TextError(place, "the context has no character that the tokenizer knows")
    return kept


def _require_text(place: int, asked: Question) -> None:
    for name, text in (("question", asked.question), ("context", asked.context)):
        if not text.strip():
            raise TextError(place, f"the {name} is empty")


def _answers(
    context: str, parts: Sequence[tuple[Window, Tensor]], top_k: int, longest: int, *, unanswerable: bool
) -> list[Answer]:
    every = [span_scores(logits, window.spans, longest).flatten() for window, logits in parts]
    best: dict[tuple[int, int], float] = {}
    for window, logits in parts:
        for span in best_spans(logits, window.spans, count=top_k, longest=longest):
            place = (span.start, span.stop)
            best[place] = max(span.score, best.get(place, span.score))
    spans = [Span(score, *place) for place, score in best.items()]
    if unanswerable:
        nothing = min(float(logits[0].sum()) for _, logits in parts)
        every.append(torch.tensor([nothing]))
        spans.append(Span(nothing, 0, 0))
    whole = float(torch.cat(every).logsumexp(0))
    spans.sort(key=lambda span: -span.score)
    return [
        Answer(context[start:stop], start, stop, score, float(torch.tensor(score - whole).exp()))
        for score, start, stop in spans[:top_k]
    ]
