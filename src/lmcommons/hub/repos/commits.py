"""From a client's upload to a git commit: how each file must be sent, which objects it may refer to, and the commit."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pathspec

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, EntryNotFound, RevisionNotFound
from lmcommons.hub.objects.store import ObjectStore
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
        files = list(files)
        for path, _ in files:
            path_names(path)
        git = self._repositories.git(repository)
        commit = git.resolve(revision)
        by_attributes = git.tracked_by_lfs(commit, [path for path, _ in files])
        ignore = pathspec.GitIgnoreSpec.from_lines((gitignore or self._gitignore(git, commit)).splitlines())
        return [
            UploadMode(
                path=path,
                lfs=size > 0 and (size > REGULAR_LIMIT or path in by_attributes),
                ignored=ignore.match_file(path),
                oid=_present_oid(git, commit, path),
            )
            for path, size in files
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
        refs = git.refs()
        before = next((ref.target for ref in refs.branches if ref.name == branch), None)
        if before is None:
            if branch in {ref.name for ref in refs.tags}:
                raise BadRequest(f"{branch} is a tag; commits go to a branch")
            raise RevisionNotFound(f"No branch {branch} in {repository.full_name}")
        operations = self._proven(
            actor, repository, [_whole_folder(git, branch, operation) for operation in operations]
        )
        commit = git.commit(
            branch,
            operations,
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

    def upload_needed(self, actor: Actor, repository: Repository, objects: dict[str, int]) -> set[str]:
        """Those of the objects (sha256: bytes) that must be sent; the others are linked to the repository.

        An object needs no sending when this repository, or one that the actor may read, has it.
        """
        present = {sha256 for sha256, size in objects.items() if self._objects.size(sha256) == size}
        known = self._repositories.linked_objects(actor, sorted(present))
        self._repositories.link_objects(repository.id, {sha256: objects[sha256] for sha256 in known})
        return set(objects) - known

    def _proven(self, actor: Actor, repository: Repository, operations: Sequence[Operation]) -> list[Operation]:
        """The operations, once every object in them is stored and known to the actor through a repository."""
        checked: list[Operation] = []
        for operation in operations:
            if isinstance(operation, AddFile) and (pointer := parse_pointer(operation.content)):
                # The text of a pointer is read back as its object: it needs the same proof.
                operation = AddLfs(operation.path, pointer.sha256, pointer.size)
            checked.append(operation)
        large = [operation for operation in checked if isinstance(operation, AddLfs)]
        known = self._repositories.linked_objects(actor, sorted({operation.sha256 for operation in large}))
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

    def _gitignore(self, git: GitRepository, commit: str) -> str:
        try:
            entry = git.entry(commit, ".gitignore")
        except EntryNotFound:
            return ""
        if entry.type != "file" or entry.lfs or entry.size > REGULAR_LIMIT:
            return ""
        return git.read(entry.oid).decode(errors="replace")


def _whole_folder(git: GitRepository, branch: str, operation: Operation) -> Operation:
    """The client may name a folder where it deletes a file."""
    if isinstance(operation, DeleteFile):
        with suppress(EntryNotFound):
            if git.entry(git.resolve(branch), operation.path).type == "directory":
                return DeleteFolder(operation.path)
    return operation


def _present_oid(git: GitRepository, commit: str, path: str) -> str | None:
    try:
        entry = git.entry(commit, path)
    except EntryNotFound:
        return None
    if entry.type != "file":
        return None
    return entry.lfs.sha256 if entry.lfs else entry.oid
