"""Work that a hub does beside its answers, each kind in a thread of its own."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Progress, Queued, now
from lmcommons.hub.errors import HubError
from lmcommons.hub.words import Words

LOGGER = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0  # seconds between looks after errors
HOUR = 3600.0  # seconds between cleanings
LAST_MOMENT = 2.0  # seconds in which what is being done may end when the hub stops
EXPECTED = (SQLAlchemyError, HubError)  # a database that is busy or restarts, or a full disk

LEASE = timedelta(seconds=30)  # after which a row may be taken from a process that does not renew it
REPORTED = 1.0  # seconds between reports of how far it is, which renew the lease
PAUSE = 1.0  # seconds between looks into an empty queue

Row = TypeVar("Row", bound=Queued)


class Background(ABC):
    """Does what is due, from a thread of its own between `start` and `stop`."""

    def __init__(self, name: str, *, pause: float) -> None:
        """Work called `name`, with so many seconds between looks when nothing is due."""
        self.name = name
        self.failing_since: datetime | None = None  # when the first attempt failed of those after the last that did not
        self._pause = pause
        self._thread: threading.Thread | None = None
        self.stopping = threading.Event()

    def start(self) -> None:
        """Begin."""
        self.stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after what is being done; what is not is done by the next to start."""
        self.stopping.set()

    @property
    def is_running(self) -> bool:
        """Whether its thread is there."""
        return self._thread is not None and self._thread.is_alive()

    def join(self) -> None:
        """Wait until it has ended, though not for long."""
        if self._thread is not None:
            self._thread.join(LAST_MOMENT)

    @abstractmethod
    def work(self) -> int:
        """Do some of what is due; returns how much of it was taken, 0 when nothing was due."""

    def clean(self) -> None:  # noqa: B027 - not all have something to clean
        """What is done once an hour."""

    def _run(self) -> None:
        cleaned, pause = 0.0, self._pause
        while not self.stopping.wait(pause):
            try:
                while self.work() and not self.stopping.is_set():
                    pass
                if time.monotonic() - cleaned > HOUR:
                    self.clean()
                    cleaned = time.monotonic()
                pause, self.failing_since = self._pause, None
            except Exception as error:
                # What is due stays due. Of an error that is not expected, the log shows the place.
                LOGGER.warning("%s wait: %s", self.name, error, exc_info=not isinstance(error, EXPECTED))
                pause, self.failing_since = min(2 * pause, LONGEST_PAUSE), self.failing_since or now()


class Claim:
    """A row that this process has taken, and what it writes there as long as nobody else has taken it since."""

    def __init__(self, database: Database, row: Queued, stopping: threading.Event) -> None:
        self._database = database
        self._kind, self._number, self.attempt = type(row), row.id, row.attempts
        self._stopping = stopping
        self._lost = threading.Event()
        self._told: dict[str, Any] = {}

    def tell(self, **values: Any) -> None:
        """Say how far the work is; the row has it a second later.

        Raises:
            Interrupted: the hub stops, or the row is not this process's any more.
        """
        self._told = values
        if self._stopping.is_set() or self._lost.is_set():
            raise Interrupted

    def write(self, **values: Any) -> bool:
        """Write into the row, with what was told last; whether it is still there and this process's."""
        with self._database.write() as session:
            row = self._mine(session)
            for name, value in (self._told | values).items() if row is not None else ():
                setattr(row, name, value)
            return row is not None

    def remove(self) -> None:
        """Remove the row, which nobody wants any more."""
        with self._database.write() as session:
            if row := self._mine(session):
                session.delete(row)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renews the lease while the block runs, whatever it waits for, and writes what is told."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(REPORTED):
                with suppress(*EXPECTED):  # a busy database: there are many turns to a lease
                    if not self.write(leased_until=now() + LEASE):
                        self._lost.set()
                        return

        renewing = threading.Thread(target=renew, name="lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()

    def _mine(self, session: Session) -> Queued | None:
        row = session.get(self._kind, self._number)
        return row if row is not None and row.attempts == self.attempt else None  # whoever takes it counts on


class Interrupted(Exception):  # noqa: N818 - not an error
    """The hub stops, or nobody wants the work on a row any more."""


class Queue(Background, Generic[Row]):
    """Works off the rows of a table, which is the queue, one after the other.

    Whoever takes a row moves the time at which somebody else may take it, and moves it on while at work: several
    processes share what is to do, and what a process leaves when it dies is begun again by another. A row of which
    processes die is given up.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        table: type[Row],
        *,
        attempts: int,
        failures: tuple[type[Exception], ...] = (),
    ) -> None:
        """Work called `name` on the rows of `table`.

        Args:
            attempts: how often the work on a row is begun.
            failures: what it may end with, besides a HubError, that the row tells as it is.
        """
        super().__init__(name, pause=PAUSE)
        self._database = database
        self._table = table
        self._attempts = attempts
        self._failures = failures

    @abstractmethod
    def do(self, row: Row, claim: Claim) -> dict[str, Any] | None:
        """The work on a row; returns what is written there at its end, None when nobody wants it any more."""

    def work(self) -> int:
        """Take what waits longest and do it; returns 0 when there was nothing."""
        with self._database.read() as session:
            if session.scalar(self._due()) is None:
                return 0
        row = self.take()
        if row is not None:
            self._attend(row)
        return 1

    def take(self) -> Row | None:
        """What waits longest, which nobody else takes until the lease ends; None where it is given up."""
        with self._database.write() as session:
            row = session.scalar(self._due())
            if row is None:
                return None
            if row.attempts >= self._attempts:
                row.progress = Progress.FAILED
                row.error = Words("it was begun {count} times and never ended", count=row.attempts)
                return None
            row.attempts += 1
            row.leased_until = now() + LEASE
            return row

    def _attend(self, row: Row) -> None:
        claim = Claim(self._database, row, self.stopping)
        error: str
        try:
            with claim.renewed():
                found = self.do(row, claim)
        except Interrupted:
            claim.write(leased_until=now(), attempts=claim.attempt - 1)
            return
        except HubError as refused:
            error = refused.message
        except self._failures as failed:
            error = str(failed)
        except EXPECTED:
            raise
        except Exception:  # what nobody thought of must not hold up the others
            LOGGER.exception("%s of %s", self.name, row)
            error = Words("the hub failed; its log says how")
        else:
            if found is None:
                claim.remove()
            else:
                claim.write(progress=Progress.DONE, error=None, **found)
            return
        claim.write(progress=Progress.FAILED, error=error)

    def _due(self) -> Select[Row]:
        table = self._table
        waits = table.progress == Progress.WAITING
        return select(table).where(waits, table.leased_until <= now()).order_by(table.id).limit(1)
