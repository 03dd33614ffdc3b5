"""The files and folders of a commit.

Folders are read as git writes them, a record an entry: libgit2 makes an object of each entry, and when it compares two
folders it walks all that is below, the same or not. Source: gitformat of trees, `<mode> <name>\\0<20 bytes of id>`.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from threading import Lock
from typing import Literal, NamedTuple

import pygit2

from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.repos.pointers import POINTER_SIZES, LfsPointer, parse_pointer

FOLDER_LIMIT = 20_000  # entries of a folder whose listing is kept
LISTINGS_LIMIT = 100_000  # entries of all listings that are kept, of some 300 bytes each

FOLDER, SUBMODULE = b"40000", b"160000"  # modes as trees have them

_RECORD = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)

Record = tuple[bytes, bytes, bytes]  # mode, name, id
Kind = Literal["file", "directory"]
Found = tuple[str, Kind, str]  # path, kind, id: the first fields of an entry


class Entry(NamedTuple):
    """A file or folder. `oid` is git's id; `size` the content's bytes: for an LFS file the object's, for a folder 0."""

    path: str
    type: Kind
    oid: str
    size: int
    lfs: LfsPointer | None

    @property
    def content_id(self) -> str:
        """The sha256 of a large file, git's id of another: equal where the content is."""
        return self.lfs.sha256 if self.lfs else self.oid


class Listings:
    """Listings of single folders that were made before, the last used ones: what a tree's id names never changes.

    After a commit only the folders that it changed are read again, however many files there are.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bytes], list[Entry]] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def entries(
        self,
        repository: pygit2.Repository,
        tree: pygit2.Oid,
        path: str,
        *,
        recursive: bool,
        folders_first: bool,
        start: int,
        stop: int | None,
    ) -> list[Entry]:
        """The entries of the folder `tree` at `path` from `start` to before `stop`, in git's order or folders first."""
        within = f"{path}/" if path else ""
        runs: Iterable[Sequence[Entry | Found]] = self._walk(repository, tree, within, recursive=recursive)
        if folders_first:
            runs = [sorted(self._folder(repository, tree, within), key=lambda item: item[1] != "directory")]
        found = islice(chain.from_iterable(runs), start, stop)
        odb = repository.odb  # a new object each time that it is asked for
        return [item if isinstance(item, Entry) else describe(odb, *item) for item in found]

    def _walk(
        self, repository: pygit2.Repository, tree: pygit2.Oid, within: str, *, recursive: bool
    ) -> Iterator[Sequence[Entry | Found]]:
        """What is in a folder, and with `recursive` in those below; a folder before what is in it."""
        folder = self._folder(repository, tree, within)
        done = 0
        if recursive:
            for position, item in enumerate(folder, 1):
                if item[1] == "directory":
                    yield folder[done:position]
                    done = position
                    below, _, oid = item[:3]
                    yield from self._walk(repository, pygit2.Oid(hex=oid), f"{below}/", recursive=True)
        yield folder[done:]

    def _folder(self, repository: pygit2.Repository, tree: pygit2.Oid, within: str) -> Sequence[Entry | Found]:
        """What is in one folder, by name; a large one is not described before it is known what of it is wanted."""
        key = within, tree.raw
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        found: list[Found] = [
            (within + name.decode(errors="replace"), "directory" if mode == FOLDER else "file", oid.hex())
            for mode, name, oid in records(repository, tree)
            if mode != SUBMODULE
        ]
        if len(found) > FOLDER_LIMIT:
            return found
        odb = repository.odb
        made = [describe(odb, *item) for item in found]
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._size += len(made)
            while self._size > LISTINGS_LIMIT:
                self._size -= len(self._kept.popitem(last=False)[1])
        return made


def find(commit: pygit2.Commit, path: str) -> pygit2.Blob | pygit2.Tree:
    """The file or folder at `path`; the root folder when it is empty.

    Raises:
        EntryNotFound: the commit has none.
    """
    found = commit.tree if not path else _at(commit.tree, path)
    if found is None:
        raise EntryNotFound(
            "{path!r} is not in commit {revision}", path=path, revision=commit.id, commit=str(commit.id)
        )
    return found


def existing(commit: pygit2.Commit, paths: Iterable[str]) -> Iterator[Found]:
    """What is at those of `paths` that exist; a large folder is read once for all paths in it."""
    folders: dict[str, pygit2.Blob | pygit2.Tree | None] = {"": commit.tree}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if path.startswith("/"):
            continue
        if folder not in folders:
            folders[folder] = _at(commit.tree, folder)
        tree = folders[folder]
        there = _at(tree, name) if isinstance(tree, pygit2.Tree) else None
        if there is not None:
            yield found(path, there)


def found(path: str, there: pygit2.Blob | pygit2.Tree) -> Found:
    """What `describe` takes of a file or folder that is at `path`."""
    return path, "directory" if isinstance(there, pygit2.Tree) else "file", str(there.id)


def _at(tree: pygit2.Tree, path: str) -> pygit2.Blob | pygit2.Tree | None:
    if "\0" in path or "" in path.split("/"):
        return None
    try:
        found = tree[path]
    except (KeyError, TypeError):  # TypeError: not valid Unicode
        return None
    return found if isinstance(found, pygit2.Blob | pygit2.Tree) else None


def records(repository: pygit2.Repository, tree: pygit2.Oid) -> list[Record]:
    """What is in a folder, in git's order."""
    return _RECORD.findall(repository.odb.read(tree)[1])


def changed_paths(repository: pygit2.Repository, before: pygit2.Oid | None, after: pygit2.Oid) -> set[str]:
    """The files that differ between two trees, and the folders that they are in; None is a tree of nothing."""
    changed: set[str] = set()
    pending: list[tuple[str, pygit2.Oid | None, pygit2.Oid | None]] = [("", before, after)]
    while pending:
        within, *sides = pending.pop()
        old, new = ({r[1]: r for r in records(repository, side)} if side is not None else {} for side in sides)
        for name in {name for name, _ in old.items() ^ new.items()}:
            path = within + name.decode(errors="replace")
            changed.add(path)
            left, right = _folder(old.get(name)), _folder(new.get(name))
            if left is not None or right is not None:
                pending.append((f"{path}/", left, right))
    return changed


def describe(odb: pygit2.Odb, path: str, kind: Kind, oid: str) -> Entry:
    """The entry of a file or folder that was found at `path`."""
    if kind == "directory":
        return Entry(path, kind, oid, 0, None)
    size = odb.read_header(oid)[1]
    pointer = parse_pointer(odb.read(oid)[1]) if size in POINTER_SIZES else None
    return Entry(path, kind, oid, pointer.size if pointer else size, pointer)


def _folder(record: Record | None) -> pygit2.Oid | None:
    return pygit2.Oid(raw=record[2]) if record is not None and record[0] == FOLDER else None
