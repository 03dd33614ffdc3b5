"""Llama and Qwen2 as `transformers` 5 has them: the fields of their configurations and their tensors.

Qwen2 is Llama with biases on queries, keys and values, and without a sliding window.
"""

from collections.abc import Collection
from typing import Any

from lmcommons.errors import RequestError
from lmcommons.model.config import ModelConfig, Task
from lmcommons.model.interop.fields import class_of_task, labels, model_config, require_unused
from lmcommons.model.interop.tensors import Correspondence, Pair, layers

ARCHITECTURES: dict[str, Task] = {
    "LlamaForCausalLM": "language-modelling",
    "Qwen2ForCausalLM": "language-modelling",
    "LlamaForSequenceClassification": "sequence-classification",
    "LlamaForTokenClassification": "token-classification",
}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

LAYER = {
    "attention_norm.weight": ("input_layernorm.weight",),
    "attention.query_key_value.weight": (
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
    ),
    "attention.output.weight": ("self_attn.o_proj.weight",),
    "feed_forward_norm.weight": ("post_attention_layernorm.weight",),
    "feed_forward.up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "feed_forward.down.weight": ("mlp.down_proj.weight",),
}
BIASES = {
    "attention.query_key_value.bias": ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
}

# fields that we do not compute with: the values that mean "not used"
UNUSED: dict[str, tuple[Any, ...]] = {
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "hidden_act": (None, "silu", "swish"),
    "quantization_config": (None,),
    "use_sliding_window": (None, False),
}


def correspondence(config: ModelConfig) -> Correspondence:
    """Every weight of ours and theirs."""
    names = LAYER | (BIASES if config.attention_bias == "qkv" else {})
    pairs = [Pair("embedding", (EMBEDDING,)), Pair("decoder.norm.weight", ("model.norm.weight",))]
    pairs += layers("decoder.layers", config.num_hidden_layers, "model.layers", names)
    copies = {}
    if config.task == "language-modelling":
        if config.tie_word_embeddings:
            copies[HEAD] = EMBEDDING
        else:
            pairs.append(Pair("head.weight", (HEAD,)))
    else:
        pairs.append(Pair("task_head.output.weight", ("score.weight",)))
        if config.task == "token-classification":
            pairs.append(Pair("task_head.output.bias", ("score.bias",)))
    return Correspondence(tuple(pairs), copies, unused=r"rotary_emb\.inv_freq$")


def architecture(config: ModelConfig) -> str:
    """The class of `transformers` that computes the same."""
    if config.attention_bias == "qkv" and config.task == "language-modelling":
        return "Qwen2ForCausalLM"
    return class_of_task(ARCHITECTURES, config)


def config_to_transformers(config: ModelConfig) -> dict[str, Any]:
    """The fields of `config.json` that describe this family."""
    qwen = config.attention_bias == "qkv"
    return {
        "model_type": "qwen2" if qwen else "llama",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "use_cache": True,
        **({"use_sliding_window": False} if qwen else {"attention_bias": False, "mlp_bias": False}),
    }


def config_from_transformers(fields: dict[str, Any], name: str, stored: Collection[str]) -> ModelConfig:
    """Read `config.json` of the architecture `name`; what it leaves out has the value that its class gives it.

    Raises:
        RequestError: a feature that we do not compute, or sizes that do not fit; one line that names it.
    """
    require_unused(fields, UNUSED)
    qwen, task = name.startswith("Qwen2"), ARCHITECTURES[name]
    return model_config(
        fields,
        {
            "vocab_size": "vocab_size",
            "hidden_size": "hidden_size",
            "intermediate_size": "intermediate_size",
            "num_hidden_layers": "num_hidden_layers",
            "num_attention_heads": "num_attention_heads",
        },
        family="llama",
        task=task,
        labels=labels(fields) if task.endswith("classification") else [],
        attention_bias="qkv" if qwen else "none",
        num_key_value_heads=fields.get("num_key_value_heads") or fields.get("num_attention_heads"),
        max_position_embeddings=fields.get("max_position_embeddings", 32768 if qwen else 2048),
        rope_theta=_rope_theta(fields),
        norm_eps=fields.get("rms_norm_eps", 1e-6),
        tie_word_embeddings=fields.get("tie_word_embeddings", False),
        initializer_range=fields.get("initializer_range", 0.02),
        **({"head_dim": fields["head_dim"]} if fields.get("head_dim") is not None else {}),
    )


def _rope_theta(fields: dict[str, Any]) -> float:
    """The base of the rotary angles: `rope_parameters` in transformers 5, `rope_theta` and `rope_scaling` before."""
    rope: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        value = fields.get(name) or {}
        if not isinstance(value, dict):
            raise RequestError(f"{name} must be an object, not {value!r}")
        rope |= value
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise RequestError(f"rotary scaling {kind!r} is not supported; rope_type must be 'default'")
    if rope.get("partial_rotary_factor", fields.get("partial_rotary_factor", 1.0)) not in (None, 1.0):
        raise RequestError("partial_rotary_factor is not supported; it must be 1.0")
    theta: float = rope.get("rope_theta", fields.get("rope_theta", 10_000.0))
    return theta
