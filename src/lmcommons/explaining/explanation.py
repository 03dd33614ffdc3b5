"""All that a page says of a model and a text."""

from dataclasses import dataclass

import torch

from lmcommons.explaining.attention import Layer, attention
from lmcommons.explaining.attributions import Attributions, integrated_gradients
from lmcommons.explaining.subject import Subject, subject
from lmcommons.inference import Loaded

MOST_OUTPUTS = 5


@dataclass(frozen=True)
class Explanation:
    """What the model says, what it rests on, and who reads whom.

    `outputs` are the likeliest outputs with their probabilities; `heads` is how many heads the model has, of which
    `layers` may hold some only.
    """

    subject: Subject
    target: str
    probability: float
    outputs: list[tuple[str, float]]
    attributions: Attributions
    layers: list[Layer]
    heads: int


def explain(
    loaded: Loaded,
    text: str,
    *,
    source: str | None = None,
    question: str | None = None,
    word: int | None = None,
    target: str | None = None,
) -> Explanation:
    """Explain the class of a text or of its `word`, the token of its mask or after it, or its answer to `question`.

    Words count from 1. Of an encoder-decoder `source` is what it reads and `text` what it has written so far. `target`
    is the class, token or answer that is explained; None: the likeliest one.

    Raises:
        RequestError: what is asked does not fit the model (`subject`).
        CommandError: the model's weights are damaged.
    """
    explained = subject(loaded, text, source=source, question=question, word=word, target=target)
    layers, heads = attention(explained)
    with torch.no_grad():
        probabilities = explained.log_probabilities(1)[0].exp()
    best = probabilities.topk(min(MOST_OUTPUTS, len(probabilities)))
    outputs = [
        (explained.name(number), value)
        for number, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    name, probability = explained.name(explained.target), float(probabilities[explained.target])
    return Explanation(explained, name, probability, outputs, integrated_gradients(explained), layers, heads)
