"""Stages run once for the same inputs, say so, and leave the resolved recipe beside every result."""

import fcntl
import json
from pathlib import Path

import pytest
from tiny_run import TINY, lmc, write_documents

from lmcommons import recipe

LOCAL = TINY.replace("publishing: {}\n", "")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_documents(tmp_path, count=60)
    (tmp_path / "tiny.yaml").write_text(LOCAL)
    return tmp_path


def stages(home: Path, command: str = "run") -> dict:
    done = lmc(command, home / "tiny.yaml", "--out", home / "runs", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_second_run_does_nothing_and_says_so(trained):
    again = lmc("run", trained.recipe, "--out", trained.out, "--json", **trained.environment)
    assert again.returncode == 0, again.stderr
    assert all(stage["reused"] for stage in json.loads(again.stdout).values())
    for stage in ("data", "tokenizer", "pretraining", "evaluation", "publishing"):
        assert f"{stage}: unchanged" in again.stderr


def test_a_changed_learning_rate_retrains_without_rebuilding_the_data(home):
    first = stages(home)
    changed = LOCAL.replace("  steps: 30\n", "  steps: 30\n  optimizer: {learning_rate: 1e-3}\n")
    (home / "tiny.yaml").write_text(changed)
    second = stages(home)
    assert {name: stage["reused"] for name, stage in second.items()} == {
        "data": True, "tokenizer": True, "pretraining": False, "evaluation": False
    }  # fmt: skip
    assert first["pretraining"]["directory"] != second["pretraining"]["directory"]


def test_a_changed_source_file_is_a_changed_input(home):
    first = stages(home, "data")
    with (home / "documents.jsonl").open("a") as file:
        file.write(
            json.dumps({"text": "One more document, long enough to be kept by every filter of length. " * 3}) + "\n"
        )
    second = stages(home, "data")
    assert first["data"]["key"] != second["data"]["key"]
    assert not second["data"]["reused"]


def test_one_stage_stops_after_itself(home):
    assert list(stages(home, "tokenizer")) == ["data", "tokenizer"]


def test_the_resolved_recipe_lies_beside_every_result(trained):
    for name, stage in trained.stages.items():
        resolved = recipe.load(Path(stage["directory"]) / "recipe.yaml")
        assert resolved.provenance is not None
        assert resolved.provenance.stages[name] == stage["key"]
        assert resolved.provenance.environment["packages"]["torch"]
        assert name in ("data", "tokenizer") or resolved.provenance.environment["torch_threads"] > 0
        assert resolved.pretraining.gradient_clip == 1.0


def test_two_runs_of_one_recipe_at_once_are_refused(home):
    out = home / "runs" / "tiny"
    out.mkdir(parents=True)
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = lmc("data", home / "tiny.yaml", "--out", home / "runs")
    assert done.returncode == 1
    assert "another lmc run works here" in done.stderr


def test_an_out_directory_that_cannot_be_written_is_one_line(home):
    (home / "file").write_text("not a directory")
    done = lmc("data", home / "tiny.yaml", "--out", home / "file")
    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_stage_that_was_killed_half_way_is_done_again(home):
    first = stages(home, "data")
    directory = Path(first["data"]["directory"])
    (directory / "stage.json").unlink()
    (directory.parent / ".half.part").mkdir()
    second = stages(home, "data")
    assert not second["data"]["reused"]
    assert second["data"]["report"] == first["data"]["report"]
    assert not list(directory.parent.glob(".*.part"))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_ENDPOINT": "", "HF_TOKEN": "hf_x"}, "HF_ENDPOINT is not set"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": ""}, "HF_TOKEN is not set"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_x"}, "does not answer"),
    ],
)
def test_publishing_without_a_hub_is_one_line_before_any_work(trained, environment, expected, tmp_path):
    done = lmc("run", trained.recipe, "--out", tmp_path / "runs", **environment)
    assert done.returncode in (1, 2)
    assert not (tmp_path / "runs").exists()
    assert expected in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
