"""What is left when a writer dies, when the disk is full, and when several processes write at once."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hub_process import PATIENCE, HubProcess, free_port
from huggingface_hub import HfApi

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


MERGER = """
import sys
from pathlib import Path
from lmcommons.hub.repos.git import AddFile, GitRepository
repository, name = GitRepository(Path(sys.argv[1])), sys.argv[2]
ann = {"author_name": "ann", "author_email": "a@x"}
repository.create_ref(f"refs/pr/{name}", "main")
print("ready", flush=True)
for n in range(10_000):
    for branch, size in ((f"refs/pr/{name}", 3), ("main", 1)):
        files = [AddFile(f"{branch}/{name}/{n}/{m}", b"%d" % n * 500) for m in range(size)]
        repository.commit(branch, files, message="x", **ann)
    repository.merge(f"refs/pr/{name}", "main", message=f"merge {name} {n}", **ann)
"""


def start_writer(
    repository: GitRepository, name: str, commits: int, files: int, program: str = WRITER
) -> "subprocess.Popen[bytes]":
    """A process that commits `files` files at a time; returned when it is about to begin."""
    arguments = [sys.executable, "-c", program, str(repository.path), name, str(commits), str(files)]
    writer = subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    return writer


def leftovers(repository: GitRepository) -> list[Path]:
    """What a killed writer left, but for the packs that git was merging: those wait for `lmc hub gc`."""
    temporary = [file for file in repository.path.rglob("tmp_*") if not file.name.startswith(("tmp_pack_", "tmp_idx_"))]
    return [*repository.path.rglob("*.lock"), *temporary]


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


def test_a_killed_merge_is_whole_or_absent(repository: GitRepository) -> None:
    delays = random.Random(1)
    for attempt in range(1, 7):
        writer = start_writer(repository, str(attempt), 0, 0, MERGER)
        time.sleep(delays.uniform(0, 0.15))
        os.killpg(writer.pid, signal.SIGKILL)
        writer.wait()
        assert repository.check() == []
        for commit in repository.commits("main", limit=10_000):
            if commit.title.startswith("merge"):
                assert repository.log(commit.oid, commit.parents[1]) == []
                number = int(commit.title.split()[2])
                path = f"refs/pr/{commit.title.split()[1]}/{commit.title.split()[1]}/{number}"
                assert len(repository.entries(commit.oid, path)) == 3
        for branch in ("main", f"refs/pr/{attempt}"):  # which clears what was left of each
            repository.commit(branch, [AddFile("after", b"%d" % attempt)], message="after", **ANN)
        assert leftovers(repository) == []


def test_a_push_during_which_the_hub_is_killed_is_whole_or_absent(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path / "hub", free_port())
    hub.start()
    token = hub.add_user("ann")
    url = f"{hub.endpoint.replace('://', f'://ann:{token}@')}/ann/r"
    HfApi(endpoint=hub.endpoint, token=token).create_repo("ann/r")
    work = tmp_path / "work"

    def git(*arguments: str, check: bool = True) -> str:
        command = ["git", "-C", str(work), "-c", "user.name=ann", "-c", "user.email=a@x", *arguments]
        return subprocess.run(command, check=check, capture_output=True, text=True).stdout.strip()

    subprocess.run(["git", "clone", "-q", url, work], check=True)
    delays = random.Random(2)
    for attempt in range(2):
        before = git("rev-parse", "HEAD")
        for n in range(200):
            (work / f"{attempt}-{n}").write_bytes(os.urandom(20_000))
        git("add", "--all")
        git("commit", "-q", "-m", f"attempt {attempt}")
        push = threading.Thread(target=git, args=("push", "-q", "origin", "main"), kwargs={"check": False})
        push.start()
        time.sleep(delays.uniform(0.1, 0.8))
        hub.kill()
        push.join()
        assert hub.command("fsck") == ""
        hub.start()
        head = git("ls-remote", "origin", "refs/heads/main").split()[0]
        assert head in (before, git("rev-parse", "HEAD"))
        git("push", "-q", "origin", "main")
        assert len(git("ls-tree", "-r", "--name-only", "HEAD").splitlines()) == 200 * (attempt + 1) + 1
        git(
            "commit", "-q", "--allow-empty", "-m", "more"
        )  # what was killed may have been whole: then nothing was pushed
        git("push", "-q", "origin", "main")
        assert not list((hub.data / "repositories").rglob("tmp_objdir*"))
    hub.kill()
    assert hub.command("fsck") == ""


def test_locks_that_git_left_behind_are_cleared(repository: GitRepository) -> None:
    repository.create_branch("dev", "main")
    for name in ("refs/heads/main.lock", "refs/heads/dev.lock", "packed-refs.lock", "HEAD.lock"):
        (repository.path / name).touch()
    repository.set_default_branch("dev")
    assert repository.default_branch == "dev"
    repository.set_default_branch("main")
    commit = repository.commit("main", [AddFile("a", b"x")], message="x", **ANN)
    assert repository.resolve("main") == commit
    repository.delete_branch("dev")
    assert [branch.name for branch in repository.refs().branches] == ["main"]


def test_processes_that_write_at_once_lose_nothing(repository: GitRepository) -> None:
    writers = [start_writer(repository, f"w{n}", 15, 2) for n in range(4)]
    assert [writer.wait(PATIENCE) for writer in writers] == [0] * 4
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
