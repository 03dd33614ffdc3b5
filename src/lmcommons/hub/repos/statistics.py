"""Statistics of the columns of a dataset's splits, computed in the background, once for each commit that is looked at.

The queue is the table itself. Whoever takes a split moves the time at which somebody else may take it, and moves it on
while at work: several processes share what is to do, and what a process leaves when it dies is begun again by another.
A file of which processes die is left after two attempts.
"""

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from lmcommons.hub.background import EXPECTED, Background
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Progress, Repository, SplitStatistics, now
from lmcommons.hub.errors import HubError
from lmcommons.hub.repos.datasets import Datasets, choose
from lmcommons.hub.repos.splits import Split
from lmcommons.hub.words import Words

if TYPE_CHECKING:
    from lmcommons.hub.repos.summaries import Summary

LOGGER = logging.getLogger(__name__)

ATTEMPTS = 2
LEASE = timedelta(seconds=30)
REPORTED = 1.0  # seconds between reports of how far it is
PAUSE = 1.0  # seconds between looks into an empty queue
WAITING_LIMIT = 500  # splits that wait
NAME_LIMIT = 200  # characters


class Statistics(Background):
    """Computes what was asked for."""

    def __init__(self, database: Database, datasets: Datasets) -> None:
        super().__init__("statistics", pause=PAUSE)
        self._database = database
        self._datasets = datasets

    def of(self, repository: Repository, split: Split) -> SplitStatistics | None:
        """The statistics of a split at the head of its repository, or how far they are: asking for them begins them.

        None where too many others wait. Those of former heads are forgotten.
        """
        head = repository.head or ""
        with self._database.read() as session:
            found = _find(session, repository.id, head, split)
        if found is not None or max(len(split.config), len(split.name)) > NAME_LIMIT:
            return found
        with self._database.write() as session:
            found = _find(session, repository.id, head, split)
            if (
                found is None
                and session.get(Repository, repository.id) is not None
                and _waiting(session) < WAITING_LIMIT
            ):
                session.execute(
                    delete(SplitStatistics).where(
                        SplitStatistics.repository_id == repository.id, SplitStatistics.commit != head
                    )
                )
                found = SplitStatistics(repository_id=repository.id, commit=head, config=split.config, split=split.name)
                session.add(found)
        return found

    def work(self) -> int:
        """Take what waits longest and compute it; returns 0 when there was nothing."""
        with self._database.read() as session:
            if session.scalar(_due().limit(1)) is None:
                return 0
        taken = self._take()
        if taken is None:
            return 0
        self._compute(*taken)
        return 1

    def _take(self) -> tuple[SplitStatistics, Repository] | None:
        """What waits longest, which nobody else takes until the lease ends."""
        with self._database.write() as session:
            for row in session.scalars(_due().limit(10)).all():
                repository = session.get_one(Repository, row.repository_id)
                if row.commit != repository.head:
                    session.delete(row)
                elif row.attempts >= ATTEMPTS:
                    row.progress, row.error = Progress.FAILED, Words("the computation was begun twice and never ended")
                else:
                    row.attempts += 1
                    row.leased_until = now() + LEASE
                    return row, repository
        return None

    def _compute(self, row: SplitStatistics, repository: Repository) -> None:
        from lmcommons.hub.repos.summaries import Summary

        summary = Summary()
        error: str | None = None
        whole = False
        try:
            repository, found = self._datasets.splits(repository)
            if repository.head != row.commit:
                return
            scan = self._datasets.scan(repository, choose(repository, found, row.config, row.split))
            reported = began = time.monotonic()
            for batch in scan.batches:
                summary.add(batch.rows)
                if summary.full:
                    break
                # Half of the time is left to requests: all share the interpreter.
                if self.stopping.wait(min(1.0, time.monotonic() - began)):
                    self._report(row.id, leased_until=now(), attempts=row.attempts - 1)
                    return
                began = time.monotonic()
                if began - reported > REPORTED:
                    if not self._report(row.id, rows=summary.rows, leased_until=now() + LEASE):
                        return
                    reported = began
            whole = scan.whole
        except HubError as refused:
            error = refused.message
        except EXPECTED:
            raise
        except Exception:  # a file that nobody thought of must not hold up the others
            LOGGER.exception("statistics of %s, %s/%s", repository.path, row.config, row.split)
            error = Words("the hub failed; its log says how")
        self._end(row.id, summary, whole=whole, error=error)

    def _end(self, number: int, summary: "Summary", *, whole: bool, error: str | None) -> None:
        if error is not None:
            self._report(number, progress=Progress.FAILED, rows=summary.rows, error=error)
        else:
            found = summary.as_dict() | {"whole": whole}
            self._report(number, progress=Progress.DONE, rows=summary.rows, found=found)

    def _report(self, number: int, **values: object) -> bool:
        """Write into a row; whether it is still there."""
        with self._database.write() as session:
            row = session.get(SplitStatistics, number)
            if row is None:  # the repository was deleted, or has another head
                return False
            for name, value in values.items():
                setattr(row, name, value)
            return True


def _find(session: Session, repository_id: int, commit: str, split: Split) -> SplitStatistics | None:
    return session.scalar(
        select(SplitStatistics).where(
            SplitStatistics.repository_id == repository_id,
            SplitStatistics.commit == commit,
            SplitStatistics.config == split.config,
            SplitStatistics.split == split.name,
        )
    )


def _due() -> Select[SplitStatistics]:
    waiting = SplitStatistics.progress == Progress.WAITING
    return select(SplitStatistics).where(waiting, SplitStatistics.leased_until <= now()).order_by(SplitStatistics.id)


def _waiting(session: Session) -> int:
    waiting = select(func.count()).select_from(SplitStatistics).where(SplitStatistics.progress == Progress.WAITING)
    return session.scalar(waiting) or 0
