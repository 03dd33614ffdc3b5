"""How much may be stored in a namespace."""

from pathlib import Path

import pytest
from hub_process import HubProcess, lmc_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from sqlalchemy import update

from lmcommons.hub.database.tables import Bucket, RepositoryType, Role, TokenRole
from lmcommons.hub.errors import Forbidden
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings


@pytest.fixture
def rooms(tmp_path: Path) -> Hub:
    opened = Hub(Settings.make(tmp_path / "hub"))
    opened.accounts.add_user("ada")
    return opened


def test_what_is_stored_counts_once_for_each_repository(rooms: Hub):
    actor = rooms.tokens.actor(rooms.tokens.add("ada", "t", TokenRole.WRITE))
    assert actor.account_id is not None
    for name in ("a", "b"):
        repository = rooms.commits.create_repository(actor, RepositoryType.MODEL, None, name, private=False)
        rooms.repositories.link_objects(repository.id, {"0" * 64: 10_000, name * 64: 5_000})
        rooms.repositories.link_objects(repository.id, {"0" * 64: 10_000})
    assert rooms.accounts.used(actor.account_id) == 30_000
    rooms.accounts.require_room(actor.account_id, 10**15)  # no quota, no limit
    rooms.accounts.set_quota("ada", 30_100)
    rooms.accounts.require_room(actor.account_id, 100)
    with pytest.raises(Forbidden, match=r"The quota of ada is 30,100 bytes, 30,000 are used, and this needs 101 more"):
        rooms.accounts.require_room(actor.account_id, 101)
    rooms.accounts.set_quota("ada", None)
    rooms.accounts.require_room(actor.account_id, 101)


def test_what_is_moved_or_duplicated_needs_room_where_it_goes(rooms: Hub):
    rooms.organisations.add("lab", members=[("ada", Role.WRITE)])
    rooms.accounts.set_quota("lab", 1_000)
    actor = rooms.tokens.actor(rooms.tokens.add("ada", "t", TokenRole.WRITE))
    repository = rooms.commits.create_repository(actor, RepositoryType.MODEL, None, "m", private=False)
    rooms.repositories.link_objects(repository.id, {"0" * 64: 5_000})
    with pytest.raises(Forbidden, match="quota of lab is 1,000 bytes, 0 are used, and this needs 5,000 more"):
        rooms.repositories.move(actor, RepositoryType.MODEL, "ada/m", "lab/m")
    with pytest.raises(Forbidden, match="this needs 5,000 more"):
        rooms.commits.duplicate(actor, repository, "lab", "m")
    assert [found.full_name for found in rooms.repositories.all()] == ["ada/m"]
    rooms.accounts.set_quota("lab", 5_000)
    assert rooms.repositories.move(actor, RepositoryType.MODEL, "ada/m", "lab/m").full_name == "lab/m"
    assert rooms.repositories.move(actor, RepositoryType.MODEL, "lab/m", "lab/n").full_name == "lab/n"


def test_the_files_of_buckets_count(rooms: Hub):
    actor = rooms.tokens.actor(rooms.tokens.add("ada", "t", TokenRole.WRITE))
    assert actor.account_id is not None
    bucket = rooms.buckets.create(actor, "ada", "b")
    with rooms.database.write() as session:
        session.execute(update(Bucket).where(Bucket.id == bucket.id).values(size=700))
    assert rooms.accounts.used(actor.account_id) == 700


def test_an_upload_past_the_quota_is_refused_before_it_is_received(hub: HubProcess):
    api = HfApi(hub.endpoint, token=hub.add_user("quota-user"))
    api.create_repo("quota-user/m")
    hub.command("user", "quota", "quota-user", "300000")
    api.upload_file(path_or_fileobj=b"a" * 200_000, path_in_repo="a.bin", repo_id="quota-user/m")
    with pytest.raises(HfHubHTTPError, match="quota of quota-user is 300,000 bytes"):
        api.upload_file(path_or_fileobj=b"b" * 200_000, path_in_repo="b.bin", repo_id="quota-user/m")
    assert not api.file_exists("quota-user/m", "b.bin")
    with pytest.raises(HfHubHTTPError, match="this needs 200,000 more"):  # so is a text, which no object store keeps
        api.upload_file(path_or_fileobj=b"b" * 200_000, path_in_repo="b.txt", repo_id="quota-user/m")
    api.delete_file("a.bin", "quota-user/m")  # full or not
    hub.command("user", "quota", "quota-user", "none")
    api.upload_file(path_or_fileobj=b"b" * 200_000, path_in_repo="b.bin", repo_id="quota-user/m")


@pytest.mark.parametrize("limit", ["-1", "1e9", "ten", "", "9" * 30])
def test_a_quota_is_a_number_of_bytes_or_none(tmp_path: Path, limit: str):
    done = lmc_hub("user", "quota", "ada", "--data", tmp_path / "hub", "--", limit)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
