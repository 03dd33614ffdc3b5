"""Bare git repositories: read them, move their branches and tags, and commit to them. Git only: no database, no HTTP.

Every change holds the repository's lock, which the kernel frees when its holder dies. So nothing is left locked, git's
own `.lock` files found under it are leftovers, and writers in several threads or processes take turns.
"""

import fcntl
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pygit2
from pygit2.enums import AttrCheck

from lmcommons.hub.errors import (
    BadRequest,
    Conflict,
    EntryNotFound,
    Forbidden,
    PreconditionFailed,
    RepositoryNotFound,
    RevisionNotFound,
    storage_errors,
)
from lmcommons.hub.repos import history, maintenance, trees
from lmcommons.hub.repos.history import Change, Commit
from lmcommons.hub.repos.operations import (
    AddFile,
    AddLfs,
    CopyFile,
    DeleteFile,
    DeleteFolder,
    Leaf,
    Operation,
    apply,
)
from lmcommons.hub.repos.pack import PackWriter
from lmcommons.hub.repos.pointers import LfsPointer, default_attributes
from lmcommons.hub.repos.trees import Entry

__all__ = [
    "AddFile",
    "AddLfs",
    "Change",
    "Commit",
    "CopyFile",
    "DeleteFile",
    "DeleteFolder",
    "Entry",
    "GitRepository",
    "LfsPointer",
    "Operation",
    "Ref",
    "Refs",
]

DEFAULT_BRANCH = "main"
LOCK = "lmcommons-writer"
NAME_LIMIT = 200  # characters of a branch or tag name
REF_LIMIT = 1000  # bytes of a full ref that libgit2 can look up

BRANCHES, TAGS, PULL_REQUESTS = "refs/heads/", "refs/tags/", "refs/pr/"

# The hub's data directory is its operator's, whatever user the files came to belong to.
pygit2.settings.owner_validation = False
# A ref must not be on disk before, or lost after, what it points to.
pygit2.settings.enable_fsync_gitdir(True)


@dataclass(frozen=True)
class Ref:
    """A branch, tag or pull request: short `name`, full `ref`, and the commit it is at."""

    name: str
    ref: str
    target: str


@dataclass(frozen=True)
class Refs:
    """All that a repository's readers can name, each list in the order of names."""

    branches: tuple[Ref, ...]
    tags: tuple[Ref, ...]
    pull_requests: tuple[Ref, ...]


class GitRepository:
    """The bare repository in a directory. Holds no open files, so one object may serve many threads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> "GitRepository":
        """Make an empty repository whose HEAD is `main`; `path` must not exist or be empty."""
        with storage_errors(pygit2.GitError):
            repository = pygit2.init_repository(path, bare=True, initial_head=DEFAULT_BRANCH)
            repository.config["uploadpack.allowFilter"] = True
            repository.config["uploadpack.allowAnySHA1InWant"] = True
        return cls(path)

    # Reading

    def resolve(self, revision: str) -> str:
        """The commit (40 digits) that a branch, a tag, a commit's id of at least 7 digits, or a full ref names.

        Raises:
            RevisionNotFound: there is no such commit here.
        """
        return str(self._commit(self._open(), revision).id)

    def branch(self, name: str) -> str:
        """The commit that a branch is at.

        Raises:
            BadRequest: `name` is a tag or a commit.
            RevisionNotFound: there is no such branch, or nothing on it yet.
        """
        head = self._head(self._open(), name)
        if head is None:
            raise RevisionNotFound(f"branch {name!r}: has no commits")
        return str(head.id)

    def refs(self) -> Refs:
        """Branches, tags and pull requests."""
        repository = self._open()
        found: dict[str, list[Ref]] = {BRANCHES: [], TAGS: [], PULL_REQUESTS: []}
        for ref in sorted(repository.references):
            for prefix, refs in found.items():
                if ref.startswith(prefix):
                    target = self._peel(repository, ref)
                    if target is not None:
                        refs.append(Ref(ref.removeprefix(prefix), ref, str(target.id)))
        return Refs(tuple(found[BRANCHES]), tuple(found[TAGS]), tuple(found[PULL_REQUESTS]))

    def entries(
        self, commit: str, path: str = "", *, recursive: bool = False, start: int = 0, limit: int | None = None
    ) -> list[Entry]:
        """The entries of a folder in git's order, `limit` of them from number `start`.

        Raises:
            EntryNotFound: the commit has no folder `path`.
        """
        repository = self._open()
        tree = trees.find(self._commit(repository, commit), path)
        if not isinstance(tree, pygit2.Tree):
            raise EntryNotFound(f"{path!r} is a file in {commit}, not a folder", commit=commit)
        walk = trees.walk(tree, path, recursive=recursive)
        stop = None if limit is None else start + limit
        return [trees.describe(repository, at, found) for at, found in islice(walk, start, stop)]

    def entry(self, commit: str, path: str) -> Entry:
        """The file or folder at `path`.

        Raises:
            EntryNotFound: the commit has none.
        """
        repository = self._open()
        return trees.describe(repository, path, trees.find(self._commit(repository, commit), path))

    def existing(self, commit: str, paths: Iterable[str]) -> list[Entry]:
        """The entries at those of `paths` that exist, in the order asked for."""
        repository = self._open()
        found = trees.existing(self._commit(repository, commit), paths)
        return [trees.describe(repository, path, at) for path, at in found]

    def read(self, oid: str) -> bytes:
        """A blob's content: a regular file, or the text of an LFS pointer."""
        return bytes(self._open().odb.read(oid)[1])

    def blob_size(self, oid: str) -> int:
        """A blob's size in bytes, without reading it."""
        return int(self._open().odb.read_header(oid)[1])

    def describe(self, revision: str) -> Commit:
        """The commit at a revision."""
        return history.describe(self._commit(self._open(), revision))

    def commits(self, revision: str, *, start: int = 0, limit: int = 50, path: str | None = None) -> list[Commit]:
        """`limit` commits from number `start`, newest first; with `path`, those that changed it."""
        repository = self._open()
        walk = history.walk(repository, self._commit(repository, revision), path)
        return [history.describe(commit) for commit in islice(walk, start, start + limit)]

    def last_commits(self, commit: str, paths: Iterable[str]) -> dict[str, Commit]:
        """For each path that exists in `commit`, the commit that last changed it."""
        return history.last_commits(self._commit(self._open(), commit), paths)

    def changes(self, commit: str) -> list[Change]:
        """The files that differ between a commit and its first parent."""
        return history.changes(self._commit(self._open(), commit))

    def tracked_by_lfs(self, revision: str, paths: Iterable[str]) -> set[str]:
        """Those of `paths` that the `.gitattributes` of `revision` send to LFS, whether or not they exist yet."""
        repository = self._open()
        commit = self._commit(repository, revision).id
        return {
            path
            for path in paths
            if repository.get_attr(path, "filter", AttrCheck.INDEX_ONLY | AttrCheck.INCLUDE_COMMIT, commit) == "lfs"
        }

    def check(self) -> list[str]:
        """What is wrong, a line each: refs that lead nowhere, objects that are missing or damaged."""
        return maintenance.check(self.path)

    # Writing

    def initialise(self, *, author_name: str, author_email: str) -> str:
        """Make the first commit, with the `.gitattributes` that sends large formats to LFS; returns its id."""
        return self.commit(
            DEFAULT_BRANCH,
            [AddFile(".gitattributes", default_attributes())],
            message="initial commit",
            author_name=author_name,
            author_email=author_email,
        )

    def commit(
        self,
        branch: str,
        operations: Sequence[Operation],
        *,
        message: str,
        author_name: str,
        author_email: str,
        parent: str | None = None,
    ) -> str:
        """Apply `operations` in order on `branch` and move it, all or nothing, durably; returns the branch's commit.

        When they change nothing, nothing is written and the branch's present commit is returned. The first commit of
        an empty repository makes `main`.

        Args:
            parent: the commit (at least 7 digits) that the branch must still be at; None takes it wherever it is.

        Raises:
            BadRequest: a path is not allowed, or `branch` is not a branch.
            EntryNotFound: a file or folder to delete or copy is absent.
            InsufficientStorage: the disk is full; nothing was changed.
            PreconditionFailed: the branch moved on from `parent`.
            RevisionNotFound: there is no such branch.
        """
        with self._writing(BRANCHES + branch) as repository:
            head = self._head(repository, branch)
            if parent is not None and (head is None or len(parent) < 7 or not str(head.id).startswith(parent)):
                raise PreconditionFailed(
                    "The branch was updated since you opened this page. Please refresh and try again. "
                    f"({branch} is at {head.id if head is not None else 'nothing'}, not at {parent})"
                )
            tree = head.tree if head is not None else None

            def find(revision: str, path: str) -> Leaf:
                found = trees.find(self._commit(repository, revision), path)
                if not isinstance(found, pygit2.Blob):
                    raise BadRequest(f"path {path!r}: only files can be copied")
                return int(found.filemode), found.id.raw

            with self._pack() as writer:
                new_tree = apply(operations, tree, repository=repository, find=find, writer=writer)
                if head is not None and new_tree == head.tree_id.raw:
                    return str(head.id)
                person = _person(author_name, author_email)
                parents = [str(head.id)] if head is not None else []
                return self._advance(repository, writer, branch, new_tree, parents, message, person)

    def squash(self, branch: str, *, message: str, author_name: str, author_email: str) -> str:
        """Replace a branch's history by one commit with its present files; returns that commit."""
        with self._writing(BRANCHES + branch) as repository, self._pack() as writer:
            head = self._head(repository, branch)
            if head is None:
                raise RevisionNotFound(f"branch {branch!r}: has no commits")
            person = _person(author_name, author_email)
            return self._advance(repository, writer, branch, head.tree_id.raw, [], message, person)

    def create_branch(self, name: str, start: str) -> str:
        """Make a branch at the revision `start`; returns the commit.

        Raises:
            BadRequest: git or the hub does not allow the name.
            Conflict: there is one of that name, or one that is a folder of it.
            RevisionNotFound: there is no revision `start`.
        """
        _check_name("branch", BRANCHES + name)
        with self._writing(BRANCHES + name) as repository:
            target = self._commit(repository, start).id
            self._create_ref(repository, BRANCHES + name, target)
            return str(target)

    def delete_branch(self, name: str) -> None:
        """Remove a branch; its commits stay readable by their ids.

        Raises:
            Forbidden: it is the default branch.
            RevisionNotFound: there is no such branch.
        """
        if name == DEFAULT_BRANCH:
            raise Forbidden(f"Cannot delete {BRANCHES}{name}: it is the default branch")
        self._delete_ref(BRANCHES + name)

    def create_tag(
        self, name: str, revision: str, message: str | None = None, *, author_name: str = "", author_email: str = ""
    ) -> str:
        """Make a tag at a revision, annotated when there is a message; returns the commit.

        Raises:
            BadRequest: git or the hub does not allow the name.
            Conflict: there is one of that name.
            RevisionNotFound: there is no such revision.
        """
        commit = self.resolve(revision)
        _check_name("tag", TAGS + name)
        with self._writing(TAGS + name) as repository, self._pack() as writer:
            target = pygit2.Oid(hex=commit)
            if message:
                person = _person(author_name, author_email)
                text = f"object {commit}\ntype commit\ntag {name}\ntagger {person}\n\n{_clean(message)}\n"
                target = pygit2.Oid(raw=writer.add("tag", text.encode(errors="replace")))
                writer.install()
            self._create_ref(repository, TAGS + name, target)
            return commit

    def delete_tag(self, name: str) -> None:
        """Remove a tag.

        Raises:
            RevisionNotFound: there is no such tag.
        """
        self._delete_ref(TAGS + name)

    # Inside

    def _open(self) -> pygit2.Repository:
        """A fresh handle for this call: libgit2's are not shared between threads, and opening takes 0.1 ms."""
        try:
            return pygit2.Repository(self.path)
        except pygit2.GitError as error:
            raise RepositoryNotFound(f"the repository's git directory is absent or damaged: {error}") from error

    def _commit(self, repository: pygit2.Repository, revision: str) -> pygit2.Commit:
        for ref in (BRANCHES + revision, TAGS + revision, revision):
            if ref.startswith((BRANCHES, TAGS, PULL_REQUESTS)) and (found := self._peel(repository, ref)):
                return found
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            with suppress(ValueError):  # an ambiguous beginning of an id
                named = repository.get(revision)
                if isinstance(named, pygit2.Commit):
                    return named
        raise RevisionNotFound(f"revision {revision!r}: no such branch, tag or commit")

    def _peel(self, repository: pygit2.Repository, ref: str) -> pygit2.Commit | None:
        """The commit that a ref is at; None when there is no such ref, or it names something else than a commit."""
        reference = repository.references.get(ref) if _is_ref(ref) else None
        if reference is None:
            return None
        try:
            return reference.peel(pygit2.Commit)
        except pygit2.InvalidSpecError:
            return None

    def _head(self, repository: pygit2.Repository, branch: str) -> pygit2.Commit | None:
        """The commit that `branch` is at; None for `main` before the first commit."""
        head = self._peel(repository, BRANCHES + branch)
        if head is None and (branch != DEFAULT_BRANCH or any(repository.references)):
            self._commit(repository, branch)  # RevisionNotFound, unless it names something that cannot be moved
            raise BadRequest(f"revision {branch!r} is not a branch: commits go to a branch")
        return head

    def _pack(self) -> PackWriter:
        return PackWriter(self.path / "objects" / "pack")

    @contextmanager
    def _writing(self, ref: str) -> Iterator[pygit2.Repository]:
        """Hold the repository's lock for a change of `ref`."""
        if not _is_ref(ref):
            raise RevisionNotFound(f"{ref!r}: not the name of a branch or tag")
        repository = self._open()
        with storage_errors(pygit2.GitError), (self.path / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in (self.path / f"{ref}.lock", self.path / "packed-refs.lock"):
                with suppress(FileNotFoundError, NotADirectoryError):
                    leftover.unlink()
            yield repository
            maintenance.merge_packs(self.path)

    def _advance(
        self,
        repository: pygit2.Repository,
        writer: PackWriter,
        branch: str,
        tree: bytes,
        parents: list[str],
        message: str,
        person: str,
    ) -> str:
        lines = [f"tree {tree.hex()}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {person}", f"committer {person}", "", _clean(message), ""]
        commit = pygit2.Oid(raw=writer.add("commit", "\n".join(lines).encode(errors="replace")))
        writer.install()
        repository.references.create(BRANCHES + branch, commit, force=True)
        return str(commit)

    def _create_ref(self, repository: pygit2.Repository, ref: str, target: pygit2.Oid) -> None:
        for other in repository.references:
            if f"{ref}/".startswith(f"{other}/") or other.startswith(f"{ref}/"):
                raise Conflict(f"Reference {other} already exists")
        repository.references.create(ref, target)

    def _delete_ref(self, ref: str) -> None:
        with self._writing(ref) as repository:
            if repository.references.get(ref) is None:
                raise RevisionNotFound(f"Invalid rev id: there is no {ref}")
            repository.references.delete(ref)


def _is_ref(name: str) -> bool:
    try:
        return "\0" not in name and len(name.encode()) <= REF_LIMIT and pygit2.reference_is_valid_name(name)
    except UnicodeEncodeError:
        return False


def _check_name(kind: str, ref: str) -> None:
    name = ref.split("/", 2)[2]
    if (
        not _is_ref(ref)
        or len(name) > NAME_LIMIT
        or name.startswith(("-", "refs/"))
        or name == "HEAD"
        or re.fullmatch(r"[0-9a-f]{7,40}", name)
    ):
        raise BadRequest(
            f"Invalid reference for a {kind}: {name[:NAME_LIMIT]!r} is no name for git, or reads as a commit or a ref"
        )


def _person(name: str, email: str) -> str:
    """Author and time as a commit holds them, without the characters that would end a field."""
    plain_name, plain_email = (re.sub(r"[<>\x00-\x1f]", "", text).strip() for text in (name, email))
    return f"{plain_name or 'unknown'} <{plain_email}> {int(time.time())} +0000"


def _clean(message: str) -> str:
    return message.replace("\0", "").replace("\r\n", "\n").strip()
