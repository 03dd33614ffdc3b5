"""How a run computes: device, precision, compiled or not, how the model is split, how its loss is computed.

Decided from the recipe and the kind of machine alone, never from a measurement, so that a resumed run takes the same
path as one that was not interrupted.
"""

import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from lmcommons import environment, files
from lmcommons.errors import CommandError, RequestError
from lmcommons.model import ModelConfig
from lmcommons.recipe import FinetuningRecipe, PretrainingRecipe, Recipe
from lmcommons.training import distributed
from lmcommons.training.distributed import Strategy

# What torch.compile costs once and saves of every step, and the speed of an uncompiled step, measured on two cores of
# an AMD EPYC with AVX512-BF16 and of one H100. Rough: they only place the length of run from which compiling pays.
COMPILE_SECONDS = 30.0
COMPILE_SAVES = 0.45
CPU_FLOPS_PER_THREAD = {torch.bfloat16: 130e9, torch.float32: 80e9}
GPU_FLOPS = 200e12

# What a weight takes with its gradient and two moments, and a logit with its gradient, both also in bfloat16; and the
# share of memory from which weights are split among processes and logits computed in parts.
BYTES_PER_WEIGHT, BYTES_PER_LOGIT = 18, 12
LARGEST_STATE, LARGEST_LOGITS = 1 / 2, 1 / 8

# Dense bfloat16 FLOP/s of the data sheets, for model FLOPs utilisation.
GPU_PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}


@dataclass(frozen=True)
class Execution:
    """The decisions, as the checkpoint and the report record them."""

    device: str
    precision: str
    compiled: bool
    threads: int
    processes: int = 1
    strategy: Strategy = "single"
    fused_loss: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The precision of activations and products; weights are float32 in any case."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


def decide(recipe: Recipe, config: ModelConfig, processes: int = 1) -> Execution:
    """Resolve every `auto` of `recipe.pretraining` for the model of `config` in so many processes.

    Raises:
        RequestError: the recipe asks for what this machine does not have.
    """
    wanted = recipe.pretraining
    context, targets = wanted.context_length, wanted.objective.targets(wanted.context_length)
    work = recipe.tokens * flops_per_token(config, context, targets) / processes
    execution = resolve(wanted, "pretraining", work)
    on_gpu = execution.device == "cuda"
    memory = torch.cuda.mem_get_info()[1] if on_gpu else environment.memory() // processes
    strategy: Strategy = "single"
    if processes > 1:
        state = BYTES_PER_WEIGHT * config.parameters(config.vocab_size)
        fits = "ddp" if state < LARGEST_STATE * memory else "fsdp"
        strategy = cast(Strategy, fits if wanted.parallelism.strategy == "auto" else wanted.parallelism.strategy)
    rows = wanted.batch_size // (wanted.gradient_accumulation * processes)
    large = BYTES_PER_LOGIT * rows * targets * config.vocab_size > LARGEST_LOGITS * memory
    fused = wanted.loss == "fused" or (wanted.loss == "auto" and (on_gpu or large))
    return replace(execution, processes=processes, strategy=strategy, fused_loss=fused)


def resolve(wanted: PretrainingRecipe | FinetuningRecipe, section: str, work: float) -> Execution:
    """Resolve every `auto` of a recipe's `section` for a run of `work` floating-point operations.

    Raises:
        RequestError: the recipe asks for what this machine does not have.
    """
    if wanted.device == "cuda" and not torch.cuda.is_available():
        raise RequestError(f"{section}.device: cuda, and torch finds no GPU here; use auto or cpu")
    device = "cuda" if wanted.device != "cpu" and torch.cuda.is_available() else "cpu"
    precision = wanted.precision
    if precision == "auto":
        precision = "bfloat16" if _has_bfloat16(device) else "float32"
    missing = missing_for_compile(device)
    if wanted.compile == "on" and missing:
        raise RequestError(f"{section}.compile: on, and {missing} is not here; install it, or use auto or off")
    execution = Execution(device, precision, False, torch.get_num_threads())
    speed = GPU_FLOPS if device == "cuda" else CPU_FLOPS_PER_THREAD[execution.dtype] * execution.threads
    saved = COMPILE_SAVES * work / speed
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


def flops_per_token(config: ModelConfig, context_length: int, targets: int | None = None) -> float:
    """Floating-point operations of a token that is read, forward and backward, in matrix products and attention.

    Six for every weight that a token meets and twelve for every value of a query's products with all keys (Chowdhery et
    al. 2022, appendix B), over a row of `context_length` tokens with `targets` of them predicted (None: as many). The
    decoder of an encoder-decoder and XLNet's query stream read the targets.
    """
    read, predicted = context_length, context_length if targets is None else targets
    hidden, query = config.hidden_size, config.num_attention_heads * config.head_dim
    asking, asked = 2 * hidden * query, 2 * hidden * config.num_key_value_heads * config.head_dim
    feed_forward = (3 if config.gated else 2) * hidden * config.intermediate_size
    layer = read * (asking + asked + feed_forward) + 2 * query * read * read
    match config.kind:
        case "encoder-decoder":
            own = predicted * (2 * asking + asked + feed_forward) + 2 * query * predicted * (predicted + read)
            products = config.num_encoder_layers * layer + config.num_hidden_layers * (own + read * asked)
        case "permutation":
            distances = 2 * query * read * (read + predicted)  # each query meets twice as many as keys
            own = predicted * (asking + feed_forward) + 2 * query * predicted * read
            products = config.num_hidden_layers * (layer + own + distances)
        case _:
            products = config.num_hidden_layers * layer
    products += predicted * hidden * (config.vocab_size + (hidden if config.head_transform else 0))
    return 6.0 * products / read


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
        if not is_out_of_memory(error):
            raise
        parts, rows = settings.gradient_accumulation, settings.batch_size // distributed.size()
        finer = next((count for count in range(parts + 1, rows + 1) if rows % count == 0), None)
        also = "" if settings.gradient_checkpointing else "set pretraining.gradient_checkpointing to true, "
        advice = (
            f"raise pretraining.gradient_accumulation from {parts} to {finer} (the result stays the same)"
            if finer
            else f"lower pretraining.context_length from {settings.context_length}"
        )
        raise CommandError(
            f"out of memory with {rows // parts} sequences of {settings.context_length} tokens at once: {advice}, "
            f"{also}or lower model.hidden_size; the last good checkpoint is kept"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the GPU or torch's CPU allocator says so; the last has no exception of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _has_bfloat16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
