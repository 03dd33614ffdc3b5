"""The Xet store without HTTP: what is verified before it is taken, who reaches what, what is read back and kept."""

import os
import resource
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event
from xet_parts import CHUNK, File, Term, Xorb, shard, xorb

from lmcommons.hub.accounts.permissions import Actor, readable, readable_buckets
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.errors import BadRequest, EntryNotFound, InsufficientStorage
from lmcommons.hub.objects.xet.files import Registered
from lmcommons.hub.objects.xet.hashing import chunk_hash, to_text
from lmcommons.hub.objects.xet.reach import Reach
from lmcommons.hub.objects.xet.shard import parse_files
from lmcommons.hub.objects.xet.store import XetStore
from lmcommons.hub.objects.xet.xorb import FOOTER, Compression
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings

NOW = timedelta(0)
WEEK = timedelta(days=7)


class Sender:
    """An account with a repository, which sends as the HTTP door does."""

    def __init__(self, hub: Hub, name: str, *, private: bool = False) -> None:
        self.hub, self.store = hub, hub.objects.xet
        self.actor: Actor = hub.tokens.actor(hub.accounts.add_user(name))
        assert self.actor.account_id is not None
        self.account_id = self.actor.account_id
        self.repository = hub.repositories.create(self.actor, RepositoryType.MODEL, name, "m", private=private)

    @property
    def reach(self) -> Reach:
        return Reach(self.account_id, readable(self.actor), readable_buckets(self.actor))

    def send(self, sent: Xorb, body: bytes | None = None) -> bool:
        with self.store.receive_xorb(self.account_id, sent.hash) as incoming:
            incoming.write([sent.body if body is None else body])
        return incoming.inserted

    def register(self, *files: File) -> list[Registered]:
        found = self.store.register(self.repository.scope, parse_files(shard(*files)), self.reach)
        self.hub.repositories.link_objects(self.repository.id, {file.sha256: file.size for file in found})
        return found

    def upload(self, *files: File) -> None:
        for sent in {term.xorb.hash: term.xorb for file in files for term in file.terms}.values():
            self.send(sent)
        self.register(*files)

    def knows(self, chunk: bytes) -> bool:
        return self.store.known(to_text(chunk_hash(chunk)), self.reach, bytes(32), 60) is not None

    def delete(self) -> None:
        self.hub.repositories.delete(self.actor, RepositoryType.MODEL, self.repository.full_name)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    opened = Hub(Settings.make(tmp_path / "hub"))
    yield opened
    opened.close()


@pytest.fixture
def store(hub: Hub) -> XetStore:
    return hub.objects.xet


@pytest.fixture
def ada(hub: Hub) -> Sender:
    return Sender(hub, "ada")


@pytest.fixture
def bob(hub: Hub) -> Sender:
    return Sender(hub, "bob")


@pytest.fixture
def eve(hub: Hub) -> Sender:
    """Has a private repository."""
    return Sender(hub, "eve", private=True)


def blobs(hub: Hub) -> list[str]:
    return sorted(blob.key for blob in hub.objects.blobs.entries("xorbs"))


def ago(time: timedelta) -> datetime:
    return datetime.now(UTC) - time


# ------------------------------------------------------------ reading


ONE, OTHER = xorb(os.urandom(95_000)), xorb(os.urandom(40_000), Compression.GROUPED_LZ4)
MIXED = File((Term(ONE, 2, 5), Term(OTHER), Term(ONE, 7, 10), Term(ONE, 2, 4)))
SIZE = len(MIXED.content)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    directory = tmp_path_factory.mktemp("mixed")
    opened = Hub(Settings.make(directory / "hub"))
    Sender(opened, "ada").upload(MIXED)
    yield opened
    opened.close()


@given(st.lists(st.tuples(st.integers(0, SIZE + 5), st.integers(0, SIZE)), max_size=6))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_is_read_from_anywhere(mixed: Hub, reads: list[tuple[int, int]]):
    with mixed.objects.open(MIXED.true_sha256) as file:
        for start, size in reads:
            assert file.seek(start) == start
            assert file.read(size) == MIXED.content[start : start + size]
            assert file.tell() == max(start, min(start + size, SIZE))
        assert file.seek(-7, os.SEEK_END) == SIZE - 7
        assert file.read() == MIXED.content[-7:]


@given(st.integers(0, SIZE - 1), st.integers(1, SIZE))
@settings(deadline=None)
def test_a_reconstruction_has_the_chunks_of_a_range_and_no_others(mixed: Hub, start: int, size: int):
    stop = min(SIZE, start + size)
    found = mixed.objects.xet.reconstruction(MIXED.hash, start, stop)
    assert found is not None
    sent = {one.hash: one for one in (ONE, OTHER)}
    content = b"".join(
        chunk for piece in found.pieces for chunk in sent[piece.xorb_hash].chunks[piece.start : piece.stop]
    )
    assert content[found.skip : found.skip + stop - start] == MIXED.content[start:stop]
    assert found.skip < CHUNK
    assert len(content) - found.skip - (stop - start) < CHUNK
    for name, runs in found.runs.items():
        chunks = [chunk for run in runs for chunk in range(run.start, run.stop)]
        needed = {c for piece in found.pieces if piece.xorb_hash == name for c in range(piece.start, piece.stop)}
        assert len(chunks) == len(set(chunks))
        assert set(chunks) == needed
        for run in runs:
            key = run.xorb.key
            assert mixed.objects.blobs.read(key, run.first, run.end) in sent[name].body


def test_nothing_is_made_past_the_end_of_a_file_or_of_one_that_is_not_here(mixed: Hub):
    xet = mixed.objects.xet
    assert xet.reconstruction(MIXED.hash, SIZE, SIZE + 1) is None
    assert xet.reconstruction("0" * 64) is None
    assert xet.size("0" * 64) is None
    with pytest.raises(EntryNotFound):
        xet.open("0" * 64)


def test_hashes_lead_from_one_to_the_other(mixed: Hub):
    xet, sha256 = mixed.objects.xet, MIXED.true_sha256
    assert xet.hash_of([sha256, "0" * 64]) == {sha256: MIXED.hash}
    assert xet.sha256_of([MIXED.hash, "0" * 64]) == {MIXED.hash: (sha256, SIZE)}
    assert xet.size(sha256) == mixed.objects.size(sha256) == SIZE
    assert mixed.objects.is_intact(sha256)


# ------------------------------------------------------------ receiving


def test_a_xorb_may_come_in_parts_of_any_sizes(hub: Hub, ada: Sender):
    sent = xorb(os.urandom(5_000_000), size=70_000)
    body = sent.body + FOOTER + b"of an older client"
    ends = [1, 7, 8, 9, 70_008, 70_010, 70_010, 4_900_000, len(body) - 3, len(body)]
    with ada.store.receive_xorb(ada.account_id, sent.hash) as incoming:
        for start, stop in pairwise([0, *ends]):
            incoming.write([body[start:stop]])
    (key,) = blobs(hub)
    assert hub.objects.blobs.path(key).read_bytes() == sent.body
    ada.register(File((Term(sent),)))
    assert ada.store.check() == []


def test_a_xorb_that_the_disk_has_no_room_for_is_not_stored(hub: Hub, ada: Sender):
    sent = xorb(os.urandom(5_000_000), size=70_000)
    former, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(sent.body) - 1, most))
    try:
        with pytest.raises(InsufficientStorage):
            ada.send(sent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (former, most))
    assert blobs(hub) == list(hub.objects.blobs.staging.iterdir()) == []


def test_a_xorb_is_stored_once_and_only_as_what_it_is(hub: Hub, ada: Sender, bob: Sender):
    assert ada.send(ONE)
    assert not ada.send(ONE)
    assert not bob.send(ONE)
    assert len(blobs(hub)) == 1
    with pytest.raises(BadRequest, match="another hash"):
        ada.send(OTHER, ONE.body)
    assert len(blobs(hub)) == 1


def test_a_xorb_whose_blob_was_lost_is_stored_when_it_is_sent_again(hub: Hub, ada: Sender):
    ada.upload(File((Term(ONE),)))
    hub.objects.blobs.delete(*blobs(hub))
    assert len(ada.store.check()) == 1
    assert ada.send(ONE)
    assert ada.store.check() == []
    assert hub.objects.is_intact(File((Term(ONE),)).true_sha256)


WHOLE = File((Term(ONE),))


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        (File((Term(ONE),), sha256="0" * 64), "its content has sha256"),
        (File((Term(ONE),), digest=os.urandom(32)), "a file with another hash"),
        (File((Term(ONE, size=1),)), "its chunks have others"),
        (File((Term(ONE, range_hash=bytes(32)),)), "range hash"),
        (File((Term(ONE, stop=11),)), "were not sent by this account"),
        (File((Term(ONE, start=5, stop=5),)), "were not sent by this account"),
        (File((Term(ONE, start=9, stop=3),)), "were not sent by this account"),
        (File((Term(xorb(b"never sent")),)), "were not sent by this account"),
        (File((Term(ONE), Term(OTHER)), digest=File((Term(OTHER), Term(ONE))).true_digest), "another hash"),
        (File((Term(OTHER),), digest=WHOLE.true_digest), "a file with another hash"),
        (File((), digest=os.urandom(32)), "a file with another hash"),
    ],
)
def test_a_file_that_lies_is_refused_with_all_of_its_shard(ada: Sender, lie: File, complaint: str):
    ada.send(ONE)
    ada.send(OTHER)
    with pytest.raises(BadRequest, match=complaint) as caught:
        ada.register(WHOLE, lie)
    assert "\n" not in caught.value.message
    assert ada.store.sha256_of([WHOLE.hash, lie.hash]) == {}
    assert ada.register(WHOLE)


def test_a_file_may_be_registered_again_and_its_sha256_is_still_checked(ada: Sender, bob: Sender):
    ada.upload(WHOLE)
    assert ada.register(WHOLE) == ada.register(File((Term(ONE),), without_sha256=True))
    with pytest.raises(BadRequest, match="its content has sha256"):
        ada.register(File((Term(ONE),), sha256="1" * 64))
    assert bob.store.in_scope(bob.repository.scope, [WHOLE.hash]) == set()
    bob.upload(WHOLE)
    assert bob.store.in_scope(bob.repository.scope, [WHOLE.hash]) == {WHOLE.hash}


def test_a_shard_of_many_files_keeps_other_writers_waiting_for_few_statements(ada: Sender):
    many = xorb(b"".join(number.to_bytes(2) * 4 for number in range(600)), size=8)
    files = [File((Term(many, number, number + 1),)) for number in range(600)]
    ada.send(many)
    ada.register(*files[:10])
    statements: list[str] = []

    def count(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if connection.get_execution_options().get("write"):
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        ada.store.register(ada.repository.scope, parse_files(shard(*files, files[20])), ada.reach)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert 0 < len(statements) < 50
    for file in (files[0], files[20], files[-1]):
        with ada.store.open(file.true_sha256) as found:
            assert found.read() == file.content


def test_an_empty_file_is_a_file(ada: Sender):
    ada.register(File(()))
    with ada.store.open(File(()).true_sha256) as file:
        assert file.read() == b""


def test_work_on_a_shard_ends_when_its_step_says_so(ada: Sender):
    ada.send(ONE)

    def give_up(size: int) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        ada.store.register(ada.repository.scope, parse_files(shard(WHOLE)), ada.reach, give_up)
    assert ada.store.sha256_of([WHOLE.hash]) == {}


# ------------------------------------------------------------ who reaches what


def test_knowing_every_hash_of_a_private_file_gives_nothing(eve: Sender, bob: Sender):
    eve.upload(WHOLE)
    assert not bob.knows(ONE.chunks[0])
    with pytest.raises(BadRequest, match="were not sent by this account"):
        bob.register(WHOLE)
    assert bob.store.in_scope(bob.repository.scope, [WHOLE.hash]) == set()
    # The answer does not tell a xorb that is here from one that is not.
    nowhere = xorb(b"nowhere")
    messages = []
    for sent in (ONE, nowhere):
        with pytest.raises(BadRequest) as caught:
            bob.register(File((Term(sent, 0, 1),)))
        messages.append(caught.value.message.replace(sent.hash, "X").replace(File((Term(sent, 0, 1),)).hash, "F"))
    assert messages[0] == messages[1]


def test_chunks_of_a_file_that_an_account_may_read_need_not_be_sent(ada: Sender, bob: Sender):
    ada.send(ONE)
    ada.register(File((Term(ONE, 2, 6),)))
    assert bob.knows(ONE.chunks[2])
    bob.register(File((Term(ONE, 3, 5),)))
    # Only those: other chunks of the same xorb are in no file that bob may read.
    for start, stop in ((1, 3), (5, 7), (0, 10)):
        with pytest.raises(BadRequest, match="were not sent by this account"):
            bob.register(File((Term(ONE, start, stop),)))
    assert not bob.store.is_whole(ONE.hash, bob.reach)
    assert ada.store.is_whole(ONE.hash, ada.reach)


def test_what_was_readable_and_is_private_now_is_out_of_reach(hub: Hub, ada: Sender, bob: Sender):
    ada.upload(WHOLE)
    assert bob.knows(ONE.chunks[0])
    with hub.database.write() as session:
        session.merge(ada.repository).private = True
    assert not bob.knows(ONE.chunks[0])
    assert ada.knows(ONE.chunks[0])
    with pytest.raises(BadRequest, match="were not sent by this account"):
        bob.register(WHOLE)


def test_who_sent_a_xorb_may_use_it_after_its_repository_is_gone(ada: Sender, hub: Hub):
    # The client remembers what it sent, for weeks, and does not send it again.
    ada.upload(WHOLE)
    ada.delete()
    ada.repository = hub.repositories.create(ada.actor, RepositoryType.MODEL, "ada", "again")
    assert ada.register(WHOLE)


# ------------------------------------------------------------ keeping


NEVER = xorb(b"sent for a file that never came")


def test_garbage_is_what_no_repository_has_and_nobody_sent_lately(hub: Hub, ada: Sender, store: XetStore):
    kept, dropped = WHOLE, File((Term(OTHER),))
    ada.upload(kept, dropped)
    ada.send(NEVER)
    hub.repositories.unlink_objects(ada.repository.id, [dropped.true_sha256])
    assert store.unreferenced(ago(WEEK)) == []
    assert store.collect(ago(WEEK)).xorbs == 0
    assert store.generation() == 0
    assert {xorb.size for xorb in store.unreferenced(ago(NOW))} == {len(OTHER.body), len(NEVER.body)}
    collected = store.collect(ago(NOW))
    assert (collected.files, collected.xorbs) == (1, 2)
    assert collected.size == len(OTHER.body) + len(NEVER.body)
    assert store.generation() == 1
    assert hub.objects.is_intact(kept.true_sha256)
    assert hub.objects.size(dropped.true_sha256) is None
    assert len(blobs(hub)) == 1
    assert store.collect(ago(NOW)).xorbs == 0
    assert store.generation() == 1
    ada.upload(dropped)
    assert hub.objects.is_intact(dropped.true_sha256)


def test_a_blob_that_no_xorb_names_is_removed_once_it_is_old(hub: Hub, ada: Sender, store: XetStore):
    ada.upload(WHOLE)
    hub.objects.blobs.put("xorbs/ab/of-an-upload-that-died", b"x" * 1000)
    assert store.collect(ago(WEEK)).size == 0
    assert store.collect(ago(NOW)).size == 1000
    assert hub.objects.is_intact(WHOLE.true_sha256)


def test_every_stored_xorb_is_hashed_by_a_check(hub: Hub, ada: Sender, store: XetStore):
    ada.upload(MIXED)
    assert store.check() == []
    path = hub.objects.blobs.path(blobs(hub)[0])
    assert path is not None
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    (problem,) = store.check()
    assert problem.startswith(f"xorb {path.name.partition('.')[0]}: ")
