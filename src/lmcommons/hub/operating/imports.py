"""Imports: repositories of other hubs that members bring here, in the background.

They come from the hubs that the operator names, and from no others: what such a hub answers decides where this one
fetches large files. What everybody may see there comes, with its history; asked for again, what is new comes.
The queue is the table, as in `repos/statistics.py`: what a process leaves when it dies is taken up by another.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPException

from sqlalchemy import Select, delete, func, select

from lmcommons.errors import CommandError
from lmcommons.hub.accounts.accounts import check_name
from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.accounts.tokens import load_actor
from lmcommons.hub.background import EXPECTED, Background
from lmcommons.hub.database.tables import Event, Import, Progress, RepositoryType, TokenRole, now
from lmcommons.hub.errors import BadRequest, HubError, NotFound, RepositoryNotFound, TooManyRequests
from lmcommons.hub.operating.incoming import split_name
from lmcommons.hub.operating.mirror import Origin, bring
from lmcommons.hub.rooms import Hub
from lmcommons.hub.words import Words

LOGGER = logging.getLogger(__name__)

ATTEMPTS = 3
LEASE = timedelta(seconds=30)
REPORTED = 1.0  # seconds between reports of how far it is
PAUSE = 1.0  # seconds between looks into an empty queue
WAITING_LIMIT = 10  # imports of one account that wait
SHOWN = 50  # imports of one account that are kept
SOURCE_LIMIT = 200  # characters
KINDS = (RepositoryType.MODEL, RepositoryType.DATASET)


class Imports(Background):
    """Brings what was asked for, one after the other."""

    def __init__(self, hub: Hub) -> None:
        super().__init__("imports", pause=PAUSE)
        self._hub = hub
        self._database = hub.database

    @property
    def hubs(self) -> Sequence[str]:
        """The addresses of the hubs from which members may import."""
        return self._hub.settings.import_from

    def of(self, actor: Actor) -> Sequence[Import]:
        """What the actor asked for, the last first."""
        mine = select(Import).where(Import.account_id == actor.account_id).order_by(Import.id.desc()).limit(SHOWN)
        with self._database.read() as session:
            return session.scalars(mine).all()

    def begin(
        self, actor: Actor, *, endpoint: str, source: str, owner: str | None, name: str = "", private: bool = False
    ) -> Import:
        """Ask for a repository of another hub.

        Args:
            endpoint: the other hub.
            source: what the repository is called there, `namespace/name` or `datasets/namespace/name`; or its address.
            owner: the namespace here, by default the actor's own.
            name: its name here, by default that which it has there.

        Raises:
            BadRequest: a name that cannot be, or a hub that the operator does not name.
            Unauthorized, Forbidden: not into this namespace, or not over this repository.
            TooManyRequests: too many of the actor's wait.
        """
        if endpoint not in self.hubs:
            raise BadRequest("{endpoint} is not a hub from which this one imports", endpoint=endpoint[:80] or "''")
        kind, source = _named(source.strip().removeprefix(f"{endpoint}/").rstrip("/"))
        name = check_name(name.strip() or source.partition("/")[2], Words("Repository"))
        target = f"{owner or actor.name}/{name}"
        try:
            require(actor, Action.WRITE, self._hub.repositories.find(actor, kind, target))
        except RepositoryNotFound:
            require(actor, Action.CREATE, self._hub.accounts.find(owner or actor.name or ""))
        asked = Import(
            account_id=actor.account_id, endpoint=endpoint, type=kind, source=source, target=target, private=private
        )
        mine = Import.account_id == actor.account_id
        with self._database.write() as session:
            waiting = select(func.count()).where(mine, Import.progress == Progress.WAITING)
            if (session.scalar(waiting) or 0) >= WAITING_LIMIT:
                raise TooManyRequests("{limit} imports of yours wait; wait until some have ended", limit=WAITING_LIMIT)
            kept = select(Import.id).where(mine).order_by(Import.id.desc()).limit(SHOWN - 1)
            session.execute(delete(Import).where(mine, Import.id.not_in(kept), Import.progress != Progress.WAITING))
            session.add(asked)
            told = {"from": f"{endpoint}/{kind.prefix}{source}", "to": f"{kind.prefix}{target}"}
            session.add(Event(kind="import.asked", actor=actor.name, data=told))
        return asked

    def end(self, actor: Actor, number: int) -> None:
        """Stop an import of the actor's, or take it from the list; what has come stays.

        Raises:
            NotFound: the actor has no such import.
        """
        with self._database.write() as session:
            found = session.get(Import, number)
            if found is None or found.account_id != actor.account_id:
                raise NotFound("You have no such import; it may have been removed already")
            session.delete(found)

    def work(self) -> int:
        """Take what waits longest and bring it; returns 0 when there was nothing."""
        with self._database.read() as session:
            if session.scalar(_due()) is None:
                return 0
        taken = self._take()
        if taken is not None:
            self._bring(*taken)
        return 1

    def _take(self) -> tuple[Import, Actor] | None:
        """What waits longest, which nobody else takes until the lease ends, and who asked for it."""
        with self._database.write() as session:
            row = session.scalar(_due())
            if row is None:
                return None
            if row.attempts >= ATTEMPTS:
                row.progress, row.ended_at = Progress.FAILED, now()
                row.error = Words("it was begun {count} times and never ended", count=row.attempts)
                return None
            row.attempts += 1
            row.leased_until = now() + LEASE
            return row, load_actor(session, row.account, TokenRole.WRITE, "import")

    def _bring(self, row: Import, actor: Actor) -> None:
        reported = 0.0

        def received(done: int, total: int) -> None:
            nonlocal reported
            if self.stopping.is_set():
                raise _Stopped
            if time.monotonic() - reported > REPORTED or done == total:
                if not self._report(row.id, received=done, expected=total, leased_until=now() + LEASE):
                    raise _Stopped
                reported = time.monotonic()

        error: str | None = None
        try:
            if row.account.disabled:
                raise BadRequest("The account {name} is shut out", name=row.account.name)
            with self._kept(row.id):
                bring(
                    self._hub,
                    Origin(row.endpoint),
                    actor,
                    row.type,
                    row.source,
                    to=row.target,
                    private=row.private,
                    report=LOGGER.info,
                    received=received,
                )
        except _Stopped:
            self._report(row.id, leased_until=now(), attempts=row.attempts - 1)
            return
        except HubError as refused:
            error = refused.message
        except (CommandError, OSError, HTTPException) as failed:
            error = str(failed)
        except EXPECTED:
            raise
        except Exception:  # an answer that nobody thought of must not hold up the others
            LOGGER.exception("import of %s from %s", row.source, row.endpoint)
            error = Words("the hub failed; its log says how")
        progress = Progress.DONE if error is None else Progress.FAILED
        self._report(row.id, progress=progress, error=error, ended_at=now())

    @contextmanager
    def _kept(self, number: int) -> Iterator[None]:
        """Moves the lease on while the block runs: git may be at its part for long."""
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(LEASE.total_seconds() / 3):
                self._report(number, leased_until=now() + LEASE)

        keeper = threading.Thread(target=keep, name="imports lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()

    def _report(self, number: int, **values: object) -> bool:
        """Write into a row; whether it is still there."""
        with self._database.write() as session:
            row = session.get(Import, number)
            if row is None:
                return False
            for name, value in values.items():
                setattr(row, name, value)
            return True


class _Stopped(Exception):  # noqa: N818 - not an error
    """The hub stops, or nobody wants the import any more."""


def _due() -> Select[Import]:
    waits = Import.progress == Progress.WAITING
    return select(Import).where(waits, Import.leased_until <= now()).order_by(Import.id).limit(1)


def _named(text: str) -> tuple[RepositoryType, str]:
    """The type and full name that `text` means."""
    named = None
    if len(text) <= SOURCE_LIMIT:
        try:
            named = split_name(text)
        except CommandError:
            named = None
    if named is None or named[0] not in KINDS:
        raise BadRequest(
            "{text!r} names no repository: write namespace/name or datasets/namespace/name", text=text[:80]
        )
    namespace, _, name = named[1].partition("/")
    check_name(namespace, Words("Namespace"))
    check_name(name, Words("Repository"))
    return named
