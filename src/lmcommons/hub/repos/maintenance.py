"""What git itself does for a repository, in a process of its own."""

import errno
import logging
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmcommons.files import sync_directory
from lmcommons.hub.repos.references import ZERO, RefChange

LOGGER = logging.getLogger(__name__)

PACK_LIMIT = 50  # packs in a repository before they are merged
NO_ROOM = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "couldn't write")  # as git says it of a ref


def git_environment() -> dict[str, str]:
    """A git process trusts the hub's repositories, whoever owns the files, and reads nobody's settings."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }


def check(path: Path) -> list[str]:
    """What is wrong with the repository at `path`, a line each: refs that lead nowhere, missing or damaged objects."""
    # What an uploaded .gitattributes says is its author's business, not damage.
    lenient = ["-c", "fsck.gitattributesLineLength=ignore", "-c", "fsck.gitattributesLarge=ignore"]
    result = _git(path, *lenient, "fsck", "--full", "--no-dangling", "--no-progress")
    lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    return [] if result.returncode == 0 else lines or [f"git fsck ended with {result.returncode}"]


def merge_packs(path: Path) -> None:
    """Keep the packs few, each larger than all smaller ones together, so that reads stay fast."""
    if sum(1 for _ in (path / "objects" / "pack").glob("*.idx")) > PACK_LIMIT:
        result = _git(path, "repack", "--geometric=2", "-d", "--quiet")
        if result.returncode:
            LOGGER.warning("%s: packs could not be merged: %s", path, result.stderr.strip())


def fetch(path: Path, source: Path, refs: Iterable[str]) -> None:
    """Give the repository at `path` refs of another one, and the objects that they lead to.

    Raises:
        OSError: git cannot; what it says.
    """
    command = ("fetch", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--quiet", "--stdin")
    result = _git(path, *command, str(source), asked="".join(f"{ref}:{ref}\n" for ref in refs))
    if result.returncode:
        raise OSError(errno.EIO, result.stderr.strip())


def move_refs(path: Path, changes: Sequence[RefChange]) -> str | None:
    """Move refs durably, all of them or none; why they did not move, None when they did. Source: git-update-ref(1).

    Git writes every new value beside its ref before it renames the first of them: libgit2, which writes and renames
    one after the other, stops half-way on a disk that becomes full.

    Raises:
        OSError: the disk is full.
    """
    commands = [f"update {change.ref}\0{change.after or ZERO}\0{change.before or ZERO}" for change in changes]
    asked = "\0".join(["start", *commands, "prepare", "commit", ""])
    synced = ["-c", "core.fsync=reference", "-c", "core.fsyncMethod=fsync"]
    result = _git(path, *synced, "update-ref", "-z", "--no-deref", "--stdin", asked=asked)
    if result.returncode:
        said = result.stderr.strip().replace(f"{path}/", "") or f"git update-ref ended with {result.returncode}"
        if any(words in said for words in NO_ROOM):
            raise OSError(errno.ENOSPC, said)
        return said.removeprefix("fatal: ")
    folders = {folder for change in changes for folder in (path / change.ref).parents if folder.is_relative_to(path)}
    for folder in filter(Path.is_dir, folders):  # of a ref that was removed, it may be gone too
        sync_directory(folder)
    return None


def _git(path: Path, *arguments: str, asked: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["git", f"--git-dir={path}", *arguments],
        input=asked,
        env=git_environment(),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
