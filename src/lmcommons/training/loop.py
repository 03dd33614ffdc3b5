"""The training loop: step, measure, log, checkpoint, stop cleanly."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmcommons import progress
from lmcommons.errors import CommandError
from lmcommons.model import Decoder
from lmcommons.model.decoder import IGNORED
from lmcommons.recipe import PretrainingRecipe
from lmcommons.training import checkpoint
from lmcommons.training.batches import Batch, PackedRows
from lmcommons.training.execution import Execution
from lmcommons.training.metrics import MetricsLog
from lmcommons.training.objectives import causal_language_modelling
from lmcommons.training.optimiser import Optimiser
from lmcommons.training.schedule import learning_rate_factor

VALIDATION_TOKENS = 32_768  # at most, the same ones each time
METRICS_LINES = 1000  # about, over a run
SMOOTHING = 0.98  # of the loss that is watched for divergence
DIVERGED_NATS, DIVERGED_STEPS = 1.0, 100  # above the lowest smoothed loss, for so many steps on end

Objective = Callable[[Decoder, Batch], Tensor]


def training_step(
    objective: Objective, model: Decoder, optimiser: Optimiser, parts: list[Batch], gradient_clip: float
) -> tuple[Tensor, Tensor]:
    """One optimiser step on a batch that is computed in `parts`.

    The loss is the mean over all targets of the whole batch, so that the number of parts changes nothing but memory.

    Returns:
        the loss in nats per token and the norm of the gradient before clipping, two scalars on the device.
    """
    targets = sum((part.targets != IGNORED).sum() for part in parts)
    total = torch.zeros((), device=parts[0].tokens.device)
    for part in parts:
        loss = objective(model, part) / targets
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    norm = nn.utils.clip_grad_norm_(optimiser.parameters, gradient_clip, foreach=True)
    optimiser.step()
    return total, norm


@torch.no_grad()
def mean_loss(model: Decoder, parts: list[Batch]) -> float:
    """Nats per token over all targets of `parts`."""
    device = model.embedding.device
    targets = sum(int((part.targets != IGNORED).sum()) for part in parts)
    return sum(float(causal_language_modelling(model, part.to(device))) for part in parts) / targets


@dataclass
class RunState:
    """Where a run is, beside weights and optimiser state. All of it is in the checkpoint."""

    step: int = 0  # optimiser steps done; the data position too, since batch n belongs to step n
    seconds: float = 0.0  # of training, over all interruptions
    best_validation_loss: float = math.inf
    best_step: int = 0
    unlogged_losses: list[float] = field(default_factory=list)
    smoothed_loss: float = 0.0
    lowest_smoothed_loss: float = math.inf
    steps_above: int = 0

    def watch(self, loss: float, norm: float, vocab_size: int) -> None:
        """Count a step's loss.

        Raises:
            CommandError: the run diverges. That is a loss or gradient that is not finite, a loss above twice that of
                guessing (`ln vocab_size`), or a smoothed loss that stays a nat above its lowest for a hundred steps.
        """
        self.unlogged_losses.append(loss)
        self.smoothed_loss = loss if self.step == 1 else SMOOTHING * self.smoothed_loss + (1 - SMOOTHING) * loss
        self.lowest_smoothed_loss = min(self.lowest_smoothed_loss, self.smoothed_loss)
        above = self.smoothed_loss > self.lowest_smoothed_loss + DIVERGED_NATS
        self.steps_above = self.steps_above + 1 if above else 0
        reason = None
        if not math.isfinite(loss) or not math.isfinite(norm):
            reason = f"the loss is {loss:g} and the gradient's norm {norm:g}"
        elif loss > 2 * math.log(vocab_size):
            reason = f"the loss is {loss:.2f}, twice that of guessing"
        elif self.steps_above == DIVERGED_STEPS:
            reason = (
                f"the loss has been above {self.lowest_smoothed_loss + DIVERGED_NATS:.2f} for {DIVERGED_STEPS} steps"
            )
        if reason:
            raise CommandError(
                f"training diverged at step {self.step}: {reason}; lower pretraining.optimizer.learning_rate (and "
                "muon_learning_rate) or raise pretraining.schedule.warmup_steps; the last good checkpoint is kept"
            )


class Run:
    """A pretraining run between its checkpoints.

    Args:
        settings: the recipe's section.
        execution: the device, the precision, and whether to compile.
        model: on its device, with its `compute_dtype` set.
        optimiser: of that model.
        train: the rows that steps read.
        validation: the batches of each validation.
        out: the run's directory.
    """

    def __init__(
        self,
        settings: PretrainingRecipe,
        execution: Execution,
        model: Decoder,
        optimiser: Optimiser,
        train: PackedRows,
        validation: list[Batch],
        out: Path,
    ) -> None:
        self.settings, self.execution, self.out = settings, execution, out
        self.model, self.optimiser, self.train, self.validation = model, optimiser, train, validation
        self.state = RunState()
        self._objective: Objective = causal_language_modelling
        if execution.compiled:
            self._objective = torch.compile(causal_language_modelling)

    @property
    def checkpoints(self) -> Path:
        """Where `last`, `previous` and `best` are."""
        return self.out / "checkpoints"

    def resume(self, weights: dict[str, Tensor], optimiser: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from a checkpoint's content."""
        self.load_weights(weights)
        self.optimiser.load_state(optimiser)
        self.state = RunState(**state)

    @torch.no_grad()
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Replace the model's weights."""
        for name, parameter in self.model.named_parameters():
            parameter.copy_(weights[name])

    def finish(self) -> None:
        """Train to the last step.

        Raises:
            CommandError: diverging loss, disk full, or a signal to stop; it says how to go on.
        """
        settings, state = self.settings, self.state
        tokens = settings.batch_size * settings.context_length
        if self.execution.compiled and state.step < settings.steps:
            progress.say("compiling the training step: about half a minute, less when it was compiled here before")
        shown = progress.task(
            "pretraining", total=settings.steps * tokens, unit="tokens", completed=state.step * tokens
        )
        with MetricsLog(self.out, state.step) as metrics, stop_requests() as stop, shown as task:
            while state.step < settings.steps:
                started = time.monotonic()
                numbers = self._step()
                done = state.step == settings.steps
                if done or state.step % settings.evaluation_interval == 0:
                    numbers["validation_loss"] = self._validate()
                state.seconds += time.monotonic() - started
                task.advance(tokens, **{name: numbers[name] for name in ("loss", "validation_loss") if name in numbers})
                if "validation_loss" in numbers or state.step % max(1, settings.steps // METRICS_LINES) == 0:
                    numbers["loss"] = math.fsum(state.unlogged_losses) / len(state.unlogged_losses)
                    state.unlogged_losses.clear()
                    metrics.write(state.step, {"tokens": state.step * tokens, **numbers})
                if done or stop.is_set() or state.step % settings.checkpoint_interval == 0:
                    metrics.sync()
                    self._save()
                if stop.is_set() and not done:
                    raise CommandError(
                        f"stopped at step {state.step} of {settings.steps}; the same command continues from there"
                    )

    def _step(self) -> dict[str, float]:
        """One optimiser step and the numbers that the metrics keep of it."""
        settings, state = self.settings, self.state
        started = time.monotonic()
        batch = self.train.batch(state.step * settings.batch_size, settings.batch_size)
        factor = learning_rate_factor(settings.schedule, state.step, settings.steps)
        self.optimiser.scale_learning_rate(factor)
        parts = batch.to(torch.device(self.execution.device)).parts(settings.gradient_accumulation)
        step = training_step(self._objective, self.model, self.optimiser, parts, settings.gradient_clip)
        loss, norm = map(float, step)
        state.step += 1
        state.watch(loss, norm, self.model.config.vocab_size)
        return {
            "loss": loss,
            "learning_rate": settings.optimizer.learning_rate * factor,
            "gradient_norm": norm,
            "tokens_per_second": batch.tokens.numel() / (time.monotonic() - started),
        }

    def _validate(self) -> float:
        """The validation loss; the lowest so far makes the weights the best."""
        loss = mean_loss(self.model, self.validation)
        if loss < self.state.best_validation_loss:
            self.state.best_validation_loss, self.state.best_step = loss, self.state.step
            checkpoint.save_best(self.checkpoints, self._weights(), {"step": self.state.step, "validation_loss": loss})
        return loss

    def _save(self) -> None:
        checkpoint.save_last(self.checkpoints, self._weights(), self.optimiser.state(), asdict(self.state))

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one acts as it did before.

    Only the main thread has signals; in another the event is never set.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: object) -> None:
        requested.set()
        for each, handler in former.items():
            signal.signal(each, handler)

    for number in former:
        signal.signal(number, stop)
    try:
        yield requested
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
