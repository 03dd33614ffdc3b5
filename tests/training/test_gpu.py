"""What only a GPU can show: the same run there, in bfloat16 and compiled, and its logits against the processor's."""

import json
import math

import pytest
import torch
from tiny_pretraining import VOCAB_SIZE, tiny_recipe

from lmcommons import model, training
from lmcommons.files import sha256_file

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch finds none here"),
]


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_a_run_on_a_gpu_learns_and_repeats_to_the_bit(dataset, tokenizer, tmp_path, compiled):
    recipe = tiny_recipe(
        model={"hidden_size": 64, "intermediate_size": 160}, steps=60, batch_size=8, device="cuda", compile=compiled,
        precision="bfloat16", optimizer={"name": "muon", "learning_rate": 1e-2},
    )  # fmt: skip
    hashes = set()
    for name in ("first", "second"):
        report = training.pretrain(recipe, dataset, tokenizer, tmp_path / name)
        assert report["device"] == "cuda"
        assert report["best_validation_loss"] < math.log(VOCAB_SIZE) - 1
        hashes.add(sha256_file(tmp_path / name / "model" / "model.safetensors"))
    assert len(hashes) == 1
    lines = (tmp_path / "first" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 60


def test_logits_on_a_gpu_are_those_of_the_processor():
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = model.ModelConfig(**sizes, num_key_value_heads=2, vocab_size=300, bos_token_id=0, eos_token_id=0)
    decoder = model.Decoder(config).eval()
    tokens = torch.randint(300, (2, 40))
    document_ids = (torch.arange(40) // 13).expand(2, 40)
    with torch.no_grad():
        here = decoder(tokens, document_ids=document_ids)
        there = decoder.cuda()(tokens.cuda(), document_ids=document_ids.cuda()).cpu()
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)
