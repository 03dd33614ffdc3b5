"""The encoder-decoder: a text is read whole, another is written (Vaswani et al. 2017; Raffel et al. 2020)."""

from torch import Tensor

from lmcommons.model.attention import CrossAttention, Mask, Memory
from lmcommons.model.cache import KeyValueCache
from lmcommons.model.config import ModelConfig
from lmcommons.model.stack import LanguageModel, Stack, token_positions


class EncoderDecoder(LanguageModel):
    """A source and the target's tokens so far in, logits of the target's next token out.

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
        """The encoder's states: source [batch, source] -> [batch, source, hidden].

        `attention_mask` [batch, source] is 0 where a row is padded; with `document_ids` a row holds several sources.

        Raises:
            ValueError: there are more tokens than learned positions.
        """
        positions = token_positions(source, document_ids=document_ids)
        context = self.encoder.context(positions, attention_mask=attention_mask, document_ids=document_ids)
        return self.encoder(self.embed(source, positions), context._replace(weights=weights), states)

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

        With `cache` the tokens continue its rows. `weights` gets self-attention and attention to the encoder of each
        layer in turn.

        Raises:
            ValueError: the cache has no room, or there are more tokens than learned positions.
        """
        positions = token_positions(target, document_ids=document_ids, cache=cache)
        context = self.decoder.context(positions, document_ids=document_ids, cache=cache)
        context = context._replace(memory=memory, weights=weights)
        return self.decoder(self.embed(target, positions), context, states)

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
        memory = self.memory(encoded, visible=visible)
        return self.decode(target, memory, document_ids=target_document_ids)
