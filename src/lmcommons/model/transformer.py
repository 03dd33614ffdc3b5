"""The three ways to put stacks together: a decoder, an encoder, and both (Vaswani et al. 2017).

They read tokens [batch, sequence] int64 and give states [batch, sequence, hidden]. What they may be told besides:

- `attention_mask` [batch, sequence] is 0 where a row is padded, on the right: padding on the left is not needed.
- `document_ids` [batch, sequence]: a row holds several documents, each a run of equal ids; attention stays inside a
  document, and positions restart with it.
- `cache`: the tokens continue its rows (`KeyValueCache`).
- `weights` and `states`, where given, get the attention weights [batch, heads, sequence, keys] of each layer, and the
  hidden states between layers.

All raise `ValueError` where a batch is empty, there are more tokens than learned positions, or a cache has no room or
is given together with documents or a mask.
"""

from typing import Literal

from torch import Tensor

from lmcommons.model.attention import CrossAttention, Mask, Memory
from lmcommons.model.cache import KeyValueCache
from lmcommons.model.config import ModelConfig
from lmcommons.model.stack import LanguageModel, Stack


class Decoder(LanguageModel):
    """Tokens in, logits of the next token out, as GPT (Radford et al. 2019) and Llama (Touvron et al. 2023)."""

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
        """The normalised states that logits are read from; a token reads those before it."""
        context = self.decoder.context(
            tokens, attention_mask=attention_mask, document_ids=document_ids, cache=cache, weights=weights
        )
        return self.decoder(self.embed(tokens, context.positions), context, states)

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


class Encoder(LanguageModel):
    """Tokens in, states that know what stands on both sides out (Devlin et al. 2019); or what a mask hides."""

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
        """The states; `token_types` [batch, sequence] are the segments of a pair (0 and 1)."""
        context = self.encoder.context(
            tokens, attention_mask=attention_mask, document_ids=document_ids, weights=weights
        )
        return self.encoder(self.embed(tokens, context.positions, token_types), context, states)


class EncoderDecoder(LanguageModel):
    """A source and the target's tokens so far in, logits of the target's next token out (Raffel et al. 2020).

    Both sides share one embedding. A target begins with `config.decoder_start_token_id`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = Stack(config, config.num_encoder_layers, causal=False)
        self.decoder = Stack(config, config.num_hidden_layers, causal=True, cross=True)
        self.initialise()

    def encode(
        self,
        source: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        weights: list[Tensor] | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """The encoder's states: source [batch, source] -> [batch, source, hidden]."""
        context = self.encoder.context(
            source, attention_mask=attention_mask, document_ids=document_ids, weights=weights
        )
        return self.encoder(self.embed(source, context.positions), context, states)

    def memory(self, encoded: Tensor, *, visible: Tensor | None = None) -> Memory:
        """What the decoder reads of encoded [batch, source, hidden]; computed once for all steps of generation.

        `visible` is the source's `attention_mask` [batch, source], or [batch, target, source] where targets read
        different parts of it.
        """
        if visible is not None:
            visible = visible.bool()
            visible = visible[:, None, None] if visible.dim() == 2 else visible[:, None]
        crosses = [layer.cross_attention for layer in self.decoder.layers]
        pairs = [cross.keys_values(encoded) for cross in crosses if isinstance(cross, CrossAttention)]
        return Memory(pairs, Mask(visible=visible))

    def decode(
        self,
        target: Tensor,
        memory: Memory,
        *,
        document_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
        weights: list[Tensor] | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """The decoder's states: target [batch, target] -> [batch, target, hidden].

        `weights` gets self-attention and attention to the encoder of each layer in turn.
        """
        context = self.decoder.context(target, document_ids=document_ids, cache=cache, weights=weights)
        return self.decoder(self.embed(target, context.positions), context._replace(memory=memory), states)

    def hidden(
        self,
        source: Tensor,
        target: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        target_document_ids: Tensor | None = None,
    ) -> Tensor:
        """The states that the target's logits are read from: [batch, target, hidden].

        With both `document_ids` rows hold several pairs; a target reads the source of the same id.
        """
        encoded = self.encode(source, attention_mask=attention_mask, document_ids=document_ids)
        visible = attention_mask
        if document_ids is not None and target_document_ids is not None:
            visible = target_document_ids[:, :, None] == document_ids[:, None, :]
        return self.decode(target, self.memory(encoded, visible=visible), document_ids=target_document_ids)
