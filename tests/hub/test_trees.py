"""Trees, paths and history as the client asks for them."""

import hashlib
from collections.abc import Callable

import httpx
import pytest
from hub_process import HubProcess
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile, RepoFolder

MANY = 1_203


@pytest.fixture(scope="module")
def repo_id(api: HfApi, new_repository: Callable[..., str]) -> str:
    """A repository of three commits, with an LFS file, folders, and names beyond ASCII."""
    repo_id = new_repository()
    for message, operations in (
        ("Add all", [add("a.txt", b"one"), add("d/e/f.txt", b"deep"), add("d/ü ?#%.txt", b"odd"), add("w.bin", b"w")]),
        ("Change <a>\n\nMore & more\nlines", [add("a.txt", b"two")]),
        ("Change f", [add("d/e/f.txt", b"deeper")]),
    ):
        title, _, description = message.partition("\n\n")
        api.create_commit(repo_id, operations, commit_message=title, commit_description=description)
    return repo_id


@pytest.fixture(scope="module")
def large_id(api: HfApi, new_repository: Callable[..., str]) -> str:
    """A dataset of more files than a page of a tree has."""
    repo_id = new_repository("dataset")
    operations = [add(f"many/{n:05}.txt", b"%d" % n) for n in range(MANY)]
    api.create_commit(repo_id, operations, commit_message="Many", repo_type="dataset")
    return repo_id


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def test_a_tree_lists_one_folder_or_all(api: HfApi, repo_id: str) -> None:
    top = list(api.list_repo_tree(repo_id))
    assert [item.path for item in top] == [".gitattributes", "a.txt", "d", "w.bin"]
    assert isinstance(top[2], RepoFolder)
    every = [item.path for item in api.list_repo_tree(repo_id, recursive=True)]
    expected = [".gitattributes", "a.txt", "d", "d/e", "d/e/f.txt", "d/ü ?#%.txt", "w.bin"]
    assert every == expected
    assert [item.path for item in api.list_repo_tree(repo_id, "d/e")] == ["d/e/f.txt"]


def test_files_say_their_size_and_hashes(api: HfApi, repo_id: str) -> None:
    found = {item.path: item for item in api.list_repo_tree(repo_id) if isinstance(item, RepoFile)}
    assert (found["a.txt"].size, found["a.txt"].lfs) == (3, None)
    assert found["a.txt"].blob_id == hashlib.sha1(b"blob 3" + bytes(1) + b"two").hexdigest()
    lfs = found["w.bin"].lfs
    assert lfs is not None
    assert (found["w.bin"].size, lfs.size, lfs.sha256) == (1, 1, hashlib.sha256(b"w").hexdigest())
    assert lfs.pointer_size > 100


def test_pages_of_a_large_tree_join(api: HfApi, large_id: str) -> None:
    listed = [item.path for item in api.list_repo_tree(large_id, "many", repo_type="dataset")]
    assert listed == [f"many/{n:05}.txt" for n in range(MANY)]


def test_pages_stay_at_the_commit_of_the_first(hub: HubProcess, api: HfApi, new_repository: Callable[..., str]) -> None:
    repo_id = new_repository()
    api.create_commit(repo_id, [add(f"f{n}", b"x") for n in range(4)], commit_message="Four")
    url = f"{hub.endpoint}/api/models/{repo_id}/tree/main?limit=3"
    first = httpx.get(url)
    api.create_commit(repo_id, [CommitOperationDelete("f3"), add("f0a", b"x")], commit_message="Other")
    second = httpx.get(first.links["next"]["url"])
    assert [item["path"] for item in first.json() + second.json()] == [".gitattributes", "f0", "f1", "f2", "f3"]
    assert "next" not in second.links


def test_expanded_entries_come_with_their_last_commit(api: HfApi, repo_id: str) -> None:
    found = {item.path: item.last_commit for item in api.list_repo_tree(repo_id, recursive=True, expand=True)}
    titles = {path: commit.title for path, commit in found.items() if commit}
    assert titles == {
        ".gitattributes": "initial commit",
        "a.txt": "Change <a>",
        "d": "Change f",
        "d/e": "Change f",
        "d/e/f.txt": "Change f",
        "d/ü ?#%.txt": "Add all",
        "w.bin": "Add all",
    }


def test_expanded_pages_are_short_and_join(hub: HubProcess, api: HfApi, large_id: str) -> None:
    url = f"{hub.endpoint}/api/datasets/{large_id}/tree/main/many?expand=true"
    assert len(httpx.get(url).json()) == 50
    listed = list(api.list_repo_tree(large_id, "many", repo_type="dataset", expand=True))
    assert len({item.path for item in listed}) == MANY


def test_absent_folders_and_revisions_are_named(hub: HubProcess, api: HfApi, repo_id: str) -> None:
    for path in ("nope", "a.txt"):
        with pytest.raises(EntryNotFoundError):
            list(api.list_repo_tree(repo_id, path))
    with pytest.raises(RevisionNotFoundError):
        list(api.list_repo_tree(repo_id, revision="nope"))
    for bad in ("cursor=x", "cursor=bWFpbjotMQ==", "limit=0", "recursive=perhaps"):
        assert httpx.get(f"{hub.endpoint}/api/models/{repo_id}/tree/main?{bad}").status_code == 400, bad


def test_paths_are_described_and_the_absent_left_out(api: HfApi, repo_id: str) -> None:
    found = api.get_paths_info(repo_id, ["d", "nope", "d/ü ?#%.txt", "w.bin", "a.txt/x"], expand=True)
    assert [item.path for item in found] == ["d", "d/ü ?#%.txt", "w.bin"]
    assert found[0].last_commit is not None
    assert found[0].last_commit.title == "Change f"
    assert api.get_paths_info(repo_id, "a.txt")[0].path == "a.txt"
    assert api.get_paths_info(repo_id, []) == []


def test_paths_may_be_asked_for_as_json(hub: HubProcess, repo_id: str) -> None:
    url = f"{hub.endpoint}/api/models/{repo_id}/paths-info/main"
    assert [item["path"] for item in httpx.post(url, json={"paths": ["a.txt", "d"]}).json()] == ["a.txt", "d"]
    bad: list[dict[str, object]] = [{}, {"paths": 3}, {"paths": [1]}, {"paths": ["x"] * 1001}]
    for body in bad:
        assert httpx.post(url, json=body).status_code == 400
    assert httpx.post(url, content=b"[", headers={"content-type": "application/json"}).status_code == 400
    assert httpx.post(url, data={"paths": [f"p{n}" for n in range(1_001)]}).status_code == 400
    assert httpx.post(url, data={"paths": [f"p{n}" for n in range(1_000)]}).json() == []


def test_commits_are_listed_newest_first(api: HfApi, repo_id: str) -> None:
    found = api.list_repo_commits(repo_id)
    assert [commit.title for commit in found] == ["Change f", "Change <a>", "Add all", "initial commit"]
    assert found[1].message == "More & more\nlines"
    assert found[0].authors == ["ann"]
    assert found[0].commit_id == api.repo_info(repo_id).sha
    assert found[0].created_at >= found[-1].created_at
    assert found[0].created_at.tzinfo is not None
    assert [commit.title for commit in api.list_repo_commits(repo_id, revision=found[2].commit_id)] == [
        "Add all",
        "initial commit",
    ]


def test_formatted_commits_are_safe_html(api: HfApi, repo_id: str) -> None:
    commit = api.list_repo_commits(repo_id, formatted=True)[1]
    assert commit.formatted_title == "Change &lt;a&gt;"
    assert commit.formatted_message == "More &amp; more<br>lines"


def test_pages_of_history_join(hub: HubProcess, repo_id: str) -> None:
    url = f"{hub.endpoint}/api/models/{repo_id}/commits/main?limit=3"
    first = httpx.get(url)
    second = httpx.get(first.links["next"]["url"])
    assert [item["title"] for item in first.json() + second.json()][-1] == "initial commit"
    assert len(first.json()) == 3
    assert len(second.json()) == 1
    assert "next" not in second.links


def test_history_of_an_absent_revision_is_named(api: HfApi, repo_id: str) -> None:
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_commits(repo_id, revision="nope")


def test_private_trees_are_absent_for_others(hub: HubProcess, api: HfApi, new_repository: Callable[..., str]) -> None:
    repo_id = new_repository(private=True)
    for path in ("tree/main", "commits/main", "refs"):
        answer = httpx.get(f"{hub.endpoint}/api/models/{repo_id}/{path}")
        assert answer.headers["X-Error-Code"] == "RepoNotFound"
    answer = httpx.post(f"{hub.endpoint}/api/models/{repo_id}/paths-info/main", data={"paths": "a"})
    assert answer.headers["X-Error-Code"] == "RepoNotFound"
    with pytest.raises(HfHubHTTPError):
        list(HfApi(endpoint=hub.endpoint, token=False).list_repo_tree(repo_id))
    assert list(api.list_repo_tree(repo_id))
