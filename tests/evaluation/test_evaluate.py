"""An evaluation says what was measured, how sure that is, and what simpler methods reach on the same text."""

import json
import lzma
import math
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import parse_eval_result_entries
from tiny_model import tiny_decoder

from lmcommons import data, evaluation, tokenizer
from lmcommons.data import dataset
from lmcommons.errors import CommandError, RequestError
from lmcommons.evaluation.compression import xz_bytes, xz_bytes_given
from lmcommons.evaluation.intervals import interval, resample
from lmcommons.evaluation.likelihood import document_nats
from lmcommons.model import Decoder, load, save
from lmcommons.recipe import DataRecipe, EvaluationRecipe, TokenizerRecipe

RECIPE = EvaluationRecipe(bootstrap_samples=300)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of real text, and an untrained model with a tokenizer trained on it."""
    home = tmp_path_factory.mktemp("evaluation")
    rows = (json.dumps({"text": text[:5000]}) for _, text in sorted(topics.items()))
    (home / "rows.jsonl").write_text("\n".join(rows))
    source = {"type": "jsonl", "paths": ["rows.jsonl"], "licence": "PSF-2.0"}
    split = {"validation": 0.1, "test": 0.2}
    data.build(DataRecipe.model_validate({"sources": [source], "split": split}), home, home / "dataset")
    write_model(home / "model", home / "dataset")
    return home


def write_model(directory: Path, of: Path, vocab_size: int = 700) -> Decoder:
    texts = (document.text for document in data.read(of, "train"))
    tokenizer.train(texts, TokenizerRecipe(vocab_size=700), directory)
    decoder = tiny_decoder(vocab_size=vocab_size, hidden_size=16, num_hidden_layers=1, initializer_range=0.02)
    save(decoder, directory)
    return decoder


@pytest.fixture(scope="module")
def results(home: Path) -> dict:
    return evaluation.evaluate(RECIPE, home / "model", home / "dataset", seed=3)


def test_the_measures_follow_from_the_likelihood_of_the_test_documents(home: Path, results: dict) -> None:
    texts = [document.text for document in data.read(home / "dataset", "test")]
    words = tokenizer.load(home / "model")
    encoded = words.encode_batch(texts)
    nats = document_nats(load(home / "model"), encoded, context_length=128, start=0, end=0).sum()
    size = sum(len(text.encode()) for text in texts)
    predictions = sum(map(len, encoded)) + len(texts)
    assert (results["documents"], results["tokens"], results["bytes"]) == (len(texts), predictions, size)
    assert results["loss"]["value"] == pytest.approx(nats / predictions)
    assert results["perplexity"]["value"] == pytest.approx(math.exp(nats / predictions))
    assert results["bits_per_byte"]["value"] == pytest.approx(nats / math.log(2) / size)
    assert results["context_length"] == 128
    for metric in ("loss", "perplexity", "bits_per_byte"):
        assert results[metric]["low"] < results[metric]["value"] < results[metric]["high"]


def test_an_untrained_model_is_worse_than_every_baseline_and_the_results_say_so(results: dict) -> None:
    bits = {name: found["bits_per_byte"]["value"] for name, found in results["baselines"].items()}
    assert bits.keys() == {"unigram", "5-gram", "xz -9", "xz -9 given train"}
    assert bits["5-gram"] < bits["unigram"] < results["bits_per_byte"]["value"]
    assert bits["xz -9 given train"] < bits["xz -9"]
    for name, found in results["baselines"].items():
        assert found["model_is_better"] is False
        assert found["difference"]["value"] == pytest.approx(results["bits_per_byte"]["value"] - bits[name])
        assert found["difference"]["low"] > 0


def test_a_model_that_knows_the_test_text_is_better_than_every_baseline(home: Path, tmp_path: Path) -> None:
    decoder = write_model(tmp_path / "model", home / "dataset").train()
    words = tokenizer.load(tmp_path / "model")
    texts = [document.text[:300] for document in data.read(home / "dataset", "test")][:2]
    for split in data.SPLITS:
        documents = data.read(home / "dataset", split)
        if split == "test":
            documents = (data.Document(text, text, "test", "PSF-2.0") for text in texts)
        dataset.write(tmp_path / "dataset", split, documents)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.03)
    rows = [torch.tensor([[0, *tokens, 0]]) for tokens in words.encode_batch(texts)]
    for _ in range(150):
        optimizer.zero_grad()
        sum(decoder.loss(row[:, :-1], row[:, 1:]) for row in rows).backward()
        optimizer.step()
    save(decoder.eval(), tmp_path / "model")
    found = evaluation.evaluate(RECIPE, tmp_path / "model", tmp_path / "dataset", context_length=10_000)
    assert found["bits_per_byte"]["value"] < 1
    assert all(baseline["model_is_better"] for baseline in found["baselines"].values())
    assert "**this model**" in evaluation.table(found).splitlines()[2]


def test_the_same_seed_gives_the_same_results_and_another_only_other_intervals(home: Path, results: dict) -> None:
    assert evaluation.evaluate(RECIPE, home / "model", home / "dataset", seed=3) == results
    other = evaluation.evaluate(RECIPE, home / "model", home / "dataset", seed=4)
    assert other["bits_per_byte"]["value"] == results["bits_per_byte"]["value"]
    assert other["bits_per_byte"]["low"] != results["bits_per_byte"]["low"]


def test_only_the_asked_baselines_are_computed(home: Path) -> None:
    recipe = EvaluationRecipe(bootstrap_samples=10, baselines=["unigram"])
    found = evaluation.evaluate(recipe, home / "model", home / "dataset", context_length=32)
    assert found["baselines"].keys() == {"unigram"}
    assert found["context_length"] == 32


def test_a_test_document_that_stands_in_train_is_counted(home: Path, results: dict, tmp_path: Path) -> None:
    assert results["overlap"] == {"ngram": 13, "documents": 0}
    copied = next(data.read(home / "dataset", "train"))
    dataset.write(tmp_path, "train", data.read(home / "dataset", "train"))
    dataset.write(tmp_path, "test", [copied, *data.read(home / "dataset", "test")])
    recipe = EvaluationRecipe(bootstrap_samples=10, baselines=[])
    assert evaluation.evaluate(recipe, home / "model", tmp_path)["overlap"]["documents"] == 1


def test_what_cannot_be_measured_is_one_line(home: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "small", home / "dataset", vocab_size=600)
    with pytest.raises(RequestError, match="the tokenizer has 700 tokens and the model only 600"):
        evaluation.evaluate(RECIPE, tmp_path / "small", home / "dataset")
    broken = write_model(tmp_path / "broken", home / "dataset")
    torch.nn.init.constant_(broken.decoder.norm.weight, float("nan"))
    save(broken, tmp_path / "broken")
    with pytest.raises(CommandError, match=r"the likelihood of \d+ test documents is not finite"):
        evaluation.evaluate(RECIPE, tmp_path / "broken", home / "dataset")
    dataset.write(tmp_path, "train", [])
    dataset.write(tmp_path, "test", [])
    with pytest.raises(RequestError, match="the test split is empty"):
        evaluation.evaluate(RECIPE, home / "model", tmp_path)


def test_huggingface_hub_reads_the_results(results: dict) -> None:
    text = evaluation.eval_results(results, dataset="me/data", revision="a" * 40, source="https://example.org/run")
    entries = parse_eval_result_entries(yaml.safe_load(text))
    assert {entry.task_id: entry.value for entry in entries} == {
        metric: results[metric]["value"] for metric in ("bits_per_byte", "perplexity", "loss")
    }
    for entry in entries:
        assert (entry.dataset_id, entry.dataset_revision) == ("me/data", "a" * 40)
        assert entry.source_url == "https://example.org/run"
        assert f"n = {results['documents']}" in entry.notes
        assert f"{results[entry.task_id]['low']:.3f} to" in entry.notes
    assert "source" not in evaluation.eval_results(results, dataset="me/data", revision="a" * 40)


def test_the_table_is_sorted_and_shows_intervals_where_there_are_any(results: dict) -> None:
    rows = [line.split("|")[1:-1] for line in evaluation.table(results).splitlines()[2:]]
    values = [float(row[1]) for row in rows]
    assert values == sorted(values)
    assert len(rows) == 5
    (own,) = (row for row in rows if "this model" in row[0])
    assert f"{results['bits_per_byte']['low']:.3f} to {results['bits_per_byte']['high']:.3f}" in own[2]
    assert [row[2].strip() for row in rows if "xz" in row[0]] == ["–", "–"]


def test_xz_sizes_are_those_of_the_compressor_and_known_text_is_nearly_free() -> None:
    texts = [topics["while"], topics["for"]]
    joined = f"{topics['while']}\n{topics['for']}\n".encode()
    assert xz_bytes(texts) == len(lzma.compress(joined, preset=9))
    assert xz_bytes_given(texts, texts) < 0.1 * xz_bytes(texts)
    assert xz_bytes_given([], texts) == pytest.approx(xz_bytes(texts), abs=40)


def test_bootstrap_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        sizes = random.integers(50, 500, 60)
        nats = sizes * random.normal(2.0, 0.3, 60)
        totals = resample(np.column_stack([nats, sizes]).astype(float), 200, seed)
        low, high = interval(totals[:, 0] / totals[:, 1])
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 200 <= 0.99
