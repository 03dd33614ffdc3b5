"""What a Marian's `config.json` may say; what it computes is in test_encoder_decoder.py."""

import json
from pathlib import Path

import pytest
import torch
from encoder_decoder_models import write_reference
from safetensors.torch import load_file, save_file
from transformers import MarianMTModel

from lmcommons.errors import RequestError
from lmcommons.model import load, save


def edit_config(directory: Path, **fields: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"decoder_attention_heads": 3},
            "decoder_attention_heads 3 is not supported; it must be encoder_attention_heads",
        ),
        ({"decoder_ffn_dim": 99}, "decoder_ffn_dim 99 is not supported; it must be encoder_ffn_dim's value"),
        ({"decoder_vocab_size": 50}, "decoder_vocab_size 50 is not supported; it must be vocab_size's value"),
        ({"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings False is not supported"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings False is not supported; it must be True"),
        ({"activation_function": "tanh"}, "hidden_act: Input should be"),
        ({"encoder_layers": 3}, "tensor model.encoder.layers.2.self_attn.q_proj.weight is missing"),
        ({"d_model": 49}, "hidden_size 49 is not divisible by num_attention_heads 4"),
        ({"decoder_start_token_id": 300}, "special token 300 is not below vocab_size 89"),
    ],
)
def test_what_we_do_not_compute_is_refused_by_name(tmp_path, fields, message):
    write_reference(tmp_path, "marian")
    edit_config(tmp_path, **fields)
    with pytest.raises(RequestError) as caught:
        load(tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize("generation", [None, {}, {"forced_eos_token_id": 4, "bad_words_ids": [[88]]}])
@pytest.mark.parametrize("named", [False, True])
def test_what_a_model_forces_and_forbids_is_what_transformers_reads(tmp_path, named, generation):
    fields = {"forced_eos_token_id": 3, "forced_bos_token_id": 2, "bad_words_ids": [[5, 6]]} if named else {}
    write_reference(tmp_path / "theirs", "marian")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    del config["forced_eos_token_id"]
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config | fields))
    file = tmp_path / "theirs" / "generation_config.json"
    file.unlink()
    if generation is not None:
        file.write_text(json.dumps({"decoder_start_token_id": 5} | generation))
    model = load(tmp_path / "theirs")
    save(model, tmp_path / "ours")
    for directory in ("theirs", "ours"):
        reference = MarianMTModel.from_pretrained(tmp_path / directory).generation_config
        for name in ("forced_bos_token_id", "forced_eos_token_id", "bad_words_ids"):
            expected = getattr(reference, name)
            assert getattr(model.config, name) == ([] if name == "bad_words_ids" and expected is None else expected)
    assert load(tmp_path / "ours").config == model.config


def test_what_old_checkpoints_store_of_positions_is_no_weight(tmp_path):
    write_reference(tmp_path, "marian")
    file = tmp_path / "model.safetensors"
    positions = {f"model.{side}.embed_positions.weight": torch.zeros(64, 48) for side in ("encoder", "decoder")}
    save_file(load_file(file) | positions, file)
    load(tmp_path)
