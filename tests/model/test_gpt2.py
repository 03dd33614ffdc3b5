"""GPT-2 against `transformers`."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from lmcommons.errors import RequestError
from lmcommons.model import KeyValueCache, load, save
from lmcommons.model.interop import gpt2
from lmcommons.model.interop.tensors import to_transformers

VOCABULARY = 97
SMALL = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 4, "bos_token_id": 0}
SHAPES = [
    {},
    {"n_inner": 80, "n_head": 3, "layer_norm_epsilon": 1e-3},
    {"tie_word_embeddings": False, "n_layer": 1},
]
TOKENS = torch.randint(VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(1))


def write(directory, **fields):
    """Save a `GPT2LMHeadModel` of a fixed seed, every weight away from its initial value, and return it."""
    torch.manual_seed(3)
    model = GPT2LMHeadModel(GPT2Config(**SMALL | {"eos_token_id": 0} | fields)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" in name and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.2)
    model.save_pretrained(directory)
    return model


@pytest.mark.parametrize("fields", SHAPES)
@torch.no_grad()
def test_logits_and_hidden_states_equal_those_of_transformers(tmp_path, fields):
    reference = write(tmp_path, **fields)
    model, states = load(tmp_path), []
    expected = reference(TOKENS, output_hidden_states=True)
    torch.testing.assert_close(model(TOKENS), expected.logits, atol=1e-5, rtol=1e-5)
    model.hidden(TOKENS, states=states)
    for ours, theirs in zip(states, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fields", SHAPES)
def test_losses_and_gradients_equal_those_of_transformers(tmp_path, fields):
    reference = write(tmp_path, **fields)
    model = load(tmp_path)
    expected = reference(TOKENS, labels=TOKENS).loss
    expected.backward()
    loss = model.loss(TOKENS[:, :-1], TOKENS[:, 1:])
    loss.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    theirs = {name: parameter.grad for name, parameter in reference.named_parameters()}
    found = to_transformers(model, ours, gpt2.correspondence(model.config))
    assert found.keys() == theirs.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-5, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


@torch.no_grad()
def test_reading_in_steps_with_a_cache_gives_the_same_logits(tmp_path):
    reference = write(tmp_path)
    model, steps = load(tmp_path), []
    cache = KeyValueCache(model.config, 2, 40)
    for start, stop in [(0, 7), (7, 8), (8, 9), (9, 40)]:
        steps.append(model(TOKENS[:, start:stop], cache=cache))
        cache.advance(stop - start)
    torch.testing.assert_close(torch.cat(steps, 1), reference(TOKENS).logits, atol=2e-5, rtol=0)


@pytest.mark.parametrize("fields", SHAPES)
def test_what_we_write_is_what_transformers_wrote_and_reads(tmp_path, fields):
    write(tmp_path / "theirs", **fields)
    model = load(tmp_path / "theirs")
    save(model, tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS), theirs(TOKENS).logits, atol=1e-5, rtol=1e-5)
    assert load(tmp_path / "ours").config == model.config


def test_the_masks_that_old_checkpoints_store_are_no_weights(tmp_path):
    write(tmp_path)
    file = tmp_path / "model.safetensors"
    masks = {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64), "transformer.h.0.attn.masked_bias": torch.ones(1)}
    save_file(load_file(file) | masks, file)
    load(tmp_path)


def test_more_tokens_than_positions_are_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="65 tokens; the model has 64 positions"):
        load(tmp_path)(torch.zeros(1, 65, dtype=torch.int64))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation_function": "relu"}, "activation_function 'relu' is not supported; it must be 'gelu_new'"),
        ({"scale_attn_weights": False}, "scale_attn_weights False is not supported"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True is not supported"),
        ({"add_cross_attention": True}, "add_cross_attention True is not supported"),
        ({"n_head": 5}, "hidden_size 48 is not divisible by num_attention_heads 5"),
        ({"n_embd": "48"}, "n_embd: "),
        (
            {"n_inner": 3},
            "tensor transformer.h.0.mlp.c_fc.weight has shape [48, 192]; the configuration makes it [48, 3]",
        ),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(tmp_path, fields, message):
    write(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(RequestError) as caught:
        load(tmp_path)
    assert message in str(caught.value)
