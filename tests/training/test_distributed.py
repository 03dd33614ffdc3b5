"""Two processes train what one does, whatever is split, and a run survives that one of them is killed."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_pretraining import metrics, tiny_recipe, wait_for_step
from tiny_run import LMC, TINY, lmc, write_documents

from lmcommons import data, training
from lmcommons import tokenizer as tokenizers
from lmcommons.errors import RequestError
from lmcommons.processes import Processes

TWO = Processes(2)
pytestmark = pytest.mark.timeout(900)  # two processes on a busy machine wait for each other at every step


def curve(out: Path) -> torch.Tensor:
    """[steps, 2] losses that a run has logged, of training and validation."""
    return torch.tensor([[line["loss"], line.get("validation_loss", 0.0)] for line in metrics(out)])


@pytest.mark.parametrize(
    ("strategy", "fields"),
    [
        ("ddp", {"gradient_accumulation": 2, "ema_decay": 0.9}),
        ("fsdp", {"optimizer": {"name": "muon"}, "loss": "fused", "gradient_checkpointing": True}),
    ],
)
def test_two_processes_give_the_curve_and_the_model_of_one(dataset, tokenizer, tmp_path, strategy, fields):
    recipe = tiny_recipe(steps=6, precision="float32", parallelism={"strategy": strategy}, **fields)
    reports = [
        training.pretrain(recipe, dataset, tokenizer, tmp_path / str(each.total), each) for each in (Processes(), TWO)
    ]
    assert [report["strategy"] for report in reports] == ["single", strategy]
    torch.testing.assert_close(curve(tmp_path / "1"), curve(tmp_path / "2"), rtol=1e-4, atol=1e-4)
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in "12")
    # Adam's first steps are signs and Muon's products bfloat16: both make more of rounding than the loss does.
    assert all((one[name] - two[name]).norm() < 0.05 * one[name].norm() for name in one)


def test_two_processes_train_both_streams_of_an_xlnet_as_one_does(dataset, tmp_path):
    model = {"family": "xlnet", "num_key_value_heads": 2, "intermediate_size": 64}
    recipe = tiny_recipe(model=model, steps=4, precision="float32", parallelism={"strategy": "ddp"})
    texts = [document.text for document in data.read(dataset, "train")]
    tokenizers.train(texts, recipe.tokenizer, tmp_path / "tokenizer", kind="permutation")
    for each in (Processes(), TWO):
        training.pretrain(recipe, dataset, tmp_path / "tokenizer", tmp_path / str(each.total), each)
    torch.testing.assert_close(curve(tmp_path / "1"), curve(tmp_path / "2"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_run_goes_on_with_another_number_of_processes(dataset, tokenizer, tmp_path, strategy):
    recipe = tiny_recipe(
        steps=6, checkpoint_interval=2, evaluation_interval=3, precision="float32", parallelism={"strategy": strategy}
    )
    expected, out = tmp_path / "expected", tmp_path / "out"
    training.pretrain(recipe, dataset, tokenizer, expected)
    training.pretrain(recipe, dataset, tokenizer, out, TWO)
    for processes in (Processes(), TWO):  # from step 4 each time
        (out / "report.json").unlink()
        shutil.rmtree(out / "checkpoints" / "last")
        training.pretrain(recipe, dataset, tokenizer, out, processes)
        assert [line["step"] for line in metrics(out)] == [1, 2, 3, 4, 5, 6]
        torch.testing.assert_close(curve(out), curve(expected), rtol=1e-4, atol=1e-4)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory of a recipe for two processes that takes a while."""
    write_documents(tmp_path)
    two = "batch_size: 4\n  parallelism: {processes: 2}"
    recipe = TINY.replace("steps: 30", "steps: 300").replace("batch_size: 4", two)
    (tmp_path / "tiny.yaml").write_text(recipe)
    return tmp_path


def start(home: Path) -> tuple[subprocess.Popen[str], Path]:
    """`lmc pretrain` in two processes that have done a dozen steps, and its directory."""
    command = [LMC, "pretrain", "tiny.yaml", "--nproc-per-node", "2"]
    process = subprocess.Popen(command, cwd=home, stderr=subprocess.PIPE, text=True)
    wait_for_step(lambda: next(home.glob("runs/tiny/pretraining/*"), home / "absent"), 12, process)
    return process, next(home.glob("runs/tiny/pretraining/*"))


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that train, which torchrun has given their rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_killed_process_stops_the_others_and_the_same_command_goes_on(home):
    process, out = start(home)
    os.kill(workers(process)[-1], signal.SIGKILL)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 1
    assert error.splitlines()[-1] == (
        "lmc: process 1 was killed by SIGKILL, and the others were stopped; "
        "the same command continues from the last checkpoint"
    )
    assert "Traceback" not in error
    step = json.loads((out / "checkpoints" / "last" / "state.json").read_text())["step"]
    done = lmc("pretrain", home / "tiny.yaml", "--out", home / "runs", "--nproc-per-node", "2")
    assert done.returncode == 0, done.stderr
    assert re.search(f"continuing at step {step} of 300", done.stderr)
    assert [line["step"] for line in metrics(out)] == list(range(1, 301))


def test_a_signal_stops_all_processes_after_the_same_step_with_a_checkpoint(home):
    process, out = start(home)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=240)
    step = len(metrics(out))
    assert process.returncode == 1
    assert error.splitlines()[-1] == f"lmc: stopped at step {step} of 300; the same command continues from there"
    assert json.loads((out / "checkpoints" / "last" / "state.json").read_text())["step"] == step


def test_a_recipe_for_two_processes_started_with_one_is_told_so_before_any_work(home):
    done = lmc("pretrain", home / "tiny.yaml", "--out", home / "runs")
    assert done.returncode == 2
    assert done.stderr == (
        "lmc: pretraining.parallelism.processes: 2, and started with 1; "
        "add --nproc-per-node 2, or leave the field out\n"
    )
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        (Processes(3), r"pretraining\.batch_size: 4 rows cannot be divided among 3 processes"),
        (Processes(1, nodes=2), "--nnodes 2 needs --rdzv-endpoint HOST:PORT"),
        (Processes(1, nodes=2, node_rank=2, endpoint="a:1"), "--node-rank 2 is not below --nnodes 2"),
    ],
)
def test_a_start_that_does_not_fit_is_one_line(processes, message):
    with pytest.raises(RequestError, match=message):
        processes.check(tiny_recipe().pretraining)


def test_torchrun_itself_is_not_needed_and_is_told_so(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="started by torchrun; start `lmc pretrain RECIPE --nproc-per-node N`"):
        Processes().check(tiny_recipe().pretraining)
