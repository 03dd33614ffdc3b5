"""A model and its tokenizer, ready to generate, by the name that a command was given."""

from typing import Literal

import torch

from lmcommons import model, tokenizer
from lmcommons.client import model_directory
from lmcommons.errors import RequestError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]


def load(
    name: str, device: Device = "auto", precision: Precision = "auto"
) -> tuple[model.Decoder, tokenizer.Tokenizer]:
    """Open a directory or `namespace/name[@revision]` (see `model_directory`).

    `device` auto is the GPU where there is one. `precision` is that of the weights; auto is float32 on a CPU, where
    greedy results then equal those of any other exact implementation, and bfloat16 on a GPU.

    Raises:
        RequestError: there is no such model, it is not one that we compute exactly, or no such device.
        CommandError: the hub cannot be reached.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise RequestError("device cuda: this machine has no GPU that torch can use; use --device cpu")
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    directory = model_directory(name)
    return model.load(directory, dtype=getattr(torch, precision), device=device), tokenizer.load(directory)
