"""Files that a change gave another path, as git finds them: with what they held, or with most of it."""

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pygit2
from pygit2.enums import DeltaStatus, FileMode

from lmcommons.hub.repos.maintenance import git_environment

SIMILAR = 50  # per cent of a file's content that it keeps at least
FILES_LIMIT = 200  # deleted, and added ones, that are all compared with each other
BYTES_LIMIT = 4 << 20  # of them all: git, which compares hashes of lines, takes strangers for alike in longer texts
WORK_LIMIT = 256 << 20  # those bytes, times the number of files: about a quarter of a second


@dataclass(frozen=True)
class Rename:
    """The path that a file had before, and how much of its content is the same, in per cent."""

    former: str
    similarity: int


def renames(
    repository: pygit2.Repository, before: pygit2.Tree, after: pygit2.Tree, deltas: Iterable[pygit2.DiffDelta]
) -> dict[str, Rename]:
    """The files of `after` that `before` has at another path only, by their path. Source: gitdiffcore(7).

    Past the limits only those are found that hold exactly what they held. Of large files git has their pointers, which
    are alike only where the objects are the same.

    Args:
        deltas: how the two differ.
    """
    deleted: list[pygit2.DiffFile] = []
    added: list[pygit2.DiffFile] = []
    for delta in deltas:
        if delta.status is DeltaStatus.DELETED:
            deleted.append(delta.old_file)
        elif delta.status is DeltaStatus.ADDED:
            added.append(delta.new_file)
    if not deleted or not added:
        return {}
    similarity = SIMILAR if _is_within_limits(repository.odb, deleted, added) else 100
    options = ("-r", "-z", "--raw", f"--find-renames={similarity}%", f"-l{FILES_LIMIT}", "--diff-filter=R")
    command = ["git", f"--git-dir={repository.path}", "diff-tree", *options, str(before.id), str(after.id)]
    said = subprocess.run(command, env=git_environment(), capture_output=True, check=True).stdout
    fields = said.decode(errors="replace").split("\0")
    return {
        path: Rename(former, int(about.rpartition(" R")[2]))
        for about, former, path in zip(fields[0::3], fields[1::3], fields[2::3], strict=False)
        if "\N{REPLACEMENT CHARACTER}" not in former + path  # names that are no text could be mistaken for others
    }


def _is_within_limits(odb: pygit2.Odb, deleted: Sequence[pygit2.DiffFile], added: Sequence[pygit2.DiffFile]) -> bool:
    """Whether what differs of the files on both sides is within the limits."""
    moved = {file.id for file in deleted} & {file.id for file in added}
    left = [file.id for file in (*deleted, *added) if file.id not in moved and file.mode != FileMode.COMMIT]
    size = sum(int(odb.read_header(oid)[1]) for oid in left)
    return size <= BYTES_LIMIT and len(left) * size <= WORK_LIMIT
