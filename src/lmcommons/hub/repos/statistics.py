"""Statistics of the columns of a dataset's splits, computed in the background for each commit that is looked at."""

import time
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from lmcommons.hub.background import Claim, Queue
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Progress, Repository, SplitStatistics
from lmcommons.hub.repos.datasets import Datasets, choose
from lmcommons.hub.repos.splits import Split

ATTEMPTS = 2
WAITING_LIMIT = 500  # splits that wait
NAME_LIMIT = 200  # characters


class Statistics(Queue[SplitStatistics]):
    """Computes what was asked for."""

    def __init__(self, database: Database, datasets: Datasets) -> None:
        super().__init__("statistics", database, SplitStatistics, attempts=ATTEMPTS)
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

    def do(self, row: SplitStatistics, claim: Claim) -> dict[str, Any] | None:
        """Compute the statistics of a split, unless its repository has another head by now."""
        from lmcommons.hub.repos.summaries import Summary

        with self._database.read() as session:
            repository = session.get(Repository, row.repository_id)
        if repository is None:
            return None
        repository, found = self._datasets.splits(repository)
        if repository.head != row.commit:
            return None
        scan = self._datasets.scan(repository, choose(repository, found, row.config, row.split))
        summary = Summary()
        began = time.monotonic()
        for batch in scan.batches:
            summary.add(batch.rows)
            if summary.full:
                break
            claim.tell(rows=summary.rows)
            # Half of the time is left to requests: all share the interpreter.
            self.stopping.wait(min(1.0, time.monotonic() - began))
            began = time.monotonic()
        return {"rows": summary.rows, "found": summary.as_dict() | {"whole": scan.whole}}


def _find(session: Session, repository_id: int, commit: str, split: Split) -> SplitStatistics | None:
    return session.scalar(
        select(SplitStatistics).where(
            SplitStatistics.repository_id == repository_id,
            SplitStatistics.commit == commit,
            SplitStatistics.config == split.config,
            SplitStatistics.split == split.name,
        )
    )


def _waiting(session: Session) -> int:
    waiting = select(func.count()).select_from(SplitStatistics).where(SplitStatistics.progress == Progress.WAITING)
    return session.scalar(waiting) or 0
