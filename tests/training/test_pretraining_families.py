"""Every family goes through the stages: its tokenizer, its objective, a directory that `transformers` reads."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from tiny_pretraining import tiny_recipe, write_split

from lmcommons import data, evaluation, model, training
from lmcommons import tokenizer as tokenizers
from lmcommons.errors import RequestError
from lmcommons.files import sha256_file
from lmcommons.recipe import Recipe

FAMILIES = {
    "gpt2": ("causal-lm", transformers.GPT2LMHeadModel),
    "bert": ("masked-lm", transformers.BertForMaskedLM),
    "t5": ("span-corruption", transformers.T5ForConditionalGeneration),
    "marian": ("sequence-to-sequence", transformers.MarianMTModel),
    "xlnet": ("permutation-lm", transformers.XLNetLMHeadModel),
}


def recipe_of(family: str, **pretraining) -> Recipe:
    positions = {} if family == "xlnet" else {"max_position_embeddings": 128}
    return tiny_recipe(model={"family": family, "num_key_value_heads": 2, **positions}, **pretraining)


@pytest.fixture(scope="module")
def inputs(dataset, tmp_path_factory):
    """For a family its dataset with a test split, of pairs where it reads pairs, and its tokenizer."""

    def made(family: str) -> tuple[Path, Path]:
        recipe, directory = recipe_of(family), tmp_path_factory.mktemp(family)
        for split in ("train", "validation", "test"):
            texts = [document.text for document in data.read(dataset, "validation" if split == "test" else split)]
            if family == "marian":
                lines = [line.strip() for text in texts for line in text.split("\n") if len(line.strip()) > 20]
                texts = [f"{line}\t{line.upper()}" for line in lines]
            write_split(directory / "dataset", split, texts[:200])
        texts = [document.text for document in data.read(directory / "dataset", "train")]
        kind, sentinels = recipe.model.kind, recipe.sentinels
        tokenizers.train(texts, recipe.tokenizer, directory / "tokenizer", kind=kind, sentinels=sentinels)
        return directory / "dataset", directory / "tokenizer"

    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_trained_measured_and_read_by_transformers(family, inputs, tmp_path):
    recipe, (dataset, tokenizer) = recipe_of(family, steps=25, optimizer={"learning_rate": 1e-2}), inputs(family)
    objective, loads = FAMILIES[family]
    assert recipe.pretraining.objective.name == objective
    report = training.pretrain(recipe, dataset, tokenizer, tmp_path / "out")
    directory = tmp_path / "out" / "model"
    assert report["parameters"] == sum(parameter.numel() for parameter in model.load(directory).parameters())
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]
    reference, info = loads.from_pretrained(directory, output_loading_info=True)
    assert not info["missing_keys"]
    words = transformers.AutoTokenizer.from_pretrained(directory)
    tokens = words("The function returns a list.", return_tensors="pt")["input_ids"]
    ours = model.load(directory)
    more = {"decoder_input_ids": tokens} if recipe.model.kind == "encoder-decoder" else {}
    with torch.no_grad():
        assert torch.allclose(reference(tokens, **more).logits, ours(tokens, *more.values()), atol=1e-4)
    if family != "gpt2":
        results = evaluation.evaluate_objective(recipe, directory, dataset)
        assert results["objective"] == objective
        assert results["loss"]["low"] < results["loss"]["value"] < results["loss"]["high"]
        assert results["targets"] > 100
        assert f"nats per target of {objective}" in evaluation.table(results)
        written = evaluation.eval_results(results, dataset="namespace/data", revision="0" * 40)
        assert f"{results['targets']} targets of the test split" in " ".join(written.split())


@pytest.mark.parametrize("family", ["bert", "t5", "xlnet", "marian"])
def test_a_resumed_run_of_a_family_ends_with_the_same_weights(family, inputs, tmp_path):
    dataset, tokenizer = inputs(family)
    training.pretrain(recipe_of(family, steps=6), dataset, tokenizer, tmp_path / "whole")
    interrupted = tmp_path / "interrupted"
    training.pretrain(recipe_of(family, steps=6), dataset, tokenizer, interrupted)
    (interrupted / "report.json").unlink()
    last, previous = interrupted / "checkpoints" / "last", interrupted / "checkpoints" / "previous"
    last.rename(tmp_path / "removed")
    previous.rename(last)  # as if it had been killed after step 4
    training.pretrain(recipe_of(family, steps=6), dataset, tokenizer, interrupted)
    assert sha256_file(interrupted / "model" / "model.safetensors") == sha256_file(
        tmp_path / "whole" / "model" / "model.safetensors"
    )


def test_next_sentence_prediction_has_its_head_in_the_model(inputs, tmp_path):
    dataset, tokenizer = inputs("bert")
    recipe = recipe_of("bert", steps=4, objective={"name": "masked-lm", "next_sentence": True})
    training.pretrain(recipe, dataset, tokenizer, tmp_path / "out")
    _, info = transformers.BertForPreTraining.from_pretrained(tmp_path / "out" / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_a_validation_split_without_anything_to_predict_is_named(inputs, tmp_path):
    _, tokenizer = inputs("bert")
    write_split(tmp_path / "dataset", "train", ["Some text to read."])
    write_split(tmp_path / "dataset", "validation", [""])
    with pytest.raises(RequestError, match="the validation split has nothing to predict"):
        training.pretrain(recipe_of("bert", steps=4), tmp_path / "dataset", tokenizer, tmp_path / "out")
