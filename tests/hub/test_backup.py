"""Backups that are taken while the hub serves, and the hubs that are made of them."""

import json
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess, lmc_hub, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import RepositoryNotFoundError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("source") / "hub") as running:
        yield running


@pytest.fixture(scope="module")
def api(source: HubProcess) -> HfApi:
    """A user with a private model: a branch, an annotated tag, a pull request, a small and a large file."""
    api = HfApi(source.endpoint, token=source.add_user("ada"))
    api.create_repo("ada/m", private=True)
    files = {"config.json": b"{}", "w.bin": b"w" * 1000}
    api.create_commit("ada/m", [CommitOperationAdd(*file) for file in files.items()], commit_message="Files")
    api.create_tag("ada/m", tag="v1", tag_message="first")
    api.create_branch("ada/m", branch="dev")
    return api


def back_up(source: HubProcess, out: Path) -> None:
    done = lmc_hub("backup", "--data", source.data, "--out", out)
    assert done.returncode == 0, done.stderr


def restored(backup: Path, data: Path) -> HubProcess:
    """A hub made of a backup, not started."""
    done = lmc_hub("restore", "--from", backup, "--data", data)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return data


def test_a_restored_hub_has_accounts_settings_refs_and_contents(source: HubProcess, api: HfApi, tmp_path: Path):
    back_up(source, tmp_path / "backup")
    expected, refs = api.model_info("ada/m", files_metadata=True), api.list_repo_refs("ada/m")
    with start_hub(restored(tmp_path / "backup", tmp_path / "new")) as hub:
        again = HfApi(hub.endpoint, token=api.token)
        found = again.model_info("ada/m", files_metadata=True)
        assert (found.sha, found.private, found.siblings) == (expected.sha, True, expected.siblings)
        assert again.list_repo_refs("ada/m") == refs
        with pytest.raises(RepositoryNotFoundError):
            HfApi(hub.endpoint, token=False).model_info("ada/m")
        for path, content in (("config.json", b"{}"), ("w.bin", b"w" * 1000)):
            url, headers = f"{hub.endpoint}/ada/m/resolve/v1/{path}", {"Authorization": f"Bearer {api.token}"}
            assert httpx.get(url, headers=headers, follow_redirects=True).content == content
        again.upload_file(path_or_fileobj=b"more", path_in_repo="more.bin", repo_id="ada/m")
        assert again.create_repo("ada/n").repo_id == "ada/n"
        assert hub.command("fsck") == ""


def test_a_backup_taken_while_commits_run_is_one_state(source: HubProcess, api: HfApi, tmp_path: Path):
    ended = threading.Event()
    acknowledged: list[str] = []

    def commit() -> None:
        generator = random.Random(0)
        number = 0
        while not ended.is_set():
            number += 1
            repo_id = f"ada/r{number % 5}"
            api.create_repo(repo_id, exist_ok=True)
            files = [(f"{number}.bin", generator.randbytes(2000)), (f"{number}.txt", b"text %d" % number)]
            done = api.create_commit(repo_id, [CommitOperationAdd(*file) for file in files], commit_message=str(number))
            acknowledged.append(done.oid)
            if number % 7 == 0:
                api.delete_repo(f"ada/r{(number + 1) % 5}", missing_ok=True)

    writer = threading.Thread(target=commit)
    writer.start()
    try:
        taken = 0
        while taken < 3 or (len(acknowledged) <= 5 and writer.is_alive()):  # each continues the one before
            back_up(source, tmp_path / "backup")
            taken += 1
    finally:
        ended.set()
        writer.join()
    assert len(acknowledged) > 5
    with start_hub(restored(tmp_path / "backup", tmp_path / "new")) as hub:
        again = HfApi(hub.endpoint, token=api.token)
        for model in again.list_models(author="ada"):
            for name in again.list_repo_files(model.id):
                url = f"{hub.endpoint}/{model.id}/resolve/main/{name}"
                headers = {"Authorization": f"Bearer {api.token}"}
                answer = httpx.get(url, headers=headers, follow_redirects=True)
                assert answer.status_code == 200


def test_the_next_backup_copies_only_what_is_new(source: HubProcess, api: HfApi, tmp_path: Path):
    backup = tmp_path / "backup"
    back_up(source, backup)
    assert lmc_hub("backup", "--data", source.data, "--out", backup).stderr.endswith(
        " repositories; 0 bytes of objects were new\n"
    )
    api.delete_tag("ada/m", tag="v1")
    api.upload_file(path_or_fileobj=os.urandom(5000), path_in_repo="n.bin", repo_id="ada/m")
    done = lmc_hub("backup", "--data", source.data, "--out", backup)
    assert done.stderr.endswith(" repositories; 5,000 bytes of objects were new\n")
    assert len(list(backup.glob("database-*"))) == 1
    with start_hub(restored(backup, tmp_path / "new")) as hub:
        refs = HfApi(hub.endpoint, token=api.token).list_repo_refs("ada/m")
        assert (refs.tags, [branch.name for branch in refs.branches]) == ([], ["dev", "main"])


def test_what_is_restored_is_checked(source: HubProcess, api: HfApi, tmp_path: Path):
    backup = tmp_path / "backup"
    back_up(source, backup)
    damaged = next(path for path in (backup / "objects").rglob("*") if path.is_file())
    damaged.unlink()  # a second name of the hub's own file
    damaged.write_bytes(b"x" * 1000)
    done = lmc_hub("restore", "--from", backup, "--data", tmp_path / "new")
    assert done.returncode == 1
    assert damaged.name in done.stdout
    database = next(backup.glob("database-*"))
    database.write_bytes(database.read_bytes() + b"x")
    done = lmc_hub("restore", "--from", backup, "--data", tmp_path / "other")
    assert (done.returncode, done.stderr) == (1, f"lmc: {database}: absent or damaged; restore from another backup\n")
    assert not (tmp_path / "other").exists()


def test_nothing_is_overwritten(source: HubProcess, api: HfApi, tmp_path: Path):
    back_up(source, tmp_path / "backup")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    for arguments in (
        ("backup", "--data", source.data, "--out", tmp_path / "mine"),
        ("restore", "--from", tmp_path / "backup", "--data", tmp_path / "mine"),
        ("restore", "--from", tmp_path / "mine", "--data", tmp_path / "new"),
        ("restore", "--from", tmp_path / "backup", "--data", source.data),
    ):
        done = lmc_hub(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(source: HubProcess, api: HfApi, tmp_path: Path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        api.upload_file(path_or_fileobj=os.urandom(6 << 20), path_in_repo="large.bin", repo_id="ada/m")
        done = lmc_hub("backup", "--data", source.data, "--out", tmp_path / "backup")
        assert done.returncode == 1
        assert "the disk is full" in done.stderr.splitlines()[-1]
        assert not (tmp_path / "backup" / "manifest.json").exists()
        subprocess.run(["mount", "-o", "remount,size=100m", tmp_path], check=True)
        back_up(source, tmp_path / "backup")
        restored(tmp_path / "backup", tmp_path / "new")
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)  # although something may look at it still


def test_a_backup_that_a_newer_version_made_is_refused(source: HubProcess, api: HfApi, tmp_path: Path):
    back_up(source, tmp_path / "backup")
    manifest = tmp_path / "backup" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99, "version": "9.0"}))
    done = lmc_hub("restore", "--from", tmp_path / "backup", "--data", tmp_path / "new")
    assert (done.returncode, "newer lmcommons (9.0)" in done.stderr) == (1, True)
