"""What git itself does for a repository, in a process of its own."""

import logging
import os
import subprocess
from pathlib import Path

LOGGER = logging.getLogger(__name__)

PACK_LIMIT = 50  # packs in a repository before they are merged


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


def _git(path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["git", f"--git-dir={path}", *arguments],
        env=git_environment(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
