"""Pull requests: proposed by whoever may discuss, merged by whoever may write, whole or not at all."""

import fcntl
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_process import PATIENCE, HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
from open_rooms import open_rooms
from sqlalchemy import select

from lmcommons.hub.database.tables import Event, RepositoryType, now
from lmcommons.hub.errors import Conflict
from lmcommons.hub.operating.garbage import collect
from lmcommons.hub.repos.git import AddFile, GitRepository
from lmcommons.hub.repos.ref_writer import LOCK


@pytest.fixture(scope="module")
def stranger(hub: HubProcess) -> HfApi:
    return HfApi(hub.endpoint, token=hub.add_user(f"proposer{secrets.token_hex(4)}"))


@pytest.fixture
def repo(new_repository: Callable[..., str]) -> str:
    return new_repository()


def propose(api: HfApi, repo: str, path: str = "a.txt", content: bytes = b"new", **more: Any) -> int:
    """The number of a new pull request with one file."""
    commit = api.create_commit(
        repo, [CommitOperationAdd(path, content)], commit_message=f"Add {path}", create_pr=True, **more
    )
    return int(commit.pr_num or 0)


def merge(api: HfApi, repo: str, number: int) -> httpx.Response:
    return httpx.post(
        f"{api.endpoint}/api/models/{repo}/discussions/{number}/merge",
        json={},
        headers={"Authorization": f"Bearer {api.token}"},
        timeout=PATIENCE,
    )


def read(api: HfApi, repo: str, path: str, revision: str = "main") -> bytes:
    return httpx.get(f"{api.endpoint}/{repo}/resolve/{revision}/{path}", follow_redirects=True).content


def test_a_stranger_proposes_and_the_owner_merges(api: HfApi, stranger: HfApi, repo: str):
    weights = os.urandom(2_000)
    proposed = stranger.create_commit(
        repo,
        [CommitOperationAdd("notes.txt", b"better\n"), CommitOperationAdd("w.bin", weights)],
        commit_message="Better notes",
        commit_description="and *weights*",
        create_pr=True,
    )
    assert proposed.pr_url == f"{api.endpoint}/{repo}/discussions/1"
    assert proposed.commit_url == f"{api.endpoint}/{repo}/commit/{proposed.oid}"
    assert "notes.txt" not in api.list_repo_files(repo)
    assert read(api, repo, "w.bin", "refs%2Fpr%2F1") == weights
    told = api.get_discussion_details(repo, 1)
    assert (told.title, told.status, told.target_branch) == ("Better notes", "open", "refs/heads/main")
    assert [event.type for event in told.events] == ["comment", "commit"]
    assert (told.events[0].content, told.events[1].oid) == ("and *weights*", proposed.oid)
    assert told.conflicting_files == []
    assert "+better" in told.diff
    api.merge_pull_request(repo, 1, comment="Thank you")
    merged = api.get_discussion_details(repo, 1)
    assert (merged.status, merged.conflicting_files) == ("merged", [])
    assert [event.type for event in merged.events[2:]] == ["comment", "status-change"]
    assert "+better" in merged.diff
    assert read(api, repo, "w.bin") == weights
    assert api.model_info(repo).sha == merged.merge_commit_oid
    latest = api.list_repo_commits(repo)
    assert latest[0].title == "Merge pull request #1: Better notes"
    assert proposed.oid in {commit.commit_id for commit in latest}


def test_a_draft_takes_its_authors_commits_until_it_is_open_and_merged(api: HfApi, stranger: HfApi, repo: str):
    draft = stranger.create_pull_request(repo, "Draft")
    assert (draft.status, draft.git_reference, draft.diff) == ("draft", "refs/pr/1", "")
    assert merge(api, repo, 1).status_code == 409
    for number in range(3):
        stranger.upload_file(
            path_or_fileobj=str(number).encode(), path_in_repo="n.txt", repo_id=repo, revision="refs/pr/1"
        )
    assert [event.type for event in stranger.get_discussion_details(repo, 1).events] == ["comment", *["commit"] * 3]
    stranger.change_discussion_status(repo, 1, "open")
    assert merge(stranger, repo, 1).status_code == 403
    assert merge(api, repo, 1).status_code == 200
    assert read(api, repo, "n.txt") == b"2"
    again = merge(api, repo, 1)
    assert again.status_code == 409
    assert "is merged" in again.json()["error"]
    with pytest.raises(HfHubHTTPError, match="was merged; open another"):
        stranger.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, revision="refs/pr/1")


def test_only_its_author_and_writers_commit_to_a_pull_request(hub: HubProcess, api: HfApi, stranger: HfApi, repo: str):
    propose(stranger, repo)
    other = HfApi(hub.endpoint, token=hub.add_user(f"other{secrets.token_hex(4)}"))
    with pytest.raises(HfHubHTTPError, match="may not write"):
        other.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, revision="refs/pr/1")
    with pytest.raises(HfHubHTTPError, match="may not write"):
        stranger.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, revision="refs/pr/1")
    with pytest.raises(RevisionNotFoundError):
        stranger.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, revision="refs/pr/7")


def test_conflicts_are_named_and_nothing_is_merged(api: HfApi, repo: str):
    api.upload_file(path_or_fileobj=b"one\n", path_in_repo="both.txt", repo_id=repo)
    propose(api, repo, "both.txt", b"two\n")
    api.upload_file(path_or_fileobj=b"three\n", path_in_repo="both.txt", repo_id=repo)
    head = api.model_info(repo).sha
    told = api.get_discussion_details(repo, 1)
    assert told.conflicting_files == ["both.txt"]
    refused = merge(api, repo, 1)
    assert refused.status_code == 409
    assert "both.txt" in refused.json()["error"]
    assert refused.json()["filesWithConflicts"] == ["both.txt"]
    assert (api.model_info(repo).sha, api.get_discussion_details(repo, 1).status) == (head, "open")
    api.upload_file(path_or_fileobj=b"two\n", path_in_repo="both.txt", repo_id=repo)
    assert merge(api, repo, 1).status_code == 200


def test_nothing_is_left_of_a_proposal_that_cannot_be_committed(api: HfApi, repo: str):
    lines = b'{"key":"header","value":{"summary":"t"}}\n{"key":"file","value":{"path":"../x","content":""}}\n'
    address = f"{api.endpoint}/api/models/{repo}/commit/main?create_pr=1"
    refused = httpx.post(address, content=lines, headers={"Authorization": f"Bearer {api.token}"})
    assert refused.status_code == 422
    assert list(api.get_repo_discussions(repo)) == []
    assert api.list_repo_refs(repo, include_pull_requests=True).pull_requests == []
    for revision in ("absent", api.model_info(repo).sha, "refs/pr/1"):
        with pytest.raises(RevisionNotFoundError):
            propose(api, repo, revision=revision)
    number = propose(api, repo)
    assert [ref.ref for ref in api.list_repo_refs(repo, include_pull_requests=True).pull_requests] == [
        f"refs/pr/{number}"
    ]


def test_nothing_is_told_of_a_proposal_that_was_refused(hub: HubProcess, api: HfApi, repo: str):
    with pytest.raises(HfHubHTTPError):
        api.create_commit(repo, [CommitOperationDelete("absent")], commit_message="Delete", create_pr=True)
    propose(api, repo)
    with hub.rooms() as rooms, rooms.database.read() as session:
        told = session.scalars(select(Event).order_by(Event.id)).all()
    events = [event for event in told if event.data.get("name") == repo]
    kinds = [event.kind for event in events]
    assert kinds == ["repository.created", "discussion.created", "pull_request.created"]
    head = next(ref for ref in api.list_repo_refs(repo, include_pull_requests=True).pull_requests).target_commit
    assert (events[-1].data["before"], events[-1].data["after"]) == (None, head)


def test_a_proposal_begins_at_the_parent_that_is_named(api: HfApi, repo: str):
    parent = api.model_info(repo).sha
    api.upload_file(path_or_fileobj=b"later", path_in_repo="later.txt", repo_id=repo)
    propose(api, repo, parent_commit=parent)
    assert set(api.list_repo_files(repo, revision="refs/pr/1")) == {".gitattributes", "a.txt"}
    assert merge(api, repo, 1).status_code == 200
    assert set(api.list_repo_files(repo)) == {".gitattributes", "a.txt", "later.txt"}
    api.create_branch(repo, branch="side")
    elsewhere = api.upload_file(path_or_fileobj=b"s", path_in_repo="s", repo_id=repo, revision="side").oid
    with pytest.raises(HfHubHTTPError, match="not in the history of main"):
        propose(api, repo, "b.txt", parent_commit=elsewhere)


def test_a_proposal_for_a_branch_is_merged_into_it(api: HfApi, repo: str):
    api.create_branch(repo, branch="dev/one")
    number = propose(api, repo, "dev.txt", revision="dev/one")
    assert api.get_discussion_details(repo, number).target_branch == "refs/heads/dev/one"
    assert merge(api, repo, number).status_code == 200
    assert "dev.txt" in api.list_repo_files(repo, revision="dev/one")
    assert "dev.txt" not in api.list_repo_files(repo)
    number = propose(api, repo, "more.txt", revision="dev/one")
    api.delete_branch(repo, branch="dev/one")
    assert api.get_discussion_details(repo, number).diff == ""
    assert merge(api, repo, number).status_code == 404


def test_what_has_nothing_to_merge_is_refused(api: HfApi, repo: str):
    api.create_pull_request(repo, "empty")
    api.change_discussion_status(repo, 1, "open")
    assert "has no commits yet" in merge(api, repo, 1).json()["error"]
    api.change_discussion_status(repo, 1, "closed")
    assert "is closed" in merge(api, repo, 1).json()["error"]


def test_one_of_two_merges_at_once_merges(api: HfApi, repo: str):
    propose(api, repo)
    with ThreadPoolExecutor(4) as pool:
        codes = sorted(pool.map(lambda _: merge(api, repo, 1).status_code, range(4)))
    assert codes == [200, 409, 409, 409]
    told = api.get_discussion_details(repo, 1)
    assert [event.type for event in told.events] == ["comment", "commit", "status-change"]
    assert len(api.list_repo_commits(repo)) == 3


def test_pull_requests_merged_at_once_are_all_in(api: HfApi, repo: str):
    numbers = [propose(api, repo, f"{number}.txt", str(number).encode()) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert {answer.status_code for answer in pool.map(lambda number: merge(api, repo, number), numbers)} == {200}
    assert {f"{number}.txt" for number in range(6)} < set(api.list_repo_files(repo))
    assert api.model_info(repo).sha == api.list_repo_commits(repo)[0].commit_id


def test_files_of_a_gated_repository_are_not_told_by_its_pull_requests(api: HfApi, stranger: HfApi, repo: str):
    propose(api, repo, "weights.txt", b"the secret")
    api.update_repo_settings(repo, gated="manual")
    assert "the secret" in api.get_discussion_details(repo, 1).diff
    told = stranger.get_discussion_details(repo, 1)
    assert (told.title, told.diff) == ("Add weights.txt", None)
    assert stranger.comment_discussion(repo, 1, "May I see?").author
    with pytest.raises(HfHubHTTPError, match="restricted"):
        stranger.create_pull_request(repo, "x")


def test_a_large_folder_is_proposed_by_the_command(api: HfApi, stranger: HfApi, repo: str, tmp_path: Path):
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(str(number))
    (tmp_path / "w.safetensors").write_bytes(os.urandom(5_000))
    hf = [sys.executable, "-c", "from huggingface_hub.cli.hf import main; main()"]
    environment = {
        **os.environ,
        "HF_ENDPOINT": api.endpoint,
        "HF_TOKEN": str(stranger.token),
        "HF_HOME": str(tmp_path / "h"),
    }
    environment.pop("HF_HUB_DISABLE_XET", None)
    command = [
        *hf,
        "upload",
        repo,
        str(tmp_path),
        ".",
        "--create-pr",
        "--commit-message",
        "All of it",
        "--exclude",
        "h/*",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert len(api.list_repo_files(repo, revision="refs/pr/1")) == 22
    shown = subprocess.run(
        [*hf, "discussions", "diff", repo, "1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "+++ b/w.safetensors" in shown.stdout


def test_a_file_is_deleted_by_a_proposal(api: HfApi, repo: str):
    api.upload_file(path_or_fileobj=b"x", path_in_repo="folder/x", repo_id=repo)
    api.create_commit(repo, [CommitOperationDelete("folder/")], commit_message="Delete", create_pr=True)
    assert "deleted file" in api.get_discussion_details(repo, 1).diff
    assert merge(api, repo, 1).status_code == 200
    assert api.list_repo_files(repo) == [".gitattributes"]


def test_what_is_closed_while_it_is_being_merged_is_not_merged(tmp_path: Path):
    hub = open_rooms(tmp_path)
    ann = hub.tokens.actor(hub.accounts.add_user("ann"))
    repository = hub.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    proposed, _ = hub.pull_requests.propose(ann, repository, "main", [AddFile("a.txt", b"new")], title="t")
    git = hub.repositories.git(repository)
    before = git.resolve("main")
    with ThreadPoolExecutor() as pool, (git.path / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        merging = pool.submit(hub.pull_requests.merge, ann, repository, proposed.number)
        time.sleep(0.5)  # now it waits for the repository
        hub.discussions.set_status(ann, repository, proposed.number, "closed")
        fcntl.flock(lock, fcntl.LOCK_UN)
        with pytest.raises(Conflict, match="is closed"):
            merging.result()
    assert git.resolve("main") == before
    hub.discussions.set_status(ann, repository, proposed.number, "open")
    hub.pull_requests.merge(ann, repository, proposed.number)
    assert git.entry("main", "a.txt").size == 3
    hub.close()


def test_what_a_dead_process_did_not_open_is_collected(tmp_path: Path):
    hub = open_rooms(tmp_path)
    ann = hub.tokens.actor(hub.accounts.add_user("ann"))
    repository = hub.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    git = hub.repositories.git(repository)
    opened = hub.pull_requests.open(ann, repository, "t", "d")
    git.create_ref("refs/pr/2", "main")
    assert hub.pull_requests.remove_unfinished(repository, now() - timedelta(minutes=1)) == 0
    assert hub.pull_requests.open(ann, repository, "t", "d").number == 3, "a number whose ref is there is not given"
    assert collect(hub, now() + timedelta(minutes=1)).pull_requests == 0, "somebody may be opening it"
    os.utime(git.path / "refs/pr/2", (0, 0))
    assert collect(hub, now() + timedelta(minutes=1), dry_run=True).pull_requests == 1
    assert collect(hub, now() + timedelta(minutes=1)).pull_requests == 1
    assert [ref.ref for ref in git.refs().pull_requests] == [opened.ref, "refs/pr/3"]
    hub.close()


def test_kill_9_while_merging_leaves_pull_requests_merged_or_open(tmp_path: Path):
    with start_hub(tmp_path / "hub") as hub:
        api = HfApi(hub.endpoint, token=hub.add_user("ada"))
        api.create_repo("ada/m")
        numbers = [propose(api, "ada/m", f"{number}.txt") for number in range(12)]
        answered: set[int] = set()
        waiting = list(numbers)

        def merge_until_killed() -> None:
            while waiting:
                try:
                    if merge(api, "ada/m", waiting[0]).status_code == 200:
                        answered.add(waiting[0])
                except httpx.TransportError:
                    return
                waiting.pop(0)

        for _ in range(2):
            merger = threading.Thread(target=merge_until_killed)
            merger.start()
            time.sleep(random.uniform(0.03, 0.2))
            os.killpg(hub.process.pid, signal.SIGKILL)
            hub.process.wait()
            merger.join()
            hub.start()
        git = GitRepository(next((hub.data / "repositories").glob("*/1.git")))
        assert git.check() == []
        statuses = {found.num: found.status for found in api.get_repo_discussions("ada/m")}
        assert {number for number in numbers if statuses[number] == "merged"} >= answered
        for number in numbers:
            if statuses[number] == "open":
                assert merge(api, "ada/m", number).status_code == 200
        files = set(api.list_repo_files("ada/m"))
        assert {f"{number}.txt" for number in range(12)} < files
        titles = [commit.title for commit in api.list_repo_commits("ada/m")]
        assert sorted(titles) == sorted({*titles}), "nothing was merged twice"
        for number in numbers:
            merged = api.get_discussion_details("ada/m", number)
            assert merged.status == "merged"
            assert f"+++ b/{number - 1}.txt" in str(merged.diff)
        assert hub.command("fsck") == ""
