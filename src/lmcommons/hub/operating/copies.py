"""Copies of what a hub keeps: the commits of a repository, the blobs of a store, the rows of a database.

Each copies only what its target lacks, so that the same call continues a copy that was interrupted.
"""

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pygit2
from sqlalchemy import Connection, Integer, func, insert, select, text

from lmcommons.errors import CommandError
from lmcommons.files import write_failure
from lmcommons.hub.database.tables import Event, Repository, Table
from lmcommons.hub.errors import InsufficientStorage
from lmcommons.hub.objects.blobs import Blobs
from lmcommons.hub.repos.maintenance import git_environment

BLOCK = 4 << 20  # bytes
ROWS = 1000

Report = Callable[[str], None]  # takes a line about the progress


@dataclass(frozen=True)
class GitState:
    """Where a repository's refs are: the default branch, and the object that each full ref name leads to."""

    head: str
    refs: Mapping[str, str]


@contextmanager
def filling(place: Path) -> Iterator[None]:
    """A block that writes to `place`.

    Raises:
        CommandError: it is full, or cannot be written; in one line.
    """
    try:
        yield
    except InsufficientStorage as error:
        raise write_failure(place, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
    except OSError as error:
        raise write_failure(place, error) from error


def git_state(path: Path) -> GitState:
    """The state of the bare repository in a directory."""
    repository = pygit2.Repository(path)
    refs = {name: str(repository.lookup_reference(name).target) for name in repository.references}
    return GitState(str(repository.lookup_reference("HEAD").target), refs)


def copy_commits(
    source: Path | str, target: Path, refs: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> None:
    """Set `refs` (name: object or ref in `source`) of the bare repository `target`, fetching what is not there yet.

    Args:
        source: a directory or an address.
        environment: as `run_git`.

    Raises:
        CommandError: what git says about a failure, in one line.
    """
    if refs:
        command = ["fetch", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--quiet", "--stdin"]
        told = "".join(f"+{origin}:{name}\n" for name, origin in refs.items()).encode()
        run_git(f"--git-dir={target}", *command, str(source), told=told, environment=environment)


def run_git(
    *arguments: str,
    told: bytes | None = None,
    source: IO[bytes] | None = None,
    out: IO[bytes] | int = subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """What git prints, unless it goes to the file `out`.

    Args:
        told: what it reads; or it reads the file `source`.
        environment: added to that of the process.

    Raises:
        CommandError: the last line of what git says about a failure.
    """
    done = subprocess.run(
        ["git", *arguments],
        stdin=source,
        input=told,
        stdout=out,
        stderr=subprocess.PIPE,
        env=git_environment() | dict(environment or {}),
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise CommandError(f"git: {said[-1] if said else f'ended with {done.returncode}'}")
    return done.stdout or b""


def copy_blobs(source: Blobs, target: Blobs, report: Report) -> int:
    """Copy the blobs that `target` lacks; returns the bytes copied. On one disk they are linked."""
    copied = 0
    for number, blob in enumerate(source.entries(), 1):
        if target.size(blob.key) != blob.size:
            handle, name = tempfile.mkstemp(dir=target.staging)
            os.close(handle)
            temporary = Path(name)
            try:
                _fetch(source, blob.key, temporary)
                target.put(blob.key, temporary)
            finally:
                temporary.unlink(missing_ok=True)
            copied += blob.size
        if number % ROWS == 0:
            report(f"objects: {number:,} seen, {copied:,} bytes copied")
    return copied


def _fetch(source: Blobs, key: str, temporary: Path) -> None:
    """Put a blob's content at `temporary`: by a second name of its file where both are on one disk, else by a copy."""
    if (path := source.path(key)) is not None:
        temporary.unlink()
        with suppress(OSError):
            os.link(path, temporary)  # blobs are replaced, never changed
            return
    with source.open(key) as content, temporary.open("wb") as file:
        shutil.copyfileobj(content, file, BLOCK)


def copy_rows(source: Connection, target: Connection) -> None:
    """Copy every row of the hub's tables into empty ones, of the same schema but on any database."""
    for table in Table.metadata.sorted_tables:
        order = list(table.primary_key)
        rows = source.execution_options(yield_per=ROWS).execute(select(table).order_by(*order))
        for part in rows.mappings().partitions(ROWS):
            target.execute(insert(table), [dict(row) for row in part])
    # The number of a repository that was deleted is never given to another one: events still speak of it.
    highest = target.scalar(select(func.max(Event.repository_id))) or 0
    _continue_numbering(target, {Repository.__tablename__: highest})


def _continue_numbering(connection: Connection, at_least: Mapping[str, int]) -> None:
    """New rows get numbers after those that were copied."""
    for table in Table.metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None or not isinstance(column.type, Integer):
            continue
        last = max(connection.scalar(select(func.max(column))) or 0, at_least.get(table.name, 0))
        if not last:
            continue
        if connection.dialect.name == "postgresql":
            sequence = text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)")
            connection.execute(sequence, {"table": table.name, "column": column.name, "last": last})
        elif table.dialect_options["sqlite"]["autoincrement"]:
            for statement in (
                "DELETE FROM sqlite_sequence WHERE name = :table",
                "INSERT INTO sqlite_sequence VALUES (:table, :last)",
            ):
                connection.execute(text(statement), {"table": table.name, "last": last})
