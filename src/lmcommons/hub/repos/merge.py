"""Merges: what two lines of commits come to together, and the files that both changed in different ways.

libgit2 merges as git does (three ways, renames followed, a virtual ancestor where there are several), in this process.
It writes what it makes as it goes, so it is given a directory of its own to write to, and only the merge that becomes a
commit is put into the repository, in that commit's pack.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

from lmcommons.hub.errors import Conflict
from lmcommons.hub.repos.pack import COMPRESSION_LEVEL, OBJECT_KINDS, PackWriter

SHOWN = 10  # paths that a conflict names in its message
SCRATCH_FIRST = 100  # above the priority of the repository's own stores, so that writes go to the scratch directory


class MergeConflict(Conflict):
    """Both sides changed the files at `paths`, each in another way."""

    def __init__(self, source: str, target: str, paths: list[str]) -> None:
        more = len(paths) - SHOWN
        super().__init__(
            "{source} cannot be merged into {target}: both changed {paths} and {more} more"
            if more > 0
            else "{source} cannot be merged into {target}: both changed {paths}",
            source=source,
            target=target,
            paths=", ".join(paths[:SHOWN]),
            more=more,
            fields={"filesWithConflicts": paths},
        )
        self.paths = paths


class Merge:
    """A merge that was tried; `conflicts` are the paths, in order, on which somebody must decide first."""

    def __init__(self, repository: pygit2.Repository, index: pygit2.Index, scratch: Path) -> None:
        self._repository = repository
        self._index = index
        self._scratch = scratch
        sides = (side for sides in index.conflicts or () for side in sides if side is not None)
        self.conflicts = sorted({str(side.path) for side in sides})

    def write(self, writer: PackWriter) -> bytes:
        """Add what the merge made to `writer`; returns the id of the merged tree, 20 bytes."""
        tree = self._index.write_tree(self._repository)
        for file in self._scratch.glob("??/*"):
            kind, data = self._repository.odb.read(file.parent.name + file.name)
            writer.add(OBJECT_KINDS[kind], data)
        return tree.raw


@contextmanager
def merge(repository: pygit2.Repository, ours: pygit2.Oid, theirs: pygit2.Oid) -> Iterator[Merge]:
    """Try to merge the commit `theirs` into `ours`; `repository` is a handle that nothing else is done with."""
    with tempfile.TemporaryDirectory() as scratch:
        repository.odb.add_backend(pygit2.OdbBackendLoose(scratch, COMPRESSION_LEVEL, False), SCRATCH_FIRST)
        yield Merge(repository, repository.merge_commits(ours, theirs), Path(scratch))


@dataclass(frozen=True)
class MergedText:
    """What two changes of one text come to; where it is not `clean`, both stand in it between git's markers."""

    text: str
    clean: bool


def merge_texts(base: str, ours: str, theirs: str, *, names: tuple[str, str]) -> MergedText:
    """Merge two changes of `base`, as `git merge-file` does; `names` are what the markers call ours and theirs."""
    with tempfile.TemporaryDirectory() as scratch:
        repository = pygit2.init_repository(scratch, bare=True)
        ancestor, mine, other = (
            pygit2.IndexEntry(name, repository.create_blob(text.encode()), FileMode.BLOB)
            for name, text in zip(("base", *names), (base, ours, theirs), strict=True)
        )
        found = repository.merge_file_from_index(ancestor, mine, other)
        return MergedText(found.contents, found.automergeable)
