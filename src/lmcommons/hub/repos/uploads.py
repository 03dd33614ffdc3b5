"""Files that a browser sends: each goes into the store as it comes, then one commit takes them all.

As with LFS, a file that was sent belongs to the repository and counts there, and is nothing until a commit names it;
garbage collection removes what no commit takes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from lmcommons.hub.accounts.accounts import Accounts
from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import BadRequest, Busy, TooLarge
from lmcommons.hub.objects.store import Incoming, ObjectStore
from lmcommons.hub.repos.commits import Commits
from lmcommons.hub.repos.contents import Contents
from lmcommons.hub.repos.git import AddFile, AddLfs, Operation

FILE_LIMIT = 5_000_000_000  # bytes of one file
FILES_LIMIT = 200  # files of one commit
SMALL_LIMIT = 64 << 20  # bytes of all the files of one commit that git itself keeps, which are in memory together


@dataclass(frozen=True)
class Received:
    """A file that was received, as who sent it names it in a commit."""

    sha256: str
    size: int


class Uploads:
    """The files that browsers send to a hub."""

    def __init__(self, accounts: Accounts, objects: ObjectStore, contents: Contents, commits: Commits) -> None:
        self._accounts = accounts
        self._objects = objects
        self._contents = contents
        self._commits = commits

    @contextmanager
    def receiving(self, actor: Actor, repository: Repository, announced: int = 0) -> Iterator[Incoming]:
        """Receive a file in the block, of about `announced` bytes; after it the file is the repository's.

        Raises:
            Unauthorized, Forbidden: the actor may not propose changes, or past the namespace's quota.
            TooLarge, BadRequest: larger than FILE_LIMIT. InsufficientStorage: the disk is full.
        """
        require(actor, Action.DISCUSS, repository)
        if announced > FILE_LIMIT:
            raise TooLarge(
                "A file of {size:,} bytes; browsers send at most {limit:,}: use `hf upload`",
                size=announced,
                limit=FILE_LIMIT,
            )
        self._accounts.require_room(repository.account_id, announced)
        with self._objects.receive_new(FILE_LIMIT) as incoming:
            yield incoming
            self._accounts.require_room(repository.account_id, incoming.size)
        if self._contents.link(repository.id, {incoming.sha256: incoming.size}):
            raise Busy("The file was removed as garbage just now; send it again", seconds=1)

    def operations(self, repository: Repository, revision: str, files: Mapping[str, Received]) -> list[Operation]:
        """What puts files, by their paths, into a commit to `revision`.

        Raises:
            BadRequest: no files, a path that is not allowed, or a file that the repository did not receive.
            TooLarge: too many files, or too much for git in one commit.
        """
        if not files:
            raise BadRequest("No file was sent: choose at least one")
        if len(files) > FILES_LIMIT:
            raise TooLarge(
                "{count} files in one upload; at most {limit}, or use `hf upload`", count=len(files), limit=FILES_LIMIT
            )
        stored = self._contents.stored(repository, {file.sha256: file.size for file in files.values()})
        for path, file in files.items():
            if file.sha256 not in stored:
                raise BadRequest(
                    "{path}: it was not sent to {repository}, or too long ago; send it again",
                    path=path,
                    repository=repository.full_name,
                )
        modes = self._commits.upload_modes(repository, revision, [(path, file.size) for path, file in files.items()])
        large = {mode.path for mode in modes if mode.lfs}
        small = sum(file.size for path, file in files.items() if path not in large)
        if small > SMALL_LIMIT:
            raise TooLarge(
                "{size:,} bytes of small files in one upload; at most {limit:,}: send fewer at once",
                size=small,
                limit=SMALL_LIMIT,
            )
        return [
            AddLfs(path, file.sha256, file.size) if path in large else AddFile(path, self._read(file))
            for path, file in files.items()
        ]

    def _read(self, file: Received) -> bytes:
        with self._objects.open(file.sha256) as content:
            return content.read()
