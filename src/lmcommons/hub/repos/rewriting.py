"""A history without some of its files: every commit made anew that had them, and those after it."""

from collections.abc import Collection, Iterator, Mapping

import pygit2
from pygit2.enums import SortMode

from lmcommons.hub.repos.pack import PackWriter, object_id
from lmcommons.hub.repos.trees import FOLDER, Record, records

EMPTY_TREE = object_id("tree", b"")
SIGNATURES = (b"gpgsig ", b"gpgsig-sha256 ")  # of a commit; they are not of the new one


class Rewriter:
    """Writes trees, commits and tags without the `unwanted` blobs to `writer`; those that had none stay as they are."""

    def __init__(self, repository: pygit2.Repository, unwanted: Collection[bytes], writer: PackWriter) -> None:
        self._repository = repository
        self._unwanted = unwanted
        self._writer = writer
        self._known: dict[bytes, bytes] = {}

    def rewrite(self, refs: Mapping[str, str]) -> dict[str, str]:
        """Those of the refs (to objects) that change, and the objects to which they should go."""
        walk = self._repository.walk(None, SortMode.TOPOLOGICAL | SortMode.REVERSE)
        for target in refs.values():
            tip = self._repository[target]
            if isinstance(tip, (pygit2.Commit, pygit2.Tag)):
                walk.push(tip.peel(pygit2.Commit).id)
        for commit in walk:
            self._commit(commit)
        found = {ref: self._target(pygit2.Oid(hex=target).raw).hex() for ref, target in refs.items()}
        return {ref: target for ref, target in found.items() if target != refs[ref]}

    def _commit(self, commit: pygit2.Commit) -> None:
        tree = self._tree(commit.tree_id.raw)
        parents = [self._known[parent.raw] for parent in commit.parent_ids]
        if (tree, parents) == (commit.tree_id.raw, [parent.raw for parent in commit.parent_ids]):
            self._known[commit.id.raw] = commit.id.raw
            return
        header, _, message = self._read(commit.id.raw).partition(b"\n\n")
        lines = [b"tree " + tree.hex().encode(), *(b"parent " + parent.hex().encode() for parent in parents)]
        lines += _kept_lines(header)
        self._known[commit.id.raw] = self._writer.add("commit", b"\n".join(lines) + b"\n\n" + message)

    def _tree(self, oid: bytes) -> bytes:
        """The folder with the entries that stay; one of which nothing stays goes too."""
        if oid in self._known:
            return self._known[oid]
        found = records(self._repository, pygit2.Oid(raw=oid))
        kept: list[Record] = []
        for mode, name, entry in found:
            below = self._tree(entry) if mode == FOLDER else entry  # one frame a level: paths go 500 deep
            if below != EMPTY_TREE and below not in self._unwanted:
                kept.append((mode, name, below))
        same = kept == found
        self._known[oid] = oid if same else self._writer.add("tree", b"".join(b"%s %s\0%s" % entry for entry in kept))
        return self._known[oid]

    def _target(self, oid: bytes) -> bytes:
        """What a ref to this object should go to; an annotated tag is made anew with its words."""
        found = self._repository[pygit2.Oid(raw=oid)]
        if not isinstance(found, pygit2.Tag):
            return self._known.get(oid, oid)
        target = self._target(found.target.raw)
        if target == found.target.raw:
            return oid
        _, _, rest = self._read(oid).partition(b"\n")
        return self._writer.add("tag", b"object " + target.hex().encode() + b"\n" + rest)

    def _read(self, oid: bytes) -> bytes:
        return bytes(self._repository.odb.read(pygit2.Oid(raw=oid))[1])


def _kept_lines(header: bytes) -> Iterator[bytes]:
    """The lines of a commit's header after its parents, without signatures."""
    inside = False
    for line in header.split(b"\n"):
        inside = line.startswith(SIGNATURES) or (inside and line.startswith(b" "))
        if not inside and not line.startswith((b"tree ", b"parent ")):
            yield line
