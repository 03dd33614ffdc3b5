"""What every objective offers to the training loop."""

from abc import ABC, abstractmethod

from torch import Tensor

from lmcommons.model import Model
from lmcommons.training.batches import Batch, EncodedDocuments, Rows


class Objective(ABC):
    """How documents become rows, and what is minimised on a batch of them.

    The loss is a sum over targets, so that a batch can be computed in parts.
    """

    @abstractmethod
    def rows(self, documents: EncodedDocuments, context_length: int, seed: int) -> Rows:
        """The endless rows of `documents` with `context_length` tokens each.

        Raises:
            RequestError: the documents cannot give such rows.
        """

    @abstractmethod
    def loss(self, model: Model, batch: Batch) -> Tensor:
        """The batch's loss: nats, summed over the targets that are not `IGNORED`, a float32 scalar."""
