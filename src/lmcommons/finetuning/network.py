"""The model that is fine-tuned, whoever's it is: logits of a task, the loss of tokens, writing, and saving."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lmcommons.finetuning.lora import Site
from lmcommons.recipe import FinetuningTask
from lmcommons.training.batches import Batch

WRITING: tuple[FinetuningTask, ...] = ("translation", "text-to-text", "chat")


@dataclass(frozen=True)
class Writing:
    """How answers are written: until one of `ends`, the best of `num_beams` continuations; 1: greedy."""

    ends: frozenset[int]
    max_new_tokens: int
    num_beams: int


class Network(ABC):
    """A model as fine-tuning sees it.

    Attributes:
        module: what is trained.
        kind: `decoder`, `encoder`, `encoder-decoder` or `permutation`.
        positions: tokens that it can read at once; None: any number.
        vocab_size: tokens with an embedding.
        start: the token that an encoder-decoder's target begins with.
        new: names of weights that the pretrained model does not have.
        packs: whether several texts may share a row.
    """

    module: nn.Module
    kind: str
    positions: int | None
    vocab_size: int
    start: int | None
    new: list[str]
    packs: bool

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def head_names(self) -> set[str]:
        """The weights of the task's head, and all others that pretraining did not make."""
        return {name for name, _ in self.module.named_parameters() if self._is_head(name)} | set(self.new)

    @abstractmethod
    def _is_head(self, name: str) -> bool:
        """Whether a weight belongs to the head of a task."""

    @abstractmethod
    def task_logits(self, batch: Batch) -> Tensor:
        """What the head of the task says of `batch.tokens`, float32, in the shapes of `LanguageModel.task_logits`."""

    @abstractmethod
    def token_losses(self, batch: Batch) -> Tensor:
        """Cross-entropy of each target in nats: [batch, predictions] float32, 0 where nothing is predicted."""

    @abstractmethod
    def loss(self, batch: Batch, label_smoothing: float) -> Tensor:
        """The sum of `token_losses`, with smoothed targets (Szegedy et al. 2016, §7): a float32 scalar."""

    @abstractmethod
    def write(self, prompts: Sequence[Sequence[int]], how: Writing) -> list[list[int]]:
        """The tokens that continue (a decoder) or answer (an encoder-decoder) each prompt, without an end.

        Raises:
            CommandError: the model's values are not numbers.
        """

    @abstractmethod
    def sites(self, targets: str) -> list[Site]:
        """The matrix products that LoRA changes: of `attention`, or `all`."""

    @abstractmethod
    def as_transformers(self, names: Collection[str]) -> dict[str, Tensor]:
        """The weights of these names, under the names that they have in `transformers`."""

    @abstractmethod
    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in `dtype`; weights stay float32."""

    @abstractmethod
    def save(self, source: Path, directory: Path) -> None:
        """Write a `transformers` directory, with the tokenizer's files of `source`, whole or not at all.

        Raises:
            CommandError: the disk is full or the place cannot be written.
        """


def attention_mask(batch: Batch) -> Tensor | None:
    """[batch, sequence], true where a token is real."""
    return None if batch.document_ids is None else batch.document_ids >= 0
