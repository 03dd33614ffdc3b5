"""XLNet as `transformers` 5 has it. Its matrices of attention are stored as [hidden, heads, head_dim]."""

from collections.abc import Collection
from typing import Any

from lmcommons.model.config import ModelConfig, Task
from lmcommons.model.interop.fields import class_of_task, labels, model_config, require_unused
from lmcommons.model.interop.tensors import Correspondence, Layout, Pair, layers, linear

ARCHITECTURES: dict[str, Task] = {
    "XLNetModel": "features",
    "XLNetLMHeadModel": "language-modelling",
    "XLNetForSequenceClassification": "sequence-classification",
    "XLNetForTokenClassification": "token-classification",
    "XLNetForQuestionAnsweringSimple": "question-answering",
}

LAYER = {
    "attention.content_bias": ("rel_attn.r_w_bias",),
    "attention.distance_bias": ("rel_attn.r_r_bias",),
    "attention.segment_bias": ("rel_attn.r_s_bias",),
    "attention.segments": ("rel_attn.seg_embed",),
    "attention_norm.weight": ("rel_attn.layer_norm.weight",),
    "attention_norm.bias": ("rel_attn.layer_norm.bias",),
    "feed_forward.up.weight": ("ff.layer_1.weight",),
    "feed_forward.up.bias": ("ff.layer_1.bias",),
    "feed_forward.down.weight": ("ff.layer_2.weight",),
    "feed_forward.down.bias": ("ff.layer_2.bias",),
    "feed_forward_norm.weight": ("ff.layer_norm.weight",),
    "feed_forward_norm.bias": ("ff.layer_norm.bias",),
}
INPUTS = {
    "attention.query.weight": ("rel_attn.q",),
    "attention.key_value.weight": ("rel_attn.k", "rel_attn.v"),
    "attention.distance.weight": ("rel_attn.r",),
}
OUTPUTS = {
    "sequence-classification": "logits_proj",
    "token-classification": "classifier",
    "question-answering": "qa_outputs",
}

# what the class of `transformers` makes of fields that are not there
DEFAULTS = {
    "pad_token_id": 5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "d_inner": 4096,
    "ff_activation": "gelu",
    "summary_activation": "tanh",
}

UNUSED: dict[str, tuple[Any, ...]] = {
    "attn_type": (None, "bi"),
    "bi_data": (None, False),
    "clamp_len": (None, 0, -1),
    "summary_type": (None, "last"),
    "summary_use_proj": (None, True),
    "summary_activation": ("tanh",),
    "quantization_config": (None,),
}


def correspondence(config: ModelConfig) -> Correspondence:
    """Every weight of ours and theirs."""
    heads = config.num_attention_heads
    reading = Layout(lambda x: x.T.unflatten(1, (heads, -1)), lambda x: x.flatten(1).T)
    writing = Layout(lambda x: x.unflatten(1, (heads, -1)), lambda x: x.flatten(1))
    base, count = "" if config.task == "features" else "transformer.", config.num_hidden_layers
    pairs = [Pair("embedding", (f"{base}word_embedding.weight",))]
    pairs.append(Pair("mask_embedding", (f"{base}mask_emb",), Layout(lambda x: x[None], lambda x: x[0])))
    pairs += layers("layers", count, f"{base}layer", LAYER)
    pairs += layers("layers", count, f"{base}layer", INPUTS, reading)
    pairs += layers("layers", count, f"{base}layer", {"attention.output.weight": ("rel_attn.o",)}, writing)
    copies = {}
    if config.task == "language-modelling":
        pairs.append(Pair("logits_bias", ("lm_loss.bias",)))
        if config.tie_word_embeddings:
            copies["lm_loss.weight"] = f"{base}word_embedding.weight"
        else:
            pairs.append(Pair("head.weight", ("lm_loss.weight",)))
    if config.pools:
        pairs += linear("pooler.dense", "sequence_summary.summary")
    if config.task in OUTPUTS:
        pairs += linear("task_head.output", OUTPUTS[config.task])
    return Correspondence(tuple(pairs), copies)


def architecture(config: ModelConfig) -> str:
    """The class of `transformers` that computes the same."""
    return class_of_task(ARCHITECTURES, config)


def config_to_transformers(config: ModelConfig) -> dict[str, Any]:
    """The fields of `config.json` that describe this family."""
    return {
        "model_type": "xlnet",
        "d_model": config.hidden_size,
        "d_inner": config.intermediate_size,
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "d_head": config.head_dim,
        "ff_activation": config.hidden_act,
        "layer_norm_eps": config.norm_eps,
        "dropout": config.dropout,
        "summary_last_dropout": config.dropout,
        "summary_type": "last",
        "summary_use_proj": True,
        "summary_activation": "tanh",
        "attn_type": "bi",
        "use_mems_eval": False,
    }


def config_from_transformers(fields: dict[str, Any], name: str, stored: Collection[str]) -> ModelConfig:
    """Read `config.json` of the architecture `name`; what it leaves out has the value that its class gives it.

    Raises:
        RequestError: a feature that we do not compute, or sizes that do not fit; one line that names it.
    """
    fields = DEFAULTS | fields
    require_unused(fields, UNUSED)
    task = ARCHITECTURES[name]
    config = model_config(
        fields,
        {
            "vocab_size": "vocab_size",
            "hidden_size": "d_model",
            "intermediate_size": "d_inner",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "hidden_act": "ff_activation",
        },
        family="xlnet",
        task=task,
        labels=labels(fields) if task.endswith("classification") else [],
        norm_eps=fields.get("layer_norm_eps", 1e-12),
        tie_word_embeddings=fields.get("tie_word_embeddings", True),
        initializer_range=fields.get("initializer_range", 0.02),
        dropout=fields.get("dropout", 0.1),
    )
    require_unused(fields, {"d_head": (None, config.head_dim)})
    return config
