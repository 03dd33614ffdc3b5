"""The loop of fine-tuning: epochs, validations, the best weights, an early end, and checkpoints to go on from."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmcommons import progress
from lmcommons.errors import CommandError, StoppedError
from lmcommons.finetuning import batches
from lmcommons.finetuning.batches import Packed
from lmcommons.finetuning.encoding import Example
from lmcommons.finetuning.rows import Split
from lmcommons.finetuning.tasks import Task
from lmcommons.inference.text import padding_id
from lmcommons.training import checkpoint
from lmcommons.training.batches import Batch
from lmcommons.training.loop import stop_requests
from lmcommons.training.metrics import MetricsLog
from lmcommons.training.optimiser import Optimiser
from lmcommons.training.schedule import learning_rate_factor

CHECKPOINT_SECONDS = 300.0  # most that is lost when a run is killed, validations apart
METRICS_LINES = 1000  # about, over a run
WARMUP_SHARE = 10  # of the run, at most


@dataclass
class State:
    """Where a run is, beside weights and optimiser state. All of it is in the checkpoint."""

    step: int = 0  # optimiser steps done; batch n belongs to step n
    seconds: float = 0.0
    tokens: int = 0  # read, padding not counted
    best: list[float] = field(default_factory=list)  # the numbers that decide, the higher the better
    best_step: int = 0
    without_improvement: int = 0
    validations: list[dict[str, float]] = field(default_factory=list)
    unlogged_losses: list[float] = field(default_factory=list)


class Loop:
    """A run of fine-tuning between its checkpoints.

    Args:
        task: with the network that is trained.
        compiled: whether to compile the loss.
        train: what is trained on.
        validation: rows, and what is read of them, that decide.
        out: the run's directory.
    """

    def __init__(
        self,
        task: Task,
        train: Sequence[Example],
        validation: tuple[Split, Sequence[Example]],
        out: Path,
        *,
        compiled: bool,
    ) -> None:
        self.task, self.train, self.validation, self.out = task, train, validation, out
        self.recipe, self.module = task.setting.recipe, task.setting.network.module
        self.checkpoints = out / "checkpoints"
        self.state = State()
        self._optimiser = Optimiser(self.module, self.recipe.optimizer)
        self._loss = torch.compile(task.loss) if compiled else task.loss
        self._widths = batches.widths(task.setting.limit) if compiled else ()
        # Epochs may differ by a batch, because rows are cut into batches after they are shuffled.
        counts = [len(self._epoch(number)) for number in range(self.recipe.epochs)]
        self.ends = [sum(counts[: number + 1]) for number in range(len(counts))]
        self.steps = self.ends[-1]
        self.validated_at = set(self._validation_steps(counts))
        schedule = self.recipe.schedule
        warmup = min(schedule.warmup_steps, self.steps // WARMUP_SHARE)
        self._schedule = schedule.model_copy(update={"warmup_steps": warmup})

    def _epoch(self, number: int) -> list[list[Packed]]:
        setting = self.task.setting
        return batches.epoch(
            self.train, self.recipe, setting.limit, packs=self.task.packs, seed=setting.seed, number=number
        )

    def _validation_steps(self, counts: Sequence[int]) -> Iterator[int]:
        """The last step of an epoch, and others that cut it into `evaluations_per_epoch` parts."""
        for end, count in zip(self.ends, counts, strict=True):
            parts = min(self.recipe.evaluations_per_epoch, count)
            yield from (end - count + round(count * part / parts) for part in range(1, parts + 1))

    @property
    def epoch(self) -> float:
        """Passes over the train split that are done."""
        number = next((number for number, end in enumerate(self.ends) if self.state.step < end), len(self.ends))
        if number == len(self.ends):
            return float(number)
        begin = self.ends[number - 1] if number else 0
        return number + (self.state.step - begin) / (self.ends[number] - begin)

    def resume(self) -> None:
        """Go on from the last whole checkpoint, if there is one."""
        found = checkpoint.load_last(self.checkpoints)
        if found is not None:
            weights, optimiser, state = found
            self._load_weights(weights)
            self._optimiser.load_state(optimiser)
            self.state = State(**state)
            progress.say(f"{self.out}: continuing at step {self.state.step} of {self.steps}")

    def finish(self) -> None:
        """Train to the last step or an early end, and put the best weights in place.

        Raises:
            CommandError: a loss that is not a number, or disk full.
            StoppedError: a signal to stop; it says how to go on.
        """
        shown = progress.task("fine-tuning", total=self.steps, unit="steps", completed=self.state.step)
        saved = time.monotonic()
        with MetricsLog(self.out, self.state.step) as log, stop_requests() as stop, shown as task:
            for rows in self._remaining():
                started = time.monotonic()
                numbers = self._step(rows)
                validated = self.state.step in self.validated_at
                if validated:
                    numbers |= self._validate()
                self.state.seconds += time.monotonic() - started
                task.advance(1, **{name: numbers[name] for name in ("loss", self.task.chooses) if name in numbers})
                if validated or self.state.step % max(1, self.steps // METRICS_LINES) == 0:
                    numbers["loss"] = math.fsum(self.state.unlogged_losses) / len(self.state.unlogged_losses)
                    self.state.unlogged_losses.clear()
                    log.write(self.state.step, {"epoch": self.epoch, **numbers})
                if validated or stop.is_set() or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    log.sync()
                    checkpoint.save_last(self.checkpoints, self._weights(), self._optimiser.state(), asdict(self.state))
                    saved = time.monotonic()
                if stop.is_set() and self.state.step < self.steps:
                    raise StoppedError(
                        f"stopped at step {self.state.step} of {self.steps}; the same command continues from there"
                    )
        try:
            self._load_weights(checkpoint.load_best(self.checkpoints))
        except checkpoint.CorruptedCheckpointError as error:
            progress.say(f"{self.checkpoints / 'best'}: corrupted checkpoint ({error}); the last weights are the model")
            self.state.best_step = self.state.step

    @property
    def _ended(self) -> bool:
        return self.state.without_improvement >= self.recipe.patience

    def _remaining(self) -> Iterator[list[Packed]]:
        """The batches of the steps that are left, until the run ends early."""
        for number, end in enumerate(self.ends):
            if self.state.step < end and not self._ended:
                rows = self._epoch(number)
                for batch in rows[self.state.step - (end - len(rows)) :]:
                    if self._ended:
                        best = f"{self.task.chooses} was best at step {self.state.best_step}"
                        progress.say(f"stopping early at epoch {self.epoch:.1f}: {best}")
                        return
                    yield batch

    def _step(self, rows: list[Packed]) -> dict[str, float]:
        """One optimiser step, and the numbers that the metrics keep of it.

        Raises:
            CommandError: the loss or the gradient is not a number.
        """
        started, setting = time.monotonic(), self.task.setting
        padding, device = padding_id(setting.tokenizer), setting.network.device
        pieces = batches.parts(rows, self.recipe.gradient_accumulation)
        parts = [
            batches.collate(piece, padding, device, widths=self._widths, by_token=self.task.by_token)
            for piece in pieces
        ]
        if self._widths:
            for part in parts:
                _mark_rows_dynamic(part)
        targets = sum(self.task.targets(part) for part in parts)
        factor = learning_rate_factor(self._schedule, self.state.step, self.steps)
        self._optimiser.scale_learning_rate(factor)
        # The numbers that dropout draws are a step's own, as its rows are: nothing of them is in a checkpoint.
        torch.manual_seed(hash((setting.seed, self.state.step)))
        self.module.train()
        total = 0.0
        for part in parts:
            loss = self._loss(part) / targets
            loss.backward()
            total += float(loss.detach())
        norm = float(nn.utils.clip_grad_norm_(self._optimiser.parameters, self.recipe.gradient_clip))
        if not math.isfinite(total) or not math.isfinite(norm):
            raise CommandError(
                f"fine-tuning diverged at step {self.state.step + 1}: the loss is {total:g} and the gradient's norm "
                f"{norm:g}; lower finetuning.optimizer.learning_rate; the last good checkpoint is kept"
            )
        self._optimiser.step()
        self.module.eval()
        read = sum(len(example.tokens) + len(example.target_tokens or ()) for row in rows for example in row)
        self.state.step += 1
        self.state.tokens += read
        self.state.unlogged_losses.append(total)
        return {
            "loss": total,
            "learning_rate": self.recipe.optimizer.learning_rate * factor,
            "gradient_norm": norm,
            "tokens_per_second": read / (time.monotonic() - started),
        }

    def _validate(self) -> dict[str, float]:
        """The numbers of the validation split; the best so far makes the weights the best."""
        numbers = self.task.score(*self.validation)
        loss = -numbers["validation_loss"]
        decides = [loss] if self.task.chooses == "validation_loss" else [numbers[self.task.chooses], loss]
        self.state.validations.append({"step": self.state.step, "epoch": self.epoch, **numbers})
        self.state.without_improvement += 1
        if decides > self.state.best:
            self.state.best, self.state.best_step, self.state.without_improvement = decides, self.state.step, 0
            checkpoint.save_best(self.checkpoints, self._weights(), {"step": self.state.step, **numbers})
        return numbers

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self.module.named_parameters() if weight.requires_grad}

    @torch.no_grad()
    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])


def _mark_rows_dynamic(batch: Batch) -> None:
    """Let a compiled step take any number of rows."""
    for tensor in vars(batch).values():
        if tensor is not None:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)


def summary(loop: Loop) -> dict[str, Any]:
    """What a report says of the run."""
    state = loop.state
    best = next(numbers for numbers in state.validations if numbers["step"] == state.best_step)
    return {
        "steps": state.step,
        "planned_steps": loop.steps,
        "epochs": loop.epoch,
        "seconds": state.seconds,
        "tokens": state.tokens,
        "tokens_per_second": state.tokens / state.seconds,
        "chosen_by": loop.task.chooses,
        "best": best,
        "validations": state.validations,
    }
