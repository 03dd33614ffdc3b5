"""What the files of repositories hold, wherever it lies: in git, or as a large object in the store.

Knowing a sha256 proves nothing: an object is read only through a repository that it was uploaded to, and an actor
need not send it only when some repository that the actor may read has it.
"""

from collections.abc import Set
from typing import BinaryIO

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import Repository, now
from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.repos.git import Entry
from lmcommons.hub.repos.index import open_file
from lmcommons.hub.repos.repositories import Repositories


class Contents:
    """The contents of a hub's repositories."""

    def __init__(self, repositories: Repositories, objects: ObjectStore) -> None:
        self._repositories = repositories
        self._objects = objects

    def open(self, repository: Repository, entry: Entry) -> BinaryIO:
        """A file's content.

        Raises:
            EntryNotFound: it is a large object that the repository does not have.
        """
        self.require(repository, entry)
        return open_file(self._repositories.git(repository), self._objects, entry)

    def open_at_head(self, repository: Repository, path: str) -> BinaryIO:
        """The content of a file of the head of the default branch.

        Raises:
            EntryNotFound: there is none, or as `open`.
        """
        entry = self._repositories.git(repository).entry(repository.head or "", path)
        if entry.type != "file":
            raise EntryNotFound("{path!r} is a folder, not a file", path=path, commit=repository.head)
        return self.open(repository, entry)

    def require(self, repository: Repository, entry: Entry) -> None:
        """Return when the file's content is here.

        Raises:
            EntryNotFound: it is a large object that the repository does not have.
        """
        if entry.lfs and not self.stored(repository, {entry.lfs.sha256: entry.lfs.size}):
            raise EntryNotFound(
                "{path}: its content was never uploaded to {repository}",
                path=entry.path,
                repository=repository.full_name,
            )

    def stored(self, repository: Repository, objects: dict[str, int]) -> Set[str]:
        """Those of the objects (sha256: bytes) that the repository has."""
        return self._repositories.linked_objects(repository.id, self._present(objects)).keys()

    def needed(self, actor: Actor, repository: Repository, objects: dict[str, int]) -> set[str]:
        """Those of the objects (sha256: bytes) that must be sent; the others are linked to the repository."""
        known = self._repositories.known_objects(actor, objects)
        lost = self.link(repository.id, {sha256: size for sha256, size in objects.items() if known.get(sha256) == size})
        return objects.keys() - known | lost

    def link(self, repository_id: int, objects: dict[str, int]) -> set[str]:
        """Note that objects (sha256: bytes) were uploaded to the repository; returns those that are not here.

        They are looked for once they are linked: from then on no garbage collection takes them.
        """
        self._repositories.link_objects(repository_id, objects)
        linked = now()
        lost = objects.keys() - self._present(objects)
        if lost:  # an upload that ended since then has linked them anew
            self._repositories.unlink_objects(repository_id, lost, before=linked)
        return lost

    def _present(self, objects: dict[str, int]) -> set[str]:
        sizes = self._objects.sizes(objects)
        return {sha256 for sha256, size in objects.items() if sizes.get(sha256) == size}
