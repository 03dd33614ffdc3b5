"""Files that a browser sends: in the store as they come, and in the repository by one commit of who sent them."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from open_rooms import open_rooms

from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, Forbidden, RepositoryNotFound, TooLarge, Unauthorized
from lmcommons.hub.operating.garbage import collect
from lmcommons.hub.repos import uploads
from lmcommons.hub.repos.uploads import FILE_LIMIT, FILES_LIMIT, Received
from lmcommons.hub.rooms import Hub


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Hub]:
    rooms = open_rooms(tmp_path / "hub")
    yield rooms
    rooms.close()


@pytest.fixture
def ann(rooms: Hub) -> Actor:
    return rooms.tokens.actor(rooms.accounts.add_user("ann"))


@pytest.fixture
def bob(rooms: Hub) -> Actor:
    return rooms.tokens.actor(rooms.accounts.add_user("bob"))


@pytest.fixture
def repository(rooms: Hub, ann: Actor) -> Repository:
    return rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "m")


def send(rooms: Hub, actor: Actor, repository: Repository, blocks: Iterable[bytes]) -> Received:
    with rooms.uploads.receiving(actor, repository) as incoming:
        for block in blocks:
            incoming.write(block)
    return Received(incoming.sha256, incoming.size)


def test_files_become_text_in_git_or_large_objects_as_the_client_would_send_them(rooms, ann, repository):
    files = {
        "notes.txt": send(rooms, ann, repository, [b"no", b"tes"]),
        "model.safetensors": send(rooms, ann, repository, [b"weights"]),
        "empty.bin": send(rooms, ann, repository, []),
    }
    operations = rooms.uploads.operations(repository, "main", files)
    commit = rooms.commits.commit(ann, repository, "main", operations, message="upload")
    git = rooms.repositories.git(repository)
    entries = {entry.path: entry for entry in git.entries(commit)}
    assert {path: entry.lfs is not None for path, entry in entries.items()} == {
        ".gitattributes": False,
        "notes.txt": False,
        "model.safetensors": True,
        "empty.bin": False,
    }
    contents = {}
    for path in files:
        with rooms.contents.open(repository, entries[path]) as content:
            contents[path] = content.read()
    assert contents == {"notes.txt": b"notes", "model.safetensors": b"weights", "empty.bin": b""}


def test_nobody_commits_what_the_repository_was_not_sent(rooms, ann, bob, repository):
    other = rooms.commits.create_repository(bob, RepositoryType.MODEL, None, "other")
    sent = send(rooms, ann, repository, [b"secret"])
    for target, file in (
        (other, sent),
        (repository, replace(sent, size=7)),
        (repository, replace(sent, sha256=hashlib.sha256(b"x").hexdigest())),
    ):
        with pytest.raises(BadRequest, match="was not sent to"):
            rooms.uploads.operations(target, "main", {"a.txt": file})
    with pytest.raises(BadRequest, match="Not a sha256"):
        rooms.uploads.operations(repository, "main", {"a.txt": replace(sent, sha256="../../secret")})


def test_what_was_sent_counts_and_goes_with_the_garbage_when_no_commit_takes_it(rooms, ann, repository):
    sent = send(rooms, ann, repository, [b"weights" * 1_000])
    assert (rooms.objects.size(sent.sha256), rooms.accounts.used(repository.account_id)) == (7_000, 7_000)
    collect(rooms, datetime.now(UTC))
    assert rooms.objects.size(sent.sha256) is None
    assert rooms.accounts.used(repository.account_id) == repository.storage
    with pytest.raises(BadRequest, match="send it again"):
        rooms.uploads.operations(repository, "main", {"a.safetensors": sent})


def test_a_file_that_was_cut_off_leaves_nothing(rooms, ann, repository):
    def blocks() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        send(rooms, ann, repository, blocks())
    assert list(rooms.objects) == []
    assert list(rooms.objects.blobs.staging.iterdir()) == []


def test_limits_are_said(rooms, ann, bob, repository, monkeypatch):
    sent = send(rooms, ann, repository, [b"x" * 100])
    with pytest.raises(BadRequest, match="at least one"):
        rooms.uploads.operations(repository, "main", {})
    with pytest.raises(TooLarge, match=f"at most {FILES_LIMIT}"):
        rooms.uploads.operations(repository, "main", {f"{number}.txt": sent for number in range(FILES_LIMIT + 1)})
    monkeypatch.setattr(uploads, "SMALL_LIMIT", 150)
    with pytest.raises(TooLarge, match="send fewer"):
        rooms.uploads.operations(repository, "main", {"a.txt": sent, "b.txt": sent})
    with pytest.raises(BadRequest, match="relative"):
        rooms.uploads.operations(repository, "main", {"../a.txt": sent})
    with pytest.raises(TooLarge, match="browsers send"), rooms.uploads.receiving(ann, repository, FILE_LIMIT + 1):
        pass
    rooms.accounts.set_quota("ann", 10_000)
    with pytest.raises(Forbidden, match="quota"), rooms.uploads.receiving(bob, repository, 10_001):
        pass
    with pytest.raises(Forbidden, match="quota"):
        send(rooms, bob, repository, [b"y" * 10_001])
    assert list(rooms.objects) == [sent.sha256]


def test_only_who_may_propose_changes_sends_files(rooms, ann, bob, repository):
    hidden = rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "hidden", private=True)
    with pytest.raises(Unauthorized), rooms.uploads.receiving(ANONYMOUS, repository):
        pass
    with pytest.raises(RepositoryNotFound), rooms.uploads.receiving(bob, hidden):
        pass
    assert send(rooms, bob, repository, [b"a gift"]).size == 6
