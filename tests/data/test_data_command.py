"""`lmc data` says in one line what is wrong with a source."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import LMC

from lmcommons.cli import main

RECIPE = """
name: sources
data:
  sources:
    - {type: text, paths: ["*.txt"], licence: CC0-1.0}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that reads the text files beside it."""
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", 1, "the train split is empty: documents read 1, removed by min_characters 1;"),
        (b"\x7fELF\x02\x01\x01\x00", 2, "source.txt: a binary file, not text (a zero byte at byte 7)"),
        (b"caf\xe9 and more", 2, "source.txt: not UTF-8 text: invalid continuation byte at byte 3"),
        (None, 2, "'*.txt' matches no file"),
    ],
    ids=["empty", "binary", "Latin-1", "absent"],
)
def test_a_source_that_gives_no_text_is_one_line(
    recipe: Path, content: bytes | None, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (recipe.parent / "source.txt").write_bytes(content)
    assert main.run(["data", str(recipe), "--out", str(recipe.parent / "runs")]) == code
    said = capsys.readouterr()
    assert said.out == ""
    *progress, error = said.err.splitlines()
    assert all(line.startswith("data: ") for line in progress)
    assert error.startswith("lmc: ")
    assert message in error
    assert not list(recipe.parent.glob("runs/sources/data/*"))


# Says what its child held at most, in KiB; the child of a large process would begin with what that one holds.
MEASURED = """
import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
done = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def test_a_single_line_of_200_megabytes_is_refused_in_bounded_memory(recipe: Path) -> None:
    with (recipe.parent / "line.txt").open("wb") as file:
        for _ in range(200):
            file.write(b"0123456789" * 100_000)
    command = [sys.executable, "-c", MEASURED, LMC, "data", recipe, "--out", recipe.parent / "runs"]
    done = subprocess.run(command, capture_output=True, text=True)
    (recipe.parent / "line.txt").unlink()
    error = done.stderr.splitlines()[-1]
    assert done.returncode == 2, error
    assert "line.txt: a document of more than 50,000,000 characters; set document_separator" in error
    # Twice what a document may have, in UCS-4 and with its copy; the file is not held.
    assert int(done.stdout.splitlines()[-1]) < 1 << 20, "KiB: less than 1 GiB"
