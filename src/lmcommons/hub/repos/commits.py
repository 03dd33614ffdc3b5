"""From a client's upload to a git commit: how each file must be sent, which objects it may refer to, and the commit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.repos.contents import Contents
from lmcommons.hub.repos.details import CARD, read_text
from lmcommons.hub.repos.git import (
    BRANCHES,
    KINDS,
    TAGS,
    AddFile,
    AddLfs,
    DeleteFile,
    DeleteFolder,
    GitRepository,
    Operation,
    full_ref,
)
from lmcommons.hub.repos.index import describe
from lmcommons.hub.repos.last_commits import LastCommits
from lmcommons.hub.repos.operations import path_names
from lmcommons.hub.repos.pointers import parse_pointer
from lmcommons.hub.repos.repositories import Repositories

SPACE_SDKS = ("gradio", "docker", "static", "streamlit")
REGULAR_LIMIT = 10 << 20  # bytes; a larger file goes to the object store

Listener = Callable[[Actor, Repository, str, str | None, str | None], None]  # as `Commits.moved`


@dataclass(frozen=True)
class UploadMode:
    """How a file must be sent; `oid` is what the branch holds there now: git's id, or the sha256 of a large object."""

    path: str
    lfs: bool
    ignored: bool
    oid: str | None


class Commits:
    """Commits to the repositories of a hub."""

    def __init__(
        self, repositories: Repositories, objects: ObjectStore, contents: Contents, last_commits: LastCommits
    ) -> None:
        self._repositories = repositories
        self._objects = objects
        self._contents = contents
        self._last_commits = last_commits
        self.listeners: list[Listener] = []

    def create_repository(
        self,
        actor: Actor,
        type_: RepositoryType,
        namespace: str | None,
        name: str,
        *,
        private: bool | None = None,
        sdk: str | None = None,
        card: str | None = None,
    ) -> Repository:
        """Make a repository and index it; see `Repositories.create`.

        Args:
            sdk: what a space is written for; its card says so.
            card: the text of its first README.md; of a space, its sdk's.

        Raises:
            BadRequest: a space without a known sdk.
        """
        first = [] if card is None else [AddFile(CARD, card.encode())]
        if type_ is RepositoryType.SPACE:
            if sdk not in SPACE_SDKS:
                raise BadRequest(
                    "A space needs an `sdk`: one of {choices}; not {sdk!r}", choices=", ".join(SPACE_SDKS), sdk=sdk
                )
            first = [AddFile(CARD, f"---\ntitle: {name!r}\nsdk: {sdk}\n---\n".encode())]
        return self.refresh(self._repositories.create(actor, type_, namespace, name, private=private, first=first))

    def duplicate(
        self, actor: Actor, source: Repository, namespace: str | None, name: str, *, private: bool | None = None
    ) -> Repository:
        """Make a repository with the history and files of another and index it; see `Repositories.duplicate`."""
        return self.refresh(self._repositories.duplicate(actor, source, namespace, name, private=private))

    def set_default_branch(self, actor: Actor, repository: Repository, name: str) -> Repository:
        """Make another branch the one that clones check out, and that lists and pages show.

        Raises:
            RevisionNotFound: there is no such branch. Unauthorized, Forbidden: not here.
        """
        require(actor, Action.MANAGE, repository)
        self._repositories.git(repository).set_default_branch(name)
        self._repositories.record("repository.settings", actor, repository, default_branch=name)
        return self.refresh(repository)

    def create_branch(self, actor: Actor, repository: Repository, name: str, start: str | None = None) -> str:
        """Make a branch at a revision, by default at the default branch; returns the commit.

        Raises:
            BadRequest, Conflict, RevisionNotFound: as `GitRepository.create_branch`. Unauthorized, Forbidden: not here.
        """
        require(actor, Action.WRITE, repository)
        git = self._repositories.git(repository)
        commit = git.create_branch(name, start or git.default_branch)
        self.moved(actor, repository, BRANCHES + name, None, commit)
        return commit

    def delete_branch(self, actor: Actor, repository: Repository, name: str) -> None:
        """Remove a branch, but never main or the default branch.

        Raises:
            Forbidden: it is one of those, or the actor may not. RevisionNotFound: there is no such branch.
        """
        require(actor, Action.WRITE, repository)
        before = self._repositories.git(repository).delete_branch(name)
        self.moved(actor, repository, BRANCHES + name, before, None)

    def create_tag(
        self, actor: Actor, repository: Repository, name: str, revision: str, message: str | None = None
    ) -> str:
        """Make a tag at a revision, annotated when there is a message; returns the commit.

        Raises:
            BadRequest, Conflict, RevisionNotFound: as `GitRepository.create_tag`. Unauthorized, Forbidden: not here.
        """
        require(actor, Action.WRITE, repository)
        commit = self._repositories.git(repository).create_tag(
            name, revision, message, author_name=actor.name or "", author_email=actor.email
        )
        self.moved(actor, repository, TAGS + name, None, commit)
        return commit

    def delete_tag(self, actor: Actor, repository: Repository, name: str) -> None:
        """Remove a tag.

        Raises:
            Unauthorized, Forbidden: the actor may not. RevisionNotFound: there is no such tag.
        """
        require(actor, Action.WRITE, repository)
        before = self._repositories.git(repository).delete_tag(name)
        self.moved(actor, repository, TAGS + name, before, None)

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
        ignored = _ignored(gitignore or read_text(git, commit, ".gitignore"), by_size)
        present = {entry.path: entry for entry in git.existing(commit, by_size) if entry.type == "file"}
        return [
            UploadMode(
                path=path,
                lfs=size > 0 and (size > REGULAR_LIMIT or path in by_attributes),
                ignored=path in ignored,
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
            Forbidden: the files are past the namespace's quota.
        """
        before = self._repositories.git(repository).branch(branch)
        commit = self.write(actor, repository, branch, operations, message=message, parent=parent)
        if commit != before:
            self.moved(actor, repository, full_ref(branch), before, commit)
        return commit

    def write(
        self,
        actor: Actor,
        repository: Repository,
        branch: str,
        operations: Sequence[Operation],
        *,
        message: str,
        parent: str | None = None,
    ) -> str:
        """As `commit`, without what follows: the caller calls `moved` once the ref is there to stay."""
        # Objects were counted when they came. What only deletes needs no room, however full the namespace is.
        if added := sum(len(each.content) for each in operations if isinstance(each, AddFile)):
            self._repositories.require_room(repository, added)
        git = self._repositories.git(repository)
        with git.naming_objects():
            return git.commit(
                branch,
                self._proven(actor, repository, _whole_folders(git, git.branch(branch), operations)),
                message=message,
                author_name=actor.name or "",
                author_email=actor.email,
                parent=parent,
            )

    def moved(self, actor: Actor, repository: Repository, ref: str, before: str | None, after: str | None) -> None:
        """Do what follows when a ref was made (`before` None), moved or removed (`after` None): called once for each.

        The index follows the default branch, the event is recorded, and `listeners` are called in their order.
        """
        kind = next(kind for prefix, kind in KINDS.items() if ref.startswith(prefix))
        change = "created" if before is None else "removed" if after is None else "moved"
        self._repositories.record(f"{kind}.{change}", actor, repository, ref=ref, before=before, after=after)
        if after is not None and ref == full_ref(self._repositories.git(repository).default_branch):
            self.refresh(repository)
        for listener in self.listeners:
            listener(actor, repository, ref, before, after)

    def refresh(self, repository: Repository) -> Repository:
        """Bring the index to the head of the default branch: after a commit, or after a crash just behind one."""
        git = self._repositories.git(repository)
        while (head := git.resolve(git.default_branch)) != repository.head:
            repository = self._repositories.describe(
                repository, head, describe(git, self._objects, head, repository.type)
            )
            self._last_commits.update(repository, head)
        return repository

    def _proven(self, actor: Actor, repository: Repository, operations: Sequence[Operation]) -> list[Operation]:
        """The operations, once every object in them is stored and known to the actor through a repository."""
        checked: list[Operation] = []
        for operation in operations:
            if isinstance(operation, AddFile) and (pointer := parse_pointer(operation.content)):
                # The text of a pointer is read back as its object: it needs the same proof.
                operation = AddLfs(operation.path, pointer.sha256, pointer.size)
            checked.append(operation)
        self.prove(actor, repository, [operation for operation in checked if isinstance(operation, AddLfs)])
        return checked

    def prove(self, actor: Actor, repository: Repository, large: Sequence[AddLfs]) -> None:
        """Link large objects to the repository, once each is stored and known to the actor through a repository.

        Raises:
            BadRequest: one is not, or is of another size; named.
        """
        known = self._repositories.known_objects(actor, {operation.sha256 for operation in large})
        for operation in large:
            stored = known.get(operation.sha256, operation.size)
            if stored != operation.size:
                raise BadRequest(
                    "{path}: object {sha256} has {stored} bytes, not {size}",
                    path=operation.path,
                    sha256=operation.sha256,
                    stored=stored,
                    size=operation.size,
                )
        lost = self._contents.link(repository.id, known)
        for operation in large:
            if operation.sha256 not in known or operation.sha256 in lost:
                raise BadRequest(
                    "{path}: object {sha256} was never uploaded to {repository}; upload it first",
                    path=operation.path,
                    sha256=operation.sha256,
                    repository=repository.full_name,
                )


def _ignored(gitignore: str, paths: Iterable[str]) -> set[str]:
    """Those of the paths that the text of a `.gitignore` leaves out."""
    if not gitignore:
        return set()
    from pathspec import GitIgnoreSpec  # a tenth of a second, and rarely needed

    return set(GitIgnoreSpec.from_lines(gitignore.splitlines()).match_files(paths))


def _whole_folders(git: GitRepository, commit: str, operations: Sequence[Operation]) -> list[Operation]:
    """The operations, where the client may name a folder to delete a file."""
    deleted = [operation.path for operation in operations if isinstance(operation, DeleteFile)]
    folders = {entry.path for entry in git.existing(commit, deleted) if entry.type == "directory"}
    return [
        DeleteFolder(operation.path) if isinstance(operation, DeleteFile) and operation.path in folders else operation
        for operation in operations
    ]
