"""What people do with a hub, done by the client that runs this file; prints each step's outcome as JSON.

Run by `test_older_clients.py` in environments of older clients: only the client and the standard library are here.
Steps run in order, because later ones use what earlier ones made.
"""

import io
import json
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    ModelCard,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

NAME = sys.argv[1]  # of the repositories, new for each run
LARGE = random.Random(NAME).randbytes(3 << 20)

api = HfApi()
user = os.environ["HUB_USER"]
model, data = f"{user}/{NAME}", f"{user}/{NAME}-data"
steps: list[Callable[[], None]] = []


def step(function: Callable[[], None]) -> Callable[[], None]:
    steps.append(function)
    return function


def refused(kind: type[Exception], call: Callable[[], object]) -> Exception:
    """The error that a call ends with."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@step
def whoami() -> None:
    me = api.whoami()
    assert (me["name"], me["type"]) == (user, "user")


@step
def a_wrong_token_is_told() -> None:
    error = refused(HfHubHTTPError, lambda: HfApi(token="hf_wrong").whoami())
    assert error.response.status_code == 401


@step
def create_repositories() -> None:
    assert api.create_repo(model).repo_id == model
    assert api.create_repo(model, exist_ok=True).repo_id == model
    api.create_repo(data, repo_type="dataset", private=True)
    assert api.repo_exists(model)
    assert not HfApi(token=False).repo_exists(data, repo_type="dataset")


@step
def upload_file() -> None:
    done = api.upload_file(path_or_fileobj=b'{"hidden_size": 8}', path_in_repo="config.json", repo_id=model)
    assert done.oid == api.model_info(model).sha


@step
def upload_large_file() -> None:
    api.upload_file(path_or_fileobj=LARGE, path_in_repo="model.safetensors", repo_id=model)
    (found,) = api.get_paths_info(model, ["model.safetensors"])
    assert (found.size, found.lfs.size) == (len(LARGE), len(LARGE))


@step
def upload_open_file() -> None:
    api.upload_file(path_or_fileobj=io.BytesIO(LARGE[::-1]), path_in_repo="optimizer.bin", repo_id=model)


@step
def upload_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(3):
            path = Path(folder, f"part{number}", "rows.jsonl")
            path.parent.mkdir()
            path.write_text(f'{{"number": {number}}}\n' * 100)
        Path(folder, "rows.bin").write_bytes(LARGE[: 1 << 20])
        api.upload_folder(folder_path=folder, repo_id=data, repo_type="dataset", ignore_patterns="part2/*")
    files = api.list_repo_files(data, repo_type="dataset")
    assert files == [".gitattributes", "part0/rows.jsonl", "part1/rows.jsonl", "rows.bin"]


@step
def upload_card() -> None:
    text = b"---\nlicense: apache-2.0\ntags: [tiny]\n---\n# Tiny\n"
    api.upload_file(path_or_fileobj=text, path_in_repo="README.md", repo_id=model)
    assert ModelCard.load(model).data.license == "apache-2.0"


@step
def download() -> None:
    assert json.loads(Path(hf_hub_download(model, "config.json")).read_text()) == {"hidden_size": 8}
    assert Path(hf_hub_download(model, "model.safetensors")).read_bytes() == LARGE
    folder = Path(snapshot_download(data, repo_type="dataset", allow_patterns=["*.jsonl", "*.bin"]))
    assert (folder / "part1/rows.jsonl").read_text() == '{"number": 1}\n' * 100
    assert (folder / "rows.bin").read_bytes() == LARGE[: 1 << 20]


@step
def what_is_missing_is_told() -> None:
    refused(EntryNotFoundError, lambda: hf_hub_download(model, "absent.txt"))
    refused(RevisionNotFoundError, lambda: hf_hub_download(model, "config.json", revision="absent"))
    refused(RepositoryNotFoundError, lambda: api.model_info(f"{model}-absent"))
    refused(RepositoryNotFoundError, lambda: HfApi(token=False).dataset_info(data))


@step
def list_and_inform() -> None:
    assert model in {found.id for found in api.list_models(author=user)}
    assert model in {found.id for found in api.list_models(search=NAME, sort="downloads", limit=10)}
    assert model in {found.id for found in api.list_models(filter="tiny", full=True)}
    assert [found.id for found in api.list_datasets(search=NAME)] == [data]
    info = api.model_info(model, files_metadata=True)
    assert {"config.json", "model.safetensors"} <= {file.rfilename for file in info.siblings}
    assert "tiny" in info.tags
    tree = {entry.path for entry in api.list_repo_tree(data, repo_type="dataset", expand=True)}
    assert tree == {".gitattributes", "part0", "part1", "rows.bin"}


@step
def commit_operations() -> None:
    api.create_commit(
        model,
        [
            CommitOperationAdd("notes/a.txt", b"a"),
            CommitOperationCopy("model.safetensors", "copy.safetensors"),
            CommitOperationDelete("optimizer.bin"),
        ],
        commit_message="Three operations",
        commit_description="In one commit",
    )
    files = set(api.list_repo_files(model))
    assert {"notes/a.txt", "copy.safetensors"} <= files
    assert "optimizer.bin" not in files
    assert api.list_repo_commits(model)[0].title == "Three operations"
    error = refused(
        HfHubHTTPError,
        lambda: api.create_commit(
            model, [CommitOperationAdd("b", b"b")], commit_message="late", parent_commit="0" * 40
        ),
    )
    assert error.response.status_code == 412


@step
def branches_and_tags() -> None:
    api.create_branch(model, branch="next")
    api.upload_file(path_or_fileobj=b"next", path_in_repo="next.txt", repo_id=model, revision="next")
    api.create_tag(model, tag="v1", revision="main")
    refs = api.list_repo_refs(model)
    assert {branch.name for branch in refs.branches} == {"main", "next"}
    assert [tag.name for tag in refs.tags] == ["v1"]
    assert Path(hf_hub_download(model, "next.txt", revision="next")).read_bytes() == b"next"
    api.delete_tag(model, tag="v1")
    api.delete_branch(model, branch="next")


@step
def pull_request() -> None:
    done = api.upload_file(path_or_fileobj=b"better", path_in_repo="better.txt", repo_id=model, create_pr=True)
    number = done.pr_num
    assert number is not None
    assert Path(hf_hub_download(model, "better.txt", revision=done.pr_revision)).read_bytes() == b"better"
    api.comment_discussion(model, number, comment="Looks good")
    api.merge_pull_request(model, number)
    assert api.get_discussion_details(model, number).status == "merged"
    assert "better.txt" in api.list_repo_files(model)


@step
def discussion() -> None:
    opened = api.create_discussion(model, title="A question", description="Why?")
    api.rename_discussion(model, opened.num, new_title="A better question")
    api.change_discussion_status(model, opened.num, new_status="closed", comment="Answered")
    (found,) = (found for found in api.get_repo_discussions(model) if found.num == opened.num)
    assert (found.title, found.status, found.is_pull_request) == ("A better question", "closed", False)


@step
def file_system() -> None:
    fs = HfFileSystem()
    with fs.open(f"datasets/{data}/written.txt", "w") as file:
        file.write("written")
    assert fs.read_text(f"datasets/{data}/written.txt") == "written"
    assert f"datasets/{data}/part0/rows.jsonl" in fs.glob(f"datasets/{data}/**/*.jsonl")
    with fs.open(f"{model}/model.safetensors") as file:
        file.seek(1 << 20)
        assert file.read(10) == LARGE[1 << 20 : (1 << 20) + 10]


@step
def settings_and_names() -> None:
    api.update_repo_settings(data, repo_type="dataset", private=False)
    assert HfApi(token=False).repo_exists(data, repo_type="dataset")
    api.move_repo(data, f"{data}-moved", repo_type="dataset")
    assert api.dataset_info(data).id == f"{data}-moved"


@step
def bucket() -> None:
    if os.environ.get("HF_HUB_DISABLE_XET"):
        return  # a bucket's content moves by Xet alone
    name = api.create_bucket(NAME).bucket_id
    api.batch_bucket_files(name, add=[(LARGE, "runs/1/model.bin"), (b"", "runs/1/done")])
    assert {file.path for file in api.list_bucket_tree(name, recursive=True)} == {"runs/1/model.bin", "runs/1/done"}
    with tempfile.TemporaryDirectory() as folder:
        api.sync_bucket(f"hf://buckets/{name}/runs", folder, quiet=True)
        assert Path(folder, "1/model.bin").read_bytes() == LARGE
        assert Path(folder, "1/done").read_bytes() == b""
    api.batch_bucket_files(name, delete=["runs/1/done"])
    assert api.bucket_info(name).total_files == 1
    api.delete_bucket(name)


@step
def squash_and_delete() -> None:
    api.super_squash_history(model)
    assert len(api.list_repo_commits(model)) == 1
    api.delete_repo(model)
    api.delete_repo(f"{data}-moved", repo_type="dataset")
    refused(RepositoryNotFoundError, lambda: api.model_info(model))


outcome = {}
for function in steps:
    try:
        function()
        outcome[function.__name__] = ""
    except Exception:
        outcome[function.__name__] = traceback.format_exc()
json.dump(outcome, sys.stdout)
