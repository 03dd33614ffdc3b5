"""`lmc pretrain` as a user meets it when something goes wrong: a signal, a corrupted checkpoint, a full disk."""

import json
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tiny_pretraining import flip_a_byte, metrics, wait_for_step
from tiny_run import LMC, TINY, lmc, write_documents

from lmcommons.files import sha256_file

STEPS, INTERVAL = 600, 100


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The directory of a recipe whose pretraining got Ctrl-C after its first checkpoint, and what `lmc` said."""
    home = tmp_path_factory.mktemp("stopped")
    write_documents(home)
    lengths = TINY.replace("steps: 30", f"steps: {STEPS}").replace("val: 10", f"val: {INTERVAL}")
    (home / "tiny.yaml").write_text(lengths)
    command = [LMC, "pretrain", "tiny.yaml"]
    with subprocess.Popen(
        command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for_step(lambda: run_of(home), INTERVAL + 20, process)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=240)
    return home, subprocess.CompletedProcess(command, process.returncode, out, error)


@pytest.fixture
def home(stopped, tmp_path: Path) -> Path:
    """A copy of that directory."""
    return Path(shutil.copytree(stopped[0], tmp_path / "home"))


def run_of(home: Path) -> Path:
    """The directory of the pretraining stage, once it is there."""
    return next(home.glob("runs/tiny/pretraining/*"), home / "absent")


def test_control_c_stops_after_the_step_and_says_how_to_go_on(stopped):
    home, done = stopped
    step = len(metrics(run_of(home)))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"lmc: stopped at step {step} of {STEPS}; the same command continues from there"
    )
    state = json.loads((run_of(home) / "checkpoints" / "last" / "state.json").read_text())
    assert state["step"] == step


def test_a_corrupted_checkpoint_is_named_and_the_one_before_it_is_used(home):
    last = run_of(home) / "checkpoints" / "last"
    flip_a_byte(last / "optimizer.safetensors")
    done = lmc("pretrain", home / "tiny.yaml", "--out", home / "runs")
    assert done.returncode == 0, done.stderr
    assert f"{last}: corrupted checkpoint (optimizer.safetensors is not what was written)" in done.stderr
    assert f"continuing at step {INTERVAL} of {STEPS}" in done.stderr
    assert [line["step"] for line in metrics(run_of(home))] == list(range(1, STEPS + 1))


def test_a_disk_that_is_full_when_a_checkpoint_is_written_is_one_line_and_the_last_one_stays(home):
    checkpoints = run_of(home) / "checkpoints"
    before = {path: sha256_file(path) for path in (checkpoints / "last").iterdir()}
    largest = (checkpoints / "last" / "optimizer.safetensors").stat().st_size - 1
    done = subprocess.run(
        [LMC, "pretrain", home / "tiny.yaml", "--out", home / "runs"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)),
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"lmc: {checkpoints / 'next'}: could not be written (File too large)"
    assert "Traceback" not in done.stderr
    assert {path: sha256_file(path) for path in (checkpoints / "last").iterdir()} == before
