"""The quickstart keeps its word: from nothing to a served model, checked; a second run reuses what is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(900)


def quickstart(home: Path, recipe: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "quickstart.py", "--exit", "--home", home, "--recipe", recipe],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=environment,
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    home = tmp_path_factory.mktemp("quickstart")
    return home, quickstart(home, ROOT / "recipes" / "tiny.yaml")


def test_it_ends_with_every_step_checked(first):
    _, done = first
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 checks passed" in done.stdout
    for promise in ("transformers loads the model", "datasets loads the dataset", "the served model answers"):
        assert promise in done.stdout
    assert "bits per byte on held-out text" in done.stdout


def test_a_second_run_reuses_everything_even_without_the_token(first):
    home, done = first
    assert done.returncode == 0
    (home / "token").unlink()
    again = quickstart(home, ROOT / "recipes" / "tiny.yaml")
    assert again.returncode == 0, again.stdout + again.stderr
    for stage in ("data", "tokenizer", "pretraining", "evaluation"):
        assert f"{stage}: unchanged" in again.stderr


def test_the_members_token_is_readable_by_its_owner_alone(first):
    home, _ = first
    assert (home / "token").stat().st_mode & 0o077 == 0


def test_a_step_that_fails_is_one_line_and_exit_code_1(tmp_path):
    (tmp_path / "wrong.yaml").write_text("name: wrong\ndata: {sources: []}\n")
    done = quickstart(tmp_path, tmp_path / "wrong.yaml")
    assert done.returncode == 1
    assert "wrong.yaml:2: data.sources" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("quickstart: lmc run ended with code 2")
    assert "Traceback" not in done.stderr
