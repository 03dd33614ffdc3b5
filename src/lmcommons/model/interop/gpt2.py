"""GPT-2 as `transformers` 5 has it. Its matrices are stored as [in, out]; ours are [out, in]."""

from collections.abc import Collection, Iterator
from typing import Any

from lmcommons.model.config import ModelConfig, Task
from lmcommons.model.interop.fields import class_of_task, labels, model_config, require_unused
from lmcommons.model.interop.tensors import TRANSPOSED, Correspondence, Pair

ARCHITECTURES: dict[str, Task] = {
    "GPT2LMHeadModel": "language-modelling",
    "GPT2ForSequenceClassification": "sequence-classification",
    "GPT2ForTokenClassification": "token-classification",
}
EMBEDDING = "transformer.wte.weight"

MATRICES = {
    "attention.query_key_value": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}
NORMS = {"attention_norm": "ln_1", "feed_forward_norm": "ln_2"}

UNUSED: dict[str, tuple[Any, ...]] = {
    "activation_function": (None, "gelu_new"),
    "scale_attn_weights": (None, True),
    "scale_attn_by_inverse_layer_idx": (None, False),
    "reorder_and_upcast_attn": (None, False),
    "add_cross_attention": (None, False),
    "quantization_config": (None,),
}


def correspondence(config: ModelConfig) -> Correspondence:
    """Every weight of ours and theirs."""
    copies = {}
    pairs = [Pair("embedding", (EMBEDDING,)), Pair("position_embedding", ("transformer.wpe.weight",))]
    pairs += [Pair(f"decoder.norm.{part}", (f"transformer.ln_f.{part}",)) for part in ("weight", "bias")]
    for layer in range(config.num_hidden_layers):
        pairs += _layer(f"decoder.layers.{layer}", f"transformer.h.{layer}")
    if config.task != "language-modelling":
        head = "score" if config.task == "sequence-classification" else "classifier"
        parts = ("weight",) if head == "score" else ("weight", "bias")
        pairs += [Pair(f"task_head.output.{part}", (f"{head}.{part}",)) for part in parts]
    elif config.tie_word_embeddings:
        copies["lm_head.weight"] = EMBEDDING
    else:
        pairs.append(Pair("head.weight", ("lm_head.weight",)))
    return Correspondence(tuple(pairs), copies, unused=r"\.attn\.(bias|masked_bias)$")


def _layer(ours: str, theirs: str) -> Iterator[Pair]:
    for name, matrix in MATRICES.items():
        yield Pair(f"{ours}.{name}.weight", (f"{theirs}.{matrix}.weight",), TRANSPOSED)
        yield Pair(f"{ours}.{name}.bias", (f"{theirs}.{matrix}.bias",))
    for name, norm in NORMS.items():
        for part in ("weight", "bias"):
            yield Pair(f"{ours}.{name}.{part}", (f"{theirs}.{norm}.{part}",))


def architecture(config: ModelConfig) -> str:
    """The class of `transformers` that computes the same."""
    return class_of_task(ARCHITECTURES, config)


def config_to_transformers(config: ModelConfig) -> dict[str, Any]:
    """The fields of `config.json` that describe this family."""
    return {
        "model_type": "gpt2",
        "n_embd": config.hidden_size,
        "n_inner": config.intermediate_size,
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "n_positions": config.max_position_embeddings,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "attn_pdrop": 0.0,
    }


def config_from_transformers(fields: dict[str, Any], name: str, stored: Collection[str]) -> ModelConfig:
    """Read `config.json` of the architecture `name`; what it leaves out has the value that its class gives it.

    Raises:
        RequestError: a feature that we do not compute, or sizes that do not fit; one line that names it.
    """
    require_unused(fields, UNUSED)
    task = ARCHITECTURES[name]
    return model_config(
        fields,
        {
            "vocab_size": "vocab_size",
            "hidden_size": "n_embd",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
        },
        family="gpt2",
        task=task,
        labels=labels(fields) if task.endswith("classification") else [],
        max_position_embeddings=fields.get("n_positions", 1024),
        norm_eps=fields.get("layer_norm_epsilon", 1e-5),
        tie_word_embeddings=fields.get("tie_word_embeddings", True),
        initializer_range=fields.get("initializer_range", 0.02),
        dropout=fields.get("resid_pdrop", 0.1),
        **({"intermediate_size": fields["n_inner"]} if fields.get("n_inner") is not None else {}),
    )
