"""Files that a browser sends: each goes into the store as it comes, then one commit takes them all.

A file that was received is known by its sha256 and a proof, signed by the hub, of who sent it to which repository: so
that nothing is noted before the commit, and nobody commits what they only know the hash of. Garbage collection removes
what no commit takes.
"""

import hashlib
import hmac
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from lmcommons.hub.accounts.accounts import Accounts
from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import BadRequest, TooLarge
from lmcommons.hub.objects.store import Incoming, ObjectStore
from lmcommons.hub.repos.commits import Commits
from lmcommons.hub.repos.contents import Contents
from lmcommons.hub.repos.git import AddFile, AddLfs, Operation

FILE_LIMIT = 5 << 30  # bytes of one file
FILES_LIMIT = 200  # files of one commit
SMALL_LIMIT = 64 << 20  # bytes of all the files of one commit that git itself keeps, which are in memory together
VALID = 6 * 3600  # seconds from receiving a file to its commit


@dataclass(frozen=True)
class Received:
    """A file that is in the store; `proof` says until when, and that the hub received it from this sender."""

    sha256: str
    size: int
    proof: str


class Uploads:
    """The files that browsers send to a hub."""

    def __init__(
        self, secret: bytes, accounts: Accounts, objects: ObjectStore, contents: Contents, commits: Commits
    ) -> None:
        self._secret = secret
        self._accounts = accounts
        self._objects = objects
        self._contents = contents
        self._commits = commits

    @contextmanager
    def receiving(self, actor: Actor, repository: Repository, announced: int = 0) -> Iterator[Incoming]:
        """Receive a file in the block, of about `announced` bytes; see `received`.

        Raises:
            Unauthorized, Forbidden: the actor may not propose changes, or past the namespace's quota.
            TooLarge, BadRequest: larger than FILE_LIMIT. InsufficientStorage: the disk is full.
        """
        require(actor, Action.DISCUSS, repository)
        if announced > FILE_LIMIT:
            raise TooLarge(f"A file of {announced:,} bytes; browsers send at most {FILE_LIMIT:,}: use `hf upload`")
        self._accounts.require_room(repository.account_id, announced)
        with self._objects.receive_new(FILE_LIMIT) as incoming:
            yield incoming

    def received(self, actor: Actor, repository: Repository, incoming: Incoming) -> Received:
        """What the sender shows for a file that was received, to commit it."""
        ends = int(time.time()) + VALID
        sha256, size = incoming.sha256, incoming.size
        return Received(sha256, size, f"{ends}-{self._signature(actor, repository, sha256, size, ends)}")

    def operations(
        self, actor: Actor, repository: Repository, revision: str, files: Mapping[str, Received]
    ) -> list[Operation]:
        """What puts files, by their paths, into a commit to `revision`; large ones are given to the repository here.

        Raises:
            BadRequest: no files, a path that is not allowed, or a file that this sender did not send within VALID.
            TooLarge: too many files, or too much for git in one commit. Forbidden: past the namespace's quota.
        """
        if not files:
            raise BadRequest("No file was sent: choose at least one")
        if len(files) > FILES_LIMIT:
            raise TooLarge(f"{len(files)} files in one upload; at most {FILES_LIMIT}, or use `hf upload`")
        for path, file in files.items():
            self._check(actor, repository, path, file)
        sizes = [(path, file.size) for path, file in files.items()]
        large = {mode.path for mode in self._commits.upload_modes(repository, revision, sizes) if mode.lfs}
        small = sum(file.size for path, file in files.items() if path not in large)
        if small > SMALL_LIMIT:
            raise TooLarge(f"{small:,} bytes of small files in one upload; at most {SMALL_LIMIT:,}: send fewer at once")
        objects = {files[path].sha256: files[path].size for path in large}
        self._accounts.require_room(repository.account_id, sum(objects.values()) + small)
        if self._contents.link(repository.id, objects):
            raise BadRequest("A file was removed as garbage since it was sent; send the files again")
        return [
            AddLfs(path, file.sha256, file.size) if path in large else AddFile(path, self._read(file))
            for path, file in files.items()
        ]

    def _read(self, file: Received) -> bytes:
        with self._objects.open(file.sha256) as content:
            return content.read()

    def _check(self, actor: Actor, repository: Repository, path: str, file: Received) -> None:
        ends, _, signature = file.proof.partition("-")
        valid = ends.isascii() and ends.isdecimal() and len(ends) < 20 and int(ends) > time.time()
        expected = self._signature(actor, repository, file.sha256, file.size, int(ends)) if valid else ""
        if not valid or not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
            raise BadRequest(f"{path}: this file was not sent by you, or too long ago; send it again")

    def _signature(self, actor: Actor, repository: Repository, sha256: str, size: int, ends: int) -> str:
        text = f"upload {actor.account_id} {repository.id} {sha256} {size} {ends}"
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
