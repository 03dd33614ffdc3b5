"""From a client's upload to a git commit: how each file must be sent, which objects it may refer to, and the commit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pathspec

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.repos.details import read_text
from lmcommons.hub.repos.git import AddFile, AddLfs, DeleteFile, DeleteFolder, GitRepository, Operation
from lmcommons.hub.repos.index import describe
from lmcommons.hub.repos.operations import path_names
from lmcommons.hub.repos.pointers import parse_pointer
from lmcommons.hub.repos.repositories import MAIN, Repositories

REGULAR_LIMIT = 10 << 20  # bytes; a larger file goes to the object store


@dataclass(frozen=True)
class UploadMode:
    """How a file must be sent; `oid` is what the branch holds there now: git's id, or the sha256 of a large object."""

    path: str
    lfs: bool
    ignored: bool
    oid: str | None


class Commits:
    """Commits to the repositories of a hub."""

    def __init__(self, repositories: Repositories, objects: ObjectStore) -> None:
        self._repositories = repositories
        self._objects = objects

    def create_repository(
        self, actor: Actor, type_: RepositoryType, namespace: str | None, name: str, *, private: bool | None = None
    ) -> Repository:
        """Make a repository and index it; see `Repositories.create`."""
        return self.refresh(self._repositories.create(actor, type_, namespace, name, private=private))

    def upload_modes(
        self, repository: Repository, revision: str, files: Iterable[tuple[str, int]], gitignore: str | None = None
    ) -> list[UploadMode]:
        """How to send each (path, size in bytes): files past 10 MiB, or named in `.gitattributes`, as large objects.

        Raises:
            BadRequest: a path is not allowed. RevisionNotFound: no such branch.
        """
        by_size = dict(files)
        for path in by_size:
            path_names(path)
        git = self._repositories.git(repository)
        commit = git.resolve(revision)
        by_attributes = git.tracked_by_lfs(commit, by_size)
        ignore = pathspec.GitIgnoreSpec.from_lines((gitignore or read_text(git, commit, ".gitignore")).splitlines())
        present = {entry.path: entry for entry in git.existing(commit, by_size) if entry.type == "file"}
        return [
            UploadMode(
                path=path,
                lfs=size > 0 and (size > REGULAR_LIMIT or path in by_attributes),
                ignored=ignore.match_file(path),
                oid=present[path].content_id if path in present else None,
            )
            for path, size in by_size.items()
        ]

    def commit(
        self,
        actor: Actor,
        repository: Repository,
        branch: str,
        operations: Sequence[Operation],
        *,
        message: str,
        parent: str | None = None,
    ) -> str:
        """Commit to a branch, all or nothing; returns the branch's commit.

        Raises:
            BadRequest: a path or an object that was never uploaded, named.
            EntryNotFound: something to delete or copy is absent.
            PreconditionFailed: the branch moved on from `parent`.
            RevisionNotFound: no such branch.
        """
        git = self._repositories.git(repository)
        before = git.branch(branch)
        commit = git.commit(
            branch,
            self._proven(actor, repository, _whole_folders(git, before, operations)),
            message=message,
            author_name=actor.name or "",
            author_email=actor.email,
            parent=parent,
        )
        if commit != before:
            self._repositories.record("repository.commit", actor, repository, branch=branch, commit=commit)
        if branch == MAIN:
            self.refresh(repository)
        return commit

    def refresh(self, repository: Repository) -> Repository:
        """Bring the index up to the head of main, if it is behind: after a commit, or after a crash just behind one."""
        git = self._repositories.git(repository)
        while (head := git.resolve(MAIN)) != repository.head:
            repository = self._repositories.describe(repository, head, describe(git, self._objects, head))
        return repository

    def _proven(self, actor: Actor, repository: Repository, operations: Sequence[Operation]) -> list[Operation]:
        """The operations, once every object in them is stored and known to the actor through a repository."""
        checked: list[Operation] = []
        for operation in operations:
            if isinstance(operation, AddFile) and (pointer := parse_pointer(operation.content)):
                # The text of a pointer is read back as its object: it needs the same proof.
                operation = AddLfs(operation.path, pointer.sha256, pointer.size)
            checked.append(operation)
        large = [operation for operation in checked if isinstance(operation, AddLfs)]
        known = self._repositories.known_objects(actor, {operation.sha256 for operation in large})
        for operation in large:
            stored = self._objects.size(operation.sha256)
            if operation.sha256 not in known or stored is None:
                raise BadRequest(
                    f"{operation.path}: object {operation.sha256} was never uploaded to {repository.full_name}; "
                    "upload it first"
                )
            if stored != operation.size:
                raise BadRequest(
                    f"{operation.path}: object {operation.sha256} has {stored} bytes, not {operation.size}"
                )
        self._repositories.link_objects(repository.id, {operation.sha256: operation.size for operation in large})
        return checked


def _whole_folders(git: GitRepository, commit: str, operations: Sequence[Operation]) -> list[Operation]:
    """The operations, where the client may name a folder to delete a file."""
    deleted = [operation.path for operation in operations if isinstance(operation, DeleteFile)]
    folders = {entry.path for entry in git.existing(commit, deleted) if entry.type == "directory"}
    return [
        DeleteFolder(operation.path) if isinstance(operation, DeleteFile) and operation.path in folders else operation
        for operation in operations
    ]
