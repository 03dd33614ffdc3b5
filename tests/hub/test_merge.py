"""Merges, pull request refs and what stands between two commits, against the git that everybody has."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcommons.hub.errors import BadRequest, Conflict, RevisionNotFound
from lmcommons.hub.repos import history
from lmcommons.hub.repos.git import AddFile, AddLfs, DeleteFile, GitRepository, MergeConflict, Operation

ANN = {"author_name": "ann", "author_email": "ann@example.org"}
LINES = "one\ntwo\nthree\nfour\nfive\n"


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    repository = GitRepository.create(tmp_path / "r.git")
    commit(repository, "main", AddFile("a.txt", LINES.encode()), AddFile("d/b.txt", b"b\n"), AddFile("c.txt", b"c\n"))
    repository.create_ref("refs/pr/1", "main")
    return repository


def commit(repository: GitRepository, branch: str, *operations: Operation, **more: Any) -> str:
    return repository.commit(branch, operations, message="change", **ANN, **more)


def merge(repository: GitRepository, source: str = "refs/pr/1", target: str = "main") -> str:
    return repository.merge(source, target, message="Merge", **ANN)


def git(repository: GitRepository, *arguments: str) -> str:
    command = ["git", "-C", repository.path, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def text(repository: GitRepository, path: str, revision: str = "main") -> str:
    return repository.read(repository.entry(repository.resolve(revision), path).oid).decode()


def test_a_pull_request_takes_commits_by_its_ref(repository: GitRepository) -> None:
    head = commit(repository, "refs/pr/1", AddFile("new", b"1"))
    assert repository.resolve("refs/pr/1") == repository.branch("refs/pr/1") == head
    assert repository.resolve("main") != head
    assert [ref.name for ref in repository.refs().pull_requests] == ["1"]
    squashed = repository.squash("refs/pr/1", message="one", **ANN)
    assert (repository.resolve("refs/pr/1"), repository.describe(squashed).parents) == (squashed, ())
    with pytest.raises(RevisionNotFound):
        commit(repository, "refs/pr/2", AddFile("new", b"1"))


def test_refs_are_made_once_and_removed_once(repository: GitRepository) -> None:
    with pytest.raises(Conflict):
        repository.create_ref("refs/pr/1", "main")
    assert repository.delete_ref("refs/pr/1") == repository.resolve("main")
    with pytest.raises(RevisionNotFound):
        repository.delete_ref("refs/pr/1")
    with pytest.raises(RevisionNotFound):
        repository.create_ref("refs/pr/3", "absent")


def test_changes_of_both_sides_come_together(repository: GitRepository) -> None:
    theirs = commit(repository, "refs/pr/1", AddFile("a.txt", LINES.replace("one", "ONE").encode()), AddFile("n", b"n"))
    ours = commit(repository, "main", AddFile("a.txt", LINES.replace("five", "FIVE").encode()), DeleteFile("c.txt"))
    assert repository.conflicts("refs/pr/1", "main") == []
    merged = merge(repository)
    assert repository.describe(merged).parents == (ours, theirs)
    assert text(repository, "a.txt") == "ONE\ntwo\nthree\nfour\nFIVE\n"
    assert [entry.path for entry in repository.entries(merged)] == ["a.txt", "d", "n"]
    assert git(repository, "fsck", "--strict") == ""


def test_a_renamed_file_keeps_the_changes_of_the_other_side(repository: GitRepository) -> None:
    commit(repository, "refs/pr/1", DeleteFile("a.txt"), AddFile("moved.txt", LINES.encode()))
    commit(repository, "main", AddFile("a.txt", LINES.replace("five", "FIVE").encode()))
    merge(repository)
    assert "FIVE" in text(repository, "moved.txt")


def test_a_merge_of_what_is_there_already_writes_nothing(repository: GitRepository) -> None:
    before = repository.resolve("main")
    assert merge(repository) == before
    commit(repository, "refs/pr/1", AddFile("n", b"n"))
    merged = merge(repository)
    assert len(repository.describe(merged).parents) == 2  # a commit of its own, though main could have moved forward
    assert merge(repository) == merged


def test_conflicts_are_named_and_nothing_is_written(repository: GitRepository) -> None:
    commit(repository, "refs/pr/1", AddFile("a.txt", b"theirs"), AddFile("d/b.txt", b"theirs"), DeleteFile("c.txt"))
    before = commit(repository, "main", AddFile("a.txt", b"ours"), DeleteFile("d/b.txt"), AddFile("c.txt", b"ours"))
    packs = sorted((repository.path / "objects").rglob("*"))
    assert repository.conflicts("refs/pr/1", "main") == ["a.txt", "c.txt", "d/b.txt"]
    with pytest.raises(MergeConflict, match=r"a\.txt, c\.txt, d/b\.txt") as error:
        merge(repository)
    assert error.value.paths == ["a.txt", "c.txt", "d/b.txt"]
    assert repository.resolve("main") == before
    assert sorted((repository.path / "objects").rglob("*")) == packs


def test_two_versions_of_a_large_file_are_a_conflict(repository: GitRepository) -> None:
    commit(repository, "main", AddLfs("w.bin", "aa" * 32, 10))
    repository.create_ref("refs/pr/2", "main")
    commit(repository, "main", AddLfs("w.bin", "bb" * 32, 10))
    commit(repository, "refs/pr/2", AddLfs("w.bin", "cc" * 32, 10))
    assert repository.conflicts("refs/pr/2", "main") == ["w.bin"]


def test_only_branches_are_merged_into(repository: GitRepository) -> None:
    repository.create_tag("v1", "main")
    with pytest.raises(BadRequest):
        merge(repository, target="v1")
    with pytest.raises(RevisionNotFound):
        merge(repository, source="refs/pr/9")
    with pytest.raises(RevisionNotFound):
        merge(repository, target="absent")


def test_what_is_between_two_commits(repository: GitRepository) -> None:
    base = repository.resolve("main")
    commits = [commit(repository, "refs/pr/1", AddFile("n", b"%d\n" % n)) for n in range(3)]
    commit(repository, "main", AddFile("m", b"m"))
    assert repository.merge_base("refs/pr/1", "main") == base
    assert [found.oid for found in repository.log("main", "refs/pr/1")] == commits[::-1]
    assert len(repository.log("main", "refs/pr/1", limit=2)) == 2
    assert len(repository.log("refs/pr/1", "main")) == 1
    commit(repository, "main", AddFile("only", b"1"))
    root = repository.squash("main", message="cut", **ANN)
    assert repository.merge_base(root, "refs/pr/1") is None


def test_a_difference_is_what_git_would_show(repository: GitRepository) -> None:
    base = repository.resolve("main")
    head = commit(repository, "refs/pr/1", AddFile("a.txt", b"new\n"), DeleteFile("c.txt"), AddFile("bin", b"\0\1"))
    shown = git(repository, "diff", "--no-color", "--no-ext-diff", base, head)
    assert repository.diff(base, "refs/pr/1").strip() == shown


def test_a_difference_past_the_limit_is_counted(repository: GitRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "DIFF_LIMIT", 500)
    base = repository.resolve("main")
    commit(repository, "refs/pr/1", *(AddFile(f"f{n}", b"line\n" * 20) for n in range(10)))
    shown = repository.diff(base, "refs/pr/1")
    assert shown.endswith("# 8 more changed files are not shown\n")
    assert len(shown) < 600


CHANGES = st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("xyz"), max_size=4), max_size=2)


@settings(max_examples=20, deadline=None)
@given(st.lists(CHANGES, max_size=3), st.lists(CHANGES, max_size=3))
def test_a_merge_is_what_git_merges(
    tmp_path_factory: pytest.TempPathFactory, ours: list[dict[str, list[str]]], theirs: list[dict[str, list[str]]]
) -> None:
    repository = GitRepository.create(tmp_path_factory.mktemp("merge") / "r.git")
    commit(repository, "main", *(AddFile(name, b"x\ny\nz\nx\n") for name in "abc"))
    repository.create_branch("side", "main")
    for branch, changes in (("main", ours), ("side", theirs)):
        for change in changes:
            commit(repository, branch, *(AddFile(name, "\n".join(lines).encode()) for name, lines in change.items()))
    command = [
        "git",
        "-C",
        repository.path,
        "merge-tree",
        "--write-tree",
        "--name-only",
        "--no-messages",
        "main",
        "side",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    tree, *conflicts = done.stdout.split()
    assert repository.conflicts("side", "main") == conflicts
    if not conflicts:
        assert git(repository, "rev-parse", f"{merge(repository, 'side')}^{{tree}}") == tree
