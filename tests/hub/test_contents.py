"""Objects and the repositories that have them."""

import hashlib
from collections.abc import Collection
from pathlib import Path

import pytest
from open_rooms import open_rooms

from lmcommons.hub.database.tables import RepositoryType

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OBJECT = {SHA256: len(CONTENT)}


def test_a_link_that_is_made_while_another_finds_no_object_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rooms = open_rooms(tmp_path / "hub")
    ann = rooms.tokens.actor(rooms.accounts.add_user("ann"))
    repository = rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    sizes = rooms.objects.sizes

    def just_before_it_comes(sha256s: Collection[str]) -> dict[str, int]:
        found = sizes(sha256s)
        monkeypatch.undo()
        with rooms.objects.receive(SHA256, len(CONTENT)) as incoming:
            incoming.write(CONTENT)
        assert rooms.contents.link(repository.id, OBJECT) == set()
        return found

    monkeypatch.setattr(rooms.objects, "sizes", just_before_it_comes)
    assert rooms.contents.link(repository.id, OBJECT) == {SHA256}
    assert rooms.contents.stored(repository, OBJECT) == {SHA256}
    rooms.close()
