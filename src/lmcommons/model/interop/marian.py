"""Marian as `transformers` 5 has it: the first Transformer (Vaswani et al. 2017) with one vocabulary for both sides."""

from collections.abc import Collection
from typing import Any

from lmcommons.errors import RequestError
from lmcommons.model.config import ModelConfig, Task
from lmcommons.model.interop.fields import ALIASES, class_of_task, model_config, require_unused
from lmcommons.model.interop.tensors import Correspondence, Layout, Pair, layers

ARCHITECTURES: dict[str, Task] = {"MarianMTModel": "language-modelling"}
EMBEDDING = "model.shared.weight"
ROW = Layout(lambda x: x[None], lambda x: x.squeeze(0))

LINEARS = {
    "attention.query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.output": ("self_attn.out_proj",),
    "attention_norm": ("self_attn_layer_norm",),
    "feed_forward.up": ("fc1",),
    "feed_forward.down": ("fc2",),
    "feed_forward_norm": ("final_layer_norm",),
}
CROSS = {
    "cross_attention.query": ("encoder_attn.q_proj",),
    "cross_attention.key_value": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross_attention.output": ("encoder_attn.out_proj",),
    "cross_attention_norm": ("encoder_attn_layer_norm",),
}
UNUSED: dict[str, tuple[Any, ...]] = {
    "share_encoder_decoder_embeddings": (None, True),
    "tie_word_embeddings": (None, True),
    "quantization_config": (None,),
}
# ours: what it is called on either side, which must have one value
BOTH_SIDES = {
    "num_attention_heads": ("encoder_attention_heads", "decoder_attention_heads"),
    "intermediate_size": ("encoder_ffn_dim", "decoder_ffn_dim"),
    "vocab_size": ("vocab_size", "decoder_vocab_size"),
}


def correspondence(config: ModelConfig) -> Correspondence:
    """Every weight of ours and theirs."""
    pairs = [Pair("embedding", (EMBEDDING,)), Pair("logits_bias", ("final_logits_bias",), ROW)]
    pairs += layers("encoder.layers", config.num_encoder_layers, "model.encoder.layers", _both(LINEARS))
    pairs += layers("decoder.layers", config.num_hidden_layers, "model.decoder.layers", _both(LINEARS | CROSS))
    same = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    return Correspondence(tuple(pairs), dict.fromkeys(same, EMBEDDING), unused=r"\.embed_positions\.weight$")


def _both(names: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {
        f"{ours}.{part}": tuple(f"{name}.{part}" for name in theirs)
        for ours, theirs in names.items()
        for part in ("weight", "bias")
    }


def architecture(config: ModelConfig) -> str:
    """The class of `transformers` that computes the same."""
    return class_of_task(ARCHITECTURES, config)


def config_to_transformers(config: ModelConfig) -> dict[str, Any]:
    """The fields of `config.json` that describe this family."""
    return {
        "model_type": "marian",
        "is_encoder_decoder": True,
        "d_model": config.hidden_size,
        "encoder_layers": config.num_encoder_layers,
        "decoder_layers": config.num_hidden_layers,
        **{theirs: getattr(config, ours) for ours, names in BOTH_SIDES.items() for theirs in names},
        "share_encoder_decoder_embeddings": True,
        "max_position_embeddings": config.max_position_embeddings,
        "activation_function": config.hidden_act,
        "scale_embedding": config.scale_embedding,
        "forced_eos_token_id": config.forced_eos_token_id,
        "init_std": config.initializer_range,
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
    }


def config_from_transformers(fields: dict[str, Any], name: str, stored: Collection[str]) -> ModelConfig:
    """Read `config.json` of the architecture `name`; what it leaves out has the value that its class gives it.

    Raises:
        RequestError: a feature that we do not compute, or sizes that do not fit; one line that names it.
    """
    require_unused(fields, UNUSED)
    fields = {"eos_token_id": 0, "pad_token_id": 58100} | fields
    activation = fields.get("activation_function", "gelu")
    for encoder, decoder in BOTH_SIDES.values():
        if fields.get(decoder) is not None and fields[decoder] != fields.get(encoder):
            raise RequestError(f"{decoder} {fields[decoder]!r} is not supported; it must be {encoder}'s value")
    return model_config(
        fields,
        {
            "hidden_size": "d_model",
            "num_encoder_layers": "encoder_layers",
            "num_hidden_layers": "decoder_layers",
            **{ours: encoder for ours, (encoder, _) in BOTH_SIDES.items()},
        },
        family="marian",
        decoder_start_token_id=fields.get("decoder_start_token_id", 58100),
        max_position_embeddings=fields.get("max_position_embeddings", 1024),
        hidden_act=ALIASES.get(activation, activation),
        scale_embedding=fields.get("scale_embedding", False),
        dropout=fields.get("dropout", 0.1),
        initializer_range=fields.get("init_std", 0.02),
    )
