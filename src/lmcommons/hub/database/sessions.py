"""Opening the database: engine, transactions, migrations."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from lmcommons.errors import CommandError
from lmcommons.hub.database.migrations import NEWEST
from lmcommons.hub.errors import BadRequest, Busy, InsufficientStorage
from lmcommons.hub.settings import Settings

POOL = 20  # connections kept open; as many again while there is need: one for each thread that answers requests
BUSY_LIMIT = 30  # seconds that a writer waits for another one
WRITER = 7_860_786  # PostgreSQL's advisory lock of the one writer; any number that all of a hub's processes share
FULL = ("disk is full", "No space left on device")  # how SQLite and PostgreSQL tell it
LOCKED = ("database is locked", "lock timeout")  # likewise, when a writer waited in vain


class Database:
    """The hub's database. Rows read in a block stay usable after it; lazy loading does not happen."""

    def __init__(self, settings: Settings) -> None:
        """Open the database of `settings` and bring its schema up to date; not in two processes at once.

        Raises:
            CommandError: it cannot be opened, or a newer version made it.
        """
        self._engine = _engine(settings.database_url)
        try:
            self._migrate()
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            shown = make_url(settings.database_url).render_as_string(hide_password=True)
            raise CommandError(f"database {shown}: {str(cause).strip()}") from error
        self._reads = sessionmaker(self._engine, expire_on_commit=False)
        self._writes = sessionmaker(self._engine.execution_options(write=True), expire_on_commit=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view of the database; nothing is written.

        Raises:
            BadRequest: a value that no row can have.
        """
        with _values_that_fit(), self._reads() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back on an error; one writer at a time.

        Raises:
            BadRequest: a value that no row can have.
            Busy: another writer took too long.
            InsufficientStorage: the disk is full.
        """
        try:
            with _values_that_fit(), self._writes.begin() as session:
                yield session
        except OperationalError as error:
            said = str(error.orig)
            if any(words in said for words in FULL):
                raise InsufficientStorage from error
            if any(words in said for words in LOCKED):
                raise Busy("The hub is busy with other changes; nothing was stored", seconds=1) from error
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _migrate(self) -> None:
        with self._engine.execution_options(write=True).begin() as connection:
            found = None
            if inspect(connection).has_table("alembic_version"):
                found = connection.scalar(text("SELECT version_num FROM alembic_version"))
            if found != NEWEST:
                _upgrade(connection, found)


@contextmanager
def _values_that_fit() -> Iterator[None]:
    """Databases take no half characters and no number past a column's range, PostgreSQL no NUL either."""
    try:
        yield
    except (DataError, OverflowError, UnicodeEncodeError) as error:  # the last two are SQLite's
        raise BadRequest("A value in the request is too large, or not Unicode text without NUL") from error


def _upgrade(connection: Connection, found: str | None) -> None:
    from alembic import command  # a third of a second, and rarely needed
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(resources.files(__package__) / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise CommandError(f"database: schema {found} was made by a newer lmcommons (this one knows {NEWEST}); upgrade")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _engine(url: str) -> Engine:
    # Errors are logged: values, among them secrets, are not.
    engine = create_engine(url, pool_size=POOL, max_overflow=POOL, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgresql)
        event.listen(engine, "begin", _begin_postgresql)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not the driver
    for pragma in (f"busy_timeout={BUSY_LIMIT * 1000}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later cannot wait for another writer: take the lock at once.
    immediate = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _prepare_postgresql(connection: Any, _record: object) -> None:
    # A block that reads sees one state of the database, as on SQLite.
    connection.execute(f"SET lock_timeout = '{BUSY_LIMIT}s'; SET TIME ZONE 'UTC'")
    connection.execute("SET default_transaction_isolation = 'repeatable read'")
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    # Writers take turns, as on SQLite: what a block has read is still so when it writes. Each statement of a writer
    # sees what the one before it committed, because the state is not the one from before it waited.
    if connection.get_execution_options().get("write"):
        connection.exec_driver_sql(
            f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({WRITER})"
        )
