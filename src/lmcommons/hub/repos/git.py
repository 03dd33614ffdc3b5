"""Bare git repositories: make them, commit to them, merge. Git only: no database, no HTTP.

They are read as `reader.py` says, and their branches and tags are moved as `ref_writer.py` does.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pygit2

from lmcommons.files import sync_directory, write_text
from lmcommons.hub.errors import BadRequest, PreconditionFailed, RevisionNotFound, storage_errors
from lmcommons.hub.repos import hidden, maintenance, trees
from lmcommons.hub.repos.history import Change, Commit
from lmcommons.hub.repos.merge import MergeConflict, merge
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
from lmcommons.hub.repos.reader import DEFAULT_BRANCH
from lmcommons.hub.repos.ref_writer import RefWriter
from lmcommons.hub.repos.references import (
    BRANCHES,
    KINDS,
    PULL_REQUESTS,
    TAGS,
    Ref,
    RefChange,
    Refs,
    check_ref_name,
    full_ref,
)
from lmcommons.hub.repos.trees import Entry, Listings
from lmcommons.hub.words import Words

__all__ = [
    "BRANCHES",
    "DEFAULT_BRANCH",
    "KINDS",
    "PULL_REQUESTS",
    "TAGS",
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
    "Listings",
    "MergeConflict",
    "Operation",
    "Ref",
    "RefChange",
    "Refs",
    "check_ref_name",
    "full_ref",
]


class GitRepository(RefWriter):
    """The bare repository in a directory, to be read and written."""

    @classmethod
    def create(cls, path: Path) -> "GitRepository":
        """Make an empty repository whose HEAD is `main`; `path` must not exist or be empty."""
        with storage_errors(pygit2.GitError):
            repository = pygit2.init_repository(path, bare=True, initial_head=DEFAULT_BRANCH)
            repository.config["uploadpack.allowFilter"] = True
            repository.config["uploadpack.allowAnySHA1InWant"] = True
        return cls(path)

    def copy(self, path: Path) -> "GitRepository":
        """Make a repository with the same branches and tags, and the same objects, which both share on disk.

        Of one in which moderators hid something, the copy has only the objects of its branches and tags.
        """
        with self._writing() as repository:
            made = GitRepository.create(path)
            refs = {ref: oid for ref, oid in self.all_refs().items() if ref.startswith((BRANCHES, TAGS))}
            if hidden.has_hidden(self.path):
                maintenance.fetch(path, self.path, refs)
            else:
                _share(self.path / "objects", path / "objects")
            write_text(path / "packed-refs", "".join(f"{oid} {ref}\n" for ref, oid in refs.items()))
            pygit2.Repository(path).set_head(repository.lookup_reference("HEAD").target)
        return made

    def initialise(self, files: Sequence[AddFile] = (), *, author_name: str, author_email: str) -> str:
        """Make the first commit, with the `.gitattributes` that sends large formats to LFS; returns its id."""
        return self.commit(
            DEFAULT_BRANCH,
            [AddFile(".gitattributes", default_attributes()), *files],
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

        A pull request, by its full ref, takes commits like a branch. When they change nothing, nothing is written and
        the branch's present commit is returned. The first commit of an empty repository makes its default branch.

        Args:
            parent: the commit (at least 7 digits) that the branch must still be at; None takes it wherever it is.

        Raises:
            BadRequest: a path is not allowed, or `branch` is not a branch.
            EntryNotFound: a file or folder to delete or copy is absent.
            InsufficientStorage: the disk is full; nothing was changed.
            PreconditionFailed: the branch moved on from `parent`.
            RevisionNotFound: there is no such branch.
        """
        with self._writing(full_ref(branch)) as repository:
            head = self._head(repository, branch)
            if parent is not None and (head is None or len(parent) < 7 or not str(head.id).startswith(parent)):
                raise PreconditionFailed(
                    "The branch was updated since you opened this page. Please refresh and try again. "
                    "({branch} is at {head}, not at {parent})",
                    branch=branch,
                    head=head.id if head is not None else Words("nothing"),
                    parent=parent,
                )
            tree = head.tree if head is not None else None

            def find(revision: str, path: str) -> Leaf:
                found = trees.find(self._commit(repository, revision), path)
                if not isinstance(found, pygit2.Blob):
                    raise BadRequest("path {path!r}: only files can be copied", path=path)
                return int(found.filemode), found.id.raw

            with self._pack() as writer:
                new_tree = apply(operations, tree, repository=repository, find=find, writer=writer)
                if head is not None and new_tree == head.tree_id.raw:
                    return str(head.id)
                person = _person(author_name, author_email)
                parents = [str(head.id)] if head is not None else []
                return self._advance(repository, writer, branch, new_tree, parents, message, person)

    def squash(self, branch: str, *, message: str, author_name: str, author_email: str) -> str:
        """Replace the history of a branch, or of a pull request, by one commit with its present files; returns it."""
        with self._writing(full_ref(branch)) as repository, self._pack() as writer:
            head = self._head(repository, branch)
            if head is None:
                raise RevisionNotFound("branch {branch!r}: has no commits", branch=branch)
            person = _person(author_name, author_email)
            return self._advance(repository, writer, branch, head.tree_id.raw, [], message, person)

    def merge(
        self,
        source: str,
        target: str,
        *,
        message: str,
        author_name: str,
        author_email: str,
        moving: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> str:
        """Merge the revision `source` into the branch `target`, always by a commit with both as parents; returns it.

        When `target` has all of `source` already, nothing is written and its present commit is returned.

        Args:
            moving: called with the commit; `target` moves inside of what it returns, or not at all if that raises.

        Raises:
            BadRequest: `target` is not a branch.
            MergeConflict: both changed the same files in different ways.
            RevisionNotFound: there is no such revision, or no such branch.
        """
        with self._writing(full_ref(target)) as repository, self._pack() as writer:
            ours, theirs = self._head(repository, target), self._commit(repository, source)
            if ours is None:
                raise RevisionNotFound("branch {target!r}: has no commits", target=target)
            if ours.id == theirs.id or repository.descendant_of(ours.id, theirs.id):
                return str(ours.id)
            with merge(self._open_anew(), ours.id, theirs.id) as merged:
                if merged.conflicts:
                    raise MergeConflict(source, target, merged.conflicts)
                tree = merged.write(writer)
            parents = [str(ours.id), str(theirs.id)]
            person = _person(author_name, author_email)
            return self._advance(repository, writer, target, tree, parents, message, person, moving)

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
        check_ref_name(TAGS + name)
        with self._writing(TAGS + name) as repository, self._pack() as writer:
            target = pygit2.Oid(hex=commit)
            if message:
                person = _person(author_name, author_email)
                text = f"object {commit}\ntype commit\ntag {name}\ntagger {person}\n\n{_clean(message)}\n"
                target = pygit2.Oid(raw=writer.add("tag", text.encode(errors="replace")))
                writer.install()
            self._create_ref(repository, TAGS + name, target)
            return commit

    def _pack(self) -> PackWriter:
        return PackWriter(self.path / "objects" / "pack")

    def _advance(
        self,
        repository: pygit2.Repository,
        writer: PackWriter,
        branch: str,
        tree: bytes,
        parents: list[str],
        message: str,
        person: str,
        moving: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> str:
        lines = [f"tree {tree.hex()}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {person}", f"committer {person}", "", _clean(message), ""]
        commit = pygit2.Oid(raw=writer.add("commit", "\n".join(lines).encode(errors="replace")))
        writer.install()
        with moving(str(commit)):
            repository.references.create(full_ref(branch), commit, force=True)
        return str(commit)


def _share(objects: Path, copy: Path) -> None:
    """Give the files of objects, which never change, a second name; where the disk has no such thing, copy them."""
    for folder in [*objects.glob("[0-9a-f][0-9a-f]"), objects / "pack"]:
        (copy / folder.name).mkdir(exist_ok=True)
        for file in folder.iterdir():
            if not file.name.startswith("tmp_"):
                try:
                    os.link(file, copy / folder.name / file.name)
                except OSError:
                    shutil.copy2(file, copy / folder.name)
        sync_directory(copy / folder.name)


def _person(name: str, email: str) -> str:
    """Author and time as a commit holds them, without the characters that would end a field."""
    plain_name, plain_email = (re.sub(r"[<>\x00-\x1f]", "", text).strip() for text in (name, email))
    return f"{plain_name or 'unknown'} <{plain_email}> {int(time.time())} +0000"


def _clean(message: str) -> str:
    return message.replace("\0", "").replace("\r\n", "\n").strip()
