"""A history without some of its files: every commit made anew that had them, and those after it."""

from collections.abc import Collection, Iterator, Mapping

import pygit2
from pygit2.enums import SortMode

from lmcommons.hub.repos.pack import PackWriter, object_id

FOLDER = b"40000 "
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
        if oid not in self._known:
            data = self._read(oid)
            kept = b"".join(self._entries(data))
            self._known[oid] = oid if kept == data else self._writer.add("tree", kept)
        return self._known[oid]

    def _entries(self, data: bytes) -> Iterator[bytes]:
        """The entries that stay; a folder of which nothing stays goes too."""
        start = 0
        while start < len(data):
            end = data.index(b"\0", start)
            oid = data[end + 1 : end + 21]
            head, start = data[start : end + 1], end + 21
            if head.startswith(FOLDER):
                oid = self._tree(oid)
                if oid == EMPTY_TREE:
                    continue
            elif oid in self._unwanted:
                continue
            yield head + oid

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
