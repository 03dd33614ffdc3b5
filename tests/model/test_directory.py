"""What `transformers` writes is read to the bit, what we write it reads, and the rest is refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from llama_models import VOCABULARY, write_llama
from safetensors.torch import load_file, save_file
from tiny_model import tiny_decoder
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from lmcommons.errors import RequestError
from lmcommons.model import ModelConfig, build, convert, load, save

WEIGHTS = "model.safetensors"


SIZES = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
START = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
MODELS: dict[str, dict[str, object]] = {
    "llama": {},
    "qwen2": {"attention_bias": "qkv"},
    "gpt2": {"family": "gpt2"},
    "bert": {"family": "bert"},
    "bert, next sentence": {"family": "bert", "next_sentence": True},
    "bert, tokens": {"family": "bert", "task": "token-classification", "labels": ["A", "B", "C"]},
    "t5": {"family": "t5", **START},
    "t5 1.1": {
        "family": "t5", "gated": True, "hidden_act": "gelu_new", "tie_word_embeddings": False, "scale_logits": False,
        **START,
    },
    "marian": {"family": "marian", **START},
    "xlnet": {"family": "xlnet"},
    "xlnet, texts": {"family": "xlnet", "task": "sequence-classification", "labels": ["yes", "no"]},
}  # fmt: skip


@pytest.fixture(params=MODELS)
def directory(request, tmp_path: Path) -> Path:
    """A small model of each family."""
    torch.manual_seed(3)
    save(build(ModelConfig(**SIZES | MODELS[request.param])), tmp_path / "model")
    return tmp_path / "model"


def a_matrix(directory: Path) -> tuple[str, torch.Tensor]:
    """The name and content of a tensor of the model in `directory`."""
    tensors = load_file(directory / WEIGHTS)
    name = next(name for name in sorted(tensors) if tensors[name].shape[-1:] == (40,))
    return name, tensors[name]


@pytest.fixture
def llama_directory(tmp_path: Path) -> Path:
    write_llama(tmp_path / "llama", tie_word_embeddings=False)
    return tmp_path / "llama"


def edit_config(directory: Path, **fields: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_tensors(directory: Path, **tensors: torch.Tensor | None) -> None:
    found = load_file(directory / WEIGHTS) | tensors
    save_file({name: value for name, value in found.items() if value is not None}, directory / WEIGHTS)


def write_words(directory: Path, count: int) -> None:
    """Write a tokenizer of `count` tokens."""
    words = models.WordLevel({f"t{number}": number for number in range(count)}, unk_token="t0")
    Tokenizer(words).save(str(directory / "tokenizer.json"))


def refusal(directory: Path) -> str:
    with pytest.raises(RequestError) as caught:
        load(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    return message


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tied", [True, False])
def test_reading_and_writing_leaves_every_bit(tmp_path, dtype, tied):
    write_llama(tmp_path / "a", dtype, tie_word_embeddings=tied)
    model = load(tmp_path / "a", dtype=None)
    assert model.embedding.dtype == model.compute_dtype == dtype
    save(model, tmp_path / "b")
    before, after = load_file(tmp_path / "a" / WEIGHTS), load_file(tmp_path / "b" / WEIGHTS)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == dtype
        assert torch.equal(tensor, after[name])


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_what_we_write_and_computes_the_same(tmp_path, tied):
    model = tiny_decoder(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_attention_heads=6,
        rope_theta=20_000.0,
        tie_word_embeddings=tied,
        eos_token_id=[0, 5],
    )
    save(model, tmp_path)
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert isinstance(theirs, LlamaForCausalLM)
    assert theirs.generation_config.eos_token_id == [0, 5]
    tokens = torch.randint(VOCABULARY, (2, 20))
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, model(tokens), atol=1e-5, rtol=0)
    assert load(tmp_path).config == model.config


@torch.no_grad()
def test_a_checkpoint_in_bfloat16_is_read_as_it_is_or_in_float32(directory):
    edit_tensors(directory, **{name: tensor.bfloat16() for name, tensor in load_file(directory / WEIGHTS).items()})
    stored, exact = load(directory, dtype=None), load(directory)
    for name, parameter in stored.named_parameters():
        assert parameter.dtype == torch.bfloat16
        assert torch.equal(parameter.float(), exact.get_parameter(name))


def test_a_checkpoint_in_several_files_is_read(directory):
    whole, tensors = load(directory), load_file(directory / WEIGHTS)
    files = {name: f"model-{place % 3}.safetensors" for place, name in enumerate(tensors)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, directory / file)
    (directory / WEIGHTS).unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    model = load(directory)
    assert all(torch.equal(parameter, model.get_parameter(name)) for name, parameter in whole.named_parameters())


def test_a_config_of_transformers_4_is_read(tmp_path, llama_directory):
    path = llama_directory / "config.json"
    fields = json.loads(path.read_text())
    theta = fields.pop("rope_parameters")["rope_theta"]
    del fields["head_dim"], fields["dtype"]
    path.write_text(json.dumps(fields | {"rope_theta": theta * 3, "rope_scaling": None, "torch_dtype": "float32"}))
    assert load(llama_directory).config.rope_theta == theta * 3


def test_a_stored_head_of_tied_embeddings_is_read_where_it_is_the_same(tmp_path):
    write_llama(tmp_path, tie_word_embeddings=True)
    embedding = load_file(tmp_path / WEIGHTS)["model.embed_tokens.weight"]
    edit_tensors(tmp_path, **{"lm_head.weight": embedding.clone()})
    assert load(tmp_path).head is None
    edit_tensors(tmp_path, **{"lm_head.weight": embedding + 1})
    assert "lm_head.weight differs from model.embed_tokens.weight" in refusal(tmp_path)


def test_a_directory_without_config_is_refused(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path / 'config.json'}: no such file; a model directory has one"


@pytest.mark.parametrize("text", ["{", "[1]", "\x00\xff"])
def test_a_config_that_is_no_json_object_is_refused(llama_directory, text):
    (llama_directory / "config.json").write_bytes(text.encode("latin-1"))
    assert "config.json: " in refusal(llama_directory)


def test_another_architecture_is_refused_by_its_name(tmp_path):
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    MistralForCausalLM(MistralConfig(**sizes, num_attention_heads=2, num_key_value_heads=2)).save_pretrained(tmp_path)
    assert "MistralForCausalLM" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"attention_bias": True}, "attention_bias True is not supported"),
        ({"mlp_bias": True}, "mlp_bias True is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"head_dim": 8}, "has shape [64, 64]; the configuration makes it [32, 64]"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rotary scaling 'llama3' is not supported"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rotary scaling 'linear'"),
        ({"rope_parameters": "default"}, "rope_parameters must be an object"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"num_attention_heads": 5}, "num_attention_heads 5 is not divisible by num_key_value_heads 2"),
        ({"eos_token_id": VOCABULARY}, "special token 97"),
        ({"intermediate_size": None}, "intermediate_size"),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(llama_directory, fields, words):
    edit_config(llama_directory, **fields)
    assert words in refusal(llama_directory)


def test_biases_of_a_real_model_are_refused(tmp_path):
    LlamaForCausalLM(
        LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=1, attention_bias=True)
    ).save_pretrained(tmp_path)
    assert "attention_bias" in refusal(tmp_path)


def test_a_missing_size_is_named(llama_directory):
    path = llama_directory / "config.json"
    fields = json.loads(path.read_text())
    del fields["vocab_size"]
    path.write_text(json.dumps(fields))
    assert "vocab_size is missing" in refusal(llama_directory)


def test_a_missing_tensor_is_named(directory):
    name, _ = a_matrix(directory)
    edit_tensors(directory, **{name: None})
    assert f"tensor {name} is missing; the configuration describes another model" in refusal(directory)


def test_a_tensor_without_a_place_is_named(directory):
    edit_tensors(directory, **{"model.layers.7.bias": torch.zeros(3), "x": torch.zeros(1)})
    assert "has no place in this model (and 1 more)" in refusal(directory)


def test_a_tensor_of_another_shape_is_named(directory):
    name, tensor = a_matrix(directory)
    edit_tensors(directory, **{name: torch.zeros(7, 3)})
    right = list(tensor.shape)
    assert f"tensor {name} has shape [7, 3]; the configuration makes it {right}" in refusal(directory)


def test_a_tensor_of_integers_is_named(directory):
    name, tensor = a_matrix(directory)
    edit_tensors(directory, **{name: tensor.to(torch.int8)})
    assert f"{name} is torch.int8" in refusal(directory)


def test_weights_that_are_not_numbers_are_read_as_they_are(directory):
    name, tensor = a_matrix(directory)
    edit_tensors(directory, **{name: torch.full_like(tensor, torch.nan)})
    assert sum(parameter.isnan().sum() for parameter in load(directory).parameters()) == tensor.numel()


def test_pickled_weights_are_refused(directory):
    (directory / WEIGHTS).unlink()
    torch.save({}, directory / "pytorch_model.bin")
    assert "no model.safetensors; pytorch_model.bin is a pickle" in refusal(directory)


def test_more_layers_than_tensors_are_refused_before_they_are_made(directory):
    names = ("num_hidden_layers", "num_layers", "n_layer", "encoder_layers")
    fields = json.loads((directory / "config.json").read_text())
    edit_config(directory, **{name: 10**12 for name in names if name in fields})
    assert "layers, and there are only" in refusal(directory)


def test_another_vocabulary_is_refused(directory):
    edit_config(directory, **dict.fromkeys(("vocab_size", "decoder_vocab_size"), 59))
    assert "has shape [61" in refusal(directory)


def test_quantised_weights_are_refused_by_name(directory):
    edit_config(directory, quantization_config={"bits": 4})
    assert "quantization_config" in refusal(directory)


def test_a_combination_that_transformers_has_no_class_for_is_not_written(tmp_path):
    for fields, message in (
        ({"positions": "learned"}, "positions 'learned' makes this model no llama"),
        ({"norm": "layer"}, "norm 'layer' makes this model no llama"),
        ({"family": "gpt2", "num_key_value_heads": 2}, "num_key_value_heads 2 makes this model no gpt2"),
        ({"family": "t5", "norm": "layer", **START}, "norm 'layer' makes this model no t5"),
        ({"family": "marian", "tie_word_embeddings": False, **START}, "tie_word_embeddings False is not supported"),
        ({"task": "question-answering"}, "task question-answering has no class in `transformers` for llama"),
        ({"family": "t5"}, "decoder_start_token_id"),
    ):
        with pytest.raises(RequestError, match=message):
            save(build(ModelConfig(**SIZES | fields)), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("keep", [0, 7, 2000, 100_000])
def test_a_truncated_weights_file_is_refused(llama_directory, keep):
    weights = llama_directory / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "not a whole safetensors file" in refusal(llama_directory)


@pytest.mark.parametrize(
    "index", [{"weight_map": {"a": "../x.safetensors"}}, {"weight_map": {"a": "gone"}}, {}, {"weight_map": {"a": 1}}]
)
def test_an_index_that_points_elsewhere_is_refused(llama_directory, index):
    (llama_directory / WEIGHTS).unlink()
    (llama_directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model.safetensors.index.json: " in refusal(llama_directory)


def test_converting_keeps_tokenizer_files_and_nothing_that_runs(tmp_path, llama_directory):
    write_words(llama_directory, VOCABULARY)
    for name in ("tokenizer_config.json", "modeling_llama.py", "notes.txt"):
        (llama_directory / name).write_text("{}")
    convert(llama_directory, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "config.json", "generation_config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert load_file(tmp_path / "out" / WEIGHTS).keys() == load_file(llama_directory / WEIGHTS).keys()


def test_converting_never_overwrites_and_a_refused_model_leaves_nothing(tmp_path, llama_directory):
    (tmp_path / "there").mkdir()
    with pytest.raises(RequestError, match="is there already"):
        convert(llama_directory, tmp_path / "there")
    edit_config(llama_directory, attention_bias=True)
    with pytest.raises(RequestError):
        convert(llama_directory, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama", "there"]
    shutil.rmtree(tmp_path / "there")


def test_a_tokenizer_with_other_tokens_than_the_model_is_refused(tmp_path, llama_directory):
    write_words(llama_directory, VOCABULARY + 1)
    with pytest.raises(RequestError, match="token 't97' has id 97, and the model has only 97 tokens"):
        convert(llama_directory, tmp_path / "out")
    (llama_directory / "tokenizer.json").write_text("{}")
    with pytest.raises(RequestError, match=r"tokenizer\.json: not a tokenizer"):
        convert(llama_directory, tmp_path / "out")
    assert not (tmp_path / "out").exists()
