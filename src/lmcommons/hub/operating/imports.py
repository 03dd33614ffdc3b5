"""Imports: repositories of other hubs that members bring here, in the background.

They come from the hubs that the operator names, and from no others: what such a hub answers decides where this one
fetches large files. What everybody may see there comes, with its history; asked for again, what is new comes.
"""

import logging
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any

from sqlalchemy import delete, func, select

from lmcommons.errors import CommandError
from lmcommons.hub.accounts.accounts import check_name
from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.accounts.tokens import load_actor
from lmcommons.hub.background import Claim, Queue
from lmcommons.hub.database.tables import Event, Import, Progress, RepositoryType, TokenRole, now
from lmcommons.hub.errors import BadRequest, Conflict, NotFound, RepositoryNotFound, TooManyRequests
from lmcommons.hub.operating.incoming import split_name
from lmcommons.hub.operating.mirror import Origin, bring
from lmcommons.hub.rooms import Hub
from lmcommons.hub.words import Words

LOGGER = logging.getLogger(__name__)

ATTEMPTS = 3
WAITING_LIMIT = 10  # imports of one account that wait
SHOWN = 50  # imports of one account that are kept
SOURCE_LIMIT = 200  # characters
KINDS = (RepositoryType.MODEL, RepositoryType.DATASET)


class Imports(Queue[Import]):
    """Brings what was asked for, one after the other."""

    def __init__(self, hub: Hub) -> None:
        failures = (CommandError, OSError, HTTPException)
        super().__init__("imports", hub.database, Import, attempts=ATTEMPTS, failures=failures)
        self._hub = hub

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
            Conflict: it is being imported already.
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
            waiting = select(func.count()).where(Import.progress == Progress.WAITING)
            if session.scalar(waiting.where(Import.type == kind, Import.target == target)):
                raise Conflict("{name} is being imported already; wait until that has ended", name=target)
            if (session.scalar(waiting.where(mine)) or 0) >= WAITING_LIMIT:
                raise TooManyRequests("{limit} imports of yours wait; wait until some have ended", limit=WAITING_LIMIT)
            kept = select(Import.id).where(mine).order_by(Import.id.desc()).limit(SHOWN - 1)
            session.execute(delete(Import).where(mine, Import.id.not_in(kept), Import.progress != Progress.WAITING))
            session.add(asked)
            told = {"from": str(asked), "to": f"{kind.prefix}{target}"}
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

    def do(self, row: Import, claim: Claim) -> dict[str, Any]:
        """Bring a repository."""
        if row.account.disabled:
            raise BadRequest("The account {name} is shut out", name=row.account.name)
        with self._database.read() as session:
            actor = load_actor(session, row.account, TokenRole.WRITE, "import")
        bring(
            self._hub,
            Origin(row.endpoint),
            actor,
            row.type,
            row.source,
            to=row.target,
            private=row.private,
            report=LOGGER.info,
            received=lambda done, total: claim.tell(received=done, expected=total),
        )
        return {"ended_at": now()}


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
