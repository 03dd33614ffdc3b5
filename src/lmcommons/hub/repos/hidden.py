"""Pull requests that moderators hid: their commits stay in the repository, and no reader is given them.

`refs/pr/7` goes to `refs/hidden/7/head`, and each commit that it was at before, and that its last one does not follow,
to `refs/hidden/7/COMMIT`. Readers name no such ref, and nothing by its id that only these refs lead to.
"""

import re
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pygit2

from lmcommons.hub.errors import RevisionNotFound
from lmcommons.hub.repos import history
from lmcommons.hub.repos.maintenance import git_environment
from lmcommons.hub.repos.reachability import Unreadable, named_objects
from lmcommons.hub.repos.references import HIDDEN, PULL_REQUESTS, RefChange

HEAD = "head"
WANTED = re.compile(rb"want ([0-9a-fA-F]{40})")
REFS_LIMIT = 500  # former commits of one pull request that get a ref
VISIBLE, HIDDEN_REFS = ("--exclude=refs/hidden/*", "--all"), ("--glob=refs/hidden",)


def hiding(path: Path, number: int, former: Iterable[str]) -> list[RefChange]:
    """The changes that hide a pull request, whose commits these were, the newest first; none when it is hidden."""
    repository = pygit2.Repository(path)
    ref = repository.references.get(f"{PULL_REQUESTS}{number}")
    if ref is None:
        return []
    kept = {HEAD: str(ref.target)}
    for oid in former:
        if len(kept) == REFS_LIMIT:
            break
        if oid in repository and not any(tip == oid or repository.descendant_of(tip, oid) for tip in kept.values()):
            kept[oid] = oid
    moved = [RefChange(f"{HIDDEN}{number}/{name}", None, oid) for name, oid in kept.items()]
    return [RefChange(ref.name, kept[HEAD], None), *moved]


def showing(path: Path, number: int) -> list[RefChange]:
    """The changes that show a pull request again; none when it is not hidden."""
    refs = _hidden_refs(pygit2.Repository(path))
    kept = {ref.name: str(ref.target) for ref in refs if ref.name.startswith(f"{HIDDEN}{number}/")}
    if not kept:
        return []
    head = RefChange(f"{PULL_REQUESTS}{number}", None, kept[f"{HIDDEN}{number}/{HEAD}"])
    return [head, *(RefChange(name, oid, None) for name, oid in kept.items())]


def withheld_objects(path: Path) -> set[str]:
    """The sha256 of each large object that the repository at `path` names only in what moderators hid.

    Raises:
        Unreadable: git cannot follow its history.
    """
    repository = pygit2.Repository(path)
    hidden = {str(ref.target) for ref in _hidden_refs(repository)}
    named = {pointer.sha256 for pointer in named_objects(path, hidden)} if hidden else set()
    visible = {str(ref.target) for ref in repository.references.objects if not ref.name.startswith(HIDDEN)}
    return named - {pointer.sha256 for pointer in named_objects(path, visible)} if named else named


def proposed(path: Path, number: int, start: str) -> str | None:
    """What a hidden pull request that began at `start` proposes, as git's text; None when it is not hidden."""
    repository = pygit2.Repository(path)
    head = repository.references.get(f"{HIDDEN}{number}/{HEAD}")
    begun = repository.get(start)
    if head is None or not isinstance(begun, pygit2.Commit):
        return None
    return history.diff(begun, head.peel(pygit2.Commit))


def is_hidden(path: Path, commit: str) -> bool:
    """Whether only what moderators hid leads to a commit of the repository at `path`."""
    # Every page asks often: all refs are read for those alone that no branch led to when they were hidden.
    return has_hidden(path) and commit in _suspected(path, _stamp(path)) and commit in _commits(path, _state(path))


def has_hidden(path: Path) -> bool:
    """Whether there are hidden refs; looked for as files, because every question for a commit asks this."""
    packed = path / "packed-refs"
    return (path / HIDDEN).is_dir() or (packed.exists() and f" {HIDDEN}".encode() in packed.read_bytes())


def require_visible(path: Path, asked: bytes) -> None:
    """Return when a request to `git upload-pack` wants nothing that only hidden refs lead to; gitprotocol-v2(5).

    Git itself gives whatever is asked for by its id.

    Raises:
        RevisionNotFound: it does.
    """
    suspected = {oid.decode().lower() for oid in WANTED.findall(asked)} & _objects(path, _state(path))
    if suspected:  # git may also have listed files that an older visible commit has
        suspected.difference_update(_listed(path, "--objects", *VISIBLE))
    if suspected:
        raise RevisionNotFound("revision {revision!r}: no such branch, tag or commit", revision=min(suspected))


def _hidden_refs(repository: pygit2.Repository) -> list[pygit2.Reference]:
    return [ref for ref in repository.references.objects if ref.name.startswith(HIDDEN)]


def _state(path: Path) -> frozenset[tuple[str, str]]:
    return frozenset((ref.name, str(ref.target)) for ref in pygit2.Repository(path).references.objects)


def _stamp(path: Path) -> tuple[int, ...]:
    """Something else whenever the hidden refs have changed."""
    folder = path / HIDDEN
    places = [path / "packed-refs", folder, *(folder.iterdir() if folder.is_dir() else ())]
    return tuple(place.stat().st_mtime_ns for place in places if place.exists())


@lru_cache(maxsize=64)
def _suspected(path: Path, stamp: tuple[int, ...]) -> frozenset[str]:
    # Not without the other pull requests: one that is hidden at this moment may still be among them.
    return frozenset(_listed(path, *HIDDEN_REFS, "--not", "--branches", "--tags"))


@lru_cache(maxsize=64)
def _commits(path: Path, state: frozenset[tuple[str, str]]) -> frozenset[str]:
    return frozenset(_listed(path, *HIDDEN_REFS, "--not", *VISIBLE))


@lru_cache(maxsize=64)
def _objects(path: Path, state: frozenset[tuple[str, str]]) -> frozenset[str]:
    return frozenset(_listed(path, "--objects", *HIDDEN_REFS, "--not", *VISIBLE))


def _listed(path: Path, *arguments: str) -> list[str]:
    command = ["git", f"--git-dir={path}", "rev-list", "--no-object-names", *arguments]
    found = subprocess.run(command, env=git_environment(), capture_output=True, text=True, check=False)
    if found.returncode:
        raise Unreadable("{path}: its history cannot be read; run `lmc hub fsck`", path=path)
    return found.stdout.split()
