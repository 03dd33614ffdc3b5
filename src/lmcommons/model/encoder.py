"""The encoder: every token reads all others, as in BERT (Devlin et al. 2019)."""

from torch import Tensor

from lmcommons.model.config import ModelConfig
from lmcommons.model.stack import LanguageModel, Stack, token_positions


class Encoder(LanguageModel):
    """Tokens in, states that know what stands on both sides; and logits of what stood in the place of a mask."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = Stack(config, config.num_hidden_layers, causal=False)
        self.initialise()

    def hidden(
        self,
        tokens: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        token_types: Tensor | None = None,
        weights: list[Tensor] | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """[batch, sequence] -> [batch, sequence, hidden].

        `attention_mask` is 0 where a row is padded; with `document_ids` a row holds several documents, each a run of
        equal ids, that do not see one another; `token_types` are the segments of a pair (0 and 1). All are [batch,
        sequence]. `weights` and `states` are as in `Decoder.hidden`.

        Raises:
            ValueError: there are more tokens than learned positions.
        """
        positions = token_positions(tokens, document_ids=document_ids)
        context = self.encoder.context(positions, attention_mask=attention_mask, document_ids=document_ids)
        embedded = self.embed(tokens, positions, token_types)
        return self.encoder(embedded, context._replace(weights=weights), states)
