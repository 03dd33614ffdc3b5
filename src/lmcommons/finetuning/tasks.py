"""What sets a task apart: how its rows are encoded, what is minimised, and how it is measured.

A task is measured twice: by `score` on the validation split, which decides the weights that are kept, and by `measure`
on test splits, once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lmcommons.errors import CommandError
from lmcommons.evaluation import metrics
from lmcommons.evaluation.metrics import Measurement, Statistics
from lmcommons.finetuning import batches
from lmcommons.finetuning.encoding import Encoded, Example
from lmcommons.finetuning.network import Network
from lmcommons.finetuning.rows import Split
from lmcommons.inference.text import padding_id
from lmcommons.model import IGNORED
from lmcommons.progress import task as progress_task
from lmcommons.recipe import FinetuningRecipe
from lmcommons.training.batches import Batch

READ_TOGETHER = 8192  # tokens, padding included, that are read at once without training


@dataclass(frozen=True)
class Setting:
    """What all of a task works with."""

    recipe: FinetuningRecipe
    network: Network
    tokenizer: PreTrainedTokenizerBase
    labels: list[str]
    limit: int
    """tokens of a row"""
    seed: int
    unanswerable: bool
    """question answering: rows of the train split may have no answer"""
    base: Callable[[], Network]
    """opens the model as it was before"""


class Task(ABC):
    """A task for the network of `setting`.

    `chooses` is the number of `score` that decides which weights are kept: the highest, and where two are equal the one
    with the lower `validation_loss`; if it is the loss itself, the lowest. `by_token`: each token has a target.
    """

    chooses: str
    by_token = False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @property
    def packs(self) -> bool:
        """Whether several examples share a row."""
        return False

    @abstractmethod
    def encode(self, split: Split) -> Encoded:
        """The examples of a split.

        Raises:
            RequestError: a row cannot be one; a line that names it.
        """

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """What is minimised, summed over the batch's targets: nats, a float32 scalar."""

    def targets(self, batch: Batch) -> int:
        """How many targets `loss` sums over."""
        return int((batch.targets != IGNORED).sum())

    @abstractmethod
    def score(self, split: Split, examples: Sequence[Example]) -> dict[str, float]:
        """The numbers of a validation: `validation_loss` in nats per target, and others."""

    @abstractmethod
    def measure(self, split: Split, examples: Sequence[Example], train: Split) -> list[Measurement]:
        """The metrics on a test split, each beside a baseline that knows the train split only."""

    @torch.inference_mode()
    def _read(
        self, examples: Sequence[Example], read: Callable[[Batch], Tensor], name: str
    ) -> Iterator[tuple[Example, Tensor]]:
        """Each example with its part of what `read` makes of batches of like length: in the order of the rows.

        Raises:
            CommandError: the model's values are not numbers.
        """
        device, padding = self.setting.network.device, padding_id(self.setting.tokenizer)
        found: list[tuple[Example, Tensor]] = []
        with progress_task(name, total=len(examples), unit="examples") as shown:
            for rows in batches.in_order(examples, READ_TOGETHER):
                values = read(batches.collate(rows, padding, device)).cpu()
                if not torch.isfinite(values).all():
                    raise CommandError("the model computes values that are not numbers: its weights are damaged")
                found += zip((row[0] for row in rows), values, strict=True)
                shown.advance(len(rows))
        yield from sorted(found, key=lambda pair: pair[0].row)

    def _compare(self, model: Statistics, baseline: Statistics, name: str) -> Measurement:
        samples, seed = self.setting.recipe.bootstrap_samples, self.setting.seed
        return metrics.compare(model, baseline, name, samples=samples, seed=seed)
