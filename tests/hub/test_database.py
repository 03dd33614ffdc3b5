"""The schema and its migrations, and writers that meet."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hub_process import LMC
from sqlalchemy import ColumnElement, create_engine, func, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from lmcommons.hub.accounts.accounts import Accounts
from lmcommons.hub.database import sessions
from lmcommons.hub.database.migrations import NEWEST
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, AccountKind, Event, RepositoryObject, Table
from lmcommons.hub.errors import BadRequest, Busy
from lmcommons.hub.settings import Settings


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(Settings.make(tmp_path))


def test_migrations_make_the_tables_that_the_code_declares(tmp_path: Path, database: Database):
    with create_engine(f"sqlite:///{tmp_path / 'hub.sqlite3'}").connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": _is_declared})
        assert compare_metadata(context, Table.metadata) == []
        assert context.get_current_revision() == NEWEST


def _is_declared(name: str | None, kind: str, parents: object) -> bool:
    """Whether it can be declared: a full-text index of SQLite is a table and four more behind it."""
    return not (kind == "table" and (name or "").startswith(("repository_search", "discussion_search")))


def test_opening_again_changes_nothing_and_keeps_the_rows(tmp_path: Path, database: Database):
    Accounts(database).add_user("ada")
    database.close()
    assert Accounts(Database(Settings.make(tmp_path))).find("ADA").name == "ada"


def test_a_block_that_fails_writes_nothing(database: Database):
    def fail() -> None:
        with database.write() as session:
            session.add(Event(kind="test"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 0


def test_foreign_keys_hold(database: Database):
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(RepositoryObject(repository_id=1, sha256="0" * 64, size=1))


def test_writers_that_read_first_wait_for_each_other(database: Database):
    with database.write() as session:
        session.add(Account(kind=AccountKind.USER, name="0", name_key="counter", fullname=""))

    def increase(_: int) -> None:
        with database.write() as session:
            row = session.scalars(select(Account)).one()
            row.name = str(int(row.name) + 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increase, range(100)))
    with database.read() as session:
        assert session.scalars(select(Account.name)).one() == "100"


def test_a_writer_that_waits_in_vain_is_told_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sessions, "BUSY_LIMIT", 0)
    database = Database(Settings.make(tmp_path))
    with database.write() as session:
        session.add(Event(kind="test"))
        session.flush()
        with pytest.raises(Busy) as told, database.write() as other:
            other.add(Event(kind="other"))
    assert told.value.headers["Retry-After"] == "1"
    with database.read() as session:
        assert session.scalars(select(Event.kind)).all() == ["test"]


@pytest.mark.parametrize("condition", [Account.name == "a\ud800", Account.id == 1 << 70])
def test_a_value_that_no_row_can_have_is_refused(database: Database, condition: ColumnElement[bool]):
    with pytest.raises(BadRequest), database.read() as session:
        session.scalar(select(Account).where(condition))


def test_processes_that_open_a_new_directory_together_all_succeed(tmp_path: Path):
    commands = [[*LMC, "hub", "user", "add", f"user{number}", "--data", str(tmp_path / "hub")] for number in range(4)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for command in commands
    ]
    answers = [process.communicate(timeout=240) for process in processes]
    assert [error for _, error in answers] == [""] * 4
    assert all(process.returncode == 0 for process in processes)
    assert len({token for token, _ in answers}) == 4


def test_an_error_does_not_show_the_values_of_its_statement(database: Database):
    # It is logged with its words, and values may be secrets.
    with pytest.raises(SQLAlchemyError) as error, database.read() as session:
        session.execute(text("SELECT * FROM nowhere WHERE name = :name"), {"name": "s3cret"})
    assert "nowhere" in str(error.value)
    assert "s3cret" not in str(error.value)
