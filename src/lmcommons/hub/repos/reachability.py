"""Which large objects a repository's history names, and what processes that died left in its directory."""

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pygit2

from lmcommons.hub.errors import HubError
from lmcommons.hub.repos.maintenance import git_environment
from lmcommons.hub.repos.pointers import POINTER_SIZES, parse_pointer

TEMPORARY = ("objects/tmp_*", "objects/??/tmp_*", "objects/pack/tmp_*", "objects/pack/.tmp-*")


class Unreadable(HubError):  # noqa: N818 - as in `hub/errors.py`
    """A repository's history cannot be followed; `lmc hub fsck` says why."""


@dataclass(frozen=True)
class Named:
    """A pointer in a history: git's id of it, the object to which it leads, and one of the paths at which it is."""

    oid: str
    sha256: str
    size: int  # bytes of the object
    path: str


def named_objects(path: Path, tips: Iterable[str] | None = None, without: Iterable[str] = ()) -> Iterator[Named]:
    """Every pointer that can be reached in the repository at `path`.

    Args:
        tips: the commits and tags from which; None means from every ref.
        without: but not what can be reached from these.

    Raises:
        Unreadable: git cannot follow them.
    """
    command = ["git", f"--git-dir={path}", "rev-list", "--objects", "--all" if tips is None else "--stdin"]
    asked = "" if tips is None else "\n".join([*tips, *(f"^{oid}" for oid in without), ""])
    # Blobs alone, and only those of less than this many bytes.
    command += [f"--filter=combine:blob:limit={POINTER_SIZES.stop}+object:type=blob", "--filter-provided-objects"]
    found = subprocess.run(command, input=asked.encode(), env=git_environment(), capture_output=True, check=False)
    if found.returncode:
        raise Unreadable("{path}: its history cannot be read; run `lmc hub fsck`", path=path)
    database = pygit2.Repository(path).odb
    for line in found.stdout.decode(errors="replace").splitlines():
        oid, _, name = line.partition(" ")
        if pointer := parse_pointer(database.read(oid)[1]):
            yield Named(oid, pointer.sha256, pointer.size, name)


def leftovers(path: Path, before: datetime) -> Iterator[Path]:
    """Files and directories in the repository at `path` that writers left unfinished before a time."""
    for pattern in TEMPORARY:
        for found in path.glob(pattern):
            if found.stat().st_mtime < before.timestamp():
                yield found
