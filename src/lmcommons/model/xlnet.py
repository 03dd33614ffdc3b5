"""XLNet (Yang et al. 2019): a language model that predicts in any order, with the positions of Transformer-XL.

Two streams of states go through the same layers. The content stream is what a token's reader sees. The query stream
knows only where its token stands, and predicts it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lmcommons.model.attention import Mask, MultiHead
from lmcommons.model.config import ModelConfig
from lmcommons.model.linear import Linear
from lmcommons.model.positions import sinusoids
from lmcommons.model.stack import LanguageModel, Layer, token_positions


class View(NamedTuple):
    """What the queries of a stream read, and how."""

    visible: Tensor | None  # [batch, queries, keys] bool
    other_segment: Tensor | None  # [batch, queries, keys] bool
    places: Tensor | None = None  # of the queries, [batch, queries]; None: they are all places in order
    weights: list[Tensor] | None = None  # each layer appends its own: [batch, heads, queries, keys]
    keys_values: tuple[Tensor, Tensor, Tensor] | None = None  # of this layer, as `RelativeAttention.keys_values`


class RelativeAttention(MultiHead):
    """Attention by content, distance and segment (Dai et al. 2019, §3.3; Yang et al. 2019, §2.5).

    score = (q + content_bias)·k + (q + distance_bias)·r(i - j) + (q + segment_bias)·s(same segment or not)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        shape = config.num_attention_heads, config.head_dim
        self.query = Linear(config.hidden_size, self.query_size)
        self.key_value = Linear(config.hidden_size, self.key_value_size, self.key_value_size)
        self.distance = Linear(config.hidden_size, self.query_size)
        self.content_bias = nn.Parameter(torch.empty(shape))
        self.distance_bias = nn.Parameter(torch.empty(shape))
        self.segment_bias = nn.Parameter(torch.empty(shape))
        self.segments = nn.Parameter(torch.empty(2, *shape))

    def keys_values(self, x: Tensor, distances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What both streams read of the content: x [batch, keys, hidden] and distances [keys + sequence, hidden].

        -> keys, values [batch, heads, keys, head_dim] and keys of distances [1, heads, keys + sequence, head_dim].
        """
        key, value = self.key_value(x).chunk(2, dim=-1)
        return self.split(key), self.split(value), self.split(self.distance(distances)[None])

    def forward(self, x: Tensor, context: View) -> Tensor:
        """[batch, queries, hidden] -> [batch, queries, hidden]."""
        assert context.keys_values is not None
        query, (key, value, far) = self.split(self.query(x)), context.keys_values
        by_content, by_distance, by_segment = (
            query + bias[:, None].to(query.dtype) for bias in (self.content_bias, self.distance_bias, self.segment_bias)
        )
        bias = _by_key(by_distance @ far.mT, key.shape[2], context.places)
        if context.other_segment is not None:
            same, other = (by_segment @ self.segments.permute(1, 2, 0).to(query.dtype)).split(1, dim=-1)
            bias = bias + torch.where(context.other_segment[:, None], other, same)
        visible = None if context.visible is None else context.visible[:, None]
        mask = Mask(visible=visible, bias=bias * self.scale)
        return self.read(by_content, key, value, mask, context.weights)


def _by_key(scores: Tensor, keys: int, places: Tensor | None) -> Tensor:
    """Scores by distance become scores by key: [.., queries, keys + sequence] -> [.., queries, keys].

    The key j and the query i of the sequence, which ends where the keys do, are in column sequence - i + j. Where the
    queries are the sequence and are read as one row after the other, each row begins one column further left (Dai et
    al. 2019, appendix B).
    """
    length = scores.shape[-1] - keys
    if places is None:
        return scores.flatten(-2)[..., length:].unflatten(-1, (length, -1))[..., :keys]
    columns = length - places[..., None] + torch.arange(keys, device=places.device)
    return scores.gather(-1, columns[:, None].expand(-1, scores.shape[1], -1, -1))


class XLNet(LanguageModel):
    """Tokens in; states, or logits of the tokens in chosen places from whatever tokens they may see."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(Layer(config, RelativeAttention(config)) for _ in range(config.num_hidden_layers))
        self.mask_embedding = nn.Parameter(torch.empty(1, config.hidden_size))
        self.initialise()

    def hidden(
        self,
        tokens: Tensor,
        *,
        attention_mask: Tensor | None = None,
        token_types: Tensor | None = None,
        visible: Tensor | None = None,
        targets: Tensor | None = None,
        memory: list[Tensor] | None = None,
        weights: list[Tensor] | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """The content stream [batch, sequence, hidden], or with `targets` the query stream [batch, targets, hidden].

        Args:
            tokens: [batch, sequence] int64.
            attention_mask: [batch, sequence], 0 where a row is padded.
            token_types: [batch, sequence]: tokens of equal number are of one segment.
            visible: [batch, sequence, sequence] bool: which tokens each may be predicted from; the content of a token
                also sees itself. None: all.
            targets: [batch, targets] int64: places whose tokens are predicted.
            memory: what each layer read of the tokens before, [batch, past, hidden] of its `states`; the masks then
                cover these too, [.., past + sequence], and `token_types` are None (Dai et al. 2019, §3.2).
            weights: gets the attention weights of each layer's content stream.
            states: gets the content stream between layers.
        """
        length, past = tokens.shape[1], 0 if memory is None else memory[0].shape[1]
        keys = past + length
        behind = torch.arange(keys, -length, -1, device=tokens.device).float()
        distances = sinusoids(behind, self.config.hidden_size).to(self.compute_dtype)
        if attention_mask is not None:
            real = attention_mask.bool()[:, None].expand(-1, length, -1)
            visible = real if visible is None else visible & real
        itself = torch.ones(length, keys, dtype=torch.bool, device=tokens.device).triu(past).tril(past)
        other = None if token_types is None else token_types[:, :, None] != token_types[:, None]
        reader = View(None if visible is None else visible | itself, other, weights=weights)
        content, query = self.embed(tokens, token_positions(tokens)), None
        if targets is not None:
            rows = torch.arange(len(tokens), device=tokens.device)[:, None]
            seen, apart = (None if mask is None else mask[rows, targets] for mask in (visible, other))
            predictor = View(seen, apart, targets)
            query = self.dropout(self.mask_embedding.to(self.compute_dtype)).expand(*targets.shape, -1)
        for place, layer in enumerate(self.layers):
            if states is not None:
                states.append(content)
            assert isinstance(layer, Layer)
            assert isinstance(layer.attention, RelativeAttention)
            known = content if memory is None else torch.cat((memory[place], content), dim=1)
            keys_values = layer.attention.keys_values(known, distances)
            if query is not None:
                query = layer(query, predictor._replace(keys_values=keys_values))
            content = layer(content, reader._replace(keys_values=keys_values))
        if states is not None:
            states.append(content)
        return content if query is None else query
