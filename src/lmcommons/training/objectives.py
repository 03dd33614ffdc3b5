"""What is minimised. An objective gives the sum over a batch's targets, so that a batch can be computed in parts."""

from torch import Tensor

from lmcommons.model import Decoder
from lmcommons.training.batches import Batch


def causal_language_modelling(model: Decoder, batch: Batch) -> Tensor:
    """Negative log-likelihood of each next token, summed over the targets: nats, a float32 scalar."""
    return model.loss(batch.tokens, batch.targets, document_ids=batch.document_ids, reduction="sum")
