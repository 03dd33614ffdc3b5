"""`git push` with the git and git-lfs that everybody has."""

import base64
import os
import random
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hub_process import PATIENCE, HubProcess, lmc_hub
from huggingface_hub import CommitOperationAdd, HfApi
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.errors import BadRequest
from lmcommons.hub.repos.push import parse

IDENTITY = ["-c", "user.name=ann", "-c", "user.email=ann@example.org"]
NO_LFS = "git-lfs is not installed: apt-get install git-lfs"
needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason=NO_LFS)


@dataclass
class Clone:
    """A working copy; what git says is returned, its errors too."""

    path: Path

    def git(self, *arguments: str, fails: bool = False) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }
        command = ["git", "-C", str(self.path), *IDENTITY, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout + done.stderr

    def commit(self, files: dict[str, bytes], message: str = "change") -> str:
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def clone(hub: HubProcess, token: str, tmp_path: Path) -> Callable[..., Clone]:
    """Clones a repository, signed in: `clone(repo_id, "--depth=1", token=…)`."""

    def make(repo_id: str, *options: str, name: str = "ann", token: str = token, folder: str = "c") -> Clone:
        signed_in = hub.endpoint.replace("://", f"://{name}:{token}@")
        Clone(tmp_path).git("clone", "--quiet", *options, f"{signed_in}/{repo_id}", folder)
        return Clone(tmp_path / folder)

    return make


def head(api: HfApi, repo_id: str, revision: str = "main") -> str:
    return str(api.model_info(repo_id, revision=revision).sha)


def test_a_commit_is_pushed_and_served(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    commit = work.commit({"README.md": b"---\nlicense: mit\n---\nHello\n", "d/e.txt": b"deep"}, "Pushed")
    work.git("push", "--quiet", "origin", "main")
    info = api.model_info(repo_id)
    assert (info.sha, info.card_data.license) == (commit, "mit")  # the index follows a push
    expanded = {entry.path: entry for entry in api.list_repo_tree(repo_id, expand=True, recursive=True)}
    assert expanded["d/e.txt"].last_commit.oid == expanded["d"].last_commit.oid == commit
    assert expanded[".gitattributes"].last_commit.oid != commit


def test_pushes_and_commits_take_turns(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    api.upload_file(path_or_fileobj=b"1", path_in_repo="api.txt", repo_id=repo_id)
    work.commit({"mine.txt": b"1"})
    assert "fetch first" in work.git("push", "origin", "main", fails=True)
    work.git("pull", "--quiet", "--rebase")
    work.git("push", "--quiet", "origin", "main")
    assert {"api.txt", "mine.txt"} <= set(api.list_repo_files(repo_id))


def test_branches_and_tags_are_made_moved_and_deleted(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    work.git("checkout", "--quiet", "-b", "topic/one")
    commit = work.commit({"t": b"1"})
    work.git("tag", "light")
    work.git("tag", "-a", "full", "-m", "annotated")
    work.git("push", "--quiet", "origin", "topic/one", "light", "full")
    refs = api.list_repo_refs(repo_id)
    assert {ref.name: ref.target_commit for ref in refs.branches}["topic/one"] == commit
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"light": commit, "full": commit}
    work.git("push", "--quiet", "origin", "--delete", "topic/one", "light")
    refs = api.list_repo_refs(repo_id)
    assert [ref.name for ref in refs.branches] == ["main"]
    assert [ref.name for ref in refs.tags] == ["full"]


def test_a_branch_at_a_commit_that_is_here_needs_no_objects(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    clone(repo_id).git("push", "--quiet", "origin", "main:refs/heads/copy")
    assert head(api, repo_id, "copy") == head(api, repo_id)


def test_history_is_replaced_only_by_force(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    work.commit({"a": b"1"})
    work.git("push", "--quiet", "origin", "main")
    work.git("reset", "--quiet", "--hard", "HEAD~1")
    commit = work.commit({"b": b"2"})
    assert "rejected" in work.git("push", "origin", "main", fails=True)
    work.git("push", "--quiet", "--force", "origin", "main")
    assert head(api, repo_id) == commit
    assert sorted(api.list_repo_files(repo_id)) == [".gitattributes", "b"]
    expanded = {entry.path: entry for entry in api.list_repo_tree(repo_id, expand=True)}
    assert expanded["b"].last_commit.oid == commit


def test_a_push_with_lease_is_refused_when_the_branch_moved(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    commit = api.upload_file(path_or_fileobj=b"1", path_in_repo="api.txt", repo_id=repo_id)
    work.git("commit", "--quiet", "--amend", "-m", "other")
    work.git("push", "--force-with-lease", "origin", "main", fails=True)
    assert head(api, repo_id) == commit.oid


def test_a_shallow_clone_pushes(api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]) -> None:
    repo_id = new_repository()
    for n in range(4):
        api.upload_file(path_or_fileobj=b"%d" % n, path_in_repo=f"f{n}", repo_id=repo_id)
    work = clone(repo_id, "--depth=1")
    assert work.git("rev-list", "--count", "HEAD").strip() == "1"
    commit = work.commit({"shallow": b"x"})
    work.git("push", "--quiet", "origin", "main")
    assert head(api, repo_id) == commit
    assert len(api.list_repo_commits(repo_id)) == 6


def test_a_history_that_is_cut_off_is_refused(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    full, other = new_repository(), new_repository()
    for n in range(3):
        api.upload_file(path_or_fileobj=b"%d" % n, path_in_repo=f"f{n}", repo_id=full)
    before = head(api, other)
    work = clone(full, "--depth=1")
    url = work.git("remote", "get-url", "origin").strip().replace(full, other)
    work.git("push", "--force", url, "main", fails=True)
    assert head(api, other) == before


def test_a_large_file_outside_lfs_is_refused_by_name(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    before = head(api, repo_id)
    work = clone(repo_id)
    work.commit({"data/corpus.txt": random.Random(0).randbytes(11 << 20), "fine.txt": b"fine"})
    said = work.git("push", "origin", "main", fails=True)
    assert "data/corpus.txt has 11,534,336 bytes" in said
    assert "git lfs migrate import --include='data/corpus.txt'" in said
    assert head(api, repo_id) == before


def test_a_large_file_that_a_later_commit_removed_is_refused_too(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    work.commit({"big": bytes(11 << 20)})
    work.git("rm", "--quiet", "big")
    work.git("commit", "--quiet", "-m", "removed")
    assert "big has" in work.git("push", "origin", "main", fails=True)


@needs_lfs
def test_git_lfs_uploads_and_locks(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone], tmp_path: Path
) -> None:
    repo_id = new_repository(private=True)
    work = clone(repo_id)
    work.git("lfs", "install", "--local")
    content = os.urandom(12 << 20)
    work.commit({"model.safetensors": content, "small.txt": b"s"})
    work.git("push", "origin", "main")
    assert Path(api.hf_hub_download(repo_id, "model.safetensors", cache_dir=tmp_path / "cache")).read_bytes() == content
    assert "Locked model.safetensors" in work.git("lfs", "lock", "model.safetensors")
    assert "model.safetensors" in work.git("lfs", "locks")
    assert "already" in work.git("lfs", "lock", "model.safetensors", fails=True)
    work.git("lfs", "unlock", "model.safetensors")
    assert "model.safetensors" not in work.git("lfs", "locks")


@needs_lfs
def test_the_lock_of_another_stops_their_push_and_opens_only_by_force(
    hub: HubProcess, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    hub.add_organisation("lockers", "--member", "ann:admin")
    bob = hub.add_user("bob-locks")
    hub.command("org", "member", "add", "lockers", "bob-locks:write")
    repo_id = HfApi(endpoint=hub.endpoint, token=bob).create_repo("lockers/shared").repo_id
    mine, theirs = clone(repo_id), clone(repo_id, name="bob-locks", token=bob, folder="theirs")
    for work in (mine, theirs):
        work.git("lfs", "install", "--local")
    mine.commit({"a.bin": b"1"})
    mine.git("push", "--quiet", "origin", "main")
    mine.git("lfs", "lock", "a.bin")
    theirs.git("pull", "--quiet")
    theirs.git("config", f"lfs.{theirs.git('remote', 'get-url', 'origin').strip()}.git/info/lfs.locksverify", "true")
    theirs.commit({"a.bin": b"2"})
    assert "locked by ann" in theirs.git("lfs", "unlock", "a.bin", fails=True)
    theirs.git("push", "origin", "main", fails=True)
    theirs.git("lfs", "unlock", "--force", "a.bin")
    theirs.git("push", "--quiet", "origin", "main")


@needs_lfs
def test_a_pointer_whose_object_was_never_uploaded_is_refused(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 123\n"
    work.commit({"stolen.bin": pointer.encode()})
    said = work.git("push", "origin", "main", fails=True)
    assert "stolen.bin: object abab" in said
    assert "git lfs push --all" in said


def test_the_object_of_a_private_repository_is_not_given_by_its_hash(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    secret = new_repository(private=True)
    api.create_commit(secret, [CommitOperationAdd("w.bin", b"secret weights")], commit_message="x")
    (found,) = api.get_paths_info(secret, ["w.bin"])
    mallory = hub.add_user("mallory-push")
    repo_id = HfApi(endpoint=hub.endpoint, token=mallory).create_repo("mallory-push/loot").repo_id
    work = clone(repo_id, name="mallory-push", token=mallory)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{found.lfs.sha256}\nsize {found.size}\n"
    work.commit({"w.bin": pointer.encode()})
    assert "was never uploaded" in work.git("push", "origin", "main", fails=True)


@pytest.mark.parametrize("name", [".GIT", ".git", "..", "a\\.git", "tab\tname", "git~1", "x" * 300])
@pytest.mark.parametrize("folder", [False, True])
def test_names_that_a_commit_could_not_have_are_refused(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone], name: str, folder: bool
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)

    def write(kind: str, content: bytes) -> str:
        command = ["git", "-C", str(work.path), "hash-object", "-w", "--literally", "-t", kind, "--stdin"]
        return subprocess.run(command, input=content, capture_output=True, check=True).stdout.decode().strip()

    def tree(mode: str, name: str, oid: str) -> str:
        return write("tree", f"{mode} {name}\0".encode() + bytes.fromhex(oid))

    blob = write("blob", b"content")
    bad = tree("40000", name, tree("100644", "config", blob)) if folder else tree("100644", name, blob)
    commit = work.git("commit-tree", bad, "-p", "HEAD", "-m", "bad").strip()
    work.git("push", "origin", f"{commit}:refs/heads/main", fails=True)
    assert api.list_repo_files(repo_id) == [".gitattributes"]


def test_a_name_that_is_not_utf8_is_refused(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    work = clone(new_repository())
    (work.path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"latin")
    work.commit({})
    assert "not valid UTF-8" in work.git("push", "origin", "main", fails=True)


def test_a_submodule_is_kept_and_not_listed(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    work.git("update-index", "--add", "--cacheinfo", f"160000,{work.git('rev-parse', 'HEAD').strip()},vendor/lib")
    (work.path / ".gitmodules").write_text('[submodule "lib"]\n\tpath = vendor/lib\n\turl = https://example.org/lib\n')
    work.git("add", ".gitmodules")
    work.git("commit", "--quiet", "-m", "submodule")
    work.git("push", "--quiet", "origin", "main")
    assert sorted(api.list_repo_files(repo_id)) == [".gitattributes", ".gitmodules"]
    assert repo_id not in lmc_hub("fsck", "--data", hub.data).stdout
    assert "160000" in clone(repo_id, folder="again").git("ls-tree", "-r", "HEAD")


def test_a_submodule_that_would_run_commands_is_refused(
    new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    work = clone(new_repository())
    work.commit({".gitmodules": b'[submodule "x"]\n\tpath = x\n\turl = --upload-pack=touch${IFS}/tmp/x\n'})
    assert "gitmodules" in work.git("push", "origin", "main", fails=True)


def test_who_may_not_write_is_refused(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone], tmp_path: Path
) -> None:
    public, private = new_repository(), new_repository(private=True)
    before = head(api, public)
    reader = hub.add_token("ann", "read")
    stranger = hub.add_user("eve-push")
    work = clone(public)
    work.commit({"evil": b"1"})

    def push(credentials: str, repo_id: str) -> str:
        url = hub.endpoint.replace("://", f"://{credentials}")
        return work.git("push", f"{url}/{repo_id}", "HEAD:refs/heads/main", fails=True)

    assert "could not read Username" in push("", public)
    assert "Authentication failed" in push("ann:hf_wrong@", public)
    assert "403" in push(f"ann:{reader}@", public)
    assert "eve-push may not write" in push(f"eve-push:{stranger}@", public)
    assert "not found" in push(f"eve-push:{stranger}@", private)
    assert head(api, public) == before


def test_a_push_that_may_not_be_is_refused_before_its_pack_is_sent(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str]
) -> None:
    repo_id = new_repository()
    before = head(api, repo_id)
    stranger = base64.b64encode(f"bob:{hub.add_user(f'stranger{secrets.token_hex(4)}')}".encode()).decode()
    for ref in ("refs/heads/main", "refs/notes/any"):
        with socket.create_connection(("127.0.0.1", hub.port), timeout=PATIENCE) as client:
            client.sendall(
                f"POST /{repo_id}/git-receive-pack HTTP/1.1\r\nHost: hub\r\nAuthorization: Basic {stranger}\r\n"
                "Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 8000000000\r\n\r\n".encode()
                + command(before, "1" * 40, ref)
            )
            answer = b""
            while f"ng {ref} ".encode() not in answer:
                block = client.recv(1 << 12)
                assert block, answer
                answer += block
    assert head(api, repo_id) == before


def test_who_sends_a_large_pack_in_vain_is_told_why(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    name = f"stranger{secrets.token_hex(4)}"
    work = clone(repo_id, name=name, token=hub.add_user(name))
    work.commit({"noise": os.urandom(6 << 20)})
    assert "write" in work.git("push", "origin", "main", fails=True)


def test_the_default_branch_and_other_refs_stay(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    assert "cannot be deleted" in work.git("push", "origin", "--delete", "main", fails=True)
    for ref in ("refs/notes/x", "refs/pr/1", "refs/convert/parquet", "refs/heads/" + "ab" * 20):
        assert "rejected" in work.git("push", "origin", f"HEAD:{ref}", fails=True)
    assert [ref.name for ref in api.list_repo_refs(repo_id, include_pull_requests=True).branches] == ["main"]


def test_a_pull_request_takes_pushes_of_its_author_and_of_writers(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    author, other = hub.add_user("pia-push"), hub.add_user("oto-push")
    number = HfApi(endpoint=hub.endpoint, token=author).create_pull_request(repo_id, title="Mine").num
    work = clone(repo_id, name="pia-push", token=author)
    work.git("fetch", "--quiet", "origin", f"refs/pr/{number}")
    work.git("checkout", "--quiet", "FETCH_HEAD")
    first = work.commit({"proposal.txt": b"1"})
    work.git("push", "--quiet", "origin", f"HEAD:refs/pr/{number}")
    assert head(api, repo_id, f"refs/pr/{number}") == first
    assert "may not write" in work.git("push", "origin", "HEAD:main", fails=True)
    theirs = work.git("remote", "get-url", "origin").strip().replace(f"pia-push:{author}", f"oto-push:{other}")
    second = work.commit({"proposal.txt": b"2"})
    work.git("push", theirs, f"HEAD:refs/pr/{number}", fails=True)
    clone(repo_id, folder="mine").git("fetch", "--quiet", "origin", f"refs/pr/{number}")
    work.git("push", "--quiet", "origin", f"HEAD:refs/pr/{number}")
    events = api.get_discussion_details(repo_id, number).events
    assert [event.oid for event in events if event.type == "commit"] == [first, second]


def test_one_of_two_pushes_at_once_is_told_to_fetch(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    clones = [clone(repo_id, folder=f"c{n}") for n in range(4)]
    commits = [work.commit({f"f{n}": b"x"}, f"number {n}") for n, work in enumerate(clones)]

    def push(work: Clone) -> bool:
        try:
            work.git("push", "--quiet", "origin", "main")
        except AssertionError as error:
            assert "rejected" in str(error)  # noqa: PT017 - one of several outcomes
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(push, clones))
    assert sum(taken) == 1
    assert head(api, repo_id) == commits[taken.index(True)]


def test_an_atomic_push_is_all_or_nothing(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    work.commit({"a": b"1"})
    work.git("push", "--atomic", "origin", "main:good", "main:refs/notes/bad", fails=True)
    assert [ref.name for ref in api.list_repo_refs(repo_id).branches] == ["main"]
    work.git("push", "origin", "main:good", "main:refs/notes/bad", fails=True)
    assert [ref.name for ref in api.list_repo_refs(repo_id).branches] == ["good", "main"]


def test_refs_that_cannot_be_beside_each_other_are_refused_together(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    said = work.git("push", "origin", "main:refs/heads/a", "main:refs/heads/a/b", "main:refs/heads/c", fails=True)
    assert "refs/heads/a/b" in said
    assert said.count("[remote rejected]") == 3
    assert [ref.name for ref in api.list_repo_refs(repo_id).branches] == ["main"]


def test_many_files_and_a_large_pack(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone]
) -> None:
    repo_id = new_repository("dataset")
    work = clone(f"datasets/{repo_id}")
    noise = random.Random(1)
    files = {f"part/{n % 50}/{n}.txt": b"%d" % n for n in range(3_000)}
    work.commit(files | {f"noise{n}": noise.randbytes(4 << 20) for n in range(4)})
    work.git("push", "--quiet", "origin", "main")  # past http.postBuffer, so that git asks first and sends in pieces
    assert len(api.list_repo_files(repo_id, repo_type="dataset")) == 3_005
    clone(f"datasets/{repo_id}", folder="again").git("fsck", "--strict")


def test_an_old_history_is_imported(
    api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone], tmp_path: Path
) -> None:
    repo_id = new_repository()
    work = clone(repo_id)
    imported = "".join(
        f"commit refs/heads/main\nmark :{n + 1}\ncommitter old <o@x> {1_600_000_000 + n} +0000\ndata 4\nc{n:03}\n"
        + (f"from :{n}\n" if n else "")
        + f"M 100644 inline f{n % 7}\ndata 4\nv{n:03}\n"
        for n in range(300)
    )
    (tmp_path / "old").mkdir()
    old = Clone(tmp_path / "old")
    old.git("init", "--quiet", "-b", "main")
    subprocess.run(["git", "-C", old.path, "fast-import", "--quiet"], input=imported.encode(), check=True)
    old.git("push", "--quiet", "--force", work.git("remote", "get-url", "origin").strip(), "main")
    assert len(api.list_repo_commits(repo_id)) == 300
    found = {entry.path: entry.last_commit.title for entry in api.list_repo_tree(repo_id, expand=True)}
    assert found == {f"f{n % 7}": f"c{n:03}" for n in range(293, 300)}


@pytest.fixture
def receive(hub: HubProcess, token: str) -> Iterator[Callable[..., httpx.Response]]:
    """Sends bytes to a repository's git-receive-pack."""
    with httpx.Client(auth=("ann", token)) as client:

        def post(repo_id: str, body: bytes, **headers: str) -> httpx.Response:
            kind = {"Content-Type": "application/x-git-receive-pack-request"}
            return client.post(f"{hub.endpoint}/{repo_id}.git/git-receive-pack", content=body, headers=kind | headers)

        yield post


def command(before: str, after: str, ref: str = "refs/heads/main") -> bytes:
    line = f"{before} {after} {ref}\0report-status".encode()
    return b"%04x%s0000" % (len(line) + 4, line)


def test_what_is_no_push_is_refused(
    api: HfApi, new_repository: Callable[..., str], receive: Callable[..., httpx.Response]
) -> None:
    repo_id = new_repository()
    before = head(api, repo_id)
    cut_off, strange = command(before, "1" * 40)[:-4], command(before, "x" * 40)
    for body in (b"", b"hello", b"0003", b"ffff", b"0009hello0000", cut_off, strange):
        assert receive(repo_id, body).status_code == 400, body
    assert receive(repo_id, b"0000").status_code == 200
    cut = receive(repo_id, command(before, "1" * 40) + b"PACK\0\0\0\2\0\0\0\1" + bytes(40))
    assert b"ng refs/heads/main" in cut.content
    absent = receive(repo_id, command(before, "1" * 40))
    assert b"ng refs/heads/main" in absent.content
    assert receive(repo_id, b"\x1f\x8b broken", **{"Content-Encoding": "gzip"}).status_code == 400
    assert head(api, repo_id) == before


def test_a_branch_is_at_a_commit_and_at_nothing_else(
    api: HfApi,
    new_repository: Callable[..., str],
    clone: Callable[..., Clone],
    receive: Callable[..., httpx.Response],
) -> None:
    repo_id = new_repository()
    tree = clone(repo_id).git("rev-parse", "HEAD^{tree}").strip()
    answer = receive(repo_id, command("0" * 40, tree, "refs/heads/tree"))
    assert b"ng refs/heads/tree" in answer.content
    assert [ref.name for ref in api.list_repo_refs(repo_id).branches] == ["main"]


def test_too_many_refs_in_one_push_are_refused(
    api: HfApi, new_repository: Callable[..., str], receive: Callable[..., httpx.Response]
) -> None:
    repo_id = new_repository()
    commit = head(api, repo_id)
    lines = [f"{'0' * 40} {commit} refs/tags/v{n}\0report-status".encode() for n in range(2_001)]
    answer = receive(repo_id, b"".join(b"%04x%s" % (len(line) + 4, line) for line in lines) + b"0000")
    assert answer.content.count(b"refused") == 2_001
    assert api.list_repo_refs(repo_id).tags == []


@given(st.binary(max_size=200))
def test_any_bytes_are_commands_or_refused_or_incomplete(sent: bytes) -> None:
    try:
        found = parse(sent)
    except BadRequest:
        return
    assert found is None or found[1] <= len(sent)


def test_a_push_that_is_cut_off_leaves_nothing(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str], clone: Callable[..., Clone], token: str
) -> None:
    repo_id = new_repository()
    before = head(api, repo_id)
    commit = clone(repo_id).commit({"a": b"1"})

    def body() -> Iterator[bytes]:
        yield command(before, commit) + b"PACK\0\0\0\2\0\0\0\3"
        raise ConnectionError

    with httpx.Client(auth=("ann", token)) as client, pytest.raises(ConnectionError):
        client.post(
            f"{hub.endpoint}/{repo_id}.git/git-receive-pack",
            content=body(),
            headers={"Content-Type": "application/x-git-receive-pack-request"},
        )
    assert head(api, repo_id) == before
    deadline = time.monotonic() + PATIENCE  # the hub hears of the end, and clears up, on its own
    while list((hub.data / "repositories").rglob("tmp_objdir-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
