"""A model as files: the directory that `transformers` reads and writes (config.json, model.safetensors)."""

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lmcommons.errors import RequestError
from lmcommons.files import atomic_directory, atomic_path, write_json
from lmcommons.model.decoder import Decoder
from lmcommons.model.interop import llama

CONFIG, GENERATION_CONFIG, WEIGHTS, INDEX = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def load(directory: Path, *, dtype: torch.dtype | None = torch.float32, device: torch.device | str = "cpu") -> Decoder:
    """Read a `LlamaForCausalLM` directory.

    `dtype` is that of the weights and of the computing (see `Decoder`); None leaves the weights as they are stored.

    Raises:
        RequestError: the directory is not a model that we compute exactly: one line with the file and what is wrong.
    """
    fields = _read_json(directory / CONFIG)
    try:
        config = llama.config_from_transformers(fields)
    except RequestError as error:
        raise RequestError(f"{directory / CONFIG}: {error}") from error
    stored = _read_tensors(directory)
    try:
        state = llama.from_transformers(stored, config)
    except RequestError as error:
        raise RequestError(f"{directory}: {error}") from error
    with torch.device("meta"):
        model = Decoder(config)
    model.load_state_dict(state, assign=True)
    model = model.to(device=device, dtype=dtype)
    model.compute_dtype = model.embedding.dtype
    return model


def save(model: Decoder, directory: Path) -> None:
    """Write `config.json`, `generation_config.json` and `model.safetensors`, each whole or not at all.

    Raises:
        CommandError: the disk is full or the place cannot be written.
    """
    tensors = llama.to_transformers(
        {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}, model.config
    )
    with atomic_path(directory / WEIGHTS) as temporary:
        write_tensors(temporary, tensors)
    config = model.config
    write_json(
        directory / GENERATION_CONFIG, {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
    )
    write_json(directory / CONFIG, llama.config_to_transformers(config, model.embedding.dtype))


def save_with_tokenizer(model: Decoder, tokenizer: Path, directory: Path) -> None:
    """`save`, with the tokenizer's files in `tokenizer`: a directory to publish or to serve, whole or not at all.

    Raises:
        CommandError: the disk is full or the place cannot be written.
    """
    with atomic_directory(directory) as temporary:
        save(model, temporary)
        for name in TOKENIZER_FILES:
            if (tokenizer / name).is_file():
                shutil.copyfile(tokenizer / name, temporary / name)


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


def convert(source: Path, out: Path, *, dtype: torch.dtype | None = None) -> Decoder:
    """Read the model in `source` and write it, with its tokenizer's files, to the new directory `out`.

    `dtype` None keeps the precision in which the weights are stored.

    Raises:
        RequestError: `source` is not a model that we compute exactly, or `out` is there already.
        CommandError: the disk is full or the place cannot be written.
    """
    if out.exists():
        raise RequestError(f"{out} is there already; choose another directory or remove it")
    model = load(source, dtype=dtype)
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
