"""Large files by their objects: listed, given to other repositories, and removed for good with their history."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError


@pytest.fixture
def repo(new_repository: Callable[..., str]) -> str:
    return new_repository()


def add(api: HfApi, repo: str, **files: bytes) -> str:
    operations = [CommitOperationAdd(f"{name}.bin", content) for name, content in files.items()]
    return api.create_commit(repo, operations, commit_message=f"Add {', '.join(files)}").oid


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def post(api: HfApi, path: str, body: object, token: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or api.token}"}
    return httpx.post(f"{api.endpoint}/api/models/{path}", json=body, headers=headers)


def test_all_objects_are_listed_with_a_path_and_where_they_are_now(api: HfApi, repo: str):
    add(api, repo, kept=b"kept", deleted=b"deleted")
    api.create_commit(repo, [CommitOperationDelete("deleted.bin")], commit_message="Delete")
    found = {file.filename: file for file in api.list_lfs_files(repo)}
    assert found.keys() == {"kept.bin", "deleted.bin"}
    assert (found["kept.bin"].ref, found["deleted.bin"].ref) == ("refs/heads/main", None)
    assert (found["kept.bin"].file_oid, found["kept.bin"].size) == (sha256(b"kept"), 4)


def test_a_long_list_comes_in_pages(api: HfApi, repo: str, hub: HubProcess):
    add(api, repo, **{f"n{number}": b"%d" % number for number in range(5)})
    with hub.rooms() as rooms:
        stored = next(found for found in rooms.repositories.all() if found.full_name == repo)
        first, more = rooms.large_files.listing(stored, limit=3)
        rest, end = rooms.large_files.listing(stored, first[-1].sha256, limit=3)
    assert (len(first), more, len(rest), end) == (3, True, 2, False)
    assert len({file.sha256 for file in (*first, *rest)}) == 5


def test_the_history_is_walked_once_for_all_pages(
    api: HfApi, repo: str, hub: HubProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    add(api, repo, **{f"n{number}": b"%d" % number for number in range(5)})
    gone = [CommitOperationDelete(f"n{number}.bin") for number in range(5)]
    api.create_commit(repo, gone, commit_message="Delete")
    git, calls = tmp_path / "git", tmp_path / "calls"
    git.write_text(f'#!/bin/sh\necho "$@" >>{calls}\nexec {shutil.which("git")} "$@"\n')
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = {}
    with hub.rooms() as rooms:
        stored = next(found for found in rooms.repositories.all() if found.full_name == repo)
        more, after = True, ""
        while more:
            files, more = rooms.large_files.listing(stored, after, limit=2)
            after = files[-1].sha256
            found |= {file.path: file.ref for file in files}
    assert found == {f"n{number}.bin": None for number in range(5)}
    assert calls.read_text().count("rev-list") == 1


def test_removing_for_good_rewrites_all_of_the_history(api: HfApi, repo: str):
    first = add(api, repo, secret=b"secret", kept=b"kept")
    api.create_tag(repo, tag="light")
    api.create_tag(repo, tag="v1", tag_message="With words")
    api.create_branch(repo, branch="other")
    api.upload_file(path_or_fileobj=b"text", path_in_repo="a/b/notes.txt", repo_id=repo, revision="other")
    last = add(api, repo, more=b"more")
    messages = [commit.title for commit in api.list_repo_commits(repo)]
    dates = [commit.created_at for commit in api.list_repo_commits(repo)]
    doomed = [file for file in api.list_lfs_files(repo) if file.filename == "secret.bin"]
    api.permanently_delete_lfs_files(repo, doomed)
    for revision, files in {
        "main": {"kept.bin", "more.bin"},
        "other": {"kept.bin", "a/b/notes.txt"},
        "light": {"kept.bin"},
        "v1": {"kept.bin"},
    }.items():
        assert set(api.list_repo_files(repo, revision=revision)) == {".gitattributes", *files}
    assert [commit.title for commit in api.list_repo_commits(repo)] == messages
    assert [commit.created_at for commit in api.list_repo_commits(repo)] == dates
    assert api.model_info(repo).sha != last
    assert {ref.target_commit for ref in api.list_repo_refs(repo).tags}.isdisjoint({first})
    assert {file.filename for file in api.list_lfs_files(repo)} == {"kept.bin", "more.bin"}
    answer = httpx.get(
        f"{api.endpoint}/{repo}/resolve/main/kept.bin", headers=authorization(api), follow_redirects=True
    )
    assert answer.content == b"kept"
    add(api, repo, after=b"after")


def authorization(api: HfApi) -> dict[str, str]:
    return {"Authorization": f"Bearer {api.token}"}


def test_commits_before_the_removed_file_stay_as_they_are(api: HfApi, repo: str):
    before = add(api, repo, kept=b"kept")
    add(api, repo, secret=b"secret")
    api.permanently_delete_lfs_files(repo, [file for file in api.list_lfs_files(repo) if file.size == 6])
    assert before in [commit.commit_id for commit in api.list_repo_commits(repo)]


def test_without_a_rewrite_the_file_stays_named_and_has_no_content(api: HfApi, repo: str):
    last = add(api, repo, secret=b"secret")
    api.permanently_delete_lfs_files(repo, list(api.list_lfs_files(repo)), rewrite_history=False)
    assert api.model_info(repo).sha == last
    assert "secret.bin" in api.list_repo_files(repo)
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(repo, "secret.bin", force_download=True)
    assert list(api.list_lfs_files(repo)) == []


def test_a_rewritten_repository_is_sound_and_can_be_cloned(api: HfApi, repo: str, hub: HubProcess, tmp_path: Path):
    add(api, repo, secret=b"secret")
    add(api, repo, kept=b"kept")
    api.permanently_delete_lfs_files(repo, [file for file in api.list_lfs_files(repo) if file.size == 6])
    address = f"{hub.endpoint}/{repo}".replace("://", f"://ann:{api.token}@")
    without_content = os.environ | {"GIT_LFS_SKIP_SMUDGE": "1"}
    subprocess.run(["git", "clone", "--quiet", address, tmp_path / "clone"], check=True, env=without_content)
    checked = subprocess.run(["git", "fsck", "--strict"], cwd=tmp_path / "clone", capture_output=True, text=True)
    assert (checked.returncode, checked.stderr.count("error")) == (0, 0)
    assert hub.command("fsck") == ""


def test_only_who_manages_a_repository_removes_its_objects(api: HfApi, repo: str, hub: HubProcess):
    add(api, repo, kept=b"kept")
    body = {"deletions": {"sha": [sha256(b"kept")], "rewriteHistory": True}}
    stranger = hub.add_user("large-file-stranger")
    assert post(api, f"{repo}/lfs-files/batch", body, token=stranger).status_code == 403
    assert len(list(api.list_lfs_files(repo))) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"deletions": []},
        {"deletions": {"sha": "x"}},
        {"deletions": {"sha": ["x"]}},
        {"deletions": {"sha": [1]}},
        {"deletions": {"sha": ["0" * 64] * 1001}},
        {"deletions": {"sha": ["0" * 64], "rewriteHistory": "yes"}},
    ],
)
def test_removals_that_make_no_sense_are_refused(api: HfApi, repo: str, body: dict):
    answer = post(api, f"{repo}/lfs-files/batch", body)
    assert answer.status_code in (400, 413)
    assert "\n" not in answer.json()["error"]


def duplicate(api: HfApi, source: str, target: str, *contents: bytes, token: str | None = None) -> httpx.Response:
    files = [{"sha256": sha256(content), "filename": "w.bin"} for content in contents]
    body = {"target": {"type": "model", "name": target}, "files": files}
    return post(api, f"{source}/lfs-files/duplicate", body, token)


def name(api: HfApi, repo: str, content: bytes, token: str | None = None) -> httpx.Response:
    """Commit a file that is made of this object."""
    value = {"path": "w.bin", "algo": "sha256", "oid": sha256(content), "size": len(content)}
    lines = [{"key": "header", "value": {"summary": "w"}}, {"key": "lfsFile", "value": value}]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    headers = {"Authorization": f"Bearer {token or api.token}"}
    return httpx.post(f"{api.endpoint}/api/models/{repo}/commit/main", content=body, headers=headers)


def test_an_object_is_given_to_another_repository(api: HfApi, repo: str, new_repository: Callable):
    target = new_repository()
    add(api, repo, w=b"given")
    answer = duplicate(api, repo, target, b"given", b"not there")
    assert [failure["sha256"] for failure in answer.json()["failed"]] == [sha256(b"not there")]
    assert name(api, target, b"given").status_code == 200
    assert name(api, target, b"not there").status_code == 400


def test_another_xet_hash_than_the_file_has_is_refused(api: HfApi, repo: str, new_repository: Callable):
    add(api, repo, w=b"given")
    files = [{"sha256": sha256(b"given"), "xetHash": "0" * 64, "filename": "w.bin"}]
    body = {"target": {"type": "model", "name": new_repository()}, "files": files}
    assert len(post(api, f"{repo}/lfs-files/duplicate", body).json()["failed"]) == 1


def test_objects_are_given_by_who_reads_the_source_and_writes_the_target(
    api: HfApi, new_repository: Callable, hub: HubProcess
):
    private, public = new_repository(private=True), new_repository()
    add(api, private, w=b"private")
    token = hub.add_user("large-file-thief")
    thief = HfApi(api.endpoint, token=token)
    own = thief.create_repo("large-file-thief/m").repo_id
    assert duplicate(api, private, own, b"private", token=token).status_code == 404
    assert duplicate(api, public, own, b"private", token=token).json()["failed"] != []
    assert duplicate(api, own, private, b"private", token=token).status_code == 404
    assert name(api, own, b"private", token).status_code == 400
    with pytest.raises(HfHubHTTPError):
        list(thief.list_lfs_files(private))
