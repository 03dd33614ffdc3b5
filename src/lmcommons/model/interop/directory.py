"""A model as files: the directory that `transformers` reads and writes (config.json, model.safetensors)."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lmcommons.errors import RequestError
from lmcommons.files import atomic_directory, atomic_path, write_json
from lmcommons.model.config import ModelConfig
from lmcommons.model.families import Model
from lmcommons.model.interop import bert, gpt2, llama, marian, t5, xlnet
from lmcommons.model.interop.fields import CONSTRAINTS, special_tokens
from lmcommons.model.interop.tensors import assemble, to_transformers
from lmcommons.recipe import Family
from lmcommons.tokenizer.vocabulary import token_names

CONFIG, GENERATION_CONFIG, WEIGHTS, INDEX = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "source.spm",
    "target.spm",
)
# What says nothing of what a model computes: how it is trained, and positions of other kinds than its family's.
WITHOUT_EFFECT = {
    "dropout",
    "max_position_embeddings",
    "pooler",
    "relative_attention_max_distance",
    "relative_attention_num_buckets",
    "rope_theta",
}

FAMILIES: dict[Family, ModuleType] = {
    "llama": llama,
    "gpt2": gpt2,
    "bert": bert,
    "t5": t5,
    "marian": marian,
    "xlnet": xlnet,
}
ARCHITECTURES = {name: module for module in FAMILIES.values() for name in module.ARCHITECTURES}


def load(directory: Path, *, dtype: torch.dtype | None = torch.float32, device: torch.device | str = "cpu") -> Model:
    """Read a `transformers` directory of one of our families.

    `dtype` is that of the weights and of the computing (see `LanguageModel`); None leaves the weights as they are
    stored. The model computes as in evaluation, without dropout.

    Raises:
        RequestError: the directory is not a model that we compute exactly: one line with the file and what is wrong.
    """
    fields = _read_json(directory / CONFIG)
    if (directory / GENERATION_CONFIG).is_file():  # then `transformers` reads none of these from config.json
        fields |= dict.fromkeys(CONSTRAINTS) | {
            name: value for name, value in _read_json(directory / GENERATION_CONFIG).items() if name in CONSTRAINTS
        }
    with _about(directory / CONFIG):
        name = _architecture(fields)
    stored = _read_tensors(directory)
    with _about(directory / CONFIG):
        config: ModelConfig = ARCHITECTURES[name].config_from_transformers(fields, name, stored.keys())
    with _about(directory):
        model = assemble(config, stored, ARCHITECTURES[name].correspondence)
    model = model.to(device=device, dtype=dtype).eval()
    model.compute_dtype = model.embedding.dtype
    return model


def save(model: Model, directory: Path) -> None:
    """Write `config.json`, `generation_config.json` and `model.safetensors`, each whole or not at all.

    Raises:
        RequestError: no class of `transformers` computes this combination of parts.
        CommandError: the disk is full or the place cannot be written.
    """
    config = model.config
    fields = {**config_fields(config), "dtype": str(model.embedding.dtype).removeprefix("torch.")}
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    with atomic_path(directory / WEIGHTS) as temporary:
        write_tensors(temporary, to_transformers(model, state, FAMILIES[config.family].correspondence(config)))
    if config.task == "language-modelling" and config.kind != "encoder":
        write_json(directory / GENERATION_CONFIG, special_tokens(config))
    write_json(directory / CONFIG, fields)


def config_fields(config: ModelConfig) -> dict[str, Any]:
    """What `config.json` says of a model.

    Raises:
        RequestError: no class of `transformers` computes this combination of parts.
    """
    if config.kind == "encoder-decoder" and config.decoder_start_token_id is None:
        raise RequestError(
            "decoder_start_token_id is not set; it is the token that an encoder-decoder's target begins with"
        )
    family = FAMILIES[config.family]
    name = family.architecture(config)
    fields = {
        "architectures": [name],
        **family.config_to_transformers(config),
        **special_tokens(config),
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_word_embeddings,
        "initializer_range": config.initializer_range,
    }
    if config.labels:
        fields["id2label"] = {str(number): label for number, label in enumerate(config.labels)}
        fields["label2id"] = {label: number for number, label in enumerate(config.labels)}
    stored = {theirs for pair in family.correspondence(config).pairs for theirs in pair.theirs}
    read = family.config_from_transformers(fields, name, stored)
    for part in ModelConfig.model_fields:
        if part not in WITHOUT_EFFECT and getattr(read, part) != getattr(config, part):
            raise RequestError(
                f"{part} {getattr(config, part)!r} makes this model no {config.family}: `transformers` has no class "
                "for it, and it cannot be written as a directory that others read"
            )
    return fields


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Say with a refusal what it is about."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error


def _architecture(fields: dict[str, Any]) -> str:
    """The name of the class that a configuration is for.

    Raises:
        RequestError: it is none of ours.
    """
    names = fields.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or names[0] not in ARCHITECTURES:
        raise RequestError(f"architectures is {names}; what can be read is one of {', '.join(ARCHITECTURES)}")
    name: str = names[0]
    return name


def save_with_tokenizer(model: Model, tokenizer: Path, directory: Path) -> None:
    """`save`, with the tokenizer's files in `tokenizer`: a directory to publish or to serve, whole or not at all.

    Raises:
        CommandError: the disk is full or the place cannot be written.
    """
    with atomic_directory(directory) as temporary:
        save(model, temporary)
        copy_tokenizer(tokenizer, temporary)


def copy_tokenizer(source: Path, directory: Path) -> None:
    """Copy the files of the tokenizer in `source`, those that it has."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file.

    Raises:
        OSError: it could not be written; safetensors itself says so in the text of an error of its own.
    """
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        number = int(code[1]) if code else errno.EIO
        raise OSError(number, os.strerror(number)) from error


def convert(source: Path, out: Path, *, dtype: torch.dtype | None = None) -> Model:
    """Read the model in `source` and write it, with its tokenizer's files, to the new directory `out`.

    `dtype` None keeps the precision in which the weights are stored.

    Raises:
        RequestError: `source` is not a model that we compute exactly, its tokenizer has other tokens, or `out` is there
            already.
        CommandError: the disk is full or the place cannot be written.
    """
    if out.exists():
        raise RequestError(f"{out} is there already; choose another directory or remove it")
    model = load(source, dtype=dtype)
    if (source / "tokenizer.json").is_file():
        token_names(source, model.config.vocab_size)
    save_with_tokenizer(model, source, out)
    return model


def _read_tensors(directory: Path) -> dict[str, Tensor]:
    """The tensors of `model.safetensors`, or of the files that `model.safetensors.index.json` names."""
    if (directory / WEIGHTS).is_file():
        return _read_file(directory / WEIGHTS)
    if not (directory / INDEX).is_file():
        found = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in directory.glob(pattern))
        also = f"; {found[0]} is a pickle, which can run code, and is not read" if found else ""
        raise RequestError(f"{directory}: no {WEIGHTS}{also}")
    places = _read_json(directory / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise RequestError(f"{directory / INDEX}: weight_map must map tensors to files")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or not (directory / name).is_file():
            raise RequestError(f"{directory / INDEX}: names {name}, which is no file of the directory")
        tensors |= _read_file(directory / name)
    return tensors


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise RequestError(f"{path}: not a whole safetensors file ({error})") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file; a model directory has one") from error
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise RequestError(f"{path}: must be a JSON object")
    return value
