"""Counting downloads, and the score that fades."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, AccountKind, DailyDownloads, Repository, RepositoryType
from lmcommons.hub.repos import downloads

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def session(database: Database):
    """A transaction that is rolled back."""
    with database.read() as session:
        owner = Account(kind=AccountKind.USER, name="owner", name_key="owner", fullname="")
        for name in ("one", "two"):
            session.add(Repository(type=RepositoryType.MODEL, account=owner, name=name, name_key=name))
        session.flush()
        yield session
        session.rollback()


def counts(session: Session, name: str = "one") -> tuple[int, int]:
    row = of(session, name)
    session.refresh(row)
    return row.downloads, row.downloads_all_time


def of(session: Session, name: str = "one") -> Repository:
    return session.scalars(select(Repository).where(Repository.name == name)).one()


def test_downloads_count_in_the_window_and_for_ever(session: Session):
    for _ in range(3):
        downloads.count(session, of(session).id, NOON)
    assert counts(session) == (3, 3)
    downloads.count(session, of(session).id, NOON + timedelta(days=29))
    assert counts(session) == (4, 4)
    downloads.count(session, of(session).id, NOON + timedelta(days=30))
    assert counts(session) == (2, 5)


def test_another_repository_s_download_takes_old_days_out(session: Session):
    downloads.count(session, of(session, "one").id, NOON)
    downloads.count(session, of(session, "two").id, NOON + timedelta(days=31))
    assert counts(session, "one") == (0, 1)
    assert counts(session, "two") == (1, 1)
    assert [row.count for row in session.scalars(select(DailyDownloads))] == [1]


def test_a_repository_that_was_deleted_is_not_counted(session: Session):
    downloads.count(session, 12345, NOON)
    assert session.scalars(select(DailyDownloads)).all() == []


def test_the_score_adds_up_and_halves_in_a_week():
    trending = downloads.added(0.0, downloads.LIKE, NOON)
    assert downloads.score(trending, NOON) == 10
    for _ in range(2):
        trending = downloads.added(trending, downloads.DOWNLOAD, NOON)
    assert downloads.score(trending, NOON) == 12
    assert downloads.score(trending, NOON + timedelta(days=7)) == 6
    assert downloads.score(trending, NOON + timedelta(days=14)) == 3
    assert downloads.score(trending, NOON + timedelta(days=3650)) == 0
    assert downloads.score(0.0, NOON) == 0


def test_newer_acts_outweigh_older_ones():
    older = newer = 0.0
    for _ in range(3):
        older = downloads.added(older, downloads.LIKE, NOON - timedelta(days=21))
    newer = downloads.added(newer, downloads.LIKE, NOON)
    assert newer > older


def test_what_is_taken_back_is_gone_whenever_that_is_done():
    kept = downloads.added(0.0, downloads.LIKE, NOON)
    both = downloads.added(kept, downloads.LIKE, NOON + timedelta(days=1))
    assert downloads.added(both, -downloads.LIKE, NOON + timedelta(days=1)) == pytest.approx(kept)
    assert downloads.added(kept, -downloads.LIKE, NOON) == 0.0
    assert downloads.added(0.0, -downloads.LIKE, NOON) == 0.0
