"""Models for CTranslate2, which generates and translates fast on processors.

CTranslate2 has converters from `transformers` too. They give no embedding to the token that a Marian's target begins
with, scale the logits of every T5, and refuse a vocabulary that is smaller than the model's; so we fill in its
specification ourselves.
"""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ctranslate2.converters import Converter
from ctranslate2.specs import common_spec, transformer_spec
from torch import nn

from lmcommons.errors import RequestError
from lmcommons.files import atomic_directory
from lmcommons.model.attention import Attention, CrossAttention, MultiHead
from lmcommons.model.config import ModelConfig
from lmcommons.model.families import Model
from lmcommons.model.interop.directory import copy_tokenizer
from lmcommons.model.positions import sinusoids
from lmcommons.model.stack import Layer, Stack
from lmcommons.model.transformer import Decoder, Encoder, EncoderDecoder
from lmcommons.tokenizer.vocabulary import token_names

ACTIVATIONS = {
    "relu": common_spec.Activation.RELU,
    "silu": common_spec.Activation.SWISH,
    "gelu": common_spec.Activation.GELU,
    "gelu_new": common_spec.Activation.GELUTanh,
}
POSITIONS = ("rotary", "learned", "sinusoidal", "relative_bias")


def write(model: Model, tokenizer: Path, out: Path, quantization: str = "float32") -> None:
    """Write a model, with the tokenizer in the directory `tokenizer`, to the new directory `out`, whole or not at all.

    `quantization` is float32 or int8: then each row of a matrix has its own scale, and products are computed in int8.

    Raises:
        RequestError: CTranslate2 does not compute this model, the tokenizer is not the model's, or `out` is there.
        CommandError: the disk is full or the place cannot be written.
    """
    if out.exists():
        raise RequestError(f"{out} is there already; choose another directory or remove it")
    names = token_names(tokenizer, model.config.vocab_size)
    specification = _specification(copy.deepcopy(model), names)  # the converter quantises in place
    with atomic_directory(out) as temporary:
        _Filled(specification).convert(str(temporary), quantization=quantization, force=True)
        copy_tokenizer(tokenizer, temporary)


class _Filled(Converter):  # type: ignore[misc] # CTranslate2 has no types
    """What checks, quantises and writes a specification."""

    def __init__(self, specification: Any) -> None:
        self.specification = specification

    def _load(self) -> Any:
        return self.specification


def _specification(model: Model, tokens: list[str]) -> Any:
    config = model.config
    if config.positions not in POSITIONS:
        raise RequestError(f"CTranslate2 does not compute this model: its positions are {config.positions}")
    spec: Any
    if isinstance(model, EncoderDecoder):
        spec = transformer_spec.TransformerSpec(_encoder(model, model.encoder), _decoder(model, model.decoder))
        spec.register_source_vocabulary(tokens)
        spec.register_target_vocabulary(tokens)
        if config.decoder_start_token_id is not None:
            spec.config.decoder_start_token = tokens[config.decoder_start_token_id]
    elif isinstance(model, Decoder) and config.task == "language-modelling":
        spec = transformer_spec.TransformerDecoderModelSpec(_decoder(model, model.decoder))
        spec.register_vocabulary(tokens)
    elif isinstance(model, Encoder) and config.task == "features":
        pooler = model.pooler
        spec = transformer_spec.TransformerEncoderModelSpec(_encoder(model, model.encoder), pooler is not None)
        if pooler is not None:
            _weights(spec.pooler_dense, pooler.dense)
        spec.register_vocabulary(tokens)
    else:
        raise RequestError(f"CTranslate2 does not compute a model of kind {config.kind} for {config.task}")
    end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    spec.config.bos_token = "" if config.bos_token_id is None else tokens[config.bos_token_id]
    spec.config.eos_token = "" if end is None else tokens[end]
    spec.config.unk_token = ""
    spec.config.layer_norm_epsilon = config.norm_eps
    return spec


def _shared(config: ModelConfig) -> dict[str, Any]:
    """What encoders and decoders are described by alike."""
    rotary = {"rotary_dim": 0, "rotary_interleave": False, "rotary_base": config.rope_theta}
    return {
        "pre_norm": config.norm_placement == "pre",
        "activation": ACTIVATIONS[config.hidden_act],
        "layernorm_embedding": config.embedding_norm,
        "relative_attention_bias": config.positions == "relative_bias",
        "ffn_glu": config.gated,
        "rms_norm": config.norm == "rms",
        "num_heads_kv": config.num_key_value_heads,
        "head_dim": config.head_dim,
        **(rotary if config.positions == "rotary" else {}),
    }


def _encoder(model: Encoder | EncoderDecoder, stack: Stack) -> Any:
    types = model.token_type_embedding
    spec: Any = transformer_spec.TransformerEncoderSpec(
        len(stack.layers),
        model.config.num_attention_heads,
        num_source_embeddings=1 if types is None else 2,
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
        **_shared(model.config),
    )
    spec.embeddings[0].weight = model.embedding
    if types is not None:
        spec.embeddings[1].weight = types
    return _stack(spec, model, stack)


def _decoder(model: Decoder | EncoderDecoder, stack: Stack) -> Any:
    config = model.config
    spec: Any = transformer_spec.TransformerDecoderSpec(
        len(stack.layers),
        config.num_attention_heads,
        with_encoder_attention=isinstance(model, EncoderDecoder),
        **_shared(config),
    )
    spec.embeddings.weight = model.embedding
    spec.projection.weight, bias = model.logit_weights()
    if bias is not None:
        spec.projection.bias = bias
    if config.scale_logits and model.head is None:
        spec.scale_outputs = config.hidden_size**-0.5
    return _stack(spec, model, stack)


def _stack(spec: Any, model: Encoder | Decoder | EncoderDecoder, stack: Stack) -> Any:
    """Fill in what encoders and decoders have alike."""
    config = model.config
    spec.scale_embeddings = math.sqrt(config.hidden_size) if config.scale_embedding else False
    if config.positions == "learned":
        spec.position_encodings.encodings = model.position_embedding
    elif config.positions == "sinusoidal":
        places = torch.arange(config.max_position_embeddings, dtype=torch.float64)
        spec.position_encodings.encodings = sinusoids(places, config.hidden_size).float()
    if model.embedding_norm is not None:
        _weights(spec.layernorm_embedding, model.embedding_norm)
    if stack.norm is not None:
        _weights(spec.layer_norm, stack.norm)
    for to, layer in zip(spec.layer, stack.layers, strict=True):
        assert isinstance(layer, Layer)
        _attention(to.self_attention, layer.attention, layer.attention_norm)
        if stack.relative_bias is not None:
            to.self_attention.relative_attention_bias = stack.relative_bias
            to.self_attention.relative_attention_max_distance = np.int32(config.relative_attention_max_distance)
        if layer.cross_attention is not None and layer.cross_attention_norm is not None:
            _attention(to.attention, layer.cross_attention, layer.cross_attention_norm)
        _weights(to.ffn.layer_norm, layer.feed_forward_norm)
        feed_forward = layer.feed_forward
        if feed_forward.gated:
            gate, up = feed_forward.up.weight.chunk(2)
            to.ffn.linear_0.weight, to.ffn.linear_0_noact.weight = gate.contiguous(), up.contiguous()
        else:
            _weights(to.ffn.linear_0, feed_forward.up)
        _weights(to.ffn.linear_1, feed_forward.down)
    return spec


def _attention(spec: Any, attention: MultiHead, norm: nn.Module) -> None:
    spec.queries_scale = attention.scale
    _weights(spec.layer_norm, norm)
    if isinstance(attention, Attention):
        parts = [attention.query_key_value, attention.output]
    else:
        assert isinstance(attention, CrossAttention)
        parts = [attention.query, attention.key_value, attention.output]
    for to, linear in zip(spec.linear, parts, strict=True):
        _weights(to, linear)


def _weights(spec: Any, module: nn.Module) -> None:
    """Weight and bias of a norm or of a linear layer."""
    norm = hasattr(spec, "gamma")
    setattr(spec, "gamma" if norm else "weight", module.weight)
    if getattr(module, "bias", None) is not None:
        setattr(spec, "beta" if norm else "bias", module.bias)
