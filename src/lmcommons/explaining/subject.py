"""The output of a model that is explained: one log-probability, as a function of what its first layers read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from lmcommons.errors import CommandError, RequestError
from lmcommons.inference import Loaded, TextError
from lmcommons.inference.batches import Batch, rows_of
from lmcommons.inference.classify import words
from lmcommons.inference.fill import MASK, states_at
from lmcommons.inference.spans import span_scores, windows
from lmcommons.inference.text import require_offsets
from lmcommons.model import Decoder

MOST_TOKENS = 128  # of a text; a page of more cannot be read


@dataclass(frozen=True)
class Part:
    """A text that the model reads: its tokens [1, sequence], as shown, and its segments.

    `special` tokens are no part of the user's text.
    """

    tokens: Tensor
    shown: list[str]
    special: list[bool]
    token_types: Tensor | None = None


@dataclass(frozen=True)
class Subject:
    """What is explained.

    Attributes:
        loaded: the model.
        parts: the text; of an encoder-decoder the source and what is written so far.
        log_probabilities: of all outputs that there may be, for so many copies of the parts: [copies, outputs].
        name: what an output is called.
        number: the output of a name; raises `RequestError` where there is none.
        target: the output that is explained.
    """

    loaded: Loaded
    parts: list[Part]
    log_probabilities: Callable[[int], Tensor]
    name: Callable[[int], str]
    number: Callable[[str], int]
    target: int = 0


def subject(
    loaded: Loaded,
    text: str,
    *,
    source: str | None = None,
    question: str | None = None,
    word: int | None = None,
    target: str | None = None,
) -> Subject:
    """The class of a text or of its `word` from 1 on, its answer to a question, the token of its mask or after it.

    `target` None is the likeliest one.

    Raises:
        RequestError: the model does another task, `source`, `question` or `word` is missing or not wanted, `target` is
            not one token, class or answer, or a text has too many tokens.
        CommandError: the model's weights are damaged.
    """
    task, kind = loaded.config.task, loaded.config.kind
    _require(loaded, "--source", source, wanted=kind == "encoder-decoder")
    _require(loaded, "--question", question, wanted=task == "question-answering")
    _require(loaded, "--word", word, wanted=task == "token-classification")
    if task == "sequence-classification":
        explained = _classification(loaded, text)
    elif word is not None:
        explained = _word(loaded, text, word)
    elif question is not None:
        explained = _answer(loaded, question, text)
    elif task != "language-modelling":
        raise RequestError(f"{loaded.name}: a model for {task} says nothing that could be explained")
    elif kind in ("encoder", "permutation"):
        explained = _mask(loaded, text)
    else:
        explained = _next_token(loaded, text, source)
    with torch.no_grad():
        found = explained.log_probabilities(1)[0]
    if found.isnan().any():
        raise CommandError("the model computes values that are not numbers: its weights are damaged")
    return replace(explained, target=int(found.argmax()) if target is None else explained.number(target))


def _require(loaded: Loaded, option: str, value: str | int | None, *, wanted: bool) -> None:
    if (value is not None) != wanted:
        use = f"give {option} too" if wanted else f"{option} is not for it"
        raise RequestError(f"{loaded.name} is of kind {loaded.config.kind}, for {loaded.config.task}: {use}")


def _classification(loaded: Loaded, text: str) -> Subject:
    part = _whole(loaded, text)

    def compute(copies: int) -> Tensor:
        logits = loaded.model.task_logits(_copies(part.tokens, copies), token_types=_types(part, copies))
        return logits.log_softmax(-1)

    return Subject(loaded, [part], compute, loaded.config.labels.__getitem__, _label_number(loaded))


def _word(loaded: Loaded, text: str, number: int) -> Subject:
    """The class of a word is that of its first token, as in `inference.classify`."""
    require_offsets(loaded.tokenizer)
    part, found = _whole(loaded, text), words(loaded.encode([text]), 0, text)
    if not 1 <= number <= len(found):
        raise RequestError(f"--word {number}: the text has {len(found)} words, which count from 1")
    start, stop, first = found[number - 1]

    def compute(copies: int) -> Tensor:
        logits = loaded.model.task_logits(_copies(part.tokens, copies), token_types=_types(part, copies))
        return logits[:, first].log_softmax(-1)

    def name(label: int) -> str:
        return f"{loaded.config.labels[label]} ({text[start:stop]})"

    return Subject(loaded, [part], compute, name, _label_number(loaded))


def _answer(loaded: Loaded, question: str, context: str) -> Subject:
    """Outputs are all spans, with the probabilities that `inference.answer` gives them."""
    for part_name, text in (("question", question), ("context", context)):
        if not text.strip():
            raise TextError(0, f"the {part_name} is empty")
    [window, *more] = windows(loaded.tokenizer, question, context, min(loaded.limit or MOST_TOKENS, MOST_TOKENS))
    inside = [span for span in window.spans if span is not None]
    if more or not inside:
        raise RequestError(f"question and context must have tokens, and at most {len(window.tokens)}: shorten them")
    part = _part(loaded, window.tokens, window.token_types if loaded.has_segments else None)

    def compute(copies: int) -> Tensor:
        logits = loaded.model.task_logits(_copies(part.tokens, copies), token_types=_types(part, copies))
        scores = torch.stack([span_scores(one, window.spans).flatten() for one in logits])
        return scores.log_softmax(-1)

    def name(number: int) -> str:
        return context[inside[number // len(inside)][0] : inside[number % len(inside)][1]]

    def number(answer: str) -> int:
        start = context.find(answer)
        first = [place for place, span in enumerate(inside) if span[0] == start]
        last = [place for place, span in enumerate(inside) if span[1] == start + len(answer)]
        if not first or not last:
            raise RequestError(f"--target {answer!r} is no part of the text that whole tokens make")
        return first[0] * len(inside) + last[-1]

    return Subject(loaded, [part], compute, name, number)


def _mask(loaded: Loaded, text: str) -> Subject:
    mask = loaded.tokenizer.mask_token
    if mask is None:
        raise RequestError(f"{loaded.name}: the tokenizer has no mask token, so that no place can be masked")
    part = _whole(loaded, text.replace(MASK, mask))
    places = (part.tokens[0] == loaded.tokenizer.mask_token_id).nonzero()[:, 0]
    if len(places) != 1:
        raise RequestError(f"the text has {len(places)} of {MASK}; it must have one, for the token that is explained")

    def compute(copies: int) -> Tensor:
        tokens = _copies(part.tokens, copies)
        batch = Batch([], tokens, torch.ones_like(tokens), _types(part, copies))
        return loaded.model.logits(states_at(loaded, batch, places.expand(copies, 1)))[:, 0].log_softmax(-1)

    return Subject(loaded, [part], compute, _token_name(loaded), _token_number(loaded))


def _next_token(loaded: Loaded, text: str, source: str | None) -> Subject:
    model, start = loaded.model, loaded.config.decoder_start_token_id
    if source is None:
        assert isinstance(model, Decoder)
        parts = [_written(loaded, text, loaded.tokenizer.bos_token_id)]
    elif start is None:
        raise RequestError(
            f"{loaded.name}: config.json has no decoder_start_token_id, which a written text begins with"
        )
    else:
        parts = [_whole(loaded, source), _written(loaded, text, start)]

    def compute(copies: int) -> Tensor:
        hidden = cast(Any, model).hidden(*(_copies(part.tokens, copies) for part in parts))
        return model.logits(hidden[:, -1]).log_softmax(-1)

    return Subject(loaded, parts, compute, _token_name(loaded), _token_number(loaded))


def _whole(loaded: Loaded, text: str) -> Part:
    """A text with the special tokens that belong around it."""
    encoding = loaded.encode([text])
    [row] = rows_of(loaded, encoding)
    return _part(loaded, row.tokens, row.token_types)


def _written(loaded: Loaded, text: str, begin: int | None) -> Part:
    """A text that goes on, after the token that it begins with."""
    tokens = loaded.tokenizer(text_target=text, add_special_tokens=False, verbose=False)["input_ids"]
    if begin is None and not tokens:
        raise TextError(0, "the text is empty")
    loaded.check_length(0, len(tokens) + 1)
    return _part(loaded, tokens if begin is None else [begin, *tokens], None)


def _part(loaded: Loaded, tokens: list[int], types: list[int] | None) -> Part:
    if len(tokens) > MOST_TOKENS:
        raise RequestError(f"the text has {len(tokens)} tokens; a page shows at most {MOST_TOKENS}: shorten it")
    name, tokenizer = _token_name(loaded), loaded.tokenizer
    special = {*tokenizer.all_special_ids, loaded.config.decoder_start_token_id}
    if tokenizer.unk_token_id not in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        special.discard(tokenizer.unk_token_id)  # it stands for a word of the user
    device = loaded.model.embedding.device
    return Part(
        torch.tensor([tokens], device=device),
        [name(token) for token in tokens],
        [token in special for token in tokens],
        None if types is None else torch.tensor([types], device=device),
    )


def _token_name(loaded: Loaded) -> Callable[[int], str]:
    """What is shown of a token: its text, with signs for spaces and ends of lines that would not be seen."""

    def name(token: int) -> str:
        text = str(loaded.tokenizer.decode([token]))
        if "\N{REPLACEMENT CHARACTER}" in text:  # part of a character
            return f"\N{REPLACEMENT CHARACTER}#{token}"
        seen = text.strip() or text.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣")
        return seen or str(loaded.tokenizer.convert_ids_to_tokens(token) or token)

    return name


def _label_number(loaded: Loaded) -> Callable[[str], int]:
    """The class that a user names."""
    labels = loaded.config.labels

    def number(label: str) -> int:
        if label not in labels:
            raise RequestError(f"--target {label}: the classes are {', '.join(labels[:20])}")
        return labels.index(label)

    return number


def _token_number(loaded: Loaded) -> Callable[[str], int]:
    """The token that a user names: as the vocabulary spells it, or a text that is one token."""

    def number(target: str) -> int:
        known = loaded.tokenizer.get_vocab().get(target)
        if known is not None:
            return int(known)
        tokens = loaded.tokenizer(target, add_special_tokens=False)["input_ids"]
        if len(tokens) != 1 or tokens[0] == loaded.tokenizer.unk_token_id:
            raise RequestError(f"--target {target!r} is not one token of the model")
        return int(tokens[0])

    return number


def _copies(tokens: Tensor, copies: int) -> Tensor:
    return tokens.expand(copies, -1)


def _types(part: Part, copies: int) -> Tensor | None:
    return None if part.token_types is None else _copies(part.token_types, copies)
