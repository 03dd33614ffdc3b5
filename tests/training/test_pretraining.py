"""A run leaves what it promises, and one that was interrupted in any way ends with the same weights."""

import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_pretraining import (
    VOCAB_SIZE,
    flip_a_byte,
    metrics,
    needs_compiler,
    start_pretraining,
    tiny_recipe,
    wait_for_step,
)

from lmcommons import data, model, training
from lmcommons import tokenizer as tokenizers
from lmcommons.errors import CommandError, RequestError
from lmcommons.files import sha256_file
from lmcommons.training.batches import encode
from lmcommons.training.loop import RunState, mean_loss
from lmcommons.training.objectives import CausalLanguageModelling


@pytest.fixture(scope="module")
def finished(dataset, tokenizer, tmp_path_factory) -> Path:
    """The directory of a run of 60 steps."""
    out = tmp_path_factory.mktemp("finished") / "pretraining"
    recipe = tiny_recipe(
        model={"hidden_size": 64, "intermediate_size": 160}, steps=60, batch_size=8, evaluation_interval=20,
        optimizer={"name": "muon", "learning_rate": 1e-2},
    )  # fmt: skip
    report = training.pretrain(recipe, dataset, tokenizer, out)
    assert json.loads((out / "report.json").read_text()) == report
    return out


def test_the_loss_falls_below_the_unigram_entropy_of_the_text(finished, dataset, tokenizer):
    words = tokenizers.load(tokenizer)
    tokens = [[*words.encode(document.text), 0] for document in data.read(dataset, "validation")]
    counts = Counter(chain.from_iterable(tokens))
    total = sum(counts.values())
    entropy = -sum(count / total * math.log(count / total) for count in counts.values())
    report = json.loads((finished / "report.json").read_text())
    assert report["best_validation_loss"] < entropy


def test_the_model_directory_holds_the_best_weights_and_the_tokenizer(finished, dataset, tokenizer, tmp_path):
    decoder = model.load(finished / "model")
    decoder.compute_dtype = torch.bfloat16 if "bfloat16" in (finished / "run.json").read_text() else torch.float32
    objective = CausalLanguageModelling()
    rows = objective.rows(encode(dataset, tokenizer, tmp_path)["validation"], 64, seed=0)
    batch = rows.batch(0, min(rows.rows_per_epoch, 32_768 // 64))
    report = json.loads((finished / "report.json").read_text())
    assert mean_loss(objective.loss, decoder, [batch]) == pytest.approx(report["best_validation_loss"], rel=2e-3)
    text = "for x in range(3):"
    assert tokenizers.load(finished / "model").encode(text) == tokenizers.load(tokenizer).encode(text)


def test_the_metrics_have_a_line_for_every_step_and_tensorboard_has_the_same_numbers(finished):
    lines = metrics(finished)
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert {"step", "tokens", "loss", "learning_rate", "gradient_norm", "tokens_per_second"} <= set(lines[0])
    assert [line["step"] for line in lines if "validation_loss" in line] == [20, 40, 60]
    assert lines[-1]["tokens"] == 60 * 8 * 64
    board = EventAccumulator(str(finished / "tensorboard"), size_guidance={"scalars": 0})
    board.Reload()
    assert [event.value for event in board.Scalars("loss")] == pytest.approx([line["loss"] for line in lines])


def test_the_report_says_what_was_computed_and_how(finished):
    report = json.loads((finished / "report.json").read_text())
    decoder = model.load(finished / "model")
    assert report["parameters"] == sum(parameter.numel() for parameter in decoder.parameters())
    assert report["tokens"] == 60 * 8 * 64
    assert report["tokens_per_second"] == pytest.approx(report["tokens"] / report["seconds"])
    assert report["compiled"] is False
    assert report["threads"] == torch.get_num_threads()
    assert 100e6 < report["peak_memory"] <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert report["flops_per_token"] > 6 * report["parameters"]
    losses = {line["step"]: line["validation_loss"] for line in metrics(finished) if "validation_loss" in line}
    assert report["best_validation_loss"] == min(losses.values()) == losses[report["best_step"]]


def test_a_finished_run_is_not_run_again(dataset, tokenizer, tmp_path):
    first = training.pretrain(tiny_recipe(steps=3), dataset, tokenizer, tmp_path / "out")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert training.pretrain(tiny_recipe(steps=3), dataset, tokenizer, tmp_path / "out") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == written


def test_another_recipe_starts_anew_and_says_so(dataset, tokenizer, tmp_path, capsys):
    out = tmp_path / "out"
    training.pretrain(tiny_recipe(steps=6), dataset, tokenizer, out)
    training.pretrain(tiny_recipe(steps=4, optimizer={"learning_rate": 1e-4}), dataset, tokenizer, out)
    assert "starting anew" in capsys.readouterr().err
    assert [line["step"] for line in metrics(out)] == [1, 2, 3, 4]
    assert max(line["learning_rate"] for line in metrics(out)) == pytest.approx(1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(dataset, tokenizer, tmp_path):
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        training.pretrain(tiny_recipe(seed, steps=4), dataset, tokenizer, tmp_path / name)
        hashes.append(sha256_file(tmp_path / name / "model" / "model.safetensors"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_run_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not(dataset, tokenizer, tmp_path):
    # A checkpoint a step, so that most of the kills come while one is written.
    recipe = tiny_recipe(steps=40, checkpoint_interval=1, evaluation_interval=7, optimizer={"name": "muon"})
    whole, out = tmp_path / "whole", tmp_path / "killed"
    training.pretrain(recipe, dataset, tokenizer, whole)
    chance = random.Random(0)
    for step in (1, 12, 25):
        process = start_pretraining(recipe, dataset, tokenizer, out)
        wait_for_step(lambda: out, step + chance.randrange(8), process)
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    training.pretrain(recipe, dataset, tokenizer, out)
    for name in (
        "model/model.safetensors",
        "checkpoints/last/model.safetensors",
        "checkpoints/last/optimizer.safetensors",
    ):
        assert sha256_file(out / name) == sha256_file(whole / name), name
    kept = ("step", "loss", "learning_rate", "gradient_norm", "validation_loss")
    assert [[line.get(name) for name in kept] for line in metrics(out)] == [
        [line.get(name) for name in kept] for line in metrics(whole)
    ]
    assert not list(out.rglob("*.part")) + list(out.rglob("*.old"))


def test_a_long_run_logs_means_over_several_steps_and_a_resumed_one_the_same(dataset, tokenizer, tmp_path, monkeypatch):
    each, out = tmp_path / "each", tmp_path / "out"
    recipe = tiny_recipe(steps=12, checkpoint_interval=4, evaluation_interval=12)
    training.pretrain(recipe, dataset, tokenizer, each)
    monkeypatch.setattr("lmcommons.training.loop.METRICS_LINES", 4)
    training.pretrain(recipe, dataset, tokenizer, out)
    logged = [(line["step"], line["loss"]) for line in metrics(out)]
    losses = [line["loss"] for line in metrics(each)]
    assert logged == [(step, pytest.approx(sum(losses[step - 3 : step]) / 3)) for step in (3, 6, 9, 12)]
    (out / "report.json").unlink()
    shutil.rmtree(out / "checkpoints" / "last")
    training.pretrain(recipe, dataset, tokenizer, out)
    assert [(line["step"], line["loss"]) for line in metrics(out)] == logged


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_with_a_checkpoint_and_a_second_one_acts_as_before(
    dataset, tokenizer, tmp_path, monkeypatch, number
):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    out, trained = tmp_path / "out", RunState.watch

    def watch(state: RunState, *numbers: float) -> None:
        trained(state, *numbers)
        if state.step == 3:
            os.kill(os.getpid(), number)
            assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers

    monkeypatch.setattr(RunState, "watch", watch)
    with pytest.raises(CommandError, match="stopped at step 3 of 12; the same command continues"):
        training.pretrain(tiny_recipe(steps=12, checkpoint_interval=12), dataset, tokenizer, out)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert json.loads((out / "checkpoints" / "last" / "state.json").read_text())["step"] == 3
    assert len(metrics(out)) == 3


@pytest.fixture
def unfinished(dataset, tokenizer, tmp_path) -> tuple[Path, str]:
    """A run of 8 steps with checkpoints at steps 6 and 8 and without its report, and the sha256 of its weights."""
    out = tmp_path / "unfinished"
    training.pretrain(UNFINISHED, dataset, tokenizer, out)
    (out / "report.json").unlink()
    return out, sha256_file(out / "model" / "model.safetensors")


UNFINISHED = tiny_recipe(steps=8, checkpoint_interval=2, evaluation_interval=3)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "checksums.json"])
def test_a_corrupted_checkpoint_is_named_and_the_one_before_it_is_used(unfinished, dataset, tokenizer, capsys, name):
    out, expected = unfinished
    flip_a_byte(out / "checkpoints" / "last" / name)
    training.pretrain(UNFINISHED, dataset, tokenizer, out)
    error = capsys.readouterr().err
    assert f"{out / 'checkpoints' / 'last'}: corrupted checkpoint" in error
    assert "continuing at step 6 of 8" in error
    assert sha256_file(out / "model" / "model.safetensors") == expected
    assert [line["step"] for line in metrics(out)] == list(range(1, 9))


def test_without_a_whole_checkpoint_the_run_begins_again(unfinished, dataset, tokenizer, capsys):
    out, expected = unfinished
    for name in ("last", "previous"):
        (out / "checkpoints" / name / "model.safetensors").unlink()
    training.pretrain(UNFINISHED, dataset, tokenizer, out)
    assert "continuing" not in capsys.readouterr().err
    assert sha256_file(out / "model" / "model.safetensors") == expected
    assert [line["step"] for line in metrics(out)] == list(range(1, 9))


def test_a_process_killed_between_the_renames_of_a_checkpoint_goes_on(unfinished, dataset, tokenizer, capsys):
    out, expected = unfinished
    checkpoints = out / "checkpoints"
    shutil.rmtree(checkpoints / "previous")
    (checkpoints / "last").rename(checkpoints / "next")
    training.pretrain(UNFINISHED, dataset, tokenizer, out)
    assert "continuing at step 8 of 8" in capsys.readouterr().err
    assert sha256_file(out / "model" / "model.safetensors") == expected


def test_corrupted_best_weights_are_named_and_the_last_are_used(unfinished, dataset, tokenizer, capsys):
    out, _ = unfinished
    flip_a_byte(out / "checkpoints" / "best" / "model.safetensors")
    report = training.pretrain(UNFINISHED, dataset, tokenizer, out)
    assert f"{out / 'checkpoints' / 'best'}: corrupted checkpoint" in capsys.readouterr().err
    assert report["best_step"] == 8
    assert model.load(out / "model").config.vocab_size == VOCAB_SIZE


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_small_file_system_that_fills_up_says_that_the_disk_is_full(dataset, tokenizer, tmp_path):
    out = tmp_path / "small"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", out], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(CommandError, match="the disk is full; free some space and run the same command again"):
            training.pretrain(UNFINISHED, dataset, tokenizer, out)
        assert (out / "checkpoints" / "last" / "checksums.json").is_file()
    finally:
        subprocess.run(["umount", out], check=True)


def test_diverging_training_is_one_line_that_says_what_to_lower(dataset, tokenizer, tmp_path):
    recipe = tiny_recipe(
        steps=60, checkpoint_interval=1, optimizer={"learning_rate": 1e4}, schedule={"warmup_steps": 50}
    )
    with pytest.raises(CommandError, match=r"diverged at step \d+: .*; lower pretraining\.optimizer\.learning_rate"):
        training.pretrain(recipe, dataset, tokenizer, tmp_path / "out")
    assert (tmp_path / "out" / "checkpoints" / "last" / "model.safetensors").is_file()
    assert not (tmp_path / "out" / "model").exists()


def test_out_of_memory_says_which_setting_to_change(dataset, tokenizer, tmp_path):
    recipe = tiny_recipe(
        model={"max_position_embeddings": 1 << 20, "hidden_size": 32}, context_length=1 << 20, steps=3, batch_size=2
    )
    with pytest.raises(CommandError, match=r"out of memory .* raise pretraining\.gradient_accumulation from 1 to 2"):
        training.pretrain(recipe, dataset, tokenizer, tmp_path / "out")


def test_parts_that_no_family_is_made_of_are_refused_before_training(dataset, tokenizer, tmp_path):
    recipe = tiny_recipe(model={"positions": "learned"})
    with pytest.raises(RequestError, match="positions 'learned' makes this model no llama"):
        training.pretrain(recipe, dataset, tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_absent_dataset_or_tokenizer_is_named(dataset, tokenizer, tmp_path):
    with pytest.raises(RequestError, match=r"tokenizer\.json: no such file"):
        training.pretrain(tiny_recipe(), dataset, tmp_path, tmp_path / "out")
    with pytest.raises(RequestError, match="absent"):
        training.pretrain(tiny_recipe(), tmp_path / "absent", tokenizer, tmp_path / "out")


@needs_compiler
def test_a_compiled_run_that_was_interrupted_ends_with_the_same_weights(dataset, tokenizer, tmp_path):
    recipe = tiny_recipe(steps=6, checkpoint_interval=3, compile="on", model={"num_hidden_layers": 1})
    report = training.pretrain(recipe, dataset, tokenizer, tmp_path / "out")
    assert report["compiled"] is True
    expected = sha256_file(tmp_path / "out" / "model" / "model.safetensors")
    (tmp_path / "out" / "report.json").unlink()
    shutil.rmtree(tmp_path / "out" / "checkpoints" / "last")
    training.pretrain(recipe, dataset, tokenizer, tmp_path / "out")
    assert sha256_file(tmp_path / "out" / "model" / "model.safetensors") == expected
