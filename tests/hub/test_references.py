"""Branches and tags through the client."""

from collections.abc import Callable

import httpx
import pytest
from hub_process import HubProcess
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError


@pytest.fixture
def repo_id(api: HfApi, new_repository: Callable[..., str]) -> str:
    """A repository of two commits."""
    repo_id = new_repository()
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo_id)
    return repo_id


def head(api: HfApi, repo_id: str, revision: str = "main") -> str:
    sha = api.repo_info(repo_id, revision=revision).sha
    assert sha is not None
    return sha


def test_branches_begin_at_main_or_anywhere(api: HfApi, repo_id: str) -> None:
    first = api.list_repo_commits(repo_id)[-1].commit_id
    api.create_branch(repo_id, branch="dev")
    api.create_branch(repo_id, branch="a/b-c", revision=first)
    api.create_branch(repo_id, branch="c", revision="a/b-c")
    found = {branch.name: branch for branch in api.list_repo_refs(repo_id).branches}
    assert found["dev"].target_commit == head(api, repo_id)
    assert (found["a/b-c"].ref, found["a/b-c"].target_commit) == ("refs/heads/a/b-c", first)
    assert found["c"].target_commit == first
    api.delete_branch(repo_id, branch="a/b-c")
    assert {branch.name for branch in api.list_repo_refs(repo_id).branches} == {"main", "dev", "c"}


def test_a_branch_that_exists_conflicts_unless_that_is_fine(api: HfApi, repo_id: str) -> None:
    for branch in ("main", "dev"):
        api.create_branch(repo_id, branch=branch, exist_ok=True)
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_branch(repo_id, branch=branch)
        assert caught.value.response.status_code == 409


def test_main_is_never_deleted(api: HfApi, repo_id: str) -> None:
    with pytest.raises(HfHubHTTPError, match="default branch") as caught:
        api.delete_branch(repo_id, branch="main")
    assert caught.value.response.status_code == 403


def test_absent_branches_and_names_that_cannot_be(api: HfApi, repo_id: str) -> None:
    with pytest.raises(RevisionNotFoundError, match="Invalid rev id"):
        api.delete_branch(repo_id, branch="nope")
    with pytest.raises(RevisionNotFoundError):
        api.create_branch(repo_id, branch="x", revision="nope")
    for name in ("refs/pr/5", "a b", "../x", "x.lock"):
        with pytest.raises(BadRequestError, match="Invalid reference for a branch"):
            api.create_branch(repo_id, branch=name)


def test_tags_are_made_with_and_without_words(api: HfApi, repo_id: str) -> None:
    first = api.list_repo_commits(repo_id)[-1].commit_id
    api.create_tag(repo_id, tag="v1", tag_message="The first")
    api.create_tag(repo_id, tag="v0", revision=first)
    found = {tag.name: (tag.ref, tag.target_commit) for tag in api.list_repo_refs(repo_id).tags}
    assert found == {"v0": ("refs/tags/v0", first), "v1": ("refs/tags/v1", head(api, repo_id))}
    assert head(api, repo_id, "v0") == first
    api.create_tag(repo_id, tag="v1", exist_ok=True)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_tag(repo_id, tag="v1")
    assert caught.value.response.status_code == 409
    api.delete_tag(repo_id, tag="v1")
    assert [tag.name for tag in api.list_repo_refs(repo_id).tags] == ["v0"]
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repo_id, tag="v1")


def test_pull_requests_are_listed_when_asked_for(hub: HubProcess, api: HfApi, repo_id: str) -> None:
    assert api.list_repo_refs(repo_id).pull_requests is None
    assert api.list_repo_refs(repo_id, include_pull_requests=True).pull_requests == []


def test_squashing_leaves_one_commit_with_the_same_files(api: HfApi, repo_id: str) -> None:
    before = [item.path for item in api.list_repo_tree(repo_id)]
    api.super_squash_history(repo_id, commit_message="All of it")
    assert [commit.title for commit in api.list_repo_commits(repo_id)] == ["All of it"]
    assert [item.path for item in api.list_repo_tree(repo_id)] == before
    assert head(api, repo_id) == api.list_repo_commits(repo_id)[0].commit_id


def test_only_writers_change_references(hub: HubProcess, api: HfApi, repo_id: str) -> None:
    other = hub.add_user(f"other-{repo_id.split('/')[1]}")
    api.create_branch(repo_id, branch="dev")
    base = f"{hub.endpoint}/api/models/{repo_id}"
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {other}"}, 403)):
        for method, path, body in (
            ("POST", "branch/x", {}),
            ("DELETE", "branch/dev", None),
            ("POST", "tag/main", {"tag": "v1"}),
            ("DELETE", "tag/v1", None),
            ("POST", "super-squash/main", {}),
        ):
            answer = httpx.request(method, f"{base}/{path}", json=body, headers=headers)
            assert answer.status_code == status, (method, path)
    assert {branch.name for branch in api.list_repo_refs(repo_id).branches} == {"main", "dev"}


def test_bodies_that_make_no_sense_are_refused(hub: HubProcess, token: str, repo_id: str) -> None:
    base = f"{hub.endpoint}/api/models/{repo_id}"
    headers = {"Authorization": f"Bearer {token}"}
    for path, body in (
        ("tag/main", {}),
        ("tag/main", {"tag": 3}),
        ("branch/x", {"startingPoint": []}),
        ("branch/x", []),
    ):
        assert httpx.post(f"{base}/{path}", json=body, headers=headers).status_code == 400
