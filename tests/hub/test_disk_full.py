"""A disk that becomes full while something is written: one clear answer, nothing half stored, and the hub goes on."""

import gc
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from browser import Browser
from hub_process import HubProcess, lmc_hub, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from lmcommons.hub.errors import InsufficientStorage
from lmcommons.hub.repos.git import GitRepository, RefChange

LARGE = 6 << 20  # bytes: too much for what is left of the disk
LEFT = 4 << 20
PASSWORD = "correct horse battery"


@contextmanager
def published(data: Path) -> Iterator[tuple[HubProcess, HfApi]]:
    """A hub with a repository of a small and a large file."""
    with start_hub(data) as hub:
        api = HfApi(hub.endpoint, token=hub.add_user("ada"))
        api.create_repo("ada/m")
        files = {"config.json": b"{}", "w.bin": b"w" * 1000}
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        api.create_commit("ada/m", operations, commit_message="Files")
        yield hub, api


def refused(api: HfApi, *files: tuple[str, bytes]) -> None:
    """The upload is answered with 507 and changes nothing."""
    head = api.model_info("ada/m").sha
    operations = [CommitOperationAdd(path, content) for path, content in files]
    with pytest.raises((HfHubHTTPError, RuntimeError)) as full:
        api.create_commit("ada/m", operations, commit_message="Too much")
    # The client wraps what it is told of a large object's upload.
    error = full.value if isinstance(full.value, HfHubHTTPError) else full.value.__cause__
    assert error.response.status_code == 507
    assert "The hub's disk is full; nothing was stored" in str(error)
    assert api.model_info("ada/m").sha == head


def sound(hub: HubProcess, api: HfApi) -> None:
    """Nothing half written is left, and what was refused is taken now."""
    assert list((hub.data / "objects" / "incoming").iterdir()) == []
    assert list((hub.data / "repositories").rglob("tmp_*")) == []
    files = {"again.bin": os.urandom(LARGE), "again.txt": b"text"}
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit("ada/m", operations, commit_message="There is room again")
    for path, content in files.items():
        assert httpx.get(f"{hub.endpoint}/ada/m/resolve/main/{path}").content == content
    assert hub.command("fsck") == ""
    assert "Traceback" not in hub.log.read_text()


@pytest.mark.embedded("a bucket has a disk of its own")
def test_a_file_that_may_not_grow_further_is_refused_whole(tmp_path: Path) -> None:
    with published(tmp_path / "hub") as (hub, api):
        _, most = resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (LEFT, most))
        refused(api, ("large.bin", os.urandom(LARGE)))
        refused(api, ("large.txt", os.urandom(LARGE)))
        api.upload_file(path_or_fileobj=b"small", path_in_repo="small.txt", repo_id="ada/m")
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (most, most))
        sound(hub, api)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    folder = tmp_path / "hub"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        gc.collect()  # lets go of the files that libgit2 read in this process
        subprocess.run(["umount", "--lazy", folder], check=True)  # although something may look at it still


def fill(disk: Path, left: int) -> None:
    """Leave `left` bytes free."""
    state = os.statvfs(disk)
    ballast = disk / "ballast"
    size = ballast.stat().st_size if ballast.exists() else 0
    with ballast.open("ab") as file:
        os.posix_fallocate(file.fileno(), size, state.f_bavail * state.f_frsize - left)


@pytest.mark.embedded("a bucket and PostgreSQL have disks of their own")
def test_on_a_full_disk_files_are_read_and_nothing_is_written(small_disk: Path) -> None:
    with published(small_disk) as (hub, api):
        hub.command("user", "password", "ada", typed=f"{PASSWORD}\n")
        browser = Browser(hub)
        browser.sign_in("ada", PASSWORD)
        discussion = api.create_discussion("ada/m", "A question", description="Which bees?")
        thread = browser.get(f"/ada/m/discussions/{discussion.num}")
        editor = browser.get("/ada/m/edit/main/config.json")
        fill(small_disk, LEFT)
        refused(api, ("large.bin", os.urandom(LARGE)))
        refused(api, ("large.txt", os.urandom(LARGE)))
        fill(small_disk, 0)
        refused(api, ("small.bin", b"small"))
        refused(api, ("small.txt", b"small"))
        written = "A long answer,\nthought about for an hour."
        for page, action in ((thread, f"{thread.url.path}/comment"), (editor, editor.url.path)):
            full_page = browser.submit(page, action, text=written)
            assert full_page.status_code == 507
            assert "The hub&#39;s disk is full; nothing was stored" in full_page.text
            assert f"{written}</textarea>" in full_page.text
        assert Browser(hub).sign_in("ada", PASSWORD).status_code == 507
        for attempt in (
            lambda: api.create_repo("ada/n"),
            lambda: api.create_branch("ada/m", branch="b"),
            lambda: api.create_tag("ada/m", tag="v1", tag_message="words"),
            lambda: api.super_squash_history("ada/m"),
        ):
            with pytest.raises(HfHubHTTPError) as full:
                attempt()
            assert full.value.response.status_code == 507
        done = lmc_hub("user", "add", "eve", "--data", hub.data)
        assert (done.returncode, done.stderr) == (1, "lmc: The hub's disk is full; nothing was stored\n")
        for path, content in (("config.json", b"{}"), ("w.bin", b"w" * 1000)):
            assert httpx.get(f"{hub.endpoint}/ada/m/resolve/main/{path}").content == content
        assert httpx.get(hub.endpoint).status_code == 200
        (small_disk / "ballast").unlink()
        assert "thought about" not in browser.get(thread.url.path).text
        assert "thought about" in browser.submit(thread, f"{thread.url.path}/comment", text=written).text
        api.create_repo("ada/n")
        sound(hub, api)


def test_refs_of_one_push_move_together_or_not_at_all(small_disk: Path) -> None:
    repository = GitRepository.create(small_disk / "r.git")
    head = repository.initialise(author_name="ada", author_email="ada@example.org")
    changes = [RefChange(f"refs/heads/{name}", None, head) for name in "abc"]
    fill(small_disk, os.sysconf("SC_PAGE_SIZE"))  # room for one of them
    with pytest.raises(InsufficientStorage):
        repository.move_refs(changes, small_disk / "nothing", atomic=False)
    assert list(repository.all_refs()) == ["refs/heads/main"]
    (small_disk / "ballast").unlink()
    assert not any(repository.move_refs(changes, small_disk / "nothing", atomic=False).values())
    assert set(repository.all_refs().values()) == {head}
    assert len(repository.all_refs()) == 4


def test_a_directory_that_cannot_be_written_is_one_line(small_disk: Path) -> None:
    assert lmc_hub("user", "add", "ada", "--data", small_disk).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for command in (("serve", "--port", "0"), ("user", "add", "bob"), ("fsck",)):
        done = lmc_hub(*command, "--data", small_disk)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert str(small_disk) in done.stderr
