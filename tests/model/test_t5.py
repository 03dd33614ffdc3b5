"""What sets the releases of T5 apart in `config.json`; what it computes is in test_encoder_decoder.py."""

import json
from pathlib import Path

import pytest
import torch
from encoder_decoder_models import T5, write_reference
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration

from lmcommons.errors import RequestError
from lmcommons.model import load, save


def edit_config(directory: Path, *removed: str, **fields: object) -> None:
    path = directory / "config.json"
    kept = {name: value for name, value in json.loads(path.read_text()).items() if name not in removed}
    path.write_text(json.dumps(kept | fields))


def edit_tensors(directory: Path, **tensors: torch.Tensor) -> None:
    file = directory / "model.safetensors"
    save_file(load_file(file) | tensors, file)


def test_a_configuration_of_transformers_4_says_with_tied_embeddings_whether_logits_are_scaled(tmp_path):
    new = ("scale_decoder_outputs", "dense_act_fn", "is_gated_act")
    write_reference(tmp_path / "first", "t5 1.0")
    edit_config(tmp_path / "first", *new, "tie_word_embeddings")
    write_reference(tmp_path / "second", "t5 1.1")
    edit_config(tmp_path / "second", *new, tie_word_embeddings=False)
    first, second = (load(tmp_path / name) for name in ("first", "second"))
    assert (first.config.scale_logits, first.config.tie_word_embeddings) == (True, True)
    assert (second.config.scale_logits, second.config.tie_word_embeddings) == (False, False)
    assert (second.config.hidden_act, second.config.gated) == ("gelu_new", True)


def test_what_transformers_5_writes_again_is_read_again(tmp_path):
    write_reference(tmp_path / "first", "t5 1.1")
    T5ForConditionalGeneration.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "again")
    assert load(tmp_path / "again").config == load(tmp_path / "first").config


def test_a_head_that_is_stored_beside_its_embedding_must_be_the_same(tmp_path):
    write_reference(tmp_path, "t5 1.0")
    shared = load_file(tmp_path / "model.safetensors")["shared.weight"]
    copies = ("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    edit_tensors(tmp_path, **{name: shared.clone() for name in copies})
    assert load(tmp_path).head is None
    edit_tensors(tmp_path, **{"lm_head.weight": shared + 1})
    with pytest.raises(RequestError, match=r"lm_head\.weight differs from shared\.weight"):
        load(tmp_path)


def test_the_bias_between_target_and_source_of_early_checkpoints_is_left_out(tmp_path):
    write_reference(tmp_path, "t5 1.0")
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    edit_tensors(tmp_path, **{name: torch.zeros(32, 4)})
    load(tmp_path)


def test_a_target_begins_with_padding_where_nothing_else_is_said(tmp_path):
    write_reference(tmp_path, "t5 1.0")
    edit_config(tmp_path, "decoder_start_token_id", pad_token_id=7)
    assert load(tmp_path).config.decoder_start_token_id == 7


@pytest.mark.parametrize("fields", [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}])
def test_an_encoder_alone_gives_the_states_of_transformers_and_keeps_every_bit(tmp_path, fields):
    torch.manual_seed(3)
    reference = T5EncoderModel(T5Config(**T5 | {"num_layers": 3, "num_decoder_layers": 1} | fields)).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    reference.save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs")
    tokens = torch.randint(1, 89, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    states: list[torch.Tensor] = []
    with torch.no_grad():
        expected = reference(tokens, attention_mask=mask, output_hidden_states=True).hidden_states
        model.hidden(tokens, attention_mask=mask, states=states)
    real = mask.bool()
    for found, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(found[real], theirs[real], atol=1e-5, rtol=1e-5)
    save(model, tmp_path / "ours")
    again, problems = T5EncoderModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(problems.values())
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in reference.state_dict().items())
    assert load(tmp_path / "ours").config == model.config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dense_act_fn": "tanh"}, "hidden_act: Input should be"),
        ({"num_heads": 5}, "has shape [32, 4]; the configuration makes it [32, 5]"),
        ({"num_decoder_layers": 3}, "tensor decoder.block.2.layer.0.layer_norm.weight is missing"),
        ({"d_kv": None}, "d_kv: "),
        ({"decoder_start_token_id": 89}, "special token 89 is not below vocab_size 89"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, fields, message):
    write_reference(tmp_path, "t5 1.0")
    edit_config(tmp_path, **fields)
    with pytest.raises(RequestError) as caught:
        load(tmp_path)
    assert message in str(caught.value)


def test_scaled_logits_from_a_matrix_of_their_own_are_refused(tmp_path):
    write_reference(tmp_path, "t5 1.1")
    edit_config(tmp_path, scale_decoder_outputs=True, tie_word_embeddings=False)
    with pytest.raises(RequestError, match="scale_decoder_outputs True is not supported"):
        load(tmp_path)
