"""The MODEL of a command: a directory, or a repository on a real hub."""

import socket
from pathlib import Path

import pytest
from hub_process import HubProcess
from huggingface_hub import HfApi
from tiny_model import write_tiny_model

from lmcommons.client import model_directory
from lmcommons.errors import CommandError, RequestError


@pytest.fixture(scope="session")
def published(hub: HubProcess, member_token: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[HfApi, Path, str]:
    """A public and a private repository of the same model, and the commit of the public one."""
    directory = write_tiny_model(tmp_path_factory.mktemp("published"))
    api = HfApi(endpoint=hub.endpoint, token=member_token)
    for name, private in (("trainer/generates", False), ("trainer/secret", True)):
        api.create_repo(name, private=private)
        commit = api.upload_folder(repo_id=name, folder_path=directory)
        if not private:
            first = commit.oid
    api.upload_file(repo_id="trainer/generates", path_or_fileobj=b"{}", path_in_repo="extra.json")
    return api, directory, first


@pytest.fixture
def on_the_hub(published, hub: HubProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)


def test_a_directory_is_itself(tmp_path: Path) -> None:
    assert model_directory(str(tmp_path)) == tmp_path


@pytest.mark.usefixtures("on_the_hub")
def test_a_repository_is_fetched(published) -> None:
    _, directory, _ = published
    found = model_directory("trainer/generates")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (found / name).read_bytes() == (directory / name).read_bytes()
    assert (found / "extra.json").is_file()


@pytest.mark.usefixtures("on_the_hub")
def test_a_revision_is_a_commit_or_a_branch(published) -> None:
    _, _, first = published
    assert not (model_directory(f"trainer/generates@{first}") / "extra.json").exists()
    assert model_directory("trainer/generates@main") == model_directory("trainer/generates")


@pytest.mark.usefixtures("on_the_hub")
def test_a_private_repository_needs_its_token(published, monkeypatch: pytest.MonkeyPatch) -> None:
    api, _, _ = published
    with pytest.raises(RequestError, match=r"trainer/secret: .* private and HF_TOKEN is not set"):
        model_directory("trainer/secret")
    monkeypatch.setenv("HF_TOKEN", str(api.token))
    assert (model_directory("trainer/secret") / "config.json").is_file()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(RequestError, match="does not accept HF_TOKEN"):
        model_directory("trainer/secret")


@pytest.mark.usefixtures("on_the_hub")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trainer/absent", "no such directory, and no such model on http://127.0.0.1"),
        ("trainer/generates@v9", "has no revision 'v9'"),
        ("no/such/directory", "no such directory; a MODEL is a directory or namespace/name"),
        ("absent", "no such directory; a MODEL is a directory or namespace/name"),
        ("trainer/..", "not a repository's name"),
    ],
)
def test_what_is_not_there_is_one_line_that_says_so(name: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        model_directory(name)
    assert str(caught.value).startswith(f"{name}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(CommandError, match=f"the hub at {endpoint} cannot be reached"):
        model_directory("trainer/generates")
