"""The files and folders of a commit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import pygit2

from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.repos.operations import FOLDER_MODE, SUBMODULE_MODE
from lmcommons.hub.repos.pointers import POINTER_LIMIT, LfsPointer, parse_pointer


@dataclass(frozen=True)
class Entry:
    """A file or folder. `oid` is git's id; `size` the content's bytes: for an LFS file the object's, for a folder 0."""

    path: str
    type: Literal["file", "directory"]
    oid: str
    size: int
    lfs: LfsPointer | None

    @property
    def content_id(self) -> str:
        """The sha256 of a large file, git's id of another: equal where the content is."""
        return self.lfs.sha256 if self.lfs else self.oid


def find(commit: pygit2.Commit, path: str) -> pygit2.Blob | pygit2.Tree:
    """The file or folder at `path`; the root folder when it is empty.

    Raises:
        EntryNotFound: the commit has none.
    """
    found = commit.tree if not path else _at(commit.tree, path)
    if found is None:
        raise EntryNotFound(f"{path!r} is not in commit {commit.id}", commit=str(commit.id))
    return found


def existing(commit: pygit2.Commit, paths: Iterable[str]) -> Iterator[tuple[str, pygit2.Blob | pygit2.Tree]]:
    """Those of `paths` that exist, and what is there; a large folder is read once for all paths in it."""
    folders: dict[str, pygit2.Blob | pygit2.Tree | None] = {"": commit.tree}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if path.startswith("/"):
            continue
        if folder not in folders:
            folders[folder] = _at(commit.tree, folder)
        tree = folders[folder]
        found = _at(tree, name) if isinstance(tree, pygit2.Tree) else None
        if found is not None:
            yield path, found


def _at(tree: pygit2.Tree, path: str) -> pygit2.Blob | pygit2.Tree | None:
    if "\0" in path or "" in path.split("/"):
        return None
    try:
        found = tree[path]
    except (KeyError, TypeError):  # TypeError: not valid Unicode
        return None
    return found if isinstance(found, pygit2.Blob | pygit2.Tree) else None


def walk(tree: pygit2.Tree, path: str, *, recursive: bool) -> Iterator[tuple[str, pygit2.Blob | pygit2.Tree]]:
    """Paths and objects in the folder `tree`, which is at `path`, in git's order; a folder before what is in it."""
    for found in tree:
        if found.filemode == SUBMODULE_MODE:
            continue
        assert isinstance(found, pygit2.Blob | pygit2.Tree)
        at = f"{path}/{found.name}" if path else str(found.name)
        yield at, found
        if recursive and isinstance(found, pygit2.Tree):
            yield from walk(found, at, recursive=True)


def describe(repository: pygit2.Repository, path: str, found: pygit2.Blob | pygit2.Tree) -> Entry:
    """The entry of a file or folder that was found at `path`."""
    if found.filemode == FOLDER_MODE or not isinstance(found, pygit2.Blob):
        return Entry(path, "directory", str(found.id), 0, None)
    size = int(repository.odb.read_header(found.id)[1])
    pointer = parse_pointer(found.data) if size < POINTER_LIMIT else None
    return Entry(path, "file", str(found.id), pointer.size if pointer else size, pointer)
