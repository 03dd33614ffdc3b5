"""Garbage collection: what nothing refers to goes, what somebody reads or is about to commit stays."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess, lmc_hub, start_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
from s3_server import S3Server

from lmcommons.files import exclusive_lock
from lmcommons.hub.database.tables import Table
from lmcommons.hub.objects.collection import collect_uploads
from lmcommons.hub.objects.location import Location
from lmcommons.hub.objects.s3 import S3Blobs
from lmcommons.hub.objects.store import ObjectStore

# Columns with the sha256 of an object, whose rows keep it; all others are of tokens, or of files that Xet keeps.
COUNTED = {"repository_objects.sha256", "attachments.sha256"}
OTHERS = {
    *("tokens.sha256", "browser_sessions.sha256", "invitations.sha256", "sent_forms.sha256", "recovery_codes.sha256"),
    "mail_links.sha256",
    *("bucket_files.sha256", "xet_files.sha256"),
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with start_hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def api(hub: HubProcess) -> HfApi:
    api = HfApi(hub.endpoint, token=hub.add_user("ada"))
    api.create_repo("ada/m")
    return api


@pytest.fixture
def gc(hub: HubProcess) -> Callable[..., dict]:
    """Runs `lmc hub gc` without a grace period while the hub serves."""

    def run(*options: str) -> dict:
        return json.loads(hub.command("gc", "--json", "--grace", "0", *options))

    return run


def add(api: HfApi, path: str, content: bytes, repo: str = "ada/m", **more: object) -> None:
    api.create_commit(repo, [CommitOperationAdd(path, content)], commit_message=path, **more)


def stored(hub: HubProcess) -> set[str]:
    with hub.rooms() as rooms:
        return set(rooms.objects)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def download(hub: HubProcess, address: str) -> httpx.Response:
    """A public file, from the hub or from where it leads."""
    return httpx.get(f"{hub.endpoint}/{address}", follow_redirects=True)


def upload(api: HfApi, content: bytes, repo: str = "ada/m") -> None:
    """Send an object by LFS without a commit that names it."""
    body = {"operation": "upload", "objects": [{"oid": sha256(content), "size": len(content)}]}
    headers = {"Authorization": f"Bearer {api.token}"}
    answer = httpx.post(f"{api.endpoint}/{repo}.git/info/lfs/objects/batch", json=body, headers=headers).json()
    actions = answer["objects"][0]["actions"]
    httpx.put(actions["upload"]["href"], content=content).raise_for_status()
    if "verify" in actions:  # S3 took it; the hub looks at it now
        httpx.post(actions["verify"]["href"], json=body["objects"][0], headers=headers).raise_for_status()


def test_what_any_ref_reaches_stays(hub: HubProcess, api: HfApi, gc: Callable):
    for path in ("kept.bin", "deleted.bin", "tagged.bin"):
        add(api, path, path.encode())
    api.create_tag("ada/m", tag="v1")
    api.create_commit("ada/m", [CommitOperationDelete("deleted.bin")], commit_message="Delete")
    api.create_branch("ada/m", branch="other")
    add(api, "branch.bin", b"branch.bin", revision="other")
    add(api, "proposed.bin", b"proposed.bin", create_pr=True)
    done = gc()
    assert (done["unlinked"], done["size"], done["problems"]) == (0, 0, [])
    assert len(stored(hub)) == 5
    assert hub.command("fsck") == ""


def test_what_was_never_committed_goes_after_the_grace_period(hub: HubProcess, api: HfApi, gc: Callable):
    upload(api, b"forgotten")
    assert json.loads(hub.command("gc", "--json"))["objects"] == {"count": 0, "size": 0}
    done = gc()
    assert (done["unlinked"], done["objects"]) == (1, {"count": 1, "size": 9})
    assert stored(hub) == set()
    add(api, "again.bin", b"forgotten")
    assert download(hub, "ada/m/resolve/main/again.bin").content == b"forgotten"
    assert hub.command("fsck") == ""


def test_history_that_was_squashed_lets_go_of_its_objects(hub: HubProcess, api: HfApi, gc: Callable):
    add(api, "w.bin", b"first")
    add(api, "w.bin", b"second")
    api.super_squash_history("ada/m")
    assert gc()["objects"]["count"] == 1
    assert stored(hub) == {sha256(b"second")}


def test_a_deleted_repository_lets_go_of_what_no_other_has(hub: HubProcess, api: HfApi, gc: Callable):
    api.create_repo("ada/other")
    for repo in ("ada/m", "ada/other"):
        add(api, "shared.bin", b"shared", repo=repo)
    add(api, "own.bin", b"own")
    api.delete_repo("ada/m")
    assert gc()["objects"] == {"count": 1, "size": 3}
    assert stored(hub) == {sha256(b"shared")}
    assert download(hub, "ada/other/resolve/main/shared.bin").content == b"shared"


def test_a_dry_run_says_what_would_go_and_leaves_it(hub: HubProcess, api: HfApi, gc: Callable):
    upload(api, b"forgotten")
    add(api, "w.bin", b"kept")
    before = stored(hub)
    foreseen = gc("--dry-run")
    assert stored(hub) == before
    assert foreseen == gc()
    assert stored(hub) == {sha256(b"kept")}


def test_people_read_what_was_freed(hub: HubProcess, api: HfApi):
    upload(api, b"forgotten")
    assert hub.command("gc", "--grace", "0", "--dry-run").startswith("would free 9 bytes: 1 objects")
    assert hub.command("gc", "--grace", "0").startswith("freed 9 bytes: 1 objects")


def test_leftovers_of_killed_writers_go(hub: HubProcess, api: HfApi, gc: Callable):
    add(api, "w.bin", b"w")
    repository = next(hub.data.glob("repositories/*/*.git"))
    (repository / "objects/pack/tmp_commit_1").write_bytes(b"half a pack")
    (repository / "objects/tmp_objdir-incoming-x").mkdir()
    orphan = repository.with_name("999.git")
    orphan.mkdir()
    unfinished = hub.data / "objects/incoming/upload-x"
    unfinished.write_bytes(b"half a file")
    left = (orphan, unfinished, *repository.glob("objects/**/tmp_*"))
    assert gc()["temporary"] == 0  # somebody may be at work on them
    long_ago = time.time() - 2 * 3600
    for path in left:
        os.utime(path, (long_ago, long_ago))
    done = gc()
    assert (done["temporary"], done["repositories"], done["uploads"]) == (2, 1, {"count": 1, "size": 11})
    assert not orphan.exists()
    assert list(repository.glob("objects/**/tmp_*")) == []
    assert hub.command("fsck") == ""


def test_a_repository_that_cannot_be_read_keeps_everything(hub: HubProcess, api: HfApi):
    add(api, "w.bin", b"w")
    for pack in hub.data.glob("repositories/*/*.git/objects/pack/*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"damaged")
    done = lmc_hub("gc", "--grace", "0", "--data", hub.data)
    assert (done.returncode, "ada/m: " in done.stderr, done.stderr.count("\n")) == (1, True, 1)
    assert stored(hub) == {sha256(b"w")}


def test_two_collections_do_not_run_at_once(hub: HubProcess):
    with exclusive_lock(hub.data / ".collecting"):
        done = lmc_hub("gc", "--data", hub.data)
    assert (done.returncode, done.stderr.count("\n"), "another" in done.stderr) == (1, 1, True)


def test_no_acknowledged_commit_loses_an_object_to_a_collection_beside_it(hub: HubProcess, api: HfApi, gc: Callable):
    """Without any grace period, an upload may be refused, but what was taken stays."""
    contents = [os.urandom(1_000) for _ in range(8)]
    committed: list[tuple[str, str]] = []
    refusals: list[str] = []

    def work(number: int) -> None:
        branch = f"b{number}"
        for turn in range(12):
            path = f"{number}-{turn}.bin"
            try:
                add(api, path, contents[(number + turn) % len(contents)], revision=branch)
                if turn % 2:
                    deletion = [CommitOperationDelete(path)]
                    api.create_commit("ada/m", deletion, commit_message="Delete", revision=branch)
                else:
                    committed.append((branch, path))
                if turn % 3 == 2:
                    api.super_squash_history("ada/m", branch=branch)
            except (HfHubHTTPError, RuntimeError) as error:
                refusals.append(str(error))

    for number in range(2):
        api.create_branch("ada/m", branch=f"b{number}")
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    rounds = 0
    while any(thread.is_alive() for thread in threads):
        gc()
        rounds += 1
    assert rounds > 2
    assert committed
    assert [refusal for refusal in refusals if "Internal Server Error" in refusal] == []
    assert "Traceback" not in hub.log.read_text()
    for branch, path in committed:
        answer = download(hub, f"ada/m/resolve/{branch}/{path}")
        assert (answer.status_code, len(answer.content)) == (200, 1_000)
    assert hub.command("fsck") == ""


def test_unfinished_uploads_to_a_bucket_go(s3: S3Server, tmp_path: Path, store_in: Callable[..., ObjectStore]):
    bucket = S3Blobs(Location.parse(s3.url(tmp_path.name), s3.environment), tmp_path)
    store = store_in(bucket)
    httpx.put(bucket.upload_address("left", 4, 60), content=b"left").raise_for_status()
    bucket.begin_parts("begun")
    assert collect_uploads(store, datetime.now(UTC) - timedelta(hours=1)).count == 0
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert collect_uploads(store, soon, dry_run=True) == collect_uploads(store, soon)
    assert collect_uploads(store, soon).count == 0


def test_every_column_that_names_an_object_is_looked_at():
    named = {
        f"{table.name}.{column.name}"
        for table in Table.metadata.tables.values()
        for column in table.columns
        if column.name == "sha256"
    }
    assert named == COUNTED | OTHERS
