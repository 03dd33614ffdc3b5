"""A model and its tokenizer, ready to generate, by the name that a command was given."""

from pathlib import Path
from typing import Literal

import torch

from lmcommons import model, tokenizer
from lmcommons.client import model_directory
from lmcommons.errors import RequestError
from lmcommons.generation import foreign_tokenizer
from lmcommons.generation.foreign_tokenizer import ForeignTokenizer
from lmcommons.model.config import as_list

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]

KIND_COMMANDS = {
    "decoder": ("lmc generate", "lmc translate", "lmc answer"),
    "encoder": ("lmc fill",),
    "encoder-decoder": ("lmc translate", "lmc answer", "lmc generate"),
    "permutation": ("lmc generate", "lmc fill"),
}


def load(
    name: str, device: Device = "auto", precision: Precision = "auto"
) -> tuple[model.Model, tokenizer.Tokenizer | ForeignTokenizer]:
    """Open a directory or `namespace/name[@revision]` (see `model_directory`) with a model that writes text.

    `device` auto is the GPU where there is one. `precision` is that of the weights; auto is float32 on a CPU, where
    greedy results then equal those of any other exact implementation, and bfloat16 on a GPU. Texts end with the
    tokenizer's stop tokens and with the end tokens that config.json names.

    Raises:
        RequestError: there is no such model, it is not one that we compute exactly, it writes no text, its tokenizer is
            for more tokens than it knows, or there is no such device.
        CommandError: the hub cannot be reached.
    """
    directory = model_directory(name)
    found = load_model(directory, device, precision)
    if "lmc generate" not in commands(found.config):
        raise wrong_kind(name, found.config, "writes no text")
    words: tokenizer.Tokenizer | ForeignTokenizer
    try:
        words = tokenizer.load(directory)
    except RequestError:
        if not (directory / "tokenizer.json").is_file():
            raise
        words = ForeignTokenizer(foreign_tokenizer.read(directory))
    _join(name, found.config, words)
    return found, words


def load_model(directory: Path, device: Device, precision: Precision) -> model.Model:
    """Read the model in `directory`; `device` and `precision` are those of `load`.

    Raises:
        RequestError: it is not one that we compute exactly, or there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise RequestError("device cuda: this machine has no GPU that torch can use; use --device cpu")
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    return model.load(directory, dtype=getattr(torch, precision), device=device)


def commands(config: model.ModelConfig) -> tuple[str, ...]:
    """The commands that put such a model to use, the first one first."""
    match config.task:
        case "language-modelling":
            return KIND_COMMANDS[config.kind]
        case "question-answering":
            return ("lmc answer",)
        case "features":
            return ()
    return ("lmc classify",)


def wrong_kind(name: str, config: model.ModelConfig, refusal: str) -> RequestError:
    """One line that says what the model `name` is, and which command is right for it."""
    able = commands(config)
    use = f"see {able[0]}" if able else "fine-tune it to a task first"
    return RequestError(f"{name}: {_article(config.kind)} for {config.task} {refusal}; {use}")


def load_decoder(
    name: str, device: Device = "auto", precision: Precision = "auto"
) -> tuple[model.Decoder, tokenizer.Tokenizer]:
    """`load` for what only a decoder with a tokenizer of our kind, byte-level BPE, can do.

    Raises:
        RequestError, CommandError: as `load`, and where the model is of another kind.
    """
    directory = model_directory(name)
    found = load_model(directory, device, precision)
    if not isinstance(found, model.Decoder):
        raise RequestError(f"{name}: {_article(found.config.kind)} model; this needs a decoder")
    if "lmc generate" not in commands(found.config):
        raise wrong_kind(name, found.config, "writes no text")
    words = tokenizer.load(directory)
    _join(name, found.config, words)
    return found, words


def _join(name: str, config: model.ModelConfig, words: tokenizer.Tokenizer | ForeignTokenizer) -> None:
    """Let the end tokens that a model's configuration names end its texts too.

    Raises:
        RequestError: the tokenizer is for more tokens than the model knows.
    """
    if words.vocab_size > config.vocab_size:
        raise RequestError(
            f"{name}: the tokenizer has {words.vocab_size} tokens and the model only {config.vocab_size}"
        )
    words.stop_token_ids = sorted({*words.stop_token_ids, *as_list(config.eos_token_id)})


def _article(kind: str) -> str:
    return f"an {kind}" if kind.startswith("e") else f"a {kind}"
