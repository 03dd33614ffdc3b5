"""From rows to tokens: what a model reads of a row, and what it is to say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from lmcommons.data.words import UNSPACED
from lmcommons.errors import RequestError
from lmcommons.finetuning.rows import Row, Split
from lmcommons.inference.spans import windows
from lmcommons.inference.text import end_id, prompts
from lmcommons.model import IGNORED

WITHOUT_SPACE = re.compile(rf"[{UNSPACED}]")


@dataclass(frozen=True)
class Example:
    """What a model reads at once, and what it is to say.

    Attributes:
        row: the place of the row in its split; a long row may give several examples.
        tokens: what a decoder, or an encoder, reads.
        targets: a class; a class of each token; the first and last token of an answer; or the tokens to write. What is
            not predicted is `IGNORED`.
        token_types: which segment of a pair each token belongs to.
        target_tokens: what the decoder of an encoder-decoder reads.
        spans: where in the row's context each token stands, in characters; None for tokens of other parts.
        words: of the row, that the predicted tokens begin.
    """

    row: int
    tokens: list[int]
    targets: list[int]
    token_types: list[int] | None = None
    target_tokens: list[int] | None = None
    spans: list[tuple[int, int] | None] | None = None
    words: list[int] | None = None

    @property
    def length(self) -> int:
        """Tokens on the longer side."""
        return max(len(self.tokens), len(self.target_tokens or ()))


@dataclass(frozen=True)
class Encoded:
    """The examples of a split, and how many of its rows were cut."""

    examples: list[Example]
    cut: int


def classification(tokenizer: PreTrainedTokenizerBase, split: Split, labels: dict[str, int], limit: int) -> Encoded:
    """`text` (and `text_pair`) -> the number of `label`."""
    pairs = [row["text_pair"] for row in split.rows if "text_pair" in row]
    if pairs and len(pairs) < len(split.rows):
        place = next(place for place, row in enumerate(split.rows) if "text_pair" not in row)
        raise split.error(place, "no text_pair, which other rows have")
    found = tokenizer([row["text"] for row in split.rows], pairs or None)
    examples, cut = [], 0
    for place, row in enumerate(split.rows):
        tokens, types = found["input_ids"][place], _types(found, place)
        if len(tokens) > limit:
            cut += 1
            one = tokenizer(row["text"], row.get("text_pair"), truncation="longest_first", max_length=limit)
            tokens, types = one["input_ids"], one.get("token_type_ids")
        examples.append(Example(place, tokens, [_label(split, place, row["label"], labels)], types))
    return Encoded(examples, cut)


def token_classification(
    tokenizer: PreTrainedTokenizerBase, split: Split, labels: dict[str, int], limit: int
) -> Encoded:
    """`tokens` -> the number of each word's label, at the first of the word's tokens."""
    examples, cut = [], 0
    for place, row in enumerate(split.rows):
        words, names = row["tokens"], row["labels"]
        if len(words) != len(names):
            raise split.error(place, f"{len(words)} tokens and {len(names)} labels; each token has one label")
        text, spans = join(words)
        found = tokenizer(text, truncation=True, max_length=limit, return_offsets_mapping=True)
        numbers = [_label(split, place, name, labels) for name in names]
        targets: list[int] = []
        begun: list[int] = []
        word = 0
        for start, end in found["offset_mapping"]:
            while word < len(spans) and spans[word][1] <= start:
                word += 1  # a word inside a token that an earlier word begins has no token of its own
            begins = word < len(spans) and start < end and end > spans[word][0]
            targets.append(numbers[word] if begins else IGNORED)
            if begins:
                begun.append(word)
                word += 1
        cut += len(begun) < len(words)
        examples.append(Example(place, found["input_ids"], targets, found.get("token_type_ids"), words=begun))
    return Encoded(examples, cut)


def join(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The text of words, with spaces between them unless both are of a script without spaces; and each word's place."""
    text, spans = "", []
    for word in words:
        if text and not (WITHOUT_SPACE.match(text[-1]) and WITHOUT_SPACE.match(word[:1])):
            text += " "
        spans.append((len(text), len(text) + len(word)))
        text += word
    return text, spans


def question_answering(tokenizer: PreTrainedTokenizerBase, split: Split, limit: int) -> Encoded:
    """`question`, `context` -> the first and last token of the first answer; the first token where there is none.

    A long context is read in windows that overlap; one without the answer has none.
    """
    examples, cut = [], 0
    for place, row in enumerate(split.rows):
        start, stop = _answer(split, place, row)
        try:
            found = windows(tokenizer, row["question"], row["context"], limit)
        except RequestError as error:
            raise split.error(place, str(error)) from error
        cut += len(found) > 1
        for tokens, types, spans in found:
            inside = [at for at, span in enumerate(spans) if span and span[0] < stop and span[1] > start]
            read = [span for span in spans if span]
            whole = bool(inside) and read[0][0] <= start and read[-1][1] >= stop
            targets = [inside[0], inside[-1]] if whole else [0, 0]
            examples.append(Example(place, tokens, targets, types, spans=spans))
    return Encoded(examples, cut)


def _answer(split: Split, place: int, row: Row) -> tuple[int, int]:
    """The first answer in the context, in characters; (0, 0): none."""
    if not row["answers"]:
        return 0, 0
    answer, starts = row["answers"][0], row.get("answer_start")
    start = starts[0] if starts else row["context"].find(answer)
    if start < 0 or not answer or row["context"][start : start + len(answer)] != answer:
        raise split.error(place, f"the answer {answer[:40]!r} does not stand in the context at character {start}")
    return start, start + len(answer)


def answering(tokenizer: PreTrainedTokenizerBase, split: Split, prompt: str, limit: int, start: int | None) -> Encoded:
    """`source` -> `target`: for an encoder-decoder whose targets begin with `start`; for a decoder `start` is None."""
    end, examples, cut = end_id(tokenizer), [], 0
    sources = prompts(tokenizer, [row["source"] for row in split.rows], prompt, decoder=start is None)
    targets = tokenizer(text_target=[row["target"] for row in split.rows], add_special_tokens=False)["input_ids"]
    for place, (source, target) in enumerate(zip(sources, targets, strict=True)):
        written = [*target[: (limit if start is not None else limit // 2) - 1], end]
        room = limit if start is not None else limit - len(written)
        read = shorten(source, room)
        cut += len(read) + len(written) < len(source) + len(target) + 1
        if start is not None:
            examples.append(Example(place, read, written, target_tokens=[start, *written[:-1]]))
        else:
            tokens = [*read, *written]
            predicted = [IGNORED] * (len(read) - 1) + written
            examples.append(Example(place, tokens[:-1], predicted))
    return Encoded(examples, cut)


def shorten(prompt: list[int], room: int) -> list[int]:
    """At most `room` tokens of a prompt, its last one among them: that says where it ends."""
    return prompt if len(prompt) <= room else [*prompt[: room - 1], prompt[-1]]


def chat(tokenizer: PreTrainedTokenizerBase, split: Split, limit: int) -> Encoded:
    """`messages` in the tokenizer's chat template -> what the assistant wrote, each time to the end of its turn."""
    if not tokenizer.chat_template:
        raise RequestError(
            "task chat: the model's tokenizer has no chat template; a recipe's tokenizer.chat_template makes one"
        )
    examples, cut = [], 0
    for place, row in enumerate(split.rows):
        text, answers = _conversation(tokenizer, split, place, row["messages"])
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        tokens = found["input_ids"]
        said = [any(start <= begin < stop for start, stop in answers) for begin, _ in found["offset_mapping"]]
        cut += len(tokens) > limit
        predicted = [token if wanted else IGNORED for token, wanted in zip(tokens, said, strict=True)]
        examples.append(Example(place, tokens[:limit][:-1], predicted[1:limit]))
    return Encoded(examples, cut)


def _conversation(
    tokenizer: PreTrainedTokenizerBase, split: Split, place: int, messages: list[dict[str, Any]]
) -> tuple[str, list[tuple[int, int]]]:
    """The text of a conversation, and the characters in it that the assistant wrote."""

    def render(count: int, *, asks: bool) -> str:
        return str(tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=asks))

    try:
        text, answers = render(len(messages), asks=False), []
        for turn, message in enumerate(messages):
            if message["role"] == "assistant":
                before, after = render(turn, asks=True), render(turn + 1, asks=False)
                if not text.startswith(after) or not after.startswith(before):
                    raise split.error(place, "the chat template rewrites earlier messages: answers have no place")
                answers.append((len(before), len(after)))
    except jinja2.TemplateError as error:
        raise split.error(place, f"the chat template refuses the messages: {error}") from error
    return text, answers


def _label(split: Split, place: int, name: str | int, labels: dict[str, int]) -> int:
    number = labels.get(str(name))
    if number is None:
        known = ", ".join(list(labels)[:10]) + (", …" if len(labels) > 10 else "")
        raise split.error(place, f"label {str(name)!r} is not one of {known}")
    return number


def _types(found: Any, place: int) -> list[int] | None:
    types = found.get("token_type_ids")
    return None if types is None else list(types[place])
