"""BERT as `transformers` 5 has it: the encoder alone, with its heads of pretraining, or with the head of a task."""

from collections.abc import Collection
from typing import Any

from lmcommons.errors import RequestError
from lmcommons.model.config import ModelConfig, Task
from lmcommons.model.interop.fields import class_of_task, labels, model_config, require_unused
from lmcommons.model.interop.tensors import Correspondence, Pair, layers, linear

ARCHITECTURES: dict[str, Task] = {
    "BertModel": "features",
    "BertForMaskedLM": "language-modelling",
    "BertForPreTraining": "language-modelling",  # with `next_sentence`
    "BertForSequenceClassification": "sequence-classification",
    "BertForTokenClassification": "token-classification",
    "BertForQuestionAnswering": "question-answering",
}

EMBEDDINGS = {
    "embedding": "word_embeddings.weight",
    "position_embedding": "position_embeddings.weight",
    "token_type_embedding": "token_type_embeddings.weight",
}
LINEARS = {
    "attention.query_key_value": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "feed_forward.up": ("intermediate.dense",),
    "feed_forward.down": ("output.dense",),
    "feed_forward_norm": ("output.LayerNorm",),
}
LAYER = {
    f"{ours}.{part}": tuple(f"{name}.{part}" for name in theirs)
    for ours, theirs in LINEARS.items()
    for part in ("weight", "bias")
}
OUTPUTS = {
    "sequence-classification": "classifier",
    "token-classification": "classifier",
    "question-answering": "qa_outputs",
}

UNUSED: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": (None, "absolute"),
    "is_decoder": (None, False),
    "add_cross_attention": (None, False),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
}


def correspondence(config: ModelConfig) -> Correspondence:
    """Every weight of ours and theirs."""
    base = "" if config.task == "features" else "bert."
    pairs = [Pair(ours, (f"{base}embeddings.{theirs}",)) for ours, theirs in EMBEDDINGS.items()]
    pairs += linear("embedding_norm", f"{base}embeddings.LayerNorm")
    pairs += layers("encoder.layers", config.num_hidden_layers, f"{base}encoder.layer", LAYER)
    if config.pools:
        pairs += linear("pooler.dense", f"{base}pooler.dense")
    if config.next_sentence:
        pairs += linear("next_sentence.output", "cls.seq_relationship")
    if config.task in OUTPUTS:
        pairs += linear("task_head.output", OUTPUTS[config.task])
    copies, unused = {}, r"embeddings\.position_ids$"
    if config.task == "language-modelling":
        pairs += linear("head_transform.dense", "cls.predictions.transform.dense")
        pairs += linear("head_transform.norm", "cls.predictions.transform.LayerNorm")
        if config.tie_word_embeddings:
            pairs.append(Pair("logits_bias", ("cls.predictions.bias",)))
            copies["cls.predictions.decoder.weight"] = f"{base}embeddings.word_embeddings.weight"
            copies["cls.predictions.decoder.bias"] = "cls.predictions.bias"
        else:
            pairs.append(Pair("head.weight", ("cls.predictions.decoder.weight",)))
            pairs.append(Pair("logits_bias", ("cls.predictions.decoder.bias",)))
            unused += r"|^cls\.predictions\.bias$"  # an untied model does not read it
        if not config.next_sentence:
            unused += r"|^bert\.pooler\.|^cls\.seq_relationship\."  # published checkpoints keep them
    return Correspondence(
        tuple(pairs), copies, unused, endings=(("Norm.gamma", "Norm.weight"), ("Norm.beta", "Norm.bias"))
    )


def architecture(config: ModelConfig) -> str:
    """The class of `transformers` that computes the same."""
    if config.next_sentence:
        return "BertForPreTraining"
    return class_of_task(ARCHITECTURES, config)


def config_to_transformers(config: ModelConfig) -> dict[str, Any]:
    """The fields of `config.json` that describe this family."""
    return {
        "model_type": "bert",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": config.hidden_act,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": None,
        "use_cache": True,
    }


def config_from_transformers(fields: dict[str, Any], name: str, stored: Collection[str]) -> ModelConfig:
    """Read `config.json` of the architecture `name`; what it leaves out has the value that its class gives it.

    Raises:
        RequestError: a feature that we do not compute, or sizes that do not fit; one line that names it.
    """
    require_unused(fields, UNUSED)
    fields = {"pad_token_id": 0} | fields
    if fields.get("type_vocab_size") == 0:
        raise RequestError("type_vocab_size 0 is not supported; it must be at least 1")
    task = ARCHITECTURES[name]
    return model_config(
        fields,
        {
            "vocab_size": "vocab_size",
            "hidden_size": "hidden_size",
            "intermediate_size": "intermediate_size",
            "num_hidden_layers": "num_hidden_layers",
            "num_attention_heads": "num_attention_heads",
        },
        family="bert",
        task=task,
        labels=labels(fields) if task.endswith("classification") else [],
        next_sentence=name == "BertForPreTraining",
        pooler=task != "features" or "pooler.dense.weight" in stored,  # only the tensors say so
        max_position_embeddings=fields.get("max_position_embeddings", 512),
        type_vocab_size=fields.get("type_vocab_size", 2),
        norm_eps=fields.get("layer_norm_eps", 1e-12),
        hidden_act=fields.get("hidden_act", "gelu"),
        tie_word_embeddings=fields.get("tie_word_embeddings", True),
        initializer_range=fields.get("initializer_range", 0.02),
        dropout=fields.get("hidden_dropout_prob", 0.1),
    )
