"""What is left when a writer dies, when the disk is full, and when several processes write at once."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmcommons.hub.errors import InsufficientStorage
from lmcommons.hub.repos.git import AddFile, GitRepository

ANN = {"author_name": "ann", "author_email": "ann@example.org"}
FILES = 40

WRITER = """
import sys
from pathlib import Path
from lmcommons.hub.repos.git import AddFile, GitRepository
repository, name, count = GitRepository(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
for n in range(count):
    files = [AddFile(f"{name}/{n}/{m}", f"{name} {n} {m} ".encode() * 500) for m in range(int(sys.argv[4]))]
    repository.commit("main", files, message=f"{name} {n}", author_name="ann", author_email="a@x")
"""


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    repository = GitRepository.create(tmp_path / "r.git")
    repository.initialise(**ANN)
    return repository


def start_writer(repository: GitRepository, name: str, commits: int, files: int) -> "subprocess.Popen[bytes]":
    """A process that commits `files` files at a time; returned when it is about to begin."""
    arguments = [sys.executable, "-c", WRITER, str(repository.path), name, str(commits), str(files)]
    writer = subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    return writer


def leftovers(repository: GitRepository) -> list[Path]:
    return [*repository.path.rglob("*.lock"), *repository.path.rglob("tmp_*")]


def test_a_killed_commit_is_whole_or_absent(repository: GitRepository) -> None:
    delays = random.Random(0)
    for attempt in range(12):
        writer = start_writer(repository, f"w{attempt}", 10_000, FILES)
        time.sleep(delays.uniform(0, 0.1))
        os.killpg(writer.pid, signal.SIGKILL)  # with the git that may be merging packs
        writer.wait()
        assert repository.check() == []
        for commit in repository.commits("main", limit=1_000):
            if commit.title.startswith(f"w{attempt} "):
                assert len(repository.entries(commit.oid, commit.title.replace(" ", "/"))) == FILES
        # The next writer finds nothing locked, and clears what was left.
        repository.commit("main", [AddFile("after", b"%d" % attempt)], message="after", **ANN)
        assert leftovers(repository) == []
    assert len(repository.commits("main", limit=10_000)) > 13


def test_locks_that_git_left_behind_are_cleared(repository: GitRepository) -> None:
    repository.create_branch("dev", "main")
    for name in ("refs/heads/main.lock", "refs/heads/dev.lock", "packed-refs.lock"):
        (repository.path / name).touch()
    commit = repository.commit("main", [AddFile("a", b"x")], message="x", **ANN)
    assert repository.resolve("main") == commit
    repository.delete_branch("dev")
    assert [branch.name for branch in repository.refs().branches] == ["main"]


def test_processes_that_write_at_once_lose_nothing(repository: GitRepository) -> None:
    writers = [start_writer(repository, f"w{n}", 15, 2) for n in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert len(repository.commits("main", limit=10_000)) == 61
    files = [entry.path for entry in repository.entries("main", recursive=True) if entry.type == "file"]
    assert len(files) == 1 + 4 * 15 * 2
    assert repository.check() == []


def test_a_full_disk_changes_nothing(repository: GitRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    before = repository.resolve("main")
    packs = set((repository.path / "objects" / "pack").iterdir())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InsufficientStorage):
        repository.commit("main", [AddFile("a", b"x" * 1000)], message="x", **ANN)
    assert repository.resolve("main") == before
    assert set((repository.path / "objects" / "pack").iterdir()) == packs
