"""Files on their way into the store: each is held by the process that writes it, and removed when that has died."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "writing-"


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """A new file in a directory, for the block; it is removed if it is still there at the end."""
    while True:
        handle, name = tempfile.mkstemp(prefix=PREFIX, dir=directory)
        path = Path(name)
        fcntl.flock(handle, fcntl.LOCK_SH)
        if path.exists():  # else it was cleared before it was held
            break
        os.close(handle)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def clear_staged(directory: Path) -> int:
    """Remove the files of processes that died; returns how many."""
    removed = 0
    for path in directory.glob(f"{PREFIX}*"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed += 1
        except (BlockingIOError, FileNotFoundError):
            continue  # somebody writes it, or it was completed meanwhile
    return removed
