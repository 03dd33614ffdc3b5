"""The decoder of the Llama family (Touvron et al. 2023): a causal language model."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmcommons.model.attention import Attention, Context
from lmcommons.model.cache import KeyValueCache
from lmcommons.model.config import DecoderConfig
from lmcommons.model.feed_forward import SwiGLU
from lmcommons.model.linear import Linear
from lmcommons.model.norms import RMSNorm
from lmcommons.model.positions import document_positions, rotary_angles

IGNORED = -100  # a target that is not predicted, as in torch and transformers


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each normalised before (Xiong et al. 2020) and added to its input."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.feed_forward = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[batch, sequence, hidden] -> [batch, sequence, hidden]."""
        x = x + self.attention(self.attention_norm(x), context)
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return y


class Decoder(nn.Module):
    """Tokens in, logits of the next token out.

    Precision: `compute_dtype` is that of hidden states and matrix products; norms, rotary angles, softmax and loss are
    float32 whatever it is. Weights are cast to it on use, so a model that is trained in bfloat16 is a float32 model
    with `model.compute_dtype = torch.bfloat16`: weights, gradients and optimiser state stay float32, and no autocast is
    needed. A model that only reads is smaller and faster with its weights in that precision too:
    `load(directory, dtype=...)`.

    Initial weights are normal with `initializer_range`, those that write to the residual stream smaller by the square
    root of their number (Radford et al. 2019, §2.3), drawn from torch's global generator.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self.rotation = (config.head_dim, config.rope_theta)
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head = None if config.tie_word_embeddings else Linear(config.hidden_size, config.vocab_size)
        self._initialise()

    def _initialise(self) -> None:
        residual = self.config.initializer_range / math.sqrt(2 * self.config.num_hidden_layers)
        nn.init.normal_(self.embedding, std=self.config.initializer_range)
        for name, module in self.named_modules():
            if isinstance(module, Linear):
                writes = name.endswith(("attention.output", "feed_forward.down"))
                nn.init.normal_(module.weight, std=residual if writes else self.config.initializer_range)

    def hidden(
        self, tokens: Tensor, *, document_ids: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """The normalised states that the logits are read from: [batch, sequence] -> [batch, sequence, hidden]."""
        context = self._context(tokens, document_ids, cache)
        x = F.embedding(tokens, self.embedding).to(self.compute_dtype)
        for layer in self.layers:
            x = layer(x, context)
        normalised: Tensor = self.norm(x)
        return normalised

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab] float32."""
        weight = self.embedding if self.head is None else self.head.weight
        return F.linear(hidden, weight.to(hidden.dtype)).float()

    def forward(
        self, tokens: Tensor, *, document_ids: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Logits of the token after each: tokens [batch, sequence] int64 -> [batch, sequence, vocab] float32.

        With `document_ids` [batch, sequence] a row holds several documents, each a run of equal ids: attention stays
        inside a document and positions restart with it. With `cache` the tokens continue its rows (`KeyValueCache`).

        Raises:
            ValueError: both are given, or the cache has no room.
        """
        return self.logits(self.hidden(tokens, document_ids=document_ids, cache=cache))

    def loss(
        self,
        tokens: Tensor,
        targets: Tensor,
        *,
        document_ids: Tensor | None = None,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> Tensor:
        """Cross-entropy in nats per token, float32: tokens and targets [batch, sequence] int64.

        Targets of -100 are not predicted: no part of the mean or sum, and 0 in the [batch, sequence] that `none` gives.
        """
        logits = self(tokens, document_ids=document_ids)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction=reduction)
        return loss.view_as(targets) if reduction == "none" else loss

    def _context(self, tokens: Tensor, document_ids: Tensor | None, cache: KeyValueCache | None) -> Context:
        index = torch.arange(tokens.shape[1], device=tokens.device)
        positions, visible = index[None], None
        if cache is not None:
            if document_ids is not None:
                raise ValueError("a cache holds one document a row: document_ids cannot be given with it")
            positions = cache.lengths[:, None] + index
            needed = int(positions.max()) + 1
            if needed > cache.max_length:
                raise ValueError(f"the cache holds {cache.max_length} tokens a row and {needed} are needed")
            cache = cache.prefix(needed)
            visible = (torch.arange(needed, device=tokens.device) <= positions[..., None])[:, None]
        elif document_ids is not None:
            positions = document_positions(document_ids)
            same = document_ids[:, :, None] == document_ids[:, None, :]
            visible = (same & (index <= index[:, None]))[:, None]
        return Context(*rotary_angles(positions, *self.rotation), visible, cache, positions)
