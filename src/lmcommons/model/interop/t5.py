"""T5 as `transformers` 5 has it, with its first release (ReLU, tied logits) and 1.1 (gated, a matrix of its own).

Its encoder is also a model by itself, which gives states for what others build on them.

Since version 5, `config.json` calls all of them tied. Then `scale_decoder_outputs` tells them apart, and whether the
logits have their own matrix is seen by its being stored.
"""

from collections.abc import Collection, Iterator
from typing import Any

from lmcommons.errors import RequestError
from lmcommons.model.config import ModelConfig, Task
from lmcommons.model.interop.fields import ALIASES, class_of_task, model_config, require_unused
from lmcommons.model.interop.tensors import Correspondence, Pair

ENCODER = "T5EncoderModel"
ARCHITECTURES: dict[str, Task] = {"T5ForConditionalGeneration": "language-modelling", ENCODER: "features"}
EMBEDDING, HEAD = "shared.weight", "lm_head.weight"
UNUSED: dict[str, tuple[Any, ...]] = {"quantization_config": (None,)}


def correspondence(config: ModelConfig) -> Correspondence:
    """Every weight of ours and theirs."""
    sides = ("encoder",) if config.kind == "encoder" else ("encoder", "decoder")
    pairs = [Pair("embedding", (EMBEDDING,)), *(pair for side in sides for pair in _stack(config, side))]
    copies = {f"{side}.embed_tokens.weight": EMBEDDING for side in sides}
    if config.task == "language-modelling":
        if config.tie_word_embeddings:
            copies[HEAD] = EMBEDDING
        else:
            pairs.append(Pair("head.weight", (HEAD,)))
    # a bias between target and source, which early checkpoints stored and nobody reads
    return Correspondence(tuple(pairs), copies, unused=r"EncDecAttention\.relative_attention_bias\.weight$")


def _stack(config: ModelConfig, side: str) -> Iterator[Pair]:
    decoder = side == "decoder"
    first = f"{side}.block.0.layer.0.SelfAttention"
    yield Pair(f"{side}.relative_bias", (f"{first}.relative_attention_bias.weight",))
    yield Pair(f"{side}.norm.weight", (f"{side}.final_layer_norm.weight",))
    for layer in range(config.num_hidden_layers if decoder else _encoder_layers(config)):
        ours, theirs = f"{side}.layers.{layer}", f"{side}.block.{layer}.layer"
        yield Pair(f"{ours}.attention_norm.weight", (f"{theirs}.0.layer_norm.weight",))
        own = f"{theirs}.0.SelfAttention"
        yield Pair(f"{ours}.attention.query_key_value.weight", tuple(f"{own}.{part}.weight" for part in "qkv"))
        yield Pair(f"{ours}.attention.output.weight", (f"{own}.o.weight",))
        if decoder:
            cross = f"{theirs}.1.EncDecAttention"
            yield Pair(f"{ours}.cross_attention_norm.weight", (f"{theirs}.1.layer_norm.weight",))
            yield Pair(f"{ours}.cross_attention.query.weight", (f"{cross}.q.weight",))
            yield Pair(f"{ours}.cross_attention.key_value.weight", (f"{cross}.k.weight", f"{cross}.v.weight"))
            yield Pair(f"{ours}.cross_attention.output.weight", (f"{cross}.o.weight",))
        last = f"{theirs}.{2 if decoder else 1}"
        dense = f"{last}.DenseReluDense"
        up = ("wi_0", "wi_1") if config.gated else ("wi",)
        yield Pair(f"{ours}.feed_forward_norm.weight", (f"{last}.layer_norm.weight",))
        yield Pair(f"{ours}.feed_forward.up.weight", tuple(f"{dense}.{name}.weight" for name in up))
        yield Pair(f"{ours}.feed_forward.down.weight", (f"{dense}.wo.weight",))


def _encoder_layers(config: ModelConfig) -> int:
    return config.num_encoder_layers if config.kind == "encoder-decoder" else config.num_hidden_layers


def architecture(config: ModelConfig) -> str:
    """The class of `transformers` that computes the same."""
    return class_of_task(ARCHITECTURES, config)


def config_to_transformers(config: ModelConfig) -> dict[str, Any]:
    """The fields of `config.json` that describe this family."""
    name = config.hidden_act.replace("gelu_new", "gelu") if config.gated else config.hidden_act
    return {
        "model_type": "t5",
        "is_encoder_decoder": config.kind == "encoder-decoder",
        "d_model": config.hidden_size,
        "d_kv": config.head_dim,
        "d_ff": config.intermediate_size,
        "num_layers": _encoder_layers(config),
        "num_decoder_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "relative_attention_num_buckets": config.relative_attention_num_buckets,
        "relative_attention_max_distance": config.relative_attention_max_distance,
        "n_positions": config.max_position_embeddings,
        "layer_norm_epsilon": config.norm_eps,
        "feed_forward_proj": f"gated-{name}" if config.gated else name,
        "scale_decoder_outputs": config.scale_logits,
        "dropout_rate": config.dropout,
    }


def config_from_transformers(fields: dict[str, Any], name: str, stored: Collection[str]) -> ModelConfig:
    """Read `config.json` of the architecture `name`; what it leaves out has the value that its class gives it.

    Raises:
        RequestError: a feature that we do not compute, or sizes that do not fit; one line that names it.
    """
    require_unused(fields, UNUSED)
    fields = {"pad_token_id": 0, "eos_token_id": 1, "num_layers": 6, "num_heads": 8} | fields
    projection = str(fields.get("feed_forward_proj", "relu"))
    hidden_act = "gelu_new" if projection == "gated-gelu" else projection.removeprefix("gated-")
    hidden_act = fields.get("dense_act_fn", hidden_act)
    scaled = fields.get("scale_decoder_outputs", fields.get("tie_word_embeddings") is not False)
    if HEAD not in stored:
        tied = True
    elif scaled and fields.get("tie_word_embeddings") is False:
        raise RequestError(f"scale_decoder_outputs True is not supported with a {HEAD} of its own; it must be False")
    else:
        tied = scaled
    start, layers = fields.get("decoder_start_token_id"), fields.get("num_decoder_layers")
    sides: dict[str, Any] = {
        "num_encoder_layers": fields["num_layers"],
        "num_hidden_layers": fields["num_layers"] if layers is None else layers,
        "decoder_start_token_id": fields["pad_token_id"] if start is None else start,
    }
    if name == ENCODER:
        sides = {"kind": "encoder", "num_hidden_layers": fields["num_layers"], "pooler": False}
    return model_config(
        fields,
        {
            "vocab_size": "vocab_size",
            "hidden_size": "d_model",
            "head_dim": "d_kv",
            "intermediate_size": "d_ff",
            "num_attention_heads": "num_heads",
        },
        family="t5",
        task=ARCHITECTURES[name],
        **sides,
        relative_attention_num_buckets=fields.get("relative_attention_num_buckets", 32),
        relative_attention_max_distance=fields.get("relative_attention_max_distance", 128),
        max_position_embeddings=fields.get("n_positions", 512),
        norm_eps=fields.get("layer_norm_epsilon", 1e-6),
        hidden_act=ALIASES.get(hidden_act, hidden_act),
        gated=fields.get("is_gated_act", projection.startswith("gated-")),
        scale_logits=scaled,
        tie_word_embeddings=tied,
        dropout=fields.get("dropout_rate", 0.1),
        initializer_range=fields.get("initializer_range", 0.02),
    )
