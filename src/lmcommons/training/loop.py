"""The training loop: step, measure, log, checkpoint, stop cleanly."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmcommons import progress
from lmcommons.errors import CommandError, StoppedError
from lmcommons.model import IGNORED, Model
from lmcommons.recipe import PretrainingRecipe
from lmcommons.training import checkpoint, distributed
from lmcommons.training.batches import Batch, Rows
from lmcommons.training.distributed import Loss
from lmcommons.training.execution import Execution
from lmcommons.training.loss import fused_cross_entropy
from lmcommons.training.memory import recompute_layers
from lmcommons.training.metrics import MetricsLog
from lmcommons.training.objectives import Objective
from lmcommons.training.optimiser import Optimiser
from lmcommons.training.schedule import learning_rate_factor

VALIDATION_TOKENS = 32_768  # at most, the same ones each time
METRICS_LINES = 1000  # about, over a run
SMOOTHING = 0.98  # of the loss that is watched for divergence
DIVERGED_NATS, DIVERGED_STEPS = 1.0, 100  # above the lowest smoothed loss, for so many steps on end


def training_step(
    objective: Loss, model: Model, optimiser: Optimiser, parts: list[Batch], gradient_clip: float
) -> tuple[Tensor, Tensor]:
    """One optimiser step on a batch, of which every process has a share and computes it in `parts`.

    The loss is the mean over all targets of the whole batch, so that the number of parts changes nothing but memory,
    and that of processes nothing but speed.

    Returns:
        the loss in nats per token and the norm of the gradient before clipping, two scalars on the device.
    """
    targets = distributed.total(torch.stack([(part.targets != IGNORED).sum() for part in parts]).sum()).clamp(min=1)
    loss_so_far = torch.zeros((), device=parts[0].tokens.device)
    for number, part in enumerate(parts, start=1):
        with nullcontext() if number == len(parts) else distributed.unsynchronised(objective):
            loss = objective(model, part) / targets
            (loss * distributed.size()).backward()  # processes' gradients are averaged, and the loss is a sum of theirs
        loss_so_far += loss.detach()
    norm = nn.utils.clip_grad_norm_(optimiser.parameters, gradient_clip, foreach=True)
    optimiser.step()
    return distributed.total(loss_so_far), distributed.whole(norm)


@torch.no_grad()
def mean_loss(objective: Loss, model: Model, parts: list[Batch]) -> float:
    """Nats per target over all targets of `parts`, which the processes divide, without dropout."""
    device, training = model.embedding.device, model.training
    targets = sum(int((part.targets != IGNORED).sum()) for part in parts)
    model.eval()
    loss = torch.zeros((), dtype=torch.float64)
    # Where layers are split all processes must compute equally often: some take a part that another one counts.
    for first in range(0, len(parts), distributed.size()):
        number = first + distributed.rank()
        value = float(objective(model, parts[number % len(parts)].to(device)))
        loss += value if number < len(parts) else 0.0
    model.train(training)
    return float(distributed.total(loss)) / targets


@torch.no_grad()
def load_weights(model: Model, weights: dict[str, Tensor]) -> None:
    """Replace the model's weights by those of a checkpoint."""
    for name, parameter in model.named_parameters():
        parameter.copy_(distributed.part_of(weights[name].to(parameter.device), parameter))


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
        objective: what is minimised.
        model: on its device, with its `compute_dtype` set; where processes split it, it is split here.
        train: the rows that steps read.
        validation: the batches of each validation.
        out: the run's directory, which the first of the processes writes.
        seed: of dropout.
    """

    def __init__(
        self,
        settings: PretrainingRecipe,
        execution: Execution,
        objective: Objective,
        model: Model,
        train: Rows,
        validation: list[Batch],
        out: Path,
        seed: int,
    ) -> None:
        self.settings, self.execution, self.out, self.seed = settings, execution, out, seed
        self.model, self.train, self.validation = model, train, validation
        self.state = RunState()
        if settings.gradient_checkpointing:
            recompute_layers(model)
        if execution.fused_loss:
            model.fused_cross_entropy = fused_cross_entropy
        self._loss, self._validation_loss = distributed.parallel(
            objective.loss, model, execution.strategy, compiled=execution.compiled
        )
        self.optimiser = Optimiser(model, settings.optimizer, settings.ema_decay)

    @property
    def checkpoints(self) -> Path:
        """Where `last`, `previous` and `best` are."""
        return self.out / "checkpoints"

    def resume(self, weights: dict[str, Tensor], optimiser: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from a checkpoint's content."""
        load_weights(self.model, weights)
        self.optimiser.load_state(optimiser)
        self.state = RunState(**state)

    def finish(self) -> None:
        """Train to the last step.

        Raises:
            CommandError: diverging loss or disk full; it says how to go on.
            StoppedError: a signal to stop; it says how to go on.
        """
        settings, state = self.settings, self.state
        tokens = settings.batch_size * settings.context_length
        first = distributed.rank() == 0
        if first and self.execution.compiled and state.step < settings.steps:
            progress.say("compiling the training step: about half a minute, less when it was compiled here before")
        shown = progress.task(
            "pretraining", total=settings.steps * tokens, unit="tokens", completed=state.step * tokens
        )
        with MetricsLog(self.out, state.step, writes=first) as metrics, stop_requests() as stop, shown as task:
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
                stopping = distributed.any_of(stop.is_set())
                if done or stopping or state.step % settings.checkpoint_interval == 0:
                    metrics.sync()
                    self._save()
                if stopping and not done:
                    raise StoppedError(
                        f"stopped at step {state.step} of {settings.steps}; the same command continues from there"
                    )

    def _step(self) -> dict[str, float]:
        """One optimiser step and the numbers that the metrics keep of it."""
        settings, state = self.settings, self.state
        started = time.monotonic()
        batch = self.train.batch(state.step * settings.batch_size, settings.batch_size)
        factor = learning_rate_factor(settings.schedule, state.step, settings.steps)
        self.optimiser.scale_learning_rate(factor)
        share = distributed.share(batch).to(torch.device(self.execution.device))
        parts = share.parts(settings.gradient_accumulation)
        # The numbers that dropout draws are a step's own, as its rows are: nothing of them is in a checkpoint.
        torch.manual_seed(hash((self.seed, state.step, distributed.rank())))
        step = training_step(self._loss, self.model, self.optimiser, parts, settings.gradient_clip)
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
        with self.optimiser.averaged():
            loss = mean_loss(self._validation_loss, self.model, self.validation)
            if loss < self.state.best_validation_loss:
                self.state.best_validation_loss, self.state.best_step = loss, self.state.step
                weights = self.weights()
                if distributed.rank() == 0:
                    checkpoint.save_best(self.checkpoints, weights, {"step": self.state.step, "validation_loss": loss})
        return loss

    def _save(self) -> None:
        weights = self.weights()
        optimiser = {name: distributed.whole(value) for name, value in self.optimiser.state().items()}
        if distributed.rank() == 0:
            checkpoint.save_last(self.checkpoints, weights, optimiser, asdict(self.state))

    def weights(self) -> dict[str, Tensor]:
        """All weights by name, as they are now; all processes must ask for them."""
        return {name: distributed.whole(parameter.detach()) for name, parameter in self.model.named_parameters()}


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
