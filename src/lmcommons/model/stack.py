"""Layers one after the other, and what all language models share: embeddings, logits and loss."""

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.model.attention import Attention, Context, CrossAttention, Mask, MultiHead
from lmcommons.model.cache import KeyValueCache
from lmcommons.model.config import ModelConfig
from lmcommons.model.feed_forward import FeedForward
from lmcommons.model.heads import Head, HeadTransform, Pooler, task_head
from lmcommons.model.linear import Linear
from lmcommons.model.norms import Norm
from lmcommons.model.positions import (
    alibi_slopes,
    by_place,
    document_positions,
    relative_buckets,
    rotary_angles,
    sinusoids,
)

IGNORED = -100  # a target that is not predicted, as in torch and transformers


class Layer(nn.Module):
    """Attention, attention to an encoder where there is one, and feed-forward, each added to its input.

    Normalised before (Xiong et al. 2020) or after it is added (Vaswani et al. 2017, §3.1).
    """

    def __init__(self, config: ModelConfig, attention: MultiHead, cross_attention: MultiHead | None = None) -> None:
        super().__init__()
        self.before = config.norm_placement == "pre"
        self.attention_norm = Norm(config)
        self.attention = attention
        self.cross_attention_norm = None if cross_attention is None else Norm(config)
        self.cross_attention = cross_attention
        self.feed_forward_norm = Norm(config)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, context: object) -> Tensor:
        """[batch, sequence, hidden] -> [batch, sequence, hidden]; `context` is for the attentions."""
        x = self._add(x, self.attention_norm, partial(self.attention, context=context))
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            x = self._add(x, self.cross_attention_norm, partial(self.cross_attention, context=context))
        return self._add(x, self.feed_forward_norm, self.feed_forward)

    def _add(self, x: Tensor, norm: Norm, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if self.before:
            return x + self.dropout(sublayer(norm(x)))
        return norm(x + self.dropout(sublayer(x)))


class Stack(nn.Module):
    """Layers, the normalisation after them, and the bias of relative positions that they share."""

    def __init__(self, config: ModelConfig, layers: int, *, causal: bool, cross: bool = False) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.layers = nn.ModuleList(
            Layer(config, Attention(config, place), CrossAttention(config, place) if cross else None)
            for place in range(layers)
        )
        self.norm = Norm(config) if config.norm_placement == "pre" else None
        self.relative_bias = (
            nn.Parameter(torch.empty(config.relative_attention_num_buckets, config.num_attention_heads))
            if config.positions == "relative_bias"
            else None
        )

    def forward(self, x: Tensor, context: Context, states: list[Tensor] | None = None) -> Tensor:
        """[batch, sequence, hidden] -> [batch, sequence, hidden], normalised.

        `states`, where given, gets what each layer reads, and the end: as `hidden_states` in `transformers`.
        """
        for layer in self.layers:
            if states is not None:
                states.append(x)
            x = layer(x, context)
        if self.norm is not None:
            x = self.norm(x)
        if states is not None:
            states.append(x)
        return x

    def context(
        self,
        tokens: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
        weights: list[Tensor] | None = None,
    ) -> Context:
        """What the layers share for tokens [batch, sequence].

        `attention_mask` [batch, sequence] is true (or 1) where a token is real. With `document_ids` attention stays in
        a document. With `cache`, keys are all that it holds up to the last of the tokens.

        Raises:
            ValueError: there are no tokens, or the cache has no room or is given together with documents or a mask.
        """
        positions, keys = token_positions(tokens, document_ids=document_ids, cache=cache), tokens.shape[1]
        if cache is not None:
            if document_ids is not None or attention_mask is not None:
                raise ValueError("a cache knows its rows' lengths: it takes no document_ids and no attention_mask")
            keys = int(positions.max()) + 1
            if keys > cache.max_length:
                raise ValueError(f"the cache holds {cache.max_length} tokens a row and {keys} are needed")
            cache = cache.prefix(keys)
        index = torch.arange(keys, device=positions.device)
        places = index[None] if cache is None else positions
        bias = self._bias(index, None if cache is None else places)
        allowed = []  # [batch or 1, queries or 1, keys]
        if document_ids is not None:
            allowed.append(document_ids[:, :, None] == document_ids[:, None])
        if attention_mask is not None:
            allowed.append(attention_mask.bool()[:, None])
        if cache is not None or (self.causal and (allowed or bias is not None)):
            allowed.append(index <= places[..., None])
        visible = reduce(torch.logical_and, allowed)[:, None] if allowed else None
        rotation = None
        if self.config.positions == "rotary":
            rotation = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)
        return Context(Mask(self.causal, visible, bias), positions, rotation, cache, weights=weights)

    def _bias(self, index: Tensor, places: Tensor | None) -> Tensor | None:
        """What distances between `places` and keys at `index` add to scores: [batch or 1, heads, queries, keys]."""
        config, distances = self.config, torch.arange(1 - len(index), len(index), device=index.device)
        if config.positions == "alibi":
            slopes = alibi_slopes(config.num_attention_heads).to(index.device)
            return by_place(-slopes[:, None] * distances.abs(), places)
        if self.relative_bias is None:
            return None
        count, furthest = config.relative_attention_num_buckets, config.relative_attention_max_distance
        buckets = relative_buckets(distances, count, furthest, causal=self.causal)
        return by_place(self.relative_bias.float()[buckets].T, places)


class LanguageModel(nn.Module):
    """Token embeddings in, logits out: what decoder, encoder, encoder-decoder and XLNet have in common.

    Precision: `compute_dtype` is that of hidden states and matrix products; norms, rotary angles, softmax and loss are
    float32 whatever it is. Weights are cast to it on use, so a model that is trained in bfloat16 is a float32 model
    with `model.compute_dtype = torch.bfloat16`: weights, gradients and optimiser state stay float32, and no autocast is
    needed. A model that only reads is smaller and faster with its weights in that precision too:
    `load(directory, dtype=...)`.

    Initial weights are normal with `initializer_range`, those that write to the residual stream of a pre-norm stack
    smaller by the square root of their number (Radford et al. 2019, §2.3), drawn from torch's global generator. T5's
    scores are not scaled, so its queries begin smaller by the square root of a head's size (Raffel et al. 2020).
    """

    hidden: Callable[..., Tensor]  # the states that logits are read from; each kind has its own arguments

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self.fused_cross_entropy: Callable[..., Tensor] | None = None  # sums the loss without whole logits
        hidden, speaks = config.hidden_size, config.task == "language-modelling"
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, hidden))
        learned = config.positions == "learned"
        self.position_embedding = nn.Parameter(torch.empty(config.max_position_embeddings, hidden)) if learned else None
        typed = config.type_vocab_size
        self.token_type_embedding = nn.Parameter(torch.empty(typed, hidden)) if typed else None
        self.embedding_norm = Norm(config) if config.embedding_norm else None
        self.dropout = nn.Dropout(config.dropout)
        self.head_transform = HeadTransform(config) if speaks and config.head_transform else None
        self.head = Linear(hidden, config.vocab_size) if speaks and not config.tie_word_embeddings else None
        self.logits_bias = nn.Parameter(torch.zeros(config.vocab_size)) if speaks and config.logits_bias else None
        self.pooler = Pooler(config) if config.pools else None
        self.next_sentence = Head(config, 2) if config.next_sentence else None
        self.task_head = task_head(config)

    def initialise(self) -> None:
        """Draw all weights; a subclass calls it when its parts are there."""
        config = self.config
        residual = config.initializer_range
        if config.norm_placement == "pre":
            residual /= math.sqrt(2 * config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                writes = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
                nn.init.normal_(parameter, std=residual if writes else config.initializer_range)
            if not config.scale_scores and name.endswith((".query_key_value.weight", ".query.weight")):
                with torch.no_grad():
                    parameter[: config.num_attention_heads * config.head_dim] *= config.head_dim**-0.5

    def embed(self, tokens: Tensor, positions: Tensor, token_types: Tensor | None = None) -> Tensor:
        """What the first layer reads: tokens [batch, sequence] at positions [batch or 1, sequence] -> [.., hidden].

        Raises:
            ValueError: a position is beyond `max_position_embeddings` of learned positions.
        """
        config = self.config
        x = F.embedding(tokens, self.embedding)
        if config.scale_embedding:
            x = x * math.sqrt(config.hidden_size)
        if self.token_type_embedding is not None:
            segments = torch.zeros_like(tokens) if token_types is None else token_types
            x = x + F.embedding(segments, self.token_type_embedding)
        if self.position_embedding is not None:
            if tokens.shape[1] > config.max_position_embeddings:
                raise ValueError(f"{tokens.shape[1]} tokens; the model has {config.max_position_embeddings} positions")
            x = x + F.embedding(positions, self.position_embedding)
        elif config.positions == "sinusoidal":
            x = x + sinusoids(positions.double(), config.hidden_size).to(x.dtype)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return self.dropout(x).to(self.compute_dtype)

    def forward(self, *tokens: Tensor, **arguments: Tensor | KeyValueCache | None) -> Tensor:
        """Logits [batch, sequence, vocab] float32 of the states that `hidden` makes of the same arguments."""
        return self.logits(self.hidden(*tokens, **arguments))

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab] float32."""
        weight, bias = self.logit_weights()
        return F.linear(self.before_logits(hidden), weight.to(hidden.dtype), bias).float()

    def before_logits(self, hidden: Tensor) -> Tensor:
        """What the matrix of the logits is multiplied with: [..., hidden] -> [..., hidden]."""
        if self.head_transform is not None:
            hidden = self.head_transform(hidden)
        return hidden * self.config.hidden_size**-0.5 if self.config.scale_logits and self.head is None else hidden

    def logit_weights(self) -> tuple[Tensor, Tensor | None]:
        """The matrix [vocab, hidden] that logits are read with, and their bias [vocab] or None."""
        bias = None if self.logits_bias is None else self.logits_bias.to(self.compute_dtype)
        return (self.embedding if self.head is None else self.head.weight), bias

    def token_loss(
        self,
        hidden: Tensor,
        targets: Tensor,
        *,
        reduction: Literal["mean", "sum", "none"] = "mean",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Cross-entropy in nats per token, float32: hidden [batch, sequence, hidden], targets [batch, sequence] int64.

        Targets of -100 are not predicted: no part of the mean or sum, and 0 in the [batch, sequence] that `none` gives.
        """
        if reduction == "sum" and self.fused_cross_entropy is not None:
            states, (weight, bias) = self.before_logits(hidden), self.logit_weights()
            return self.fused_cross_entropy(states.flatten(0, 1), weight, bias, targets.flatten(), label_smoothing)
        logits = self.logits(hidden)
        loss = F.cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORED,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )
        return loss.view_as(targets) if reduction == "none" else loss

    def pooled(self, hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """One state for a whole text, through the pooler where there is one: [batch, sequence, hidden] -> [.., hidden].

        It is the state of the first token of an encoder, `[CLS]` in BERT, and that of the last real token where it
        alone has read all others, or as XLNet has it.
        """
        if self.config.kind == "encoder":
            state = hidden[:, 0]
        elif attention_mask is None:
            state = hidden[:, -1]
        else:
            last = (attention_mask.bool() * torch.arange(hidden.shape[1], device=hidden.device)).argmax(dim=1)
            state = hidden[torch.arange(len(hidden), device=hidden.device), last]
        return state if self.pooler is None else self.pooler(state)

    def next_sentence_logits(self, hidden: Tensor) -> Tensor:
        """Whether the second segment follows the first: [batch, sequence, hidden] -> [batch, 2] float32, 0 means yes.

        Raises:
            ValueError: the model has no such head (Devlin et al. 2019, §3.1).
        """
        if self.next_sentence is None:
            raise ValueError("the model has no head for next-sentence prediction: next_sentence is false")
        return cast(Tensor, self.next_sentence(self.pooled(hidden)))

    def task_logits(
        self, tokens: Tensor, *, attention_mask: Tensor | None = None, token_types: Tensor | None = None
    ) -> Tensor:
        """What the head of `config.task` says of tokens [batch, sequence], float32.

        -> [batch, labels] of a sequence's class, [batch, sequence, labels] of tokens' classes, and [batch, sequence, 2]
        of where an answer begins and ends. `attention_mask` and `token_types` are those of `hidden`.

        Raises:
            ValueError: the model has no such head.
        """
        if self.task_head is None:
            raise ValueError(f"a model for {self.config.task} has no head for classification or question answering")
        segments = {} if token_types is None else {"token_types": token_types}
        hidden = self.hidden(tokens, attention_mask=attention_mask, **segments)
        if self.config.task == "sequence-classification":
            hidden = self.pooled(hidden, attention_mask)
        return cast(Tensor, self.task_head(hidden))


def token_positions(
    tokens: Tensor, *, document_ids: Tensor | None = None, cache: KeyValueCache | None = None
) -> Tensor:
    """Where tokens [batch, sequence] stand: [batch or 1, sequence] int64.

    They count from 0, restart at each document of `document_ids`, and continue the rows of `cache`.

    Raises:
        ValueError: there are no tokens.
    """
    if tokens.numel() == 0:
        raise ValueError(f"an empty batch, of shape {list(tokens.shape)}: it must have a row, and a row a token")
    index = torch.arange(tokens.shape[1], device=tokens.device)
    if cache is not None:
        return cache.lengths[:, None] + index
    return index[None] if document_ids is None else document_positions(document_ids)
