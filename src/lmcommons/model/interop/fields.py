"""Reading `config.json`: fields that we compute with, fields that must have one value, and one line for the rest."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from lmcommons.errors import RequestError
from lmcommons.model.config import ModelConfig, Task

CONSTRAINTS = ("forced_bos_token_id", "forced_eos_token_id", "bad_words_ids")  # on what a model writes
ALIASES = {"swish": "silu", "gelu_pytorch_tanh": "gelu_new"}  # two names of one function


def require_unused(fields: Mapping[str, Any], unused: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse a field that has another value than those that mean "not used".

    Raises:
        RequestError: one line that names the field and the value that would be right.
    """
    for name, values in unused.items():
        if fields.get(name) not in values:
            raise RequestError(f"{name} {fields[name]!r} is not supported; it must be {values[-1]!r}")


def model_config(fields: Mapping[str, Any], needed: Mapping[str, str], **others: Any) -> ModelConfig:
    """A configuration from `needed` (our field: theirs, which must be there) and `others` (our field: its value).

    Raises:
        RequestError: a field is missing or wrong; one line that names it as `config.json` does.
    """
    for theirs in needed.values():
        if theirs not in fields:
            raise RequestError(f"{theirs} is missing")
    tokens = {name: fields.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    tokens |= {name: fields[name] for name in CONSTRAINTS if fields.get(name) is not None}
    try:
        return ModelConfig(**{ours: fields[theirs] for ours, theirs in needed.items()}, **{**tokens, **others})
    except ValidationError as error:
        first = error.errors()[0]
        ours = ".".join(str(part) for part in first["loc"])
        message = f"{needed.get(ours, ours)}: {first['msg']}"
        raise RequestError(message.removeprefix(": ").replace("Value error, ", "")) from error


def class_of_task(architectures: Mapping[str, Task], config: ModelConfig) -> str:
    """The first class for the task of `config`.

    Raises:
        RequestError: the family has none.
    """
    for name, task in architectures.items():
        if task == config.task:
            return name
    raise RequestError(
        f"task {config.task} has no class in `transformers` for {config.family}; there is {', '.join(architectures)}"
    )


def special_tokens(config: ModelConfig) -> dict[str, Any]:
    """The special tokens as `config.json` and `generation_config.json` have them."""
    fields = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    start = {"decoder_start_token_id": config.decoder_start_token_id} if config.kind == "encoder-decoder" else {}
    constraints = {name: getattr(config, name) for name in CONSTRAINTS}
    return fields | start | {name: value for name, value in constraints.items() if value not in (None, [])}


def labels(fields: Mapping[str, Any]) -> list[str]:
    """The names of the classes, in the order of the logits; LABEL_0 … where there are none, as in `transformers`.

    Raises:
        RequestError: `id2label` does not number them from 0 on, or the logits are not those of one class of several.
    """
    require_unused(fields, {"problem_type": (None, "single_label_classification")})
    names = fields.get("id2label")
    if names is None:
        count = fields.get("num_labels", 2)
        if not isinstance(count, int) or not 2 <= count <= 1_000_000:
            raise RequestError(f"num_labels {count!r} is not supported; it must be an integer from 2 on")
        return [f"LABEL_{number}" for number in range(count)]
    if not isinstance(names, dict) or [str(key) for key in names] != [str(number) for number in range(len(names))]:
        raise RequestError("id2label must map the numbers from 0 on to names, in order")
    return [str(name) for name in names.values()]
