"""The `hf` command, unmodified and with Xet: a member's day on the hub from the shell."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_process import HubProcess

Hf = Callable[..., str]


@pytest.fixture
def hf(hub: HubProcess, token: str, tmp_path: Path) -> Hf:
    """Runs `hf ARGUMENTS` as `ann` with a fresh home and nothing set but the hub's address, the token and patience."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_") or "TIMEOUT" in name}
    environment = kept | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": token,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
    }

    def run(*arguments: object, fails: bool = False) -> str:
        command = [str(Path(sys.executable).with_name("hf")), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert (done.returncode != 0) is fails, f"hf {' '.join(command[1:])}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stderr if fails else done.stdout

    return run


def test_a_repository_from_creation_to_deletion(hf: Hf, hub: HubProcess, tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    weights = random.Random(0).randbytes(3 << 20)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Bees\n")

    hf("repos", "create", "ann/bees")
    assert "bees" in hf("upload", "ann/bees", folder, ".", "--commit-message", "weights")
    hf("repos", "tag", "create", "ann/bees", "v1")
    hf("repos", "branch", "create", "ann/bees", "next")
    hf("upload", "ann/bees", folder / "README.md", "notes/README.md", "--revision", "next")

    at_tag = Path(hf("download", "ann/bees", "--revision", "v1", "--quiet").strip().splitlines()[-1])
    assert (at_tag / "model.safetensors").read_bytes() == weights
    assert not (at_tag / "notes").exists()
    hf("download", "ann/bees", "notes/README.md", "--revision", "next", "--local-dir", tmp_path / "out")
    assert (tmp_path / "out" / "notes" / "README.md").read_text() == (folder / "README.md").read_text()

    assert "model.safetensors" in hf("models", "ls", "ann/bees")
    assert json.loads(hf("models", "info", "ann/bees", "--format", "json"))["id"] == "ann/bees"
    assert "# Bees" in hf("models", "card", "ann/bees")

    hf("repos", "settings", "ann/bees", "--private")
    hf("repos", "move", "ann/bees", "ann/wasps")
    hf("repos", "delete-files", "ann/wasps", "model.safetensors")
    assert "model.safetensors" not in hf("models", "ls", "ann/wasps")
    hf("repos", "delete", "ann/wasps", "--yes")
    assert "ann/wasps" in hf("download", "ann/wasps", fails=True)


def test_a_pull_request_from_opening_to_merging(hf: Hf, tmp_path: Path):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    hf("repos", "create", "ann/talk", "--type", "dataset")
    hf("upload", "ann/talk", "data.csv", "--type", "dataset", "--create-pr", "--commit-message", "first rows")
    listed = json.loads(hf("discussions", "list", "ann/talk", "--type", "dataset", "--format", "json"))
    assert [(item["num"], item["title"]) for item in listed] == [(1, "first rows")]
    assert "+a,b" in hf("discussions", "diff", "ann/talk", 1, "--type", "dataset")
    hf("discussions", "comment", "ann/talk", 1, "--type", "dataset", "--body", "Looks right.")
    hf("discussions", "merge", "ann/talk", 1, "--type", "dataset", "--yes")
    assert "data.csv" in hf("datasets", "ls", "ann/talk")


def test_what_is_wrong_is_said_in_one_line(hf: Hf):
    assert "ann/nothing" in hf("models", "info", "ann/nothing", fails=True)
    assert "409" in hf("repos", "create", "ann/twice") + hf("repos", "create", "ann/twice", fails=True)
