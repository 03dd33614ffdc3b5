"""Models as GGUF files, which llama.cpp and what is built on it read: Llama, Qwen2 and GPT-2, with their tokenizer.

Source: the GGUF specification, and llama.cpp's names of keys and tensors.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, quants
from torch import Tensor

from lmcommons.errors import RequestError
from lmcommons.files import atomic_directory, atomic_path, write_json
from lmcommons.model.config import ModelConfig
from lmcommons.model.families import Model
from lmcommons.model.interop.directory import config_fields, save
from lmcommons.model.interop.fields import model_config, require_unused
from lmcommons.model.interop.tensors import Correspondence, Pair, assemble, layers, to_transformers
from lmcommons.tokenizer.gguf import from_gguf, to_gguf

# precisions that can be written, and what a file calls them
FILE_TYPES = {
    "f32": LlamaFileType.ALL_F32,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}
QUANTIZATION_VERSION = 2  # of the layout of q8_0 and its kin
BLOCK = 32  # numbers of a row that q8_0 scales together

LLAMA = {
    "attention_norm.weight": ("attn_norm.weight",),
    "attention.query_key_value.weight": ("attn_q.weight", "attn_k.weight", "attn_v.weight"),
    "attention.output.weight": ("attn_output.weight",),
    "feed_forward_norm.weight": ("ffn_norm.weight",),
    "feed_forward.up.weight": ("ffn_gate.weight", "ffn_up.weight"),
    "feed_forward.down.weight": ("ffn_down.weight",),
}
QWEN2 = LLAMA | {"attention.query_key_value.bias": ("attn_q.bias", "attn_k.bias", "attn_v.bias")}
GPT2 = {
    f"{ours}.{part}": (f"{theirs}.{part}",)
    for ours, theirs in {
        "attention_norm": "attn_norm",
        "attention.query_key_value": "attn_qkv",
        "attention.output": "attn_output",
        "feed_forward_norm": "ffn_norm",
        "feed_forward.up": "ffn_up",
        "feed_forward.down": "ffn_down",
    }.items()
    for part in ("weight", "bias")
}
LAYERS: dict[str, Mapping[str, tuple[str, ...]]] = {"llama": LLAMA, "qwen2": QWEN2, "gpt2": GPT2}
# our field: their key, after the name of the architecture
SIZES = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
}
EPSILONS = {
    "llama": "attention.layer_norm_rms_epsilon",
    "qwen2": "attention.layer_norm_rms_epsilon",
    "gpt2": "attention.layer_norm_epsilon",
}


def write(model: Model, tokenizer: Path, path: Path, precision: str = "f32") -> None:
    """Write a model and the tokenizer in the directory `tokenizer` as one GGUF file, whole or not at all.

    Matrices get `precision`, one of `FILE_TYPES`, and stay f32 where q8_0 cannot divide their rows into blocks of 32;
    norms, biases and positions are always f32.

    Raises:
        RequestError: GGUF has no name for the architecture or the tokenizer, or `path` is there already.
        CommandError: the disk is full or the place cannot be written.
    """
    if path.exists():
        raise RequestError(f"{path} is there already; choose another file or remove it")
    config = model.config
    config_fields(config)  # refuses what no family computes, for which GGUF has no keys either
    architecture = _architecture(config)
    keys = _keys(config, architecture) | to_gguf(tokenizer, config.vocab_size)
    keys |= {"general.name": tokenizer.resolve().name, "general.file_type": int(FILE_TYPES[precision])}
    state = {name: tensor.detach().float().cpu() for name, tensor in model.state_dict().items()}
    tensors = to_transformers(model, state, _correspondence(config))
    with atomic_path(path) as temporary:
        writer = GGUFWriter(temporary, architecture)
        for key, value in keys.items():
            kind = GGUFValueType.UINT32 if type(value) is int else GGUFValueType.get_type(value)
            writer.add_key_value(key, value, kind)
        for name, tensor in _reorder(tensors, config, architecture, _neighbours).items():
            array = np.ascontiguousarray(tensor.numpy())
            stored = _stored(name, tensor, precision)
            writer.add_tensor(name, quants.quantize(array, stored), raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def convert(path: Path, out: Path, *, dtype: torch.dtype | None = None) -> Model:
    """Read the model in a GGUF file and write it, with its tokenizer, to the new directory `out`.

    Weights are dequantised to `dtype`, float32 where it is None.

    Raises:
        RequestError: `path` is not a model that we compute exactly, or `out` is there already.
        CommandError: the disk is full or the place cannot be written.
    """
    if out.exists():
        raise RequestError(f"{out} is there already; choose another directory or remove it")
    try:
        model, definition, configuration = _read(path)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error
    model = model.to(dtype)
    with atomic_directory(out) as temporary:
        save(model, temporary)
        write_json(temporary / "tokenizer.json", definition)
        write_json(temporary / "tokenizer_config.json", configuration)
    return model


class _Reader(GGUFReader):
    """The reader of the package, which reads on for ever where a count is larger than the file."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        found = super()._get(offset, dtype, count, override_order)
        if len(found) < count:
            raise ValueError(f"it ends within what begins at byte {offset}")
        return found


def _read(path: Path) -> tuple[Model, dict[str, Any], dict[str, Any]]:
    """The model in a file, and the content of `tokenizer.json` and `tokenizer_config.json`."""
    try:
        reader = _Reader(path)
        fields = {key: _decimal(field.contents()) for key, field in reader.fields.items()}
        found = {tensor.name: (tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    except (OSError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise RequestError(f"not a whole GGUF file ({error})") from error
    definition, configuration = from_gguf(fields)
    config = _config(fields, tied="output.weight" not in found)
    architecture = fields["general.architecture"]
    try:
        stored = {name: torch.from_numpy(np.array(quants.dequantize(*data))) for name, data in found.items()}
    except NotImplementedError as error:
        raise RequestError(f"not a precision that can be read ({error})") from error
    stored = _reorder(stored, config, architecture, _halves)
    return assemble(config, stored, _correspondence), definition, configuration


def _architecture(config: ModelConfig) -> str:
    if config.family not in LAYERS or config.task != "language-modelling":
        raise RequestError(
            f"family {config.family} for {config.task} cannot be written as GGUF; what can be is a llama or gpt2 for "
            "language-modelling"
        )
    return "qwen2" if config.attention_bias == "qkv" else config.family


def _correspondence(config: ModelConfig) -> Correspondence:
    """Every weight of ours and theirs."""
    architecture = _architecture(config)
    pairs = [Pair("embedding", ("token_embd.weight",)), Pair("decoder.norm.weight", ("output_norm.weight",))]
    if architecture == "gpt2":
        pairs.append(Pair("position_embedding", ("position_embd.weight",)))
        pairs.append(Pair("decoder.norm.bias", ("output_norm.bias",)))
    if not config.tie_word_embeddings:
        pairs.append(Pair("head.weight", ("output.weight",)))
    pairs += layers("decoder.layers", config.num_hidden_layers, "blk", LAYERS[architecture])
    return Correspondence(tuple(pairs), copies={})


def _keys(config: ModelConfig, architecture: str) -> dict[str, Any]:
    """What a file says of a model."""
    keys = {key: getattr(config, ours) for ours, key in SIZES.items()}
    keys["vocab_size"] = config.vocab_size
    keys[EPSILONS[architecture]] = config.norm_eps
    if architecture != "gpt2":
        keys["attention.head_count_kv"] = config.num_key_value_heads
        keys["rope.freq_base"] = float(config.rope_theta)
        keys |= dict.fromkeys(
            ("rope.dimension_count", "attention.key_length", "attention.value_length"), config.head_dim
        )
    general = {"general.type": "model", "general.quantization_version": QUANTIZATION_VERSION}
    return general | {f"{architecture}.{key}": value for key, value in keys.items()}


def _config(fields: Mapping[str, Any], *, tied: bool) -> ModelConfig:
    """What a file says of its model, as a configuration."""
    name = fields.get("general.architecture")
    if name not in LAYERS:
        raise RequestError(f"general.architecture is {name!r}; what can be read is one of {', '.join(LAYERS)}")
    others: dict[str, Any] = {}
    if name != "gpt2":
        heads, width = fields.get(f"{name}.attention.head_count_kv"), fields.get(f"{name}.attention.key_length")
        others["num_key_value_heads"] = fields.get(f"{name}.attention.head_count") if heads is None else heads
        others["rope_theta"] = fields.get(f"{name}.rope.freq_base", 10_000.0)
        others |= {} if width is None else {"head_dim": width}
    ids = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    config = model_config(
        {**fields, **{ours: fields.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in ids.items()}},
        {ours: f"{name}.{theirs}" for ours, theirs in (SIZES | {"norm_eps": EPSILONS[name]}).items()},
        family="gpt2" if name == "gpt2" else "llama",
        attention_bias={"llama": "none", "qwen2": "qkv", "gpt2": "all"}[name],
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        tie_word_embeddings=tied,
        **others,
    )
    widths = ("attention.value_length", "rope.dimension_count")
    unused = {f"{name}.rope.scaling.type": (None, "none"), f"{name}.expert_count": (None, 0)}
    require_unused(fields, {f"{name}.{key}": (None, config.head_dim) for key in widths} | unused)
    return config


def _decimal(value: Any) -> Any:
    """A number of float32 as the shortest decimal that is the same: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _reorder(
    tensors: Mapping[str, Tensor], config: ModelConfig, architecture: str, order: Callable[[Tensor, int], Tensor]
) -> dict[str, Tensor]:
    """`order` applied to the queries and keys of a Llama: in GGUF, neighbours in a head turn together."""
    heads = {"attn_q.weight": config.num_attention_heads, "attn_k.weight": config.num_key_value_heads}
    if architecture != "llama":
        return dict(tensors)
    found = {}
    for name, tensor in tensors.items():
        count = heads.get(name.split(".", 2)[-1])
        found[name] = tensor if count is None or len(tensor) % (2 * count) else order(tensor, count)
    return found


def _neighbours(weight: Tensor, heads: int) -> Tensor:
    """Rows i and i + head_dim / 2 of each head become 2i and 2i + 1."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _halves(weight: Tensor, heads: int) -> Tensor:
    """The reverse of `_neighbours`."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _stored(name: str, tensor: Tensor, precision: str) -> GGMLQuantizationType:
    if tensor.dim() < 2 or name == "position_embd.weight" or (precision == "q8_0" and tensor.shape[1] % BLOCK):
        return GGMLQuantizationType.F32
    return GGMLQuantizationType[precision.upper()]
