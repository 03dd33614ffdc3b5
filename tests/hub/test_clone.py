"""Clone and fetch with the git that everybody has."""

import contextlib
import gzip
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, HfApi

from lmcommons.hub.repos.transport import CLONES_LIMIT


@pytest.fixture(scope="module")
def repo_id(api: HfApi, new_repository: Callable[..., str]) -> str:
    """A public repository of several commits, a branch and a tag."""
    repo_id = new_repository()
    for n in range(5):
        api.create_commit(repo_id, [CommitOperationAdd(f"f{n}.txt", b"%d" % n)], commit_message=f"Number {n}")
    api.create_branch(repo_id, branch="dev")
    api.create_tag(repo_id, tag="v1", tag_message="one")
    return repo_id


def git(*arguments: str | Path, where: Path, succeeds: bool = True) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(where),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    done = subprocess.run(["git", *arguments], cwd=where, env=environment, capture_output=True, text=True)
    assert (done.returncode == 0) == succeeds, done.stderr
    return done.stdout if succeeds else done.stderr


@pytest.mark.parametrize("suffix", ["", ".git"])
@pytest.mark.parametrize("protocol", ["0", "1", "2"])
def test_a_clone_has_all(hub: HubProcess, repo_id: str, tmp_path: Path, suffix: str, protocol: str) -> None:
    url = f"{hub.endpoint}/{repo_id}{suffix}"
    git("-c", f"protocol.version={protocol}", "clone", url, "c", where=tmp_path)
    assert sorted(path.name for path in (tmp_path / "c").glob("*.txt")) == [f"f{n}.txt" for n in range(5)]
    assert git("log", "-1", "--format=%an: %s", where=tmp_path / "c").strip() == "ann: Number 4"
    assert git("branch", "-r", where=tmp_path / "c").split() == [
        "origin/HEAD",
        "->",
        "origin/main",
        "origin/dev",
        "origin/main",
    ]
    assert git("tag", where=tmp_path / "c").strip() == "v1"
    git("fsck", "--strict", where=tmp_path / "c")


def test_a_fetch_brings_what_is_new(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str], tmp_path: Path
) -> None:
    repo_id = new_repository("dataset")
    git("clone", f"{hub.endpoint}/datasets/{repo_id}", "c", where=tmp_path)
    commit = api.upload_file(path_or_fileobj=b"new", path_in_repo="n.txt", repo_id=repo_id, repo_type="dataset")
    git("pull", "-q", where=tmp_path / "c")
    assert git("rev-parse", "HEAD", where=tmp_path / "c").strip() == commit.oid
    assert (tmp_path / "c" / "n.txt").read_text() == "new"


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed: apt-get install git-lfs")
@pytest.mark.parametrize("private", [False, True])
def test_git_lfs_brings_the_bytes_of_large_files(
    hub: HubProcess, api: HfApi, token: str, new_repository: Callable[..., str], tmp_path: Path, private: bool
) -> None:
    repo_id = new_repository(private=private)
    contents = {f"{n}/weights.bin": os.urandom(1_000_000 + n) for n in range(3)} | {"small.txt": b"text\n"}
    operations = [CommitOperationAdd(path, content) for path, content in contents.items()]
    api.create_commit(repo_id, operations, commit_message="Large")
    git("lfs", "install", "--skip-repo", where=tmp_path)
    signed_in = hub.endpoint.replace("http://", f"http://ann:{token}@") if private else hub.endpoint
    git("clone", f"{signed_in}/{repo_id}", "c", where=tmp_path)
    assert {path: (tmp_path / "c" / path).read_bytes() for path in contents} == contents
    assert git("-C", "c", "status", "--porcelain", where=tmp_path) == ""
    git("-C", "c", "lfs", "fsck", where=tmp_path)


def test_a_shallow_clone_deepens(hub: HubProcess, repo_id: str, tmp_path: Path) -> None:
    git("clone", "--depth=1", f"{hub.endpoint}/{repo_id}", "c", where=tmp_path)
    assert git("rev-list", "--count", "HEAD", where=tmp_path / "c").strip() == "1"
    git("fetch", "--deepen=2", where=tmp_path / "c")
    assert git("rev-list", "--count", "HEAD", where=tmp_path / "c").strip() == "3"
    git("fetch", "--unshallow", where=tmp_path / "c")
    assert git("rev-list", "--count", "HEAD", where=tmp_path / "c").strip() == "6"


def test_one_branch_one_commit_and_no_blobs_can_be_asked_for(
    hub: HubProcess, api: HfApi, repo_id: str, tmp_path: Path
) -> None:
    url = f"{hub.endpoint}/{repo_id}"
    git("clone", "--branch=v1", "--single-branch", url, "tag", where=tmp_path)
    git("clone", "--filter=blob:none", "--no-checkout", url, "partial", where=tmp_path)
    missing = git("rev-list", "--objects", "--missing=print", "HEAD", where=tmp_path / "partial")
    assert "?" in missing
    first = api.list_repo_commits(repo_id)[-2].commit_id
    git("init", "-q", "one", where=tmp_path)
    git("fetch", "-q", "--depth=1", url, first, where=tmp_path / "one")
    assert git("rev-parse", "FETCH_HEAD", where=tmp_path / "one").strip() == first


def test_a_private_repository_asks_for_a_token(
    hub: HubProcess, api: HfApi, token: str, new_repository: Callable[..., str], tmp_path: Path
) -> None:
    repo_id = new_repository(private=True)
    address = hub.endpoint.removeprefix("http://")
    for url in (f"{hub.endpoint}/{repo_id}", f"{hub.endpoint}/ann/never-made"):
        answer = httpx.get(f"{url}/info/refs?service=git-upload-pack")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert "could not read Username" in git("clone", url, "c", where=tmp_path, succeeds=False)
    git("clone", f"http://ann:{token}@{address}/{repo_id}", "with-password", where=tmp_path)
    git("clone", f"http://{token}@{address}/{repo_id}", "with-name", where=tmp_path)
    header = f"http.extraHeader=Authorization: Bearer {token}"
    git("-c", header, "clone", f"{hub.endpoint}/{repo_id}", "with-header", where=tmp_path)
    other = hub.add_user(f"other-{repo_id.split('/')[1]}")
    refusal = git("clone", f"http://other:{other}@{address}/{repo_id}", "d", where=tmp_path, succeeds=False)
    assert "not found" in refusal


def test_requests_that_git_would_not_send_are_refused(hub: HubProcess, repo_id: str) -> None:
    url = f"{hub.endpoint}/{repo_id}/git-upload-pack"
    kind = {"Content-Type": "application/x-git-upload-pack-request"}
    assert httpx.get(f"{hub.endpoint}/{repo_id}/info/refs").status_code == 400
    assert httpx.post(url, content=b"0000").status_code == 400
    for encoding, body, status in (
        ("gzip", b"no gzip", 400),
        ("gzip", gzip.compress(b"0000" * 1000)[:-9], 400),
        ("br", b"0000", 400),
        ("gzip", gzip.compress(bytes(17 << 20)), 413),
        ("identity", bytes(17 << 20), 413),
    ):
        answer = httpx.post(url, content=body, headers={**kind, "Content-Encoding": encoding})
        assert answer.status_code == status, (encoding, len(body))
    assert b"unpack ok" not in httpx.post(url, content=b"zzzz not a packet", headers=kind).content
    evil = {"Git-Protocol": "version=2; rm -rf /"}
    refs = httpx.get(f"{hub.endpoint}/{repo_id}/info/refs?service=git-upload-pack", headers=evil)
    assert refs.content.startswith(b"000eversion 2\n")


def test_many_clone_at_once(hub: HubProcess, repo_id: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda n: git("clone", f"{hub.endpoint}/{repo_id}", f"c{n}", where=tmp_path), range(12)))
    assert len(list(tmp_path.glob("c*/f4.txt"))) == 12


def test_a_client_that_goes_away_leaves_no_git_behind(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str]
) -> None:
    repo_id = new_repository()
    with stalled_clone(hub, repo_id, fill(api, repo_id)):
        assert upload_packs_of(hub), "the whole pack was taken"
    assert no_git_is_left(hub)


def test_clients_that_take_nothing_keep_nobody_from_the_repository(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub", "--stall-limit", "4") as hub, contextlib.ExitStack() as stalled:
        api = HfApi(hub.endpoint, token=hub.add_user("ann"))
        api.create_repo("ann/m")
        commit = fill(api, "ann/m")
        for _ in range(CLONES_LIMIT):
            stalled.enter_context(stalled_clone(hub, "ann/m", commit))
        listing = {"Content-Type": "application/x-git-upload-pack-request", "Git-Protocol": "version=2"}
        refs = httpx.post(
            f"{hub.endpoint}/ann/m/git-upload-pack", content=packet("command=ls-refs") + b"0000", headers=listing
        )
        assert upload_packs_of(hub), "the refs were answered while all turns were taken"
        assert commit in refs.text
        assert no_git_is_left(hub)
        git("clone", f"{hub.endpoint}/ann/m", "c", where=tmp_path)
        assert "took nothing of a clone for 4 seconds: /ann/m/git-upload-pack" in hub.log.read_text()
        assert "Traceback" not in hub.log.read_text()


def fill(api: HfApi, repo_id: str) -> str:
    """Commit 16 MiB, more than all buffers on the way to a client hold; the commit."""
    for n in range(2):
        commit = api.upload_file(path_or_fileobj=os.urandom(8 << 20), path_in_repo=f"{n}.dat", repo_id=repo_id).oid
    return commit


@contextlib.contextmanager
def stalled_clone(hub: HubProcess, repo_id: str, commit: str) -> Iterator[None]:
    """A client that asks for a commit and takes no more than the beginning of the pack."""
    request = b"".join((packet("command=fetch"), b"0001", packet(f"want {commit}"), packet("done"), b"0000"))
    head = (
        f"POST /{repo_id}/git-upload-pack HTTP/1.1\r\nHost: hub\r\nGit-Protocol: version=2\r\n"
        f"Content-Type: application/x-git-upload-pack-request\r\nContent-Length: {len(request)}\r\n\r\n"
    )
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # so that the pack cannot wait in the kernel
        client.settimeout(60)
        client.connect(("127.0.0.1", hub.port))
        client.sendall(head.encode() + request)
        received = b""
        while b"packfile" not in received:
            block = client.recv(1 << 10)
            assert block, received
            received += block
        yield


def no_git_is_left(hub: HubProcess) -> bool:
    """Whether all gits of the hub end in time."""
    deadline = time.monotonic() + 60
    while upload_packs_of(hub) and time.monotonic() < deadline:
        time.sleep(0.05)
    return upload_packs_of(hub) == 0


def packet(line: str) -> bytes:
    """A pkt-line (gitprotocol-common(5))."""
    return f"{len(line) + 5:04x}{line}\n".encode()


def upload_packs_of(hub: HubProcess) -> int:
    """How many `git upload-pack` the hub has started that still run."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may just have ended
            session = (process / "stat").read_text().rpartition(")")[2].split()[3]
            found += session == str(hub.process.pid) and b"upload-pack" in (process / "cmdline").read_bytes()
    return found
