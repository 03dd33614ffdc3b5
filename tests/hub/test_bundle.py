"""Repositories that travel in a file between hubs which do not reach each other."""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess, lmc_hub, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from open_rooms import open_rooms

WEIGHTS = b"w" * 5000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("source") / "hub") as running:
        yield running


@pytest.fixture(scope="module")
def origin(source: HubProcess) -> HfApi:
    """A hub with a model and a private dataset, in which a large file was replaced once."""
    api = HfApi(source.endpoint, token=source.add_user("ada"))
    for repo_type in ("model", "dataset"):
        api.create_repo("ada/r", repo_type=repo_type, private=repo_type == "dataset")
        for content in (b"first" * 10, WEIGHTS):
            files = [CommitOperationAdd("w.bin", content), CommitOperationAdd("a/b.txt", content[:9])]
            api.create_commit("ada/r", files, commit_message="Files", repo_type=repo_type)
        api.create_tag("ada/r", tag="v1", tag_message="first", repo_type=repo_type)
        api.create_branch("ada/r", branch="dev", repo_type=repo_type)
    return api


@pytest.fixture(scope="module")
def bundle(source: HubProcess, origin: HfApi, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The two repositories in a file, and what vouches for it."""
    file = tmp_path_factory.mktemp("bundle") / "two.tar"
    return file, source.command("export", "ada/r", "datasets/ada/r", "--out", str(file)).strip()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A hub's directory with the user `ada`."""
    assert lmc_hub("user", "add", "ada", "--data", tmp_path / "target").returncode == 0
    return tmp_path / "target"


def bring(data: Path, file: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return lmc_hub("import", file, "--data", data, *options)


def changed(file: Path, to: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """A bundle whose parts went through `change`."""
    with tarfile.open(file) as before, tarfile.open(to, "w") as after:
        for entry in before:
            part = change(entry.name, before.extractfile(entry).read())
            if part is not None:
                info = tarfile.TarInfo(part[0])
                info.size = len(part[1])
                after.addfile(info, io.BytesIO(part[1]))
    return to


def test_a_bundle_brings_commits_branches_tags_and_contents(bundle: tuple[Path, str], origin: HfApi, data: Path):
    file, sha256 = bundle
    assert bring(data, file, "--sha256", sha256).returncode == 0
    with start_hub(data) as hub:
        token = hub.add_token("ada", "write")
        api = HfApi(hub.endpoint, token=token)
        for repo_type in ("model", "dataset"):
            assert api.list_repo_refs("ada/r", repo_type=repo_type) == origin.list_repo_refs(
                "ada/r", repo_type=repo_type
            )
            assert api.repo_info("ada/r", repo_type=repo_type).private == (repo_type == "dataset")
        for path, content in (("w.bin", WEIGHTS), ("a/b.txt", WEIGHTS[:9])):
            url = f"{hub.endpoint}/datasets/ada/r/resolve/v1/{path}"
            headers = {"Authorization": f"Bearer {token}"}
            assert httpx.get(url, headers=headers, follow_redirects=True).content == content
        assert hub.command("fsck") == ""


def test_a_second_bundle_updates_and_spares_local_work(
    source: HubProcess, bundle: tuple[Path, str], origin: HfApi, data: Path, tmp_path: Path
):
    assert bring(data, bundle[0]).returncode == 0
    assert bring(data, bundle[0]).returncode == 0  # again changes nothing
    commit = origin.upload_file(path_or_fileobj=b"more", path_in_repo="more.bin", repo_id="ada/r").oid
    source.command("export", "ada/r", "--out", str(tmp_path / "new.tar"))
    with start_hub(data) as hub:
        api = HfApi(hub.endpoint, token=hub.add_token("ada", "write"))
        assert bring(data, tmp_path / "new.tar").returncode == 0
        assert api.model_info("ada/r").sha == commit
        mine = api.upload_file(path_or_fileobj=b"mine", path_in_repo="mine.txt", repo_id="ada/r").oid
        done = bring(data, tmp_path / "new.tar")
        assert (done.returncode, done.stderr.splitlines()[-1]) == (
            1,
            "lmc: ada/r: refs/heads/main has work that is only here; --force replaces it",
        )
        assert api.model_info("ada/r").sha == mine
        assert bring(data, tmp_path / "new.tar", "--force").returncode == 0
        assert api.model_info("ada/r").sha == commit


@pytest.mark.parametrize("damage", ["content", "name", "missing", "extra", "short", "manifest", "link"])
def test_a_bundle_that_was_altered_is_refused(bundle: tuple[Path, str], data: Path, tmp_path: Path, damage: str):
    file, sha256 = bundle
    weights = hashlib.sha256(WEIGHTS).hexdigest()
    altered = tmp_path / "altered.tar"

    def change(name: str, content: bytes) -> tuple[str, bytes] | None:
        if damage == "content" and name == weights:
            return name, b"x" + content[1:]
        if damage == "name" and name == weights:
            return "../../etc/passwd", content
        if damage == "missing" and name == weights:
            return None
        if damage == "manifest" and name == "manifest.json":
            return name, content.replace(b'"private": true', b'"private": false')
        return name, content

    changed(file, altered, change)
    if damage == "extra":
        with tarfile.open(altered, "a") as archive:
            archive.addfile(tarfile.TarInfo("../extra"))
    if damage == "link":
        with tarfile.open(altered, "w") as archive:
            link = tarfile.TarInfo("manifest.json")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    if damage == "short":
        altered.write_bytes(file.read_bytes()[:-12_000])
    done = bring(data, altered, "--sha256", sha256)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert str(altered) in done.stderr
    hub = open_rooms(data)
    assert hub.repositories.all() == []
    hub.close()


def test_a_bundle_has_no_refs_but_branches_and_tags(bundle: tuple[Path, str], data: Path, tmp_path: Path):
    def change(name: str, content: bytes) -> tuple[str, bytes]:
        if name != "manifest.json":
            return name, content
        manifest = json.loads(content)
        refs = manifest["repositories"][0]["refs"]
        refs["refs/pr/1"] = refs["refs/heads/main"]
        return name, json.dumps(manifest).encode()

    done = bring(data, changed(bundle[0], tmp_path / "altered.tar", change))
    assert done.returncode == 1
    assert "manifest: repositories.0.refs.refs/pr/1" in done.stderr


def test_what_a_push_may_not_have_a_bundle_may_not_have(data: Path, tmp_path: Path):
    """Parts that agree with their manifest are checked all the same: here a pack with a file that belongs into LFS."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    (tmp_path / "large.txt").write_bytes(b"x" * (11 << 20))
    for command in (["init", "-q", "-b", "main"], ["add", "large.txt"], ["commit", "-q", "-m", "Large"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True, text=True).stdout.strip()
    pack = subprocess.run(
        [*git, "pack-objects", "--revs", "--stdout", "-q"], input=head.encode(), capture_output=True, check=True
    ).stdout
    part = {"sha256": hashlib.sha256(pack).hexdigest(), "size": len(pack)}
    refs = {"refs/heads/main": head}
    repository = {"type": "model", "name": "ada/r", "private": False, "head": "refs/heads/main", "refs": refs}
    manifest = {"format": 1, "version": "0", "repositories": [{**repository, "pack": part, "objects": []}]}
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for name, content in (("manifest.json", json.dumps(manifest).encode()), (part["sha256"], pack)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    done = bring(data, tmp_path / "b.tar")
    assert done.returncode == 1
    assert "large.txt has 11,534,336 bytes" in done.stderr


def test_an_owner_without_account_and_what_is_no_bundle_are_one_line(bundle: tuple[Path, str], tmp_path: Path):
    assert lmc_hub("user", "add", "bob", "--data", tmp_path / "target").returncode == 0
    (tmp_path / "text").write_text("text")
    for file, words in (
        (bundle[0], "lmc hub user add"),
        (tmp_path / "text", "not a"),
        (tmp_path / "no", "no such file"),
    ):
        done = bring(tmp_path / "target", file)
        assert done.returncode in (1, 2)
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_only_repositories_that_are_there_are_exported(source: HubProcess, origin: HfApi, tmp_path: Path):
    for name in ("ada/none", "nobody/r", "r", "datasets/ada/r/x"):
        done = lmc_hub("export", name, "--data", source.data, "--out", tmp_path / "b.tar")
        assert (done.returncode, done.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []
