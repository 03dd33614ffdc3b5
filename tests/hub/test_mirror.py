"""Repositories of another hub that are kept here too."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess, free_port, lmc_hub, start_hub
from huggingface_hub import CommitOperationAdd, HfApi

from lmcommons.hub.objects.store import object_key


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """The hub from which is mirrored."""
    with start_hub(tmp_path_factory.mktemp("other") / "hub") as running:
        yield running


@pytest.fixture(scope="module")
def origin(other: HubProcess) -> HfApi:
    """The organisation `lab` there: a public model and a private dataset, with large files, a tag and a branch."""
    api = HfApi(other.endpoint, token=other.add_user("ada"))
    other.add_organisation("lab", "--member", "ada:admin")
    for repo_type in ("model", "dataset"):
        api.create_repo("lab/r", repo_type=repo_type, private=repo_type == "dataset")
        for content in (b"old weights", b"new weights"):
            files = [CommitOperationAdd("w.bin", content), CommitOperationAdd("a.txt", content[:3])]
            api.create_commit("lab/r", files, commit_message="Files", repo_type=repo_type)
        api.create_tag("lab/r", tag="v1", tag_message="first", repo_type=repo_type)
        api.create_branch("lab/r", branch="dev", repo_type=repo_type)
    return api


@pytest.fixture
def here(tmp_path: Path) -> Iterator[HubProcess]:
    """The hub that mirrors, with an organisation of the same name."""
    with start_hub(tmp_path / "here") as running:
        running.add_user("bob")
        running.add_organisation("lab", "--member", "bob:admin")
        yield running


@pytest.fixture
def api(here: HubProcess) -> HfApi:
    return HfApi(here.endpoint, token=here.add_token("bob", "write"))


def mirror(here: HubProcess, other: HubProcess, name: str, *options: str) -> "subprocess.CompletedProcess[str]":
    return lmc_hub("mirror", name, "--data", here.data, "--from", other.endpoint, *options)


def download(hub: HubProcess, address: str) -> bytes:
    return httpx.get(f"{hub.endpoint}/{address}", follow_redirects=True).content


def same(api: HfApi, origin: HfApi, repo_type: str) -> bool:
    return api.list_repo_refs("lab/r", repo_type=repo_type) == origin.list_repo_refs("lab/r", repo_type=repo_type)


def test_an_organisation_comes_with_history_contents_and_privacy(
    other: HubProcess, origin: HfApi, here: HubProcess, api: HfApi, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("THEIR_TOKEN", origin.token)
    done = mirror(here, other, "lab", "--token-env", "THEIR_TOKEN")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert origin.token not in done.stderr
    for repo_type in ("model", "dataset"):
        assert same(api, origin, repo_type)
        assert api.repo_info("lab/r", repo_type=repo_type).private == (repo_type == "dataset")
    commits = [commit.commit_id for commit in api.list_repo_commits("lab/r")]
    assert commits == [commit.commit_id for commit in origin.list_repo_commits("lab/r")]
    for revision, content in ((commits[0], b"new weights"), (commits[1], b"old weights")):
        assert download(here, f"lab/r/resolve/{revision}/w.bin") == content
    assert here.command("fsck") == ""


def test_without_a_token_only_what_is_public_comes(other: HubProcess, origin: HfApi, here: HubProcess, api: HfApi):
    assert mirror(here, other, "lab").returncode == 0
    assert [model.id for model in api.list_models()] == ["lab/r"]
    assert list(api.list_datasets()) == []
    done = mirror(here, other, "lab/r", "--type", "dataset")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_a_mirror_follows_and_spares_local_work(other: HubProcess, origin: HfApi, here: HubProcess, api: HfApi):
    assert mirror(here, other, "lab/r").returncode == 0
    assert "unchanged" in mirror(here, other, "lab/r").stderr
    origin.upload_file(path_or_fileobj=b"more weights", path_in_repo="w2.bin", repo_id="lab/r")
    origin.delete_branch("lab/r", branch="dev")
    done = mirror(here, other, "lab/r")
    assert done.stderr.count("bytes") == 1  # what is here is not fetched again
    assert api.model_info("lab/r").sha == origin.model_info("lab/r").sha
    assert download(here, "lab/r/resolve/main/w2.bin") == b"more weights"
    mine = api.upload_file(path_or_fileobj=b"mine", path_in_repo="mine.txt", repo_id="lab/r").oid
    origin.upload_file(path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id="lab/r")
    done = mirror(here, other, "lab/r")
    assert done.returncode == 1
    assert done.stdout == "lab/r: refs/heads/main has work that is only here; --force replaces it\n"
    assert api.model_info("lab/r").sha == mine
    assert mirror(here, other, "lab/r", "--force").returncode == 0
    assert same(api, origin, "model")
    origin.create_branch("lab/r", branch="dev")


def test_an_interrupted_mirror_goes_on(other: HubProcess, origin: HfApi, here: HubProcess, api: HfApi):
    """A large object that is missing there stops the mirror, and nothing of it shows; with the object it goes on."""
    origin.create_repo("lab/broken")
    files = [CommitOperationAdd("a.bin", b"first object"), CommitOperationAdd("b.bin", b"second object")]
    origin.create_commit("lab/broken", files, commit_message="Files")
    victim = hashlib.sha256(b"second object").hexdigest()
    with other.rooms() as rooms:
        rooms.objects.delete(victim)
        done = mirror(here, other, "lab/broken")
        assert done.returncode == 1
        assert victim in done.stdout
        assert api.list_repo_files("lab/broken") == [".gitattributes"]
        rooms.objects.blobs.put(object_key(victim), b"second object")
    assert mirror(here, other, "lab/broken", "--force").returncode == 0
    assert api.model_info("lab/broken").sha == origin.model_info("lab/broken").sha
    origin.delete_repo("lab/broken")


def test_what_cannot_be_mirrored_is_one_line(other: HubProcess, origin: HfApi, here: HubProcess, tmp_path: Path):
    cases = (
        (("lab/none", "--from", other.endpoint), 1),
        (("nobody/r", "--from", other.endpoint), 2),
        (("lab/r", "--from", f"http://127.0.0.1:{free_port()}"), 1),
        (("lab", "--from", "file:///etc"), 2),
        (("lab", "--from", other.endpoint, "--type", "paper"), 2),
        (("lab", "--from", other.endpoint, "--token-env", "NO_SUCH_VARIABLE"), 2),
    )
    for arguments, code in cases:
        done = lmc_hub("mirror", *arguments, "--data", here.data)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
