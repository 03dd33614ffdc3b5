"""Repositories on disk, against the git that everybody has."""

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pygit2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcommons.hub.errors import (
    BadRequest,
    Conflict,
    EntryNotFound,
    Forbidden,
    PreconditionFailed,
    RepositoryNotFound,
    RevisionNotFound,
)
from lmcommons.hub.repos import renames
from lmcommons.hub.repos.git import (
    AddFile,
    AddLfs,
    CopyFile,
    DeleteFile,
    DeleteFolder,
    GitRepository,
    LfsPointer,
    Operation,
)
from lmcommons.hub.repos.maintenance import PACK_LIMIT
from lmcommons.hub.repos.pack import PackWriter
from lmcommons.hub.repos.rewriting import Rewriter

ANN = {"author_name": "ann", "author_email": "ann@example.org"}
SHA = "ab" * 32


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository.create(tmp_path / "r.git")


def commit(repository: GitRepository, *operations: Operation, message: str = "change", **more: Any) -> str:
    return repository.commit("main", operations, message=message, **ANN, **more)


def git(repository: GitRepository | Path, *arguments: str) -> str:
    path = repository.path if isinstance(repository, GitRepository) else repository
    return subprocess.run(["git", "-C", path, *arguments], check=True, capture_output=True, text=True).stdout


def files(repository: GitRepository, revision: str = "main") -> dict[str, bytes]:
    found = repository.entries(revision, recursive=True)
    return {entry.path: repository.read(entry.oid) for entry in found if entry.type == "file"}


def test_a_commit_is_what_git_sees(repository: GitRepository) -> None:
    oid = commit(repository, AddFile("a.txt", b"one\n"), AddFile("d/é.txt", b"two\n"), message="First\n\nWith a body.")
    assert git(repository, "rev-parse", "main").strip() == oid
    assert git(repository, "show", "main:d/é.txt") == "two\n"
    assert git(repository, "log", "--format=%an|%ae|%s|%b").strip() == "ann|ann@example.org|First|With a body."
    assert git(repository, "symbolic-ref", "HEAD").strip() == "refs/heads/main"
    assert git(repository, "fsck", "--strict") == ""
    assert repository.check() == []


def test_git_clones_what_was_committed(repository: GitRepository, tmp_path: Path) -> None:
    commit(repository, *[AddFile(f"d{i % 7}/f{i}.txt", b"%d" % i) for i in range(300)])
    git(tmp_path, "clone", "-q", str(repository.path), "clone")
    assert len(list((tmp_path / "clone").glob("d*/f*.txt"))) == 300


def test_the_first_commit_sends_large_formats_to_lfs(repository: GitRepository) -> None:
    repository.initialise(**ANN)
    paths = ["model.safetensors", "data/train.parquet", "README.md", "config.json"]
    assert repository.tracked_by_lfs("main", paths) == {"model.safetensors", "data/train.parquet"}


def test_attributes_of_the_commit_decide_what_goes_to_lfs(repository: GitRepository) -> None:
    repository.initialise(**ANN)
    commit(repository, AddFile(".gitattributes", b"*.weights filter=lfs -text\n"))
    assert repository.tracked_by_lfs("main", ["a.weights", "a.safetensors"]) == {"a.weights"}


def test_an_lfs_file_shows_the_size_of_its_content(repository: GitRepository) -> None:
    commit(repository, AddLfs("w.bin", SHA, 5_000_000_000))
    entry = repository.entry("main", "w.bin")
    assert entry.size == 5_000_000_000
    assert entry.lfs == LfsPointer(SHA, 5_000_000_000, repository.blob_size(entry.oid))
    assert repository.read(entry.oid).startswith(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab")


def test_folders_are_listed_in_gits_order_and_by_pages(repository: GitRepository) -> None:
    commit(repository, *[AddFile(path, b"x") for path in ("a/1", "a.b", "a0", "B", "z/y/x")])
    listed = [entry.path for entry in repository.entries("main", recursive=True)]
    assert listed == git(repository, "ls-tree", "-r", "-t", "--name-only", "main").split()
    assert [e.path for e in repository.entries("main", recursive=True, start=2, limit=2)] == listed[2:4]
    assert [e.path for e in repository.entries("main", "z")] == ["z/y"]
    assert repository.entry("main", "z").oid == git(repository, "rev-parse", "main:z").strip()


def test_equal_folders_are_listed_at_their_own_places(repository: GitRepository) -> None:
    commit(repository, *[AddFile(f"{folder}/x/1", b"x") for folder in ("a", "b")])
    everything = ["a", "a/x", "a/x/1", "b", "b/x", "b/x/1"]
    for _ in range(2):
        assert [entry.path for entry in repository.entries("main", recursive=True)] == everything
        assert [entry.path for entry in repository.entries("main", "b", recursive=True)] == ["b/x", "b/x/1"]
    commit(repository, AddFile("b/x/1", b"larger"))
    sizes = {entry.path: entry.size for entry in repository.entries("main", recursive=True)}
    assert (sizes["a/x/1"], sizes["b/x/1"]) == (1, 6)


def test_paths_that_exist_are_told_from_others(repository: GitRepository) -> None:
    commit(repository, AddFile("a", b"x"), AddFile("d/\u200b", b"yy"), AddLfs("d/e/w.bin", SHA, 9))
    asked = ["d/e/w.bin", "nope", "d", "a", "a/b", "", "d/", "d//e", "/a", "a\0", "\ud800/x", "d/\u200b", "x/y/z"]
    found = repository.existing("main", asked)
    assert [(entry.path, entry.size) for entry in found] == [("d/e/w.bin", 9), ("d", 0), ("a", 1), ("d/\u200b", 2)]
    assert found == [repository.entry("main", entry.path) for entry in found]


def test_absent_files_and_folders_are_named(repository: GitRepository) -> None:
    oid = commit(repository, AddFile("a", b"x"))
    for look in (
        lambda: repository.entry("main", "b"),
        lambda: repository.entries("main", "b"),
        lambda: repository.entries("main", "a"),
        lambda: repository.entry("main", "a/b"),
        lambda: repository.entry("main", "a\0"),
        lambda: repository.entry("main", "\ud800"),
        lambda: repository.entry("main", "/a"),
        lambda: repository.entry("main", "a/"),
        lambda: commit(repository, DeleteFile("b")),
        lambda: commit(repository, DeleteFolder("a")),
        lambda: commit(repository, CopyFile("c", "b", "main")),
    ):
        with pytest.raises(EntryNotFound):
            look()
    assert repository.resolve("main") == oid


def test_revisions_are_branches_tags_commits_and_refs_and_nothing_else(repository: GitRepository) -> None:
    first = commit(repository, AddFile("a", b"1"))
    second = commit(repository, AddFile("a", b"2"))
    repository.create_tag("v1", first, "the first", **ANN)
    repository.create_branch("feature/x", first)
    git(repository, "update-ref", "refs/pr/1", first)
    for name in ("v1", "feature/x", "refs/pr/1", "refs/tags/v1", first[:7], first):
        assert repository.resolve(name) == first, name
    assert repository.resolve("refs/heads/main") == second
    blob = repository.entry("main", "a").oid
    for name in (
        "",
        "nope",
        "main~1",
        "main^{tree}",
        "HEAD",
        "..",
        "refs/",
        first[:6],
        "0" * 40,
        blob,
        "@",
        "a:b",
        "main\0",
        "\ud800",
    ):
        with pytest.raises(RevisionNotFound):
            repository.resolve(name)


def test_branches_and_tags_are_made_listed_and_removed(repository: GitRepository) -> None:
    first = commit(repository, AddFile("a", b"1"))
    repository.create_branch("dev", "main")
    repository.create_tag("v1", "dev")
    assert repository.create_tag("v2", "v1", "with words", **ANN) == first
    found = repository.refs()
    assert [(ref.name, ref.target) for ref in found.branches] == [("dev", first), ("main", first)]
    assert [(ref.ref, ref.target) for ref in found.tags] == [("refs/tags/v1", first), ("refs/tags/v2", first)]
    assert git(repository, "cat-file", "-t", "v2").strip() == "tag"
    assert git(repository, "fsck", "--strict") == ""
    git(repository, "pack-refs", "--all")
    repository.delete_branch("dev")
    repository.delete_tag("v1")
    repository.delete_tag("v2")
    assert [ref.name for ref in repository.refs().branches] == ["main"]
    assert repository.refs().tags == ()
    with pytest.raises(RevisionNotFound):
        repository.delete_branch("dev")
    with pytest.raises(Forbidden):
        repository.delete_branch("main")


def test_a_name_that_is_taken_conflicts(repository: GitRepository) -> None:
    commit(repository, AddFile("a", b"1"))
    repository.create_branch("dev", "main")
    repository.create_tag("v1", "main")
    for make in (
        lambda: repository.create_branch("dev", "main"),
        lambda: repository.create_branch("dev/sub", "main"),
        lambda: repository.create_tag("v1", "main"),
        lambda: repository.create_tag("v1", "main", "again", **ANN),
    ):
        with pytest.raises(Conflict):
            make()


@pytest.mark.parametrize(
    "name", ["", "a b", "a..b", "x.lock", "-f", "refs/pr/1", "HEAD", "a" * 201, "0123456", "a\0b", "/x", "../../x"]
)
def test_a_name_that_cannot_be_a_ref_is_refused(repository: GitRepository, name: str) -> None:
    commit(repository, AddFile("a", b"1"))
    with pytest.raises(BadRequest):
        repository.create_branch(name, "main")
    with pytest.raises(BadRequest):
        repository.create_tag(name, "main")


@pytest.mark.parametrize(
    "path",
    [
        *("", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\nb", "a\0b", "\ud800"),
        *(".git/config", "a/.GIT", ".git\u200c", ".git .", "git~1/x", ".git::$INDEX", ".gitmodules"),
        *("..\\a", ".\\a", "\\\\host\\a", "C:\\a", "a\\.git\\config"),
        *("x" * 256, "/".join(["x" * 200] * 6)),
    ],
)
def test_a_path_that_git_could_not_hold_everywhere_is_refused(repository: GitRepository, path: str) -> None:
    for operation in (AddFile(path, b"x"), AddLfs(path, SHA, 1), DeleteFile(path), DeleteFolder(path)):
        with pytest.raises(BadRequest):
            commit(repository, operation)
    assert repository.refs().branches == ()


def test_a_backslash_inside_a_path_is_a_character(repository: GitRepository) -> None:
    head = commit(repository, AddFile("a/b\\c", b"x"))
    assert repository.entry(head, "a/b\\c").type == "file"


def test_a_file_is_not_a_folder(repository: GitRepository) -> None:
    oid = commit(repository, AddFile("a", b"x"), AddFile("d/f", b"y"))
    with pytest.raises(BadRequest, match="'a' is a file"):
        commit(repository, AddFile("a/b", b"x"))
    with pytest.raises(BadRequest, match="is a folder"):
        commit(repository, AddFile("d", b"x"))
    assert repository.resolve("main") == oid
    commit(repository, DeleteFile("a"), AddFile("a/b", b"x"), DeleteFolder("d"), AddFile("d", b"y"))
    assert files(repository) == {"a/b": b"x", "d": b"y"}


def test_folders_may_be_as_deep_as_a_path_is_long(repository: GitRepository) -> None:
    deep = "/".join("a" * 511)
    first = commit(repository, AddFile(deep, b"x"), AddFile("b", b"y"))
    with pytest.raises(BadRequest, match="folder"):
        commit(repository, AddFile(deep, b"z"), AddFile("a", b"z"))
    assert files(repository) == {deep: b"x", "b": b"y"}
    with PackWriter(repository.path / "objects" / "pack") as writer:
        unwanted = {bytes.fromhex(repository.entry(first, deep).oid)}
        changed = Rewriter(pygit2.Repository(repository.path), unwanted, writer).rewrite(repository.all_refs())
        writer.install()
    assert files(repository, changed["refs/heads/main"]) == {"b": b"y"}
    commit(repository, DeleteFile(deep), AddFile("a", b"z"))
    assert files(repository) == {"a": b"z", "b": b"y"}


def test_modes_survive_a_new_content(repository: GitRepository, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(repository.path), "w")
    work = tmp_path / "w"
    (work / "run.sh").write_text("one")
    (work / "run.sh").chmod(0o755)
    (work / "link").symlink_to("run.sh")
    git(work, "add", "-A")
    git(work, "-c", "user.name=ann", "-c", "user.email=a@x", "commit", "-qm", "x")
    git(work, "push", "-q", "origin", "HEAD:main")
    commit(repository, AddFile("run.sh", b"two"), CopyFile("copy.sh", "run.sh", "main"), AddFile("link", b"plain"))
    listed = {line.split("\t")[1]: line.split()[0] for line in git(repository, "ls-tree", "main").splitlines()}
    assert listed == {"copy.sh": "100755", "link": "100644", "run.sh": "100755"}
    assert files(repository)["copy.sh"] == b"one"


def test_a_commit_that_changes_nothing_is_not_made(repository: GitRepository) -> None:
    oid = commit(repository, AddFile("a", b"x"))
    packs = list((repository.path / "objects" / "pack").iterdir())
    assert commit(repository, AddFile("a", b"x")) == oid
    assert list((repository.path / "objects" / "pack").iterdir()) == packs


def test_a_commit_on_what_is_no_longer_the_head_is_refused(repository: GitRepository) -> None:
    first = commit(repository, AddFile("a", b"1"))
    second = commit(repository, AddFile("a", b"2"), parent=first[:7])
    for stale in (first, "", second[:6], "x" * 40):
        with pytest.raises(PreconditionFailed):
            commit(repository, AddFile("a", b"3"), parent=stale)
    assert repository.resolve("main") == second


def test_commits_go_to_branches_only(repository: GitRepository) -> None:
    first = commit(repository, AddFile("a", b"1"))
    repository.create_tag("v1", "main")
    operations, why = [AddFile("a", b"2")], {"message": "x", **ANN}
    for revision in ("v1", first):
        with pytest.raises(BadRequest, match="not a branch"):
            repository.commit(revision, operations, **why)
    for revision in ("nope", "../../main", ""):
        with pytest.raises(RevisionNotFound):
            repository.commit(revision, operations, **why)


def test_messages_and_names_cannot_break_a_commit(repository: GitRepository) -> None:
    repository.commit(
        "main",
        [AddFile("a", b"x")],
        message="a\0b\r\n\r\nbody",
        author_name="x <y>\ntree 0",
        author_email="a@b>\n",
    )
    assert git(repository, "fsck", "--strict") == ""
    assert git(repository, "log", "--format=%an|%ae|%s|%b").strip() == "x ytree 0|a@b|ab|body"
    repository.create_tag("v1", "main", "\ud800", **ANN)
    commit(repository, AddFile("a", b"z"), message="\ud800")
    assert git(repository, "fsck", "--strict") == ""
    commit(repository, AddFile("a", b"y"), message="")
    assert repository.commits("main")[0].title == ""


@pytest.mark.parametrize(
    ("encoding", "message", "read"),
    [
        ("bogus", b"hi", "hi"),
        ("ascii", b"\xffhi", "\ufffdhi"),
        ("utf-7", b"+2AA-hi", "?hi"),
        ("gbk", b"\xc4\xe3", "\u4f60"),
    ],
)
def test_a_commit_in_any_encoding_of_any_year_is_shown(
    repository: GitRepository, encoding: str, message: bytes, read: str
) -> None:
    commit(repository, AddFile("a", b"a"))
    tree = git(repository, "rev-parse", "main^{tree}").strip()
    person = b"\xff <a@b> 99999999999999 +0000"
    written = b"tree %s\nauthor %s\ncommitter %s\nencoding %s\n\n%s" % (
        *(tree.encode(), person, person, encoding.encode(), message),
    )
    sent = subprocess.run(
        ["git", "-C", repository.path, "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
        input=written,
        capture_output=True,
        check=True,
    )
    git(repository, "update-ref", "refs/heads/main", sent.stdout.decode().strip())
    found = repository.describe("main")
    assert (found.title, found.date.year) == (read, 9999)
    assert found.author_name.encode()


def test_history_follows_a_path(repository: GitRepository) -> None:
    first = commit(repository, AddFile("a", b"1"), AddFile("d/b", b"1"), message="one")
    second = commit(repository, AddFile("d/b", b"2"), message="two\n\nmore")
    third = commit(repository, DeleteFile("a"), AddFile("c", b"3"), message="three")
    assert [found.oid for found in repository.commits("main")] == [third, second, first]
    assert [found.oid for found in repository.commits("main", start=1, limit=1)] == [second]
    assert [found.title for found in repository.commits("main", path="a")] == ["three", "one"]
    assert [found.title for found in repository.commits("main", path="d")] == ["two", "one"]
    assert len(repository.commits("main", limit=10_000)) == 3
    assert repository.commits(second)[0].message == "more"
    last = repository.last_commits("main", ["d", "d/b", "c", "a"])
    assert last == {"d": second, "d/b": second, "c": third}


def test_last_commits_agree_with_git_log_across_a_merge(repository: GitRepository, tmp_path: Path) -> None:
    commit(repository, *[AddFile(f"f{i}", b"0") for i in range(4)])
    repository.create_branch("side", "main")
    repository.commit("side", [AddFile("f1", b"s"), AddFile("f2", b"same")], message="side", **ANN)
    commit(repository, AddFile("f0", b"m"), AddFile("f2", b"same"), message="mine")
    git(tmp_path, "clone", "-q", str(repository.path), "w")
    identity = ["-c", "user.name=ann", "-c", "user.email=a@x"]
    git(tmp_path / "w", *identity, "merge", "-q", "origin/side", "-m", "merge")
    git(tmp_path / "w", "push", "-q", "origin", "HEAD:main")
    for path, found in repository.last_commits("main", [f"f{i}" for i in range(4)]).items():
        assert found == git(repository, "log", "-1", "--format=%H", "main", "--", path).strip()


def test_changes_show_patches_within_bounds(repository: GitRepository) -> None:
    first = commit(repository, AddFile("t", b"one\n"), AddFile("b", bytes(300)), AddFile("big", b"line\n" * 50_000))
    assert {found.path: found.status for found in repository.changes(first)} == dict.fromkeys(
        ["b", "big", "t"], "added"
    )
    second = commit(repository, AddFile("t", b"one\ntwo\n"), DeleteFile("big"))
    found = {change.path: change for change in repository.changes(second)}
    assert (found["t"].status, found["t"].additions, found["t"].deletions) == ("modified", 1, 0)
    assert found["t"].patch is not None
    assert "+two" in found["t"].patch
    assert (found["big"].status, found["big"].deletions, found["big"].patch) == ("deleted", 50_000, None)


def test_of_a_large_file_its_sizes_changed_not_its_pointer(repository: GitRepository) -> None:
    commit(repository, AddFile("large", b"now"), AddLfs("w", "a" * 64, 12_000_000))
    second = commit(repository, AddLfs("large", "c" * 64, 7), AddLfs("w", "b" * 64, 13_000_000), AddFile("t", b"one\n"))
    found = {change.path: change for change in repository.changes(second)}
    assert {path: (change.is_large, change.additions, change.patch is None) for path, change in found.items()} == {
        "large": (True, 0, True),
        "w": (True, 0, True),
        "t": (False, 1, False),
    }
    assert (found["w"].before.size, found["w"].after.size) == (12_000_000, 13_000_000)
    assert (found["large"].before.size, found["large"].after.lfs.sha256) == (3, "c" * 64)
    assert (found["t"].before, found["t"].after.size) == (None, 4)


def test_a_file_that_moved_is_a_rename_with_the_lines_that_changed(repository: GitRepository) -> None:
    text = b"".join(b"line %d\n" % number for number in range(20))
    commit(
        repository,
        AddFile("a.txt", text),
        AddLfs("same.safetensors", "a" * 64, 5_000),
        AddLfs("former.safetensors", "b" * 64, 5_000),
    )
    second = commit(
        repository,
        *map(DeleteFile, ("a.txt", "same.safetensors", "former.safetensors")),
        AddFile("docs/b.txt", text.replace(b"line 10\n", b"better\n")),
        AddLfs("weights/same.safetensors", "a" * 64, 5_000),
        AddLfs("weights/present.safetensors", "c" * 64, 5_000),
    )
    found = {change.path: change for change in repository.changes(second)}
    assert {path: (change.status, change.path_on("old")) for path, change in found.items()} == {
        "docs/b.txt": ("renamed", "a.txt"),
        "former.safetensors": ("deleted", "former.safetensors"),
        "weights/present.safetensors": ("added", "weights/present.safetensors"),
        "weights/same.safetensors": ("renamed", "same.safetensors"),
    }
    changed, same = found["docs/b.txt"], found["weights/same.safetensors"]
    assert (changed.additions, changed.deletions, changed.is_same, changed.before.path) == (1, 1, False, "a.txt")
    assert changed.patch is not None
    assert "-line 10\n+better\n" in changed.patch
    assert 50 <= changed.rename.similarity < 100
    assert (same.is_same, same.is_large, same.patch, same.rename.similarity) == (True, True, None, 100)
    assert {change.status for change in repository.changes(second, base=second)} == set()


def test_names_that_are_no_text_are_shown_as_far_as_they_are(repository: GitRepository) -> None:
    first = commit(repository, AddFile("a", b"one\n"))
    bare = pygit2.Repository(repository.path)
    tree = b"100644 b\xff\0" + bare[first].tree["a"].id.raw
    moved = bare.write(pygit2.enums.ObjectType.TREE, tree)
    who = pygit2.Signature("ann", "a@x")
    second = bare.create_commit(None, who, who, "Move", moved, [first])
    found = [(change.path, change.status) for change in repository.changes(str(second))]
    assert found == [("a", "deleted"), ("b\ufffd", "added")]


@pytest.mark.parametrize("limit", ["BYTES_LIMIT", "WORK_LIMIT"])
def test_past_the_limits_only_what_moved_unchanged_is_a_rename(
    repository: GitRepository, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    lines = [b"line %d\n" % number for number in range(1_000)]
    first = commit(repository, AddFile("a", b"".join(lines)), AddFile("b", b"kept\n"))
    moved = AddFile("d/a", b"".join(lines[1:])), AddFile("d/b", b"kept\n")
    second = commit(repository, *map(DeleteFile, "ab"), *moved)
    assert {path: each.former for path, each in repository.renames(first, second).items()} == {"d/a": "a", "d/b": "b"}
    monkeypatch.setattr(renames, limit, 10_000)
    assert {path: each.former for path, each in repository.renames(first, second).items()} == {"d/b": "b"}


def test_squashing_keeps_the_files_and_drops_the_history(repository: GitRepository) -> None:
    commit(repository, AddFile("a", b"1"))
    commit(repository, AddFile("a", b"2"))
    squashed = repository.squash("main", message="all of it", **ANN)
    assert [found.oid for found in repository.commits("main")] == [squashed]
    assert files(repository) == {"a": b"2"}
    assert git(repository, "fsck", "--strict", "--no-dangling") == ""


def test_writers_at_once_lose_nothing(repository: GitRepository) -> None:
    repository.initialise(**ANN)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: commit(repository, AddFile(f"f{n}", b"%d" % n)), range(40)))
    assert {f"f{n}" for n in range(40)} < set(files(repository))
    assert len(repository.commits("main", limit=10_000)) == 41


def test_packs_are_merged_while_others_read(repository: GitRepository) -> None:
    commit(repository, AddFile("kept", b"x" * 5000))
    done = threading.Event()

    def read() -> int:
        count = 0
        while not done.is_set():
            assert files(repository)["kept"] == b"x" * 5000
            count += 1
            time.sleep(0.001)
        return count

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for n in range(3 * PACK_LIMIT):
            commit(repository, AddFile("n", b"%d" % n))
        done.set()
        assert all(reader.result() > 0 for reader in readers)
    assert len(list((repository.path / "objects" / "pack").glob("*.pack"))) <= PACK_LIMIT
    assert len(repository.commits("main", limit=10_000)) == 3 * PACK_LIMIT + 1
    assert repository.check() == []


def test_damage_is_found(repository: GitRepository) -> None:
    commit(repository, AddFile("a", b"x" * 500))
    [pack] = (repository.path / "objects" / "pack").glob("*.pack")
    pack.chmod(0o644)
    content = bytearray(pack.read_bytes())
    content[20] ^= 0xFF
    pack.write_bytes(content)
    assert repository.check() != []


def test_a_ref_to_nothing_is_found(repository: GitRepository) -> None:
    commit(repository, AddFile("a", b"x"))
    (repository.path / "refs" / "heads" / "lost").write_text("1" * 40 + "\n")
    assert any("lost" in line for line in repository.check())


def test_an_absent_directory_is_an_absent_repository(tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFound):
        GitRepository(tmp_path / "nothing.git").resolve("main")


def test_offsets_of_64_bits_are_read_by_git(repository: GitRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmcommons.hub.repos.pack.LARGE_OFFSET", 100)
    content = {f"f{n}": b"%d" % n * 50 for n in range(20)}
    commit(repository, *[AddFile(path, data) for path, data in content.items()])
    assert git(repository, "fsck", "--strict", "--full") == ""
    assert files(repository) == content


NAMES = st.sampled_from(["a", "b", "a.b", "a0", "A"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
OPERATIONS = st.one_of(
    st.builds(AddFile, PATHS, st.binary(max_size=20)),
    st.builds(DeleteFile, PATHS),
    st.builds(DeleteFolder, PATHS),
    st.builds(CopyFile, PATHS, PATHS, st.just("main")),
)


def expected(operations: list[Operation], before: dict[str, bytes]) -> dict[str, bytes] | None:
    """What a dictionary of files says of the operations; None when they are impossible."""
    now = dict(before)
    for operation in operations:
        path = operation.path
        match operation:
            case AddFile() | CopyFile():
                if isinstance(operation, CopyFile) and operation.source_path not in before:
                    return None
                parents = ["/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 1)]
                if any(parent in now for parent in parents) or any(other.startswith(path + "/") for other in now):
                    return None
                now[path] = operation.content if isinstance(operation, AddFile) else before[operation.source_path]
            case DeleteFile():
                if path not in now:
                    return None
                del now[path]
            case DeleteFolder():
                inside = [other for other in now if other.startswith(path + "/")]
                if not inside:
                    return None
                for other in inside:
                    del now[other]
    return now


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(OPERATIONS, min_size=1, max_size=4), min_size=1, max_size=6))
def test_any_sequence_of_operations_equals_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Operation]]
) -> None:
    repository = GitRepository.create(tmp_path_factory.mktemp("any") / "r.git")
    commit(repository, AddFile("a", b"first"))
    present = {"a": b"first"}
    for operations in batches:
        after = expected(operations, present)
        if after is None:
            with pytest.raises((BadRequest, EntryNotFound)):
                commit(repository, *operations)
        else:
            commit(repository, *operations)
            present = after
        assert files(repository) == present
    assert git(repository, "fsck", "--strict", "--no-dangling") == ""
    for path, last in repository.last_commits("main", present).items():
        assert last == git(repository, "log", "-1", "--format=%H", "main", "--", path).strip()
