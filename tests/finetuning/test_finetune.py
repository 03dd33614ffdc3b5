"""`lmc finetune`, for every task and kind of model: it learns, keeps the best, goes on after a kill, and reports."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from tiny_run import LMC, lmc
from tiny_tasks import chats, colours, questions, reviews, tagged, write_model, write_recipe, write_splits
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lmcommons import model, recipe
from lmcommons.data.benchmark import METRICS
from lmcommons.finetuning import run

LORA = {"name": "lora", "rank": 4}


def finetuned(home: Path, task: str, **fields: object) -> dict:
    """What a run says; it measures what datasets of the task declare as benchmarks, and of a chat its perplexity."""
    found = run(write_recipe(home, task, **fields), home / "runs")
    for measurements in found["report"]["tests"].values():
        assert {each["metric"] for each in measurements} == set(METRICS[task] or ("perplexity",))
    return found


def measured(result: dict, metric: str) -> dict:
    return next(found for found in result["report"]["tests"]["test"] if found["metric"] == metric)


@pytest.mark.parametrize("family", ["bert", "llama", "xlnet", "distilbert", "opt"])
def test_a_class_is_learnt_better_than_guessed(tmp_path, family):
    write_model(tmp_path / "model", family)
    write_splits(tmp_path / "data", reviews(160, 0))
    found = finetuned(tmp_path, "sequence-classification", epochs=6, patience=6)
    accuracy = measured(found, "accuracy")
    assert accuracy["value"] > 0.8
    assert accuracy["baseline"] == "majority class"
    assert accuracy["baseline_value"] == 0.5
    assert accuracy["difference"][0] > 0
    assert accuracy["n"] == 40
    assert found["report"]["model"]["ours"] == (family in ("bert", "llama", "xlnet"))
    assert any(
        name.startswith(("task_head.", "score", "classifier")) for name in found["report"]["model"]["new_weights"]
    )


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_entities_are_learnt(tmp_path, family):
    write_model(tmp_path / "model", family)
    write_splits(tmp_path / "data", tagged(160, 0))
    found = finetuned(tmp_path, "token-classification", epochs=3)
    assert measured(found, "entity_f1")["value"] > 0.95
    assert measured(found, "accuracy")["baseline"] == "each word's most frequent label"


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_answers_are_found_in_their_context(tmp_path, family):
    write_model(tmp_path / "model", family)
    write_splits(tmp_path / "data", questions(160, 0))
    found = finetuned(tmp_path, "question-answering", epochs=4, patience=4)
    f1 = measured(found, "f1")
    assert f1["baseline"] == "first sentence of the context"
    validations = found["report"]["validations"]
    assert found["report"]["best"]["f1"] == max(numbers["f1"] for numbers in validations)
    assert min(numbers["validation_loss"] for numbers in validations) < validations[0]["validation_loss"]


def test_no_answer_is_one_where_train_has_such_rows(tmp_path):
    write_model(tmp_path / "model", "bert")
    write_splits(tmp_path / "data", questions(240, 0, unanswered=True))
    found = finetuned(tmp_path, "question-answering", epochs=4, patience=4, optimizer={"learning_rate": 5e-3})
    assert measured(found, "exact_match")["value"] > 0.3  # a third of the rows have none


@pytest.mark.parametrize("family", ["t5", "llama", "opt"])
def test_a_translation_is_learnt_better_than_copied(tmp_path, family):
    write_model(tmp_path / "model", family)
    write_splits(tmp_path / "data", colours(120, 0))
    found = finetuned(
        tmp_path, "translation", epochs=12, patience=12, batch_size=4, max_new_tokens=40, num_beams=2, language="de",
        optimizer={"learning_rate": 5e-3},
    )  # fmt: skip
    chrf = measured(found, "chrf")
    assert chrf["baseline"] == "copy source"
    assert chrf["difference"][0] > 0
    assert measured(found, "bleu")["n"] == 30


def test_an_answer_is_written(tmp_path):
    write_model(tmp_path / "model", "gpt2")
    write_splits(tmp_path / "data", colours(80, 0))
    found = finetuned(tmp_path, "text-to-text", prompt="German of {source}:", max_new_tokens=20)
    assert {each["metric"] for each in found["report"]["tests"]["test"]} == {"exact_match", "f1", "chrf"}
    first, *_, last = found["report"]["validations"]
    assert last["validation_loss"] < first["validation_loss"]


def test_a_conversation_is_learnt_beside_the_model_as_it_was(tmp_path):
    write_model(tmp_path / "model", "llama")
    write_splits(tmp_path / "data", chats(64, 0))
    perplexity = measured(finetuned(tmp_path, "chat", epochs=6), "perplexity")
    assert perplexity["baseline"] == "before fine-tuning"
    assert perplexity["difference"][1] < 0


def test_lora_changes_few_weights_and_writes_a_whole_model(tmp_path):
    write_model(tmp_path / "model", "llama")
    write_splits(tmp_path / "data", reviews(80, 0))
    found = finetuned(tmp_path, "sequence-classification", method=LORA)
    counts = found["report"]["model"]
    assert counts["trained_parameters"] < counts["parameters"] / 2
    names = {path.name for path in Path(found["directory"], "model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names


def test_only_the_head_of_a_frozen_model_is_trained(tmp_path):
    write_model(tmp_path / "model", "llama")
    write_splits(tmp_path / "data", reviews(40, 0))
    found = finetuned(tmp_path, "sequence-classification", method={"name": "frozen"}, epochs=1)
    before, after = model.load(tmp_path / "model"), model.load(Path(found["directory"], "model"))
    assert found["report"]["model"]["trained_parameters"] == 2 * 32
    for name, weight in before.named_parameters():
        assert torch.equal(weight, after.get_parameter(name))


def test_the_model_is_what_transformers_reads_and_labels_have_their_names(tmp_path):
    write_model(tmp_path / "model", "bert")
    write_splits(tmp_path / "data", reviews(40, 0))
    found = finetuned(tmp_path, "sequence-classification", labels=["good", "bad"], epochs=1)
    directory = Path(found["directory"], "model")
    theirs = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokens = AutoTokenizer.from_pretrained(directory)("class value", "name", return_tensors="pt")
    ours = model.load(directory)
    with torch.no_grad():
        logits = ours.task_logits(tokens["input_ids"], token_types=tokens["token_type_ids"])
        torch.testing.assert_close(theirs(**tokens).logits, logits, atol=1e-5, rtol=1e-5)
    assert theirs.config.id2label == {0: "good", 1: "bad"}


def test_training_ends_early_and_the_best_weights_are_the_model(tmp_path):
    write_model(tmp_path / "model", "llama")
    write_splits(tmp_path / "data", reviews(80, 0))
    found = finetuned(
        tmp_path, "sequence-classification", epochs=20, patience=1, optimizer={"learning_rate": 0.5}
    )["report"]  # fmt: skip
    assert found["steps"] < found["planned_steps"]
    best = max(found["validations"], key=lambda numbers: (numbers["macro_f1"], -numbers["validation_loss"]))
    assert found["best"] == best
    assert found["validations"][-1] != best


def test_random_weights_keep_nothing_of_the_pretrained_model(tmp_path):
    write_model(tmp_path / "model", "llama")
    write_splits(tmp_path / "data", reviews(40, 0))
    found = finetuned(
        tmp_path, "sequence-classification", initial_weights="random", epochs=1, optimizer={"learning_rate": 1e-9}
    )
    before, after = model.load(tmp_path / "model"), model.load(Path(found["directory"], "model"))
    assert not torch.allclose(before.embedding, after.embedding, atol=1e-3)


def test_the_parts_of_a_batch_change_nothing_but_memory(tmp_path):
    write_model(tmp_path / "model", "llama")
    write_splits(tmp_path / "data", reviews(40, 0))
    whole = finetuned(tmp_path, "sequence-classification", epochs=1)
    parts = finetuned(tmp_path, "sequence-classification", epochs=1, gradient_accumulation=4)
    one, other = (model.load(Path(found["directory"], "model")).state_dict() for found in (whole, parts))
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], atol=1e-4, rtol=1e-3)


def test_a_second_run_does_nothing_and_a_changed_recipe_or_row_runs_again(tmp_path):
    write_model(tmp_path / "model", "llama")
    write_splits(tmp_path / "data", reviews(40, 0))
    first = finetuned(tmp_path, "sequence-classification", epochs=1)
    again = finetuned(tmp_path, "sequence-classification", epochs=1)
    assert (first["reused"], again["reused"]) == (False, True)
    assert first["report"] == again["report"]
    assert not finetuned(tmp_path, "sequence-classification", epochs=1, batch_size=4)["reused"]
    write_splits(tmp_path / "data", reviews(40, 1))
    assert not finetuned(tmp_path, "sequence-classification", epochs=1)["reused"]


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(tmp_path):
    write_model(tmp_path / "model", "llama")
    write_splits(tmp_path / "data", reviews(400, 0))
    fields = {"epochs": 8, "patience": 8, "batch_size": 4, "method": LORA | {"dropout": 0.1}}
    whole = Path(run(write_recipe(tmp_path, "sequence-classification", **fields), tmp_path / "whole")["directory"])
    path = write_recipe(tmp_path, "sequence-classification", **fields)
    command = [LMC, "finetune", path, "--out", tmp_path / "runs"]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    checkpoint = tmp_path / "runs" / "tiny" / "finetuning" / whole.name / "checkpoints" / "last"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    done = lmc("finetune", path, "--out", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    assert "continuing at step" in done.stderr
    found = json.loads(done.stdout)
    name = "model.safetensors"
    assert Path(found["directory"], "model", name).read_bytes() == (whole / "model" / name).read_bytes()


def test_the_resolved_recipe_lies_beside_the_result(tmp_path):
    write_model(tmp_path / "model", "llama")
    write_splits(tmp_path / "data", reviews(40, 0))
    found = finetuned(tmp_path, "sequence-classification", epochs=1)
    resolved = recipe.load_task(Path(found["directory"], "recipe.yaml"))
    assert resolved.provenance.stages == {"finetuning": found["key"]}
    assert resolved.finetuning.gradient_clip == 1.0
    assert found["report"]["environment"]["packages"]["torch"]


def test_rows_that_train_has_too_are_counted(tmp_path, capsys):
    write_model(tmp_path / "model", "llama")
    rows = reviews(40, 0)
    write_splits(tmp_path / "data", [*rows[:20], *rows[:10], *rows[30:]])
    report = finetuned(tmp_path, "sequence-classification", epochs=1)["report"]
    assert report["rows"]["validation"]["in_train"] == 10
    assert report["rows"]["test"]["in_train"] == 0
    assert "validation: 10 of 10 rows have an input that is in train too" in capsys.readouterr().err
