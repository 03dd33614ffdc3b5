"""The index of last commits says what git says, whatever moved the branch."""

import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import PathCommit, Repository, RepositoryType, TokenRole
from lmcommons.hub.repos.git import AddFile, DeleteFile, DeleteFolder, GitRepository, Operation
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    hub = Hub(Settings.make(tmp_path / "hub"))
    hub.accounts.add_user("ann")
    return hub


@pytest.fixture
def ann(hub: Hub) -> Actor:
    return Actor(hub.accounts.find("ann").id, "ann", token_role=TokenRole.WRITE)


@pytest.fixture
def repository(hub: Hub, ann: Actor) -> Repository:
    return hub.commits.create_repository(ann, RepositoryType.MODEL, None, "r")


def by_git(git: GitRepository, path: str, revision: str = "main") -> str:
    command = ["git", "-C", git.path, "log", "-1", "--format=%H", revision, "--", path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def kept(hub: Hub, repository: Repository) -> dict[str, str]:
    with hub.database.read() as session:
        return {row.path: row.commit for row in session.query(PathCommit).filter_by(repository_id=repository.id)}


def test_each_commit_changes_only_the_paths_it_touched(hub: Hub, ann: Actor, repository: Repository) -> None:
    git = hub.repositories.git(repository)
    first = hub.commits.commit(ann, repository, "main", [AddFile(f"d/{n}", b"1") for n in range(5)], message="1")
    second = hub.commits.commit(ann, repository, "main", [AddFile("d/3", b"2"), DeleteFile("d/4")], message="2")
    rows = kept(hub, repository)
    assert {path for path, last in rows.items() if last == second} == {"d", "d/3"}
    assert {path for path, last in rows.items() if last == first} == {"d/0", "d/1", "d/2"}
    assert rows == {path: by_git(git, path) for path in rows}
    hub.commits.commit(ann, repository, "main", [DeleteFolder("d")], message="3")
    assert set(kept(hub, repository)) == {".gitattributes"}


def test_a_random_history_with_merges_agrees_with_a_walk(hub: Hub, ann: Actor, repository: Repository) -> None:
    git, dice = hub.repositories.git(repository), random.Random(0)
    names = [f"{folder}{name}" for folder in ("", "a/", "a/b/", "c/") for name in "xyz"]
    for round_ in range(25):
        present = [entry.path for entry in git.entries("main", recursive=True) if entry.type == "file"]
        changes: list[Operation] = [AddFile(name, b"%d" % dice.randrange(3)) for name in dice.sample(names, 3)]
        changes += [DeleteFile(path) for path in dice.sample(present, 1) if path not in {c.path for c in changes}]
        if round_ % 4 == 3:
            number = f"refs/pr/{round_}"
            git.create_ref(number, "main")
            hub.commits.commit(ann, repository, number, changes, message="proposal")
            hub.commits.commit(ann, repository, "main", [AddFile(f"only{round_}", b"1")], message="meanwhile")
            before = git.resolve("main")
            merged = git.merge(number, "main", message="merge", author_name="ann", author_email="a@x")
            hub.commits.moved(ann, repository, "refs/heads/main", before, merged)
        else:
            hub.commits.commit(ann, repository, "main", changes, message=f"round {round_}")
        assert hub.last_commits.check(repository) == []
    head = git.resolve("main")
    found = hub.last_commits.of(repository, head, list(kept(hub, repository)))
    assert {path: commit.oid for path, commit in found.items()} == kept(hub, repository)


def test_a_squashed_branch_is_indexed_anew(hub: Hub, ann: Actor, repository: Repository) -> None:
    git = hub.repositories.git(repository)
    before = hub.commits.commit(ann, repository, "main", [AddFile("d/x", b"1")], message="1")
    after = git.squash("main", message="one", author_name="ann", author_email="a@x")
    hub.commits.moved(ann, repository, "refs/heads/main", before, after)
    assert set(kept(hub, repository).values()) == {after}
    assert set(kept(hub, repository)) == {".gitattributes", "d", "d/x"}


def test_other_revisions_are_walked(hub: Hub, ann: Actor, repository: Repository) -> None:
    first = hub.commits.commit(ann, repository, "main", [AddFile("x", b"1")], message="1")
    hub.commits.commit(ann, repository, "main", [AddFile("x", b"2")], message="2")
    assert hub.last_commits.of(repository, first, ["x", "absent"])["x"].oid == first


def test_an_index_that_is_behind_or_absent_is_caught_up(hub: Hub, ann: Actor, repository: Repository) -> None:
    git = hub.repositories.git(repository)
    for n in range(3):  # as if the process had died before what follows a commit
        git.commit("main", [AddFile("x", b"%d" % n)], message="x", author_name="ann", author_email="a@x")
    head = git.resolve("main")
    assert hub.last_commits.of(repository, head, ["x"])["x"].oid == head
    hub.commits.refresh(repository)
    assert kept(hub, repository)["x"] == head


def test_fsck_names_rows_that_are_wrong_and_the_next_commit_rights_them(
    hub: Hub, ann: Actor, repository: Repository
) -> None:
    right = hub.commits.commit(ann, repository, "main", [AddFile("x", b"1"), AddFile("y", b"1")], message="1")
    with hub.database.write() as session:
        session.execute(update(PathCommit).where(PathCommit.path == "x").values(commit="0" * 40))
    problems = hub.check()
    assert problems == [f"ann/r: last commit of x: kept as {'0' * 40}, in git {right}"]
    hub.commits.commit(ann, repository, "main", [AddFile("y", b"2")], message="2")
    assert kept(hub, repository)["x"] == right
    assert hub.check() == []


def test_commits_of_several_hubs_at_once_are_all_there_and_indexed(
    hub: Hub, ann: Actor, repository: Repository, tmp_path: Path
) -> None:
    hubs = [hub, Hub(Settings.make(tmp_path / "hub"))]

    def write(number: int) -> list[str]:
        mine = hubs[number % 2]
        return [
            mine.commits.commit(ann, repository, "main", [AddFile(f"{number}/{n}", b"x")], message=f"{number} {n}")
            for n in range(15)
        ]

    with ThreadPoolExecutor(4) as pool:
        acknowledged = [commit for commits in pool.map(write, range(4)) for commit in commits]
    git = hub.repositories.git(repository)
    assert len(set(acknowledged)) == 60
    assert set(acknowledged) < {commit.oid for commit in git.commits("main", limit=1_000)}
    assert hub.check() == []
    rows = kept(hub, repository)
    assert rows == {path: by_git(git, path) for path in rows}


COMMIT = """
import sys
from pathlib import Path
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import RepositoryType, TokenRole
from lmcommons.hub.repos.git import AddFile
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings
hub = Hub(Settings.make(Path(sys.argv[1])))
ann = Actor(hub.accounts.find("ann").id, "ann", token_role=TokenRole.WRITE)
repository = hub.repositories.find(ann, RepositoryType.MODEL, "ann/r")
hub.commits.commit(ann, repository, "main", [AddFile("warm", b"up")], message="the handles are open")
print("BEGIN", file=sys.stderr, flush=True)
hub.commits.commit(ann, repository, "main", [AddFile(f"d/{n}", b"%d" % n) for n in range(100)], message="hundred")
print("END", file=sys.stderr, flush=True)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace")
def test_a_durable_commit_of_a_hundred_files_waits_for_the_disk_eight_times(
    repository: Repository, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", trace, "-e", "trace=write,fsync,fdatasync"]
    done = subprocess.run(
        [*command, sys.executable, "-c", COMMIT, tmp_path / "hub"], capture_output=True, text=True, check=False
    )
    if "ptrace" in done.stderr:
        pytest.skip("this machine does not let strace look")
    assert done.returncode == 0, done.stderr
    during = trace.read_text().partition('"BEGIN')[2].partition('"END')[0]
    assert 1 <= sum("sync(" in line for line in during.splitlines()) <= 8
