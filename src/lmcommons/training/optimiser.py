"""Optimisers: AdamW for every weight, or Muon for the hidden matrices and AdamW for the rest.

Weight decay is decoupled and falls on matrices only. Norm weights are scales, which decay would pull to zero;
embeddings are looked up, so decay would shrink the rows of rare tokens, which get no gradient (Walsh et al. 2024).
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lmcommons.model.linear import Linear
from lmcommons.recipe import OptimizerRecipe
from lmcommons.training import distributed

MUON_MOMENTUM = 0.95
NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


@torch.no_grad()
def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: singular values between about 0.7 and 1.2, in bfloat16.

    Five quintic Newton–Schulz iterations with the coefficients of Jordan et al. 2024 (Muon). `[..., rows, columns]`.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), with decoupled weight decay (Liu et al. 2025).

    The model stores matrices that read the same input as one; each of them is orthogonalised alone, since they are
    separate linear maps. Equal shapes of all layers go through one batched product. `torch.optim.Muon` does neither.

    Args:
        matrices: weights `[sum(sizes), columns]`, each with its `sizes`, the rows of the matrices that it holds.
        lr: the step for a square matrix; taller ones take `sqrt(rows / columns)` times it.
        weight_decay: share of `lr` by which weights shrink a step.
    """

    def __init__(self, matrices: list[tuple[Tensor, list[int]]], lr: float, weight_decay: float) -> None:
        self._sizes = dict(matrices)
        super().__init__(list(self._sizes), {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            gradients: list[Tensor] = [weight.grad for weight in weights]
            momenta = [self._momentum(weight) for weight in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - MUON_MOMENTUM)
            updates = list(torch._foreach_lerp(gradients, momenta, MUON_MOMENTUM))  # Nesterov
            self._orthogonalise_each(weights, updates)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, updates, alpha=-group["lr"])

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        return momentum

    def _orthogonalise_each(self, weights: list[Tensor], updates: list[Tensor]) -> None:
        """Replace each of the matrices that `updates` hold by its orthogonalisation, scaled for its shape, in place.

        Where processes have parts of them, each makes the whole ones: singular values are no matter of parts.
        """
        by_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
        complete = [distributed.whole(update) for update in updates]
        for weight, update in zip(weights, complete, strict=True):
            for matrix in torch.split(update, self._sizes[weight]):
                by_shape[matrix.shape].append(matrix)
        for (rows, columns), matrices in by_shape.items():
            scale = math.sqrt(max(1.0, rows / columns))
            for matrix, orthogonal in zip(matrices, orthogonalise(torch.stack(matrices)), strict=True):
                matrix.copy_(orthogonal).mul_(scale)
        updates[:] = [distributed.part_of(update, weight) for weight, update in zip(weights, complete, strict=True)]


class Averaging(torch.optim.Optimizer):
    """A moving average of the weights over steps (Polyak & Juditsky 1992), as an optimiser that changes none.

    Args:
        weights: what is averaged.
        decay: what the average keeps of itself a step; early on less, `(1 + step) / (10 + step)`, so that it forgets
            the initial weights.
    """

    def __init__(self, weights: list[Tensor], decay: float) -> None:
        super().__init__(weights, {"lr": 0.0, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Count the weights as they are now; to be called after those that change them."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state.update(average=weight.detach().clone(), updates=torch.zeros(()))
                state["updates"] += 1
                updates = float(state["updates"])
                state["average"].lerp_(weight, 1 - min(group["decay"], (1 + updates) / (10 + updates)))

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and averages."""
        for weight, state in self.state.items():
            held = weight.detach().clone()
            weight.copy_(state["average"])
            state["average"].copy_(held)


# What each keeps of a weight, as checkpoints name it.
QUANTITIES: dict[type[torch.optim.Optimizer], set[str]] = {
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    Muon: {"momentum"},
    Averaging: {"average", "updates"},
}


class Optimiser:
    """All weights of a model that are trained, under a recipe's optimiser: one step, one state.

    Args:
        model: float32 weights, on their device; ours, or any module.
        recipe: which algorithm and its peak learning rates.
        ema_decay: of a moving average of the weights; None: there is none.
    """

    def __init__(self, model: nn.Module, recipe: OptimizerRecipe, ema_decay: float | None = None) -> None:
        self._names: dict[Tensor, str] = {
            parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        embeddings = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
        linear: dict[Tensor, list[int]] = {
            module.weight: list(getattr(module, "sizes", module.weight.shape[:1]))
            for module in model.modules()
            if isinstance(module, Linear | nn.Linear)
            and module.weight in self._names
            and module.weight not in embeddings
        }
        head = getattr(getattr(model, "head", None), "weight", None)
        hidden = [(weight, sizes) for weight, sizes in linear.items() if weight is not head and recipe.name == "muon"]
        taken = {weight for weight, _ in hidden}
        decayed = [weight for weight in linear if weight not in taken]
        others = [weight for weight in self._names if weight not in linear]
        groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
        if decayed:
            groups.append({"params": decayed, "weight_decay": recipe.weight_decay})
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                groups, lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), eps=recipe.epsilon, fused=True
            )
        ]
        if hidden:
            self._parts.append(Muon(hidden, lr=recipe.muon_learning_rate, weight_decay=recipe.weight_decay))
        self._averaging = None if ema_decay is None else Averaging(self.parameters, ema_decay)
        if self._averaging is not None:
            self._parts.append(self._averaging)
        for part in self._parts:
            for group in part.param_groups:
                group["peak"] = group["lr"]

    @property
    def parameters(self) -> list[Tensor]:
        """Every weight that is trained, once."""
        return list(self._names)

    def scale_learning_rate(self, factor: float) -> None:
        """Use `factor` times the peak learning rates from now on."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = group["peak"] * factor

    def step(self) -> None:
        """Update the weights from their gradients, and drop the gradients."""
        for part in self._parts:
            part.step()
            part.zero_grad(set_to_none=True)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While it lasts the model has the average of its weights, where one is kept."""
        if self._averaging is None:
            yield
            return
        self._averaging.swap()
        try:
            yield
        finally:
            self._averaging.swap()

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts as `weight name/quantity`, for a checkpoint."""
        return {
            f"{self._names[parameter]}/{quantity}": value
            for part in self._parts
            for parameter, values in part.state.items()
            for quantity, value in values.items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        by_name: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for key, value in state.items():
            name, quantity = key.rsplit("/", 1)
            by_name[name][quantity] = value
        for part in self._parts:
            for group in part.param_groups:
                for parameter in group["params"]:
                    part.state[parameter] = {
                        quantity: distributed.part_of(value.to(parameter.device, copy=True), parameter)
                        for quantity, value in by_name[self._names[parameter]].items()
                        if quantity in QUANTITIES[type(part)]
                    }
