"""Causal language modelling: every token is predicted from those before it (Radford et al. 2018, §3.1)."""

from torch import Tensor

from lmcommons.model import Decoder, Model
from lmcommons.training.batches import Batch, EncodedDocuments, PackedRows
from lmcommons.training.objectives.objective import Objective


class CausalLanguageModelling(Objective):
    """Packed rows; attention stays inside a document."""

    def rows(self, documents: EncodedDocuments, context_length: int, seed: int) -> PackedRows:
        return PackedRows(documents, context_length, seed)

    def loss(self, model: Model, batch: Batch) -> Tensor:
        assert isinstance(model, Decoder)
        return model.loss(batch.tokens, batch.targets, document_ids=batch.document_ids, reduction="sum")
