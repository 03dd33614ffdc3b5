"""Checkpoints that are whole or absent, and known to be whole.

`checkpoints/last` and the one before it, `checkpoints/previous`, hold weights, optimiser state, the random generator's
state and the place in the run; `checkpoints/best` holds the weights with the lowest validation loss. Tensors are
safetensors, the rest is JSON, and `checksums.json` has the sha256 of every file. A new checkpoint is whole under the
name `next` before the others are renamed, so that a process killed at any moment leaves one to continue from.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lmcommons import files, progress
from lmcommons.model.interop.directory import write_tensors

WEIGHTS, OPTIMISER, STATE, CHECKSUMS = "model.safetensors", "optimizer.safetensors", "state.json", "checksums.json"
GENERATOR = "generator"  # of random numbers: a name beside the optimiser's `weight/quantity`


class CorruptedCheckpointError(Exception):
    """A file of a checkpoint is absent or is not what was written."""


def save_last(
    checkpoints: Path, weights: dict[str, Tensor], optimiser: dict[str, Tensor], state: dict[str, Any]
) -> None:
    """Write `last`; what it was becomes `previous`.

    Raises:
        CommandError: the disk is full or the place cannot be written; the last good checkpoint is kept.
    """
    tensors = {OPTIMISER: {**optimiser, GENERATOR: torch.get_rng_state()}, WEIGHTS: weights}
    _write(checkpoints / "next", tensors, state)
    last, previous = checkpoints / "last", checkpoints / "previous"
    if last.exists():
        shutil.rmtree(previous, ignore_errors=True)
        last.rename(previous)
    (checkpoints / "next").rename(last)
    files.sync_directory(checkpoints)


def save_best(checkpoints: Path, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write `best`.

    Raises:
        CommandError: as `save_last`.
    """
    _write(checkpoints / "best", {WEIGHTS: weights}, state)


def load_last(checkpoints: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]] | None:
    """(weights, optimiser state, state) of the newest whole checkpoint, or None; restores torch's random generator.

    A corrupted checkpoint is named on stderr and passed over.
    """
    for leftover in checkpoints.glob(".*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for name in ("next", "last", "previous"):
        directory = checkpoints / name
        if not directory.exists():
            continue
        try:
            state = _verify(directory)
            optimiser = load_file(directory / OPTIMISER)
            weights = load_file(directory / WEIGHTS)
        except (CorruptedCheckpointError, SafetensorError, OSError) as error:
            progress.say(f"{directory}: corrupted checkpoint ({error}); the one before it is used if there is one")
            continue
        torch.set_rng_state(optimiser.pop(GENERATOR))
        return weights, optimiser, state
    return None


def load_best(checkpoints: Path) -> dict[str, Tensor]:
    """The weights with the lowest validation loss.

    Raises:
        CorruptedCheckpointError: they are not what was written.
    """
    _verify(checkpoints / "best")
    return load_file(checkpoints / "best" / WEIGHTS)


def _write(directory: Path, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    with files.atomic_directory(directory) as temporary:
        for name, values in tensors.items():
            write_tensors(temporary / name, values)
        (temporary / STATE).write_text(json.dumps(state, indent=2))
        sums = {path.name: files.sha256_file(path) for path in sorted(temporary.iterdir())}
        (temporary / CHECKSUMS).write_text(json.dumps(sums, indent=2))


def _verify(directory: Path) -> dict[str, Any]:
    """The state of a checkpoint whose files are all what was written."""
    try:
        sums: dict[str, str] = json.loads((directory / CHECKSUMS).read_text())
        for name, digest in sums.items():
            if files.sha256_file(directory / name) != digest:
                raise CorruptedCheckpointError(f"{name} is not what was written")
        state: dict[str, Any] = json.loads((directory / STATE).read_text())
    except (OSError, ValueError, AttributeError) as error:
        raise CorruptedCheckpointError(" ".join(str(error).split())) from error
    return state
