"""The large files of a repository by their objects: which it has, giving them to another, removing them for good."""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import pygit2
from sqlalchemy import select

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Repository, RepositoryObject
from lmcommons.hub.errors import Conflict, storage_errors
from lmcommons.hub.repos.commits import Commits
from lmcommons.hub.repos.contents import Contents
from lmcommons.hub.repos.git import RefChange, full_ref
from lmcommons.hub.repos.pack import PackWriter
from lmcommons.hub.repos.reachability import named_objects
from lmcommons.hub.repos.references import HIDDEN
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.repos.rewriting import Rewriter


@dataclass(frozen=True)
class LargeFile:
    """An object of a repository: one of the paths that it has in its history, and a ref at which it is now, if any."""

    sha256: str
    size: int
    linked_at: datetime
    path: str | None
    ref: str | None


class LargeFiles:
    """The large files of a hub's repositories."""

    def __init__(self, database: Database, repositories: Repositories, contents: Contents, commits: Commits) -> None:
        self._database = database
        self._repositories = repositories
        self._contents = contents
        self._commits = commits

    def listing(self, repository: Repository, after: str = "", limit: int = 1_000) -> tuple[list[LargeFile], bool]:
        """The objects of a repository in the order of their sha256, from after one, and whether there are more."""
        chosen = select(RepositoryObject).where(
            RepositoryObject.repository_id == repository.id,
            RepositoryObject.sha256 > after,
            RepositoryObject.withheld.is_(False),
        )
        with self._database.read() as session:
            rows = list(session.scalars(chosen.order_by(RepositoryObject.sha256).limit(limit + 1)))
        git = self._repositories.git(repository)
        branch = full_ref(git.default_branch)
        present = {entry.lfs.sha256: entry.path for entry in git.entries(branch, recursive=True) if entry.lfs}
        deleted = {row.sha256 for row in rows} - present.keys()
        former = _paths(git.path, frozenset(git.all_refs().values())) if deleted else {}
        files = [
            LargeFile(
                row.sha256,
                row.size,
                row.created_at,
                present.get(row.sha256) or former.get(row.sha256),
                None if row.sha256 in deleted else branch,
            )
            for row in rows[:limit]
        ]
        return files, len(rows) > limit

    def give(self, source: Repository, target: Repository, sha256s: Collection[str]) -> dict[str, int]:
        """Give those of a repository's objects to another one that it has; returns them, with their bytes."""
        linked = self._repositories.linked_objects(source.id, sha256s)
        lost = self._contents.link(target.id, linked)
        return {sha256: size for sha256, size in linked.items() if sha256 not in lost}

    def remove(self, actor: Actor, repository: Repository, sha256s: Collection[str], *, rewrite_history: bool) -> None:
        """Take objects from a repository; garbage collection removes those that no other one has.

        Args:
            rewrite_history: also make every commit anew that names one of them, and those that follow it; else their
                files stay in the history, without content.

        Raises:
            Conflict: somebody changed a branch meanwhile; nothing was removed.
        """
        if rewrite_history:
            self._rewrite(actor, repository, set(sha256s))
        self._repositories.unlink_objects(repository.id, sha256s)
        self._repositories.record("repository.objects-removed", actor, repository, sha256=sorted(sha256s))

    def _rewrite(self, actor: Actor, repository: Repository, sha256s: set[str]) -> None:
        git = self._repositories.git(repository)
        refs = git.all_refs(hidden=True)
        unwanted = {bytes.fromhex(named.oid) for named in named_objects(git.path) if named.sha256 in sha256s}
        # In the repository, because what is written is renamed to its place there.
        with storage_errors(), tempfile.TemporaryDirectory(prefix="tmp_objdir-", dir=git.path / "objects") as directory:
            with PackWriter(Path(directory)) as writer:
                changed = Rewriter(pygit2.Repository(git.path), unwanted, writer).rewrite(refs)
                writer.install()
            changes = [RefChange(ref, refs[ref], after) for ref, after in changed.items()]
            refusals = git.move_refs(changes, Path(directory), atomic=True) if changes else {}
        if any(refusals.values()):
            raise Conflict("The repository was changed meanwhile; nothing was removed; try again")
        for change in changes:
            if not change.ref.startswith(HIDDEN):
                self._commits.moved(actor, repository, change.ref, change.before, change.after)


@lru_cache(maxsize=4)  # listings at a time, each of which asks for its pages one after the other
def _paths(path: Path, tips: frozenset[str]) -> dict[str, str]:
    """A path of each object that the history of these commits and tags names, in the repository at `path`."""
    return {named.sha256: named.path for named in named_objects(path, tips)}
