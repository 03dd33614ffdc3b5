"""The decoder: a causal language model, as GPT (Radford et al. 2019) and Llama (Touvron et al. 2023)."""

from typing import Literal

from torch import Tensor

from lmcommons.model.cache import KeyValueCache
from lmcommons.model.config import ModelConfig
from lmcommons.model.stack import LanguageModel, Stack, token_positions


class Decoder(LanguageModel):
    """Tokens in, logits of the next token out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.decoder = Stack(config, config.num_hidden_layers, causal=True)
        self.initialise()

    def hidden(
        self,
        tokens: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
        weights: list[Tensor] | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """The normalised states that logits are read from: tokens [batch, sequence] int64 -> [batch, sequence, hidden].

        With `document_ids` [batch, sequence] a row holds several documents, each a run of equal ids: attention stays
        inside a document and positions restart with it. `attention_mask` [batch, sequence] is 0 where a row is padded,
        on the right: padding on the left is not needed, because rows may end anywhere. With `cache` the tokens continue
        its rows (`KeyValueCache`). `weights` and `states`, where given, get the attention weights [batch, heads,
        sequence, keys] of each layer, and the hidden states between layers.

        Raises:
            ValueError: a cache is given with documents or a mask, it has no room, or there are more tokens than
                learned positions.
        """
        positions = token_positions(tokens, document_ids=document_ids, cache=cache)
        context = self.decoder.context(positions, attention_mask=attention_mask, document_ids=document_ids, cache=cache)
        return self.decoder(self.embed(tokens, positions), context._replace(weights=weights), states)

    def loss(
        self,
        tokens: Tensor,
        targets: Tensor,
        *,
        document_ids: Tensor | None = None,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> Tensor:
        """Cross-entropy in nats per token (`token_loss`): tokens and targets [batch, sequence] int64."""
        return self.token_loss(self.hidden(tokens, document_ids=document_ids), targets, reduction=reduction)
