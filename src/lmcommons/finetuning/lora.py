"""Low-rank changes of a model's matrices (Hu et al. 2022), and files of them that `peft` reads.

A matrix W is read as W + (alpha / rank) B A, with A [rank, in] random and B [out, rank] 0 at first, so that training
begins with the model as it was. Only A and B are trained; `merge` adds the product to W.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.files import atomic_directory, write_json
from lmcommons.model.interop.directory import write_tensors
from lmcommons.recipe import FinetuningTask, LoraMethod

# What `peft` calls a task; a text-to-text model of one stack is a causal language model.
PEFT_TASKS: dict[FinetuningTask, str] = {
    "sequence-classification": "SEQ_CLS",
    "token-classification": "TOKEN_CLS",
    "question-answering": "QUESTION_ANS",
}


@dataclass(frozen=True)
class Site:
    """A matrix product that is changed.

    Attributes:
        path: of the module in the model.
        names: of the modules of `transformers` that it is; several where ours joins them by rows.
        sizes: rows of each.
        transposed: whether `transformers` stores them as [in, out].
    """

    path: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    transposed: bool = False


class LoraLinear(nn.Module):
    """A frozen matrix product with a low-rank change of each of the matrices that it joins.

    `base` is a module with a `weight` [out, in], or, with `transposed`, [in, out]; `sizes` are the rows of each matrix.
    """

    def __init__(self, base: nn.Module, sizes: Sequence[int], method: LoraMethod, *, transposed: bool) -> None:
        super().__init__()
        self.base, self.parts, self.transposed = base, tuple(sizes), transposed
        self.scale = method.alpha / method.rank
        self.dropout = nn.Dropout(method.dropout)
        weight = cast(Tensor, base.weight)
        in_features = weight.shape[0] if transposed else weight.shape[1]
        self.down = nn.Parameter(weight.new_empty(len(sizes) * method.rank, in_features))
        self.up = nn.ParameterList(weight.new_zeros(size, method.rank) for size in sizes)
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as the paper's code: uniform in ±1 / sqrt(in)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those of the base, which its readers split by."""
        return cast(tuple[int, ...], self.base.sizes)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        narrow = F.linear(self.dropout(x), self.down.to(x.dtype)) * self.scale
        pieces = zip(narrow.chunk(len(self.up), dim=-1), self.up, strict=True)
        return cast(Tensor, self.base(x)) + torch.cat([F.linear(piece, up.to(piece.dtype)) for piece, up in pieces], -1)

    def change(self) -> Tensor:
        """What is added to the matrix: [out, in]."""
        return torch.cat([up @ down for up, down in self.pairs()]) * self.scale

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """B and A of each matrix."""
        return list(zip(self.up, self.down.chunk(len(self.up)), strict=True))


def attach(model: nn.Module, sites: Sequence[Site], method: LoraMethod) -> None:
    """Freeze all weights of `model` and put a low-rank change at each site."""
    from transformers.pytorch_utils import Conv1D

    model.requires_grad_(False)
    for site in sites:
        base = model.get_submodule(site.path)
        changed = LoraLinear(base, site.sizes, method, transposed=isinstance(base, Conv1D))
        _replace(model, site.path, changed)


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Add every change to its matrix; the model has its own modules again."""
    for path, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            change = module.change()
            cast(Tensor, module.base.weight).add_(change.T if module.transposed else change)
            _replace(model, path, module.base)


def save(
    directory: Path,
    model: nn.Module,
    sites: Sequence[Site],
    others: Mapping[str, Tensor],
    method: LoraMethod,
    *,
    base: str,
    task: str,
) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, as `peft.PeftModel.from_pretrained` reads them.

    Args:
        others: weights that were trained whole, under their names in `transformers`.
        base: the model that the changes are of, as the recipe names it.
        task: what `peft` calls the task.

    Raises:
        CommandError: the disk is full or the place cannot be written.
    """
    tensors = {f"base_model.model.{name}": tensor for name, tensor in others.items()}
    for site in sites:
        module = model.get_submodule(site.path)
        assert isinstance(module, LoraLinear)
        for name, (up, down) in zip(site.names, module.pairs(), strict=True):
            tensors[f"base_model.model.{name}.lora_A.weight"] = down
            tensors[f"base_model.model.{name}.lora_B.weight"] = up
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "r": method.rank,
        "lora_alpha": method.alpha,
        "lora_dropout": method.dropout,
        "target_modules": [name for site in sites for name in site.names],
        "modules_to_save": sorted({name.rpartition(".")[0] for name in others}) or None,
        "fan_in_fan_out": any(site.transposed for site in sites),
        "bias": "none",
        "inference_mode": True,
    }
    with atomic_directory(directory) as temporary:
        write_tensors(temporary / "adapter_model.safetensors", {n: t.detach().cpu() for n, t in tensors.items()})
        write_json(temporary / "adapter_config.json", config)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
