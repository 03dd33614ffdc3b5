"""Llama as `transformers` 5 has it: the fields of `LlamaConfig` and the tensors of `LlamaForCausalLM`."""

from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from lmcommons.errors import RequestError
from lmcommons.model.config import DecoderConfig

ARCHITECTURE = "LlamaForCausalLM"
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

# our name of a layer's weight: theirs, joined in this order by rows
LAYER = {
    "attention_norm.weight": ["input_layernorm.weight"],
    "attention.query_key_value.weight": [
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
    ],
    "attention.output.weight": ["self_attn.o_proj.weight"],
    "feed_forward_norm.weight": ["post_attention_layernorm.weight"],
    "feed_forward.gate_up.weight": ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
    "feed_forward.down.weight": ["mlp.down_proj.weight"],
}

# fields that we do not compute with: the values that mean "not used"
UNUSED: dict[str, tuple[Any, ...]] = {
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "hidden_act": (None, "silu", "swish"),
    "quantization_config": (None,),
}


def names(config: DecoderConfig) -> dict[str, list[str]]:
    """Every weight of our decoder, and the tensors of theirs that it is joined from, by rows."""
    found = {"embedding": [EMBEDDING]}
    for layer in range(config.num_hidden_layers):
        for ours, theirs in LAYER.items():
            found[f"layers.{layer}.{ours}"] = [f"model.layers.{layer}.{name}" for name in theirs]
    found["norm.weight"] = ["model.norm.weight"]
    if not config.tie_word_embeddings:
        found["head.weight"] = [HEAD]
    return found


def shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of theirs and its shape."""
    hidden, inner = config.hidden_size, config.intermediate_size
    key_value = config.num_key_value_heads * config.head_dim
    projections = {
        "self_attn.q_proj.weight": (hidden, hidden),
        "self_attn.k_proj.weight": (key_value, hidden),
        "self_attn.v_proj.weight": (key_value, hidden),
        "self_attn.o_proj.weight": (hidden, hidden),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        EMBEDDING: (config.vocab_size, hidden),
        HEAD: (config.vocab_size, hidden),
    }
    theirs = [name for parts in names(config).values() for name in parts]
    return {name: projections.get(name.split(".", 3)[-1] if ".layers." in name else name, (hidden,)) for name in theirs}


def to_transformers(state: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """Our weights under their names; joined ones are views of their rows."""
    sizes = shapes(config)
    found: dict[str, Tensor] = {}
    for ours, theirs in names(config).items():
        parts = torch.split(state[ours], [sizes[name][0] for name in theirs])
        found.update(zip(theirs, parts, strict=True))
    return found


def from_transformers(state: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """Their tensors under our names.

    Raises:
        RequestError: a tensor is missing, has another shape or precision, or has no place in the model; one line
            that names it.
    """
    if config.num_hidden_layers > len(state):  # before as many names are made
        raise RequestError(f"num_hidden_layers is {config.num_hidden_layers}, and there are only {len(state)} tensors")
    expected = shapes(config)
    found = {name: tensor for name, tensor in state.items() if not name.endswith("rotary_emb.inv_freq")}
    if config.tie_word_embeddings and HEAD in found and EMBEDDING in found:
        if not torch.equal(found[HEAD], found[EMBEDDING]):
            raise RequestError(f"{HEAD} differs from {EMBEDDING}, but tie_word_embeddings says that they are one")
        del found[HEAD]
    missing, extra = [name for name in expected if name not in found], [name for name in found if name not in expected]
    for problem, which in (("is missing", missing), ("has no place in this model", extra)):
        if which:
            more = f" (and {len(which) - 1} more)" if len(which) > 1 else ""
            raise RequestError(f"tensor {which[0]} {problem}{more}; config.json describes another model")
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise RequestError(f"tensor {name} has shape {list(found[name].shape)}; config.json makes it {list(shape)}")
        if found[name].dtype not in PRECISIONS:
            raise RequestError(
                f"tensor {name} is {found[name].dtype}; what can be read is float32, bfloat16 or float16"
            )
    return {ours: torch.cat([found[name] for name in theirs]) for ours, theirs in names(config).items()}


def config_to_transformers(config: DecoderConfig, dtype: torch.dtype) -> dict[str, Any]:
    """The content of `config.json`."""
    fields = config.model_dump(mode="json")
    return {
        **{name: value for name, value in fields.items() if name != "rope_theta"},
        "architectures": [ARCHITECTURE],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": str(dtype).removeprefix("torch."),
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "mlp_bias": False,
        "model_type": "llama",
        "pad_token_id": None,
        "pretraining_tp": 1,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "use_cache": True,
    }


def config_from_transformers(fields: dict[str, Any]) -> DecoderConfig:
    """Read `config.json`; what it leaves out has the value that `LlamaConfig` gives it.

    Raises:
        RequestError: another architecture, a feature that we do not compute, or sizes that do not fit; one line that
            names it.
    """
    architectures = fields.get("architectures")
    if architectures != [ARCHITECTURE]:
        raise RequestError(f"architectures is {architectures}; what can be read is [{ARCHITECTURE!r}]")
    for name, unused in UNUSED.items():
        if fields.get(name) not in unused:
            raise RequestError(f"{name} {fields[name]!r} is not supported; it must be {unused[-1]!r}")
    try:
        config = DecoderConfig(
            vocab_size=fields["vocab_size"],
            hidden_size=fields["hidden_size"],
            intermediate_size=fields["intermediate_size"],
            num_hidden_layers=fields["num_hidden_layers"],
            num_attention_heads=fields["num_attention_heads"],
            num_key_value_heads=fields.get("num_key_value_heads") or fields["num_attention_heads"],
            max_position_embeddings=fields.get("max_position_embeddings", 2048),
            rope_theta=_rope_theta(fields),
            rms_norm_eps=fields.get("rms_norm_eps", 1e-6),
            tie_word_embeddings=fields.get("tie_word_embeddings", False),
            initializer_range=fields.get("initializer_range", 0.02),
            bos_token_id=fields.get("bos_token_id"),
            eos_token_id=fields.get("eos_token_id"),
        )
    except KeyError as error:
        raise RequestError(f"{error.args[0]} is missing") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{field}: {first['msg']}".removeprefix(": ").replace("Value error, ", "")) from error
    if fields.get("head_dim") not in (None, config.head_dim):
        raise RequestError(
            f"head_dim {fields['head_dim']} is not supported; it must be hidden_size / num_attention_heads, "
            f"{config.head_dim}"
        )
    return config


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
