"""Commits through the API: what the client sends is what is there, whole, or nothing is."""

import base64
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hub_process import PATIENCE, HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from lmcommons.hub.repos.git import GitRepository


@pytest.fixture(scope="module")
def token(hub: HubProcess) -> str:
    return hub.add_user("writer")


@pytest.fixture(scope="module")
def api(hub: HubProcess, token: str) -> HfApi:
    return HfApi(hub.endpoint, token=token)


@pytest.fixture
def repo(api: HfApi, request: pytest.FixtureRequest) -> str:
    name = "writer/" + "".join(letter if letter.isalnum() else "-" for letter in request.node.originalname)[-60:].strip(
        "-"
    )
    number = len(list(api.list_models(author="writer")))
    return api.create_repo(f"{name}-{number}").repo_id


def read(api: HfApi, repo: str, path: str, revision: str = "main") -> bytes:
    answer = httpx.get(
        f"{api.endpoint}/{repo}/resolve/{revision}/{path}",
        headers={"Authorization": f"Bearer {api.token}"},
        follow_redirects=True,
    )
    return answer.raise_for_status().content


def send(api: HfApi, repo: str, *lines: object, revision: str = "main", query: str = "") -> httpx.Response:
    """A commit request with these lines after the header; bytes are sent as they are."""
    header = {"key": "header", "value": {"summary": "title"}}
    body = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in (header, *lines))
    return httpx.post(
        f"{api.endpoint}/api/models/{repo}/commit/{revision}{query}",
        content=body,
        headers={"Authorization": f"Bearer {api.token}", "Content-Type": "application/x-ndjson"},
        timeout=PATIENCE,
    )


def file_line(path: str, content: bytes = b"x") -> dict:
    return {
        "key": "file",
        "value": {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"},
    }


def test_a_folder_is_uploaded_as_it_is(api: HfApi, repo: str, tmp_path: Path):
    files = {
        "README.md": b"---\nlicense: mit\n---\n# Hi\n",
        "deep/er/notes.txt": "文字 ∂".encode(),
        "weights.safetensors": os.urandom(200_000),
        "empty.txt": b"",
        "empty.bin": b"",
        "big.txt": b"line\n" * 2_200_000,
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    commit = api.upload_folder(repo_id=repo, folder_path=tmp_path, commit_message="All", commit_description="of it")
    assert commit.commit_url == f"{api.endpoint}/{repo}/commit/{commit.oid}"
    info = api.model_info(repo, files_metadata=True)
    assert info.sha == commit.oid
    found = {file.rfilename: file for file in info.siblings}
    assert found.keys() == {*files, ".gitattributes"}
    assert {name for name, file in found.items() if file.lfs} == {"weights.safetensors", "big.txt"}
    assert all(read(api, repo, name) == content for name, content in files.items())
    latest = api.list_repo_commits(repo)[0]
    assert (latest.title, latest.message, latest.authors) == ("All", "of it", ["writer"])
    # The same again sends nothing and commits nothing.
    assert api.upload_folder(repo_id=repo, folder_path=tmp_path).oid == commit.oid
    assert len(api.list_repo_commits(repo)) == 2


def test_ignored_files_are_not_uploaded(api: HfApi, repo: str, tmp_path: Path):
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\nbuild/\n")
    for name in ("a.log", "keep.log", "a.txt", "build/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    api.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert set(api.list_repo_files(repo)) == {".gitattributes", ".gitignore", "a.txt", "keep.log"}


def test_files_are_deleted_copied_and_replaced_in_one_commit(api: HfApi, repo: str):
    api.create_commit(
        repo,
        [
            CommitOperationAdd("a.txt", b"a"),
            CommitOperationAdd("folder/b.txt", b"b"),
            CommitOperationAdd("folder/c.txt", b"c"),
            CommitOperationAdd("w.bin", b"weights"),
        ],
        commit_message="before",
    )
    api.create_commit(
        repo,
        [
            CommitOperationDelete("folder/"),
            CommitOperationAdd("a.txt", b"new a"),
            CommitOperationCopy("w.bin", "copy/w2.bin"),
        ],
        commit_message="after",
    )
    assert set(api.list_repo_files(repo)) == {".gitattributes", "a.txt", "w.bin", "copy/w2.bin"}
    assert read(api, repo, "a.txt") == b"new a"
    assert read(api, repo, "copy/w2.bin") == b"weights"
    copy = {"key": "copyFile", "value": {"path": "a2.txt", "srcPath": "a.txt", "srcRevision": "main"}}
    assert send(api, repo, copy).status_code == 200
    assert read(api, repo, "a2.txt") == b"new a"
    with pytest.raises(EntryNotFoundError):
        api.delete_file("absent.txt", repo)


def test_a_commit_that_changes_nothing_is_the_present_one(api: HfApi, repo: str):
    assert send(api, repo, file_line("a.txt")).status_code == 200
    head = api.model_info(repo).sha
    assert send(api, repo, file_line("a.txt")).json()["commitOid"] == head
    assert len(api.list_repo_commits(repo)) == 2


def test_commits_go_to_the_branch_that_is_named(api: HfApi, repo: str):
    api.create_branch(repo, branch="try/this")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, revision="try/this")
    assert "x.txt" in api.list_repo_files(repo, revision="try/this")
    assert "x.txt" not in api.list_repo_files(repo)
    for absent in ("absent", "a%20b", "..%2Fmain", "%00", "x" * 3_000, "refs%2Fheads%2Fmain"):
        refused = send(api, repo, file_line("y"), revision=absent)
        assert refused.status_code in (400, 404), absent
        assert len(refused.json()["error"]) < 5_000
    assert send(api, repo, file_line("y"), revision="absent").headers["x-error-code"] == "RevisionNotFound"
    api.create_tag(repo, tag="v1")
    assert "'v1' is not a branch" in send(api, repo, file_line("y"), revision="v1").json()["error"]


def test_a_stale_parent_is_refused(api: HfApi, repo: str):
    parent = api.model_info(repo).sha
    first = api.create_commit(repo, [CommitOperationAdd("a", b"a")], commit_message="a", parent_commit=parent)
    said = "The branch was updated since you opened this page. Please refresh and try again."
    with pytest.raises(HfHubHTTPError, match=said) as stale:
        api.create_commit(repo, [CommitOperationAdd("b", b"b")], commit_message="b", parent_commit=parent)
    assert stale.value.response.status_code == 412
    assert api.model_info(repo).sha == first.oid


def test_commits_at_once_on_one_branch_are_all_kept(api: HfApi, repo: str):
    def commit(number: int) -> None:
        assert send(api, repo, file_line(f"{number}.txt", str(number).encode())).status_code == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, range(24)))
    assert {f"{number}.txt" for number in range(24)} < set(api.list_repo_files(repo))
    assert len(api.list_repo_commits(repo)) == 25
    assert api.model_info(repo).sha == api.list_repo_commits(repo)[0].commit_id


def test_only_one_of_two_commits_with_the_same_parent_wins(api: HfApi, repo: str):
    parent = api.model_info(repo).sha
    barrier = threading.Barrier(2)

    def commit(number: int) -> int:
        header = {"key": "header", "value": {"summary": "t", "parentCommit": parent}}
        barrier.wait()
        return send(api, repo, header, file_line(f"{number}.txt")).status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(commit, range(2))) == [200, 412]


@pytest.mark.parametrize(
    "path",
    [
        "../x", "/etc/passwd", "a/../../x", "a//b", "a/./b", ".git/config", "a/.GIT/hooks/x", "git~1/x", "..\\x",
        "a\nb", "a\x00b", "", ".", "x" * 300, "a/" * 600 + "b", "\u200c.git/x",
    ],
)  # fmt: skip
def test_paths_that_leave_the_repository_or_trick_git_are_refused(api: HfApi, token: str, hub: HubProcess, path: str):
    api.create_repo("writer/paths", exist_ok=True)
    head = api.model_info("writer/paths").sha
    answer = send(api, "writer/paths", file_line("fine.txt"), file_line(path))
    assert answer.status_code == 422, answer.text
    assert "\n" not in answer.json()["error"]
    assert api.model_info("writer/paths").sha == head
    asked = httpx.post(
        f"{hub.endpoint}/api/models/writer/paths/preupload/main",
        json={"files": [{"path": path, "size": 1, "sample": ""}]},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert asked.status_code == 422


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{not json}\n", "Line 2: not JSON"),
        (b"[]\n", "Line 2: must be a JSON object"),
        ({"key": "file"}, "Line 2: `value` must be an object"),
        ({"key": "file", "value": {"path": "a"}}, "Line 2: The field 'content' must be a string"),
        ({"key": "file", "value": {"path": "a", "content": "?"}}, "Line 2: a: `content` is not base64"),
        ({"key": "file", "value": {"path": "a", "content": "é"}}, "Line 2: a: `content` is not base64"),
        ({"key": "file", "value": {"path": "a", "content": "eA==", "encoding": "utf-8"}}, "must be base64"),
        ({"key": "file", "value": {"path": 1, "content": ""}}, "'path' must be a string"),
        ({"key": "lfsFile", "value": {"path": "a", "oid": "xyz"}}, "must be a sha256"),
        ({"key": "lfsFile", "value": {"path": "a", "oid": "0" * 64, "size": "1"}}, "'size' must be a whole number"),
        ({"key": "burn", "value": {"path": "a"}}, "Line 2: unknown operation 'burn'"),
        ({"key": "header", "value": {"summary": ""}}, "no title"),
        (b"\xff\xfe\n", "Line 2: not JSON"),
    ],
)
def test_bodies_that_make_no_sense_change_nothing(api: HfApi, line: object, reason: str):
    api.create_repo("writer/nonsense", exist_ok=True)
    head = api.model_info("writer/nonsense").sha
    answer = send(api, "writer/nonsense", line, file_line("b.txt"))
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert api.model_info("writer/nonsense").sha == head


def test_a_file_where_a_folder_is_is_refused(api: HfApi, repo: str):
    send(api, repo, file_line("a/b.txt"))
    assert send(api, repo, file_line("a")).status_code == 400
    assert send(api, repo, file_line("a/b.txt/c")).status_code == 400


def test_strangers_cannot_commit(hub: HubProcess, api: HfApi, repo: str):
    stranger = HfApi(hub.endpoint, token=hub.add_user("commit-stranger"))
    assert send(stranger, repo, file_line("a")).status_code == 403
    assert send(HfApi(hub.endpoint, token="hf_wrong"), repo, file_line("a")).status_code == 401
    anonymous = httpx.post(f"{hub.endpoint}/api/models/{repo}/commit/main", content=b"")
    assert anonymous.status_code == 401


def test_kill_9_in_the_middle_of_commits_leaves_whole_commits_only(tmp_path: Path):
    with start_hub(tmp_path / "hub") as hub:
        api = HfApi(hub.endpoint, token=hub.add_user("ada"))
        api.create_repo("ada/m")
        answered: list[int] = []

        def commit_until_killed() -> None:
            for number in range(1_000):
                lines = [file_line(f"{number}/{part}.txt", os.urandom(2_000)) for part in range(20)]
                try:
                    if send(api, "ada/m", *lines).status_code == 200:
                        answered.append(number)
                except httpx.TransportError:
                    return

        for _ in range(2):
            sender = threading.Thread(target=commit_until_killed)
            sender.start()
            already, deadline = len(answered), time.monotonic() + PATIENCE
            while len(answered) == already and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.5))
            os.killpg(hub.process.pid, signal.SIGKILL)
            hub.process.wait()
            sender.join()
            hub.start()
            git = GitRepository(next((hub.data / "repositories").glob("*/1.git")))
            assert git.check() == []
            folders = {entry.path: entry for entry in git.entries("main") if entry.type == "directory"}
            assert all(len(git.entries("main", folder)) == 20 for folder in folders)
            assert {str(number) for number in answered} <= folders.keys()
            assert api.model_info("ada/m").sha == git.resolve("main")
            assert send(api, "ada/m", file_line("again.txt", os.urandom(9))).status_code == 200
        assert hub.command("fsck") == ""
        assert answered


def processor_seconds(hub: HubProcess) -> float:
    """What the processes of a hub, and those that they have waited for, have used of the processor (proc(5), stat)."""
    ticks = 0
    for pid in {hub.process.pid} | hub.workers():
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def test_ten_thousand_files_in_one_commit_take_seconds(hub: HubProcess, api: HfApi, repo: str):
    lines = [file_line(f"{number // 100}/{number}.txt", str(number).encode()) for number in range(10_000)]
    started = processor_seconds(hub)
    assert send(api, repo, *lines).status_code == 200
    assert processor_seconds(hub) - started < 30
    assert len(api.list_repo_files(repo)) == 10_001
    deleted = [{"key": "deletedFolder", "value": {"path": f"{number}/"}} for number in range(100)]
    assert send(api, repo, *deleted).status_code == 200
    assert api.list_repo_files(repo) == [".gitattributes"]


def test_memory_stays_bounded_while_large_commits_are_sent(tmp_path: Path):
    with start_hub(tmp_path / "hub") as hub:
        api = HfApi(hub.endpoint, token=hub.add_user("ada"))
        api.create_repo("ada/m")

        def body(lines: Iterator[bytes]) -> Iterator[bytes]:
            yield b'{"key": "header", "value": {"summary": "large"}}\n'
            yield from lines

        def post(lines: Iterator[bytes]) -> httpx.Response:
            address = f"{hub.endpoint}/api/models/ada/m/commit/main"
            headers = {"Authorization": f"Bearer {api.token}"}
            return httpx.post(address, content=body(lines), headers=headers, timeout=PATIENCE)

        files = (
            json.dumps(file_line(f"{number}.txt", bytes([number]) * (1 << 20))).encode() + b"\n"
            for number in range(120)
        )
        assert post(files).status_code == 200
        assert post(b" " * (1 << 20) for _ in range(20)).status_code == 413
        peak = Path(f"/proc/{hub.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(peak) < 250_000  # kB
        assert read(api, "ada/m", "119.txt") == bytes([119]) * (1 << 20)
