"""Low-rank changes begin as nothing, are all that is trained, merge exactly, and are read by `peft`."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_tasks import reviews, write_model, write_recipe, write_splits
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lmcommons.finetuning import foreign, lora, own, run
from lmcommons.model import load
from lmcommons.recipe import LoraMethod
from lmcommons.training.batches import Batch

METHOD = LoraMethod(name="lora", rank=4, alpha=8.0)
TOKENS = torch.arange(5, 45).reshape(2, 20)
LABELS = ["bad", "good"]


def network(directory: Path, family: str, task: str = "sequence-classification"):
    """The model with the head of the task: ours or a foreign one, as its family is."""
    write_model(directory, family)
    labels = LABELS if task.endswith("classification") else []
    if family in ("distilbert", "opt"):
        return foreign.load(directory, task, labels, pad_token_id=0, pretrained=True)
    return own.for_task(load(directory), task, labels, pad_token_id=0, pretrained=True)


def logits(found) -> torch.Tensor:
    with torch.no_grad():
        return found.task_logits(Batch(TOKENS, TOKENS))


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "distilbert", "opt"])
def test_changes_begin_as_nothing_and_merge_into_the_same_model(tmp_path, family):
    found = network(tmp_path, family)
    found.module.eval()
    before = logits(found)
    names = [name for name, _ in found.module.named_parameters()]
    lora.attach(found.module, found.sites("all"), METHOD)
    assert torch.equal(logits(found), before)
    with torch.no_grad():
        for name, weight in found.module.named_parameters():
            if weight.requires_grad:
                assert ".up." in name or name.endswith(".down")
                weight.add_(torch.randn_like(weight) * 0.3)
    changed = logits(found)
    assert (changed - before).abs().max() > 1e-3
    lora.merge(found.module)
    assert [name for name, _ in found.module.named_parameters()] == names
    torch.testing.assert_close(logits(found), changed, atol=1e-5, rtol=1e-5)


def test_joined_matrices_have_a_change_each_and_may_be_those_of_attention_only(tmp_path):
    found = network(tmp_path, "llama")
    sites = found.sites("attention")
    assert {name.split(".")[-1] for site in sites for name in site.names} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert (32, 16, 16) in {site.sizes for site in sites}  # one key-value head for two heads
    assert len(found.sites("all")) == 2 * len(sites)


def test_the_rank_bounds_the_change(tmp_path):
    found = network(tmp_path, "llama")
    sites = found.sites("attention")
    lora.attach(found.module, sites, METHOD)
    joined = next(site for site in sites if len(site.names) == 3)
    changed = found.module.get_submodule(joined.path)
    with torch.no_grad():
        for up in changed.up:
            up.normal_()
    ranks = [int(torch.linalg.matrix_rank(part)) for part in changed.change().split(joined.sizes)]
    assert ranks == [4, 4, 4]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "distilbert"])
def test_peft_computes_the_same_from_the_adapter_and_transformers_from_the_merged_model(tmp_path, family):
    write_model(tmp_path / "model", family)
    write_splits(tmp_path / "data", reviews(64, 0))
    method = {"name": "lora", "rank": 4, "alpha": 8.0}
    recipe = write_recipe(tmp_path, "sequence-classification", method=method, epochs=1)
    directory = Path(run(recipe, tmp_path / "runs")["directory"])

    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", num_labels=2).eval()
    adapted = PeftModel.from_pretrained(base, directory / "adapter").eval()
    merged = AutoModelForSequenceClassification.from_pretrained(directory / "model").eval()
    tokens = AutoTokenizer.from_pretrained(directory / "model")("import class value", return_tensors="pt")
    tokens = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    torch.testing.assert_close(adapted(**tokens).logits, merged(**tokens).logits, atol=1e-5, rtol=1e-5)
    assert merged.config.id2label == {0: "bad", 1: "good"}
    assert json.loads((directory / "adapter" / "adapter_config.json").read_text())["r"] == 4


def test_an_adapter_of_a_language_model_has_no_head(tmp_path):
    found = network(tmp_path / "model", "llama", "translation")
    sites = found.sites("all")
    lora.attach(found.module, sites, METHOD)
    with torch.no_grad():
        for site in sites:
            for up in found.module.get_submodule(site.path).up:
                up.normal_(std=0.1)
    lora.save(tmp_path / "adapter", found.module, sites, {}, METHOD, base="model", task="CAUSAL_LM")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    lora.merge(found.module)
    found.module.eval()
    with torch.no_grad():
        torch.testing.assert_close(adapted(TOKENS).logits, found.module(TOKENS), atol=1e-5, rtol=1e-5)
