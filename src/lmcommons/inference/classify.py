"""The class of a text, and the classes of its words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import BatchEncoding

from lmcommons.errors import RequestError
from lmcommons.inference.batches import Batch, read, rows_of
from lmcommons.inference.loading import Loaded
from lmcommons.inference.text import require_offsets


@dataclass(frozen=True)
class Label:
    """A class and its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class Word(Label):
    """The class of a word: `text[start:stop]`, in characters."""

    word: str
    start: int
    stop: int


def classify(
    loaded: Loaded, texts: Sequence[str], pairs: Sequence[str] | None = None, *, top_k: int | None = None
) -> list[list[Label]]:
    """The `top_k` likeliest classes of each text (with its pair), best first; None: all of them.

    Raises:
        RequestError: the model has no classes of texts, or `top_k` is below 1.
        TextError: a text is empty or longer than the model reads.
        CommandError: the model's weights are damaged.
    """
    loaded.require("lmc classify")
    if loaded.config.task != "sequence-classification":
        raise RequestError(f"{loaded.name}: the model has classes of words and none of whole texts")
    if top_k is not None and top_k < 1:
        raise RequestError(f"top_k must be at least 1, not {top_k}")
    names = loaded.config.labels
    found: list[list[Label]] = [[] for _ in texts]
    for place, probabilities in _probabilities(loaded, loaded.encode(texts, pairs)):
        values, chosen = probabilities.topk(min(top_k or len(names), len(names)))
        best = zip(chosen.tolist(), values.tolist(), strict=True)
        found[place] = [Label(names[number], value) for number, value in best]
    return found


def classify_words(loaded: Loaded, texts: Sequence[str]) -> list[list[Word]]:
    """The class of each word of each text: that of its first token, which is what fine-tuning trains.

    Raises:
        RequestError: the model has no classes of words.
        TextError: a text is empty or longer than the model reads.
        CommandError: the model's weights are damaged.
    """
    loaded.require("lmc classify")
    if loaded.config.task != "token-classification":
        raise RequestError(f"{loaded.name}: the model has classes of whole texts and none of words")
    require_offsets(loaded.tokenizer)
    encoding = loaded.encode(texts)
    found: list[list[Word]] = [[] for _ in texts]
    for place, probabilities in _probabilities(loaded, encoding):
        values, chosen = probabilities.max(dim=-1)
        for start, stop, first in words(encoding, place, texts[place]):
            label = loaded.config.labels[int(chosen[first])]
            found[place].append(Word(label, float(values[first]), texts[place][start:stop], start, stop))
    return found


def _probabilities(loaded: Loaded, encoding: BatchEncoding) -> Iterator[tuple[int, Tensor]]:
    def compute(batch: Batch) -> Tensor:
        logits = loaded.model.task_logits(
            batch.tokens, attention_mask=batch.attention_mask, token_types=batch.token_types
        )
        return logits.softmax(-1)

    return read(loaded, rows_of(loaded, encoding), compute)


def words(encoding: BatchEncoding, place: int, text: str) -> list[tuple[int, int, int]]:
    """Beginning and end of each word of a text in characters, without spaces, and its first token."""
    found = []
    numbers = encoding.word_ids(place)
    for number in dict.fromkeys(number for number in numbers if number is not None):
        start, stop = encoding.word_to_chars(place, number)
        word = text[start:stop]
        if word.strip():
            start += len(word) - len(word.lstrip())
            found.append((start, start + len(word.strip()), numbers.index(number)))
    return found
