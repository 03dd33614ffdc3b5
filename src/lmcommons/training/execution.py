"""How a run computes: device, precision, compiled or not.

Decided from the recipe and the kind of machine alone, never from a measurement, so that a resumed run takes the same
path as one that was not interrupted.
"""

import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from lmcommons import files
from lmcommons.errors import CommandError, RequestError
from lmcommons.model import DecoderConfig
from lmcommons.recipe import PretrainingRecipe, Recipe

# What torch.compile costs once and saves of every step, and the speed of an uncompiled step, measured on two cores of
# an AMD EPYC with AVX512-BF16 and of one H100. Rough: they only place the length of run from which compiling pays.
COMPILE_SECONDS = 30.0
COMPILE_SAVES = 0.45
CPU_FLOPS_PER_THREAD = {torch.bfloat16: 130e9, torch.float32: 80e9}
GPU_FLOPS = 200e12

# Dense bfloat16 FLOP/s of the data sheets, for model FLOPs utilisation.
GPU_PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}


@dataclass(frozen=True)
class Execution:
    """The decisions, as the checkpoint and the report record them."""

    device: str
    precision: str
    compiled: bool
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """The precision of activations and products; weights are float32 in any case."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


def decide(recipe: Recipe, config: DecoderConfig) -> Execution:
    """Resolve every `auto` of `recipe.pretraining` for the model of `config`.

    Raises:
        RequestError: the recipe asks for what this machine does not have.
    """
    wanted = recipe.pretraining
    if wanted.device == "cuda" and not torch.cuda.is_available():
        raise RequestError("pretraining.device: cuda, and torch finds no GPU here; use auto or cpu")
    device = "cuda" if wanted.device != "cpu" and torch.cuda.is_available() else "cpu"
    precision = wanted.precision
    if precision == "auto":
        precision = "bfloat16" if _has_bfloat16(device) else "float32"
    missing = missing_for_compile(device)
    if wanted.compile == "on" and missing:
        raise RequestError(f"pretraining.compile: on, and {missing} is not here; install it, or use auto or off")
    execution = Execution(device, precision, False, torch.get_num_threads())
    speed = GPU_FLOPS if device == "cuda" else CPU_FLOPS_PER_THREAD[execution.dtype] * execution.threads
    saved = COMPILE_SAVES * recipe.tokens * flops_per_token(config, wanted.context_length) / speed
    compiled = wanted.compile == "on" or (wanted.compile == "auto" and not missing and saved > COMPILE_SECONDS)
    return Execution(device, precision, compiled, execution.threads)


def missing_for_compile(device: str) -> str | None:
    """What torch.compile needs and this machine lacks: a C++ compiler and Python's headers, and on a GPU Triton."""
    if device == "cuda":
        return None if importlib.util.find_spec("triton") else "Triton"
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return "a C++ compiler"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python.h (python3-dev)"
    return None


def flops_per_token(config: DecoderConfig, context_length: int) -> float:
    """Floating-point operations of a token, forward and backward: 6 N + 12 L H Q T (Chowdhery et al. 2022, appendix B).

    N counts the weights in matrix products; an embedding that is only looked up is not one.
    """
    looked_up = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    attention = 12 * config.num_hidden_layers * config.hidden_size * context_length
    return 6.0 * (config.parameters(config.vocab_size) - looked_up) + attention


def peak_flops() -> float | None:
    """The GPU's bfloat16 peak in FLOP/s; None for a GPU that is not known here, or none."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peak for part, peak in GPU_PEAK_FLOPS.items() if part in name), None)


@contextmanager
def reproducible() -> Iterator[None]:
    """Only deterministic kernels while the block runs."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
    enabled, debugging = torch.are_deterministic_algorithms_enabled(), cast(Any, torch.utils.deterministic)
    filled = debugging.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    debugging.fill_uninitialized_memory = False  # it costs time, and no kernel here reads such memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled)
        debugging.fill_uninitialized_memory = filled


@contextmanager
def plain_failures(settings: PretrainingRecipe, out: Path) -> Iterator[None]:
    """Turn what the machine refuses in the block into one line.

    Raises:
        CommandError: memory is out, and which setting to change; or `out` cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise files.write_failure(out, error) from error
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        parts, rows = settings.gradient_accumulation, settings.batch_size
        finer = next((count for count in range(parts + 1, rows + 1) if rows % count == 0), None)
        advice = (
            f"raise pretraining.gradient_accumulation from {parts} to {finer} (the result stays the same)"
            if finer
            else f"lower pretraining.context_length from {settings.context_length}"
        )
        raise CommandError(
            f"out of memory with {rows // parts} sequences of {settings.context_length} tokens at once: {advice}, "
            "or lower model.hidden_size; the last good checkpoint is kept"
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the GPU or torch's CPU allocator says so; the last has no exception of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _has_bfloat16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
