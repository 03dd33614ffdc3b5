"""Requests for the files of gated repositories (protocol chapter 6): who asked, who may, who may not."""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_user
from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.events import record
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import AccessRequest, AccessStatus, Account, Gate, Repository
from lmcommons.hub.errors import BadRequest, NotFound
from lmcommons.hub.words import Words

FIELDS_LIMIT = 16 << 10  # bytes of a user's answers, as JSON
REASON_LIMIT = 200  # characters
PAGE = 1000  # requests in one list

# Called in the transaction in which a request is made or decided.
Listener = Callable[[Session, Actor, Repository, AccessRequest], None]


class Access:
    """The access requests of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.listeners: list[Listener] = []

    def ask(self, actor: Actor, repository: Repository, fields: dict[str, Any]) -> AccessRequest:
        """Ask in the actor's own name: accepted at once where the gate is automatic, else an owner decides.

        Asking again changes nothing.

        Raises:
            Unauthorized: nobody is signed in. Forbidden: the token may not take part.
            BadRequest: the repository is not gated, or the answers are too long or no text.
        """
        require(actor, Action.DISCUSS, repository)
        assert actor.account_id is not None
        gate = _gate(repository)
        if _size(fields) > FIELDS_LIMIT:
            raise BadRequest("The answers are longer than {limit:,} bytes", limit=FIELDS_LIMIT)
        with self._database.write() as session:
            found = _find(session, repository, actor.account_id)
            if found is not None:
                return found
            status = AccessStatus.ACCEPTED if gate is Gate.AUTO else AccessStatus.PENDING
            request = _new(session, repository, actor.account_id, status, granted=False, fields=fields)
            self._record(session, actor, repository, request)
        return request

    def of(self, actor: Actor, repository: Repository) -> AccessRequest | None:
        """The actor's own request."""
        if actor.account_id is None:
            return None
        with self._database.read() as session:
            return _find(session, repository, actor.account_id)

    def requests(
        self, actor: Actor, repository: Repository, status: AccessStatus, *, after: int = 0
    ) -> list[AccessRequest]:
        """The requests that stand so, the oldest first, after the one whose id is `after`; at most PAGE of them.

        Raises:
            Unauthorized, Forbidden: the actor may not manage the repository. BadRequest: it is not gated.
        """
        require(actor, Action.MANAGE, repository)
        _gate(repository)
        chosen = select(AccessRequest).where(
            AccessRequest.repository_id == repository.id, AccessRequest.status == status, AccessRequest.id > after
        )
        with self._database.read() as session:
            return list(session.scalars(chosen.order_by(AccessRequest.id).limit(PAGE)))

    def handle(
        self,
        actor: Actor,
        repository: Repository,
        status: AccessStatus,
        *,
        user: str | None = None,
        request_id: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Accept, reject, or put back among those that wait the request of a user, or the one of that id.

        Raises:
            Unauthorized, Forbidden: the actor may not manage the repository.
            NotFound: no such user or request, or it stands so already.
            BadRequest: the repository is not gated, or the reason is too long.
        """
        require(actor, Action.MANAGE, repository)
        _gate(repository)
        if reason is not None and len(reason) > REASON_LIMIT:
            raise BadRequest(
                "The reason has {count} characters; at most {limit} are allowed", count=len(reason), limit=REASON_LIMIT
            )
        with self._database.write() as session:
            if user is not None:
                request = _find(session, repository, find_user(session, user).id)
            else:
                request = session.get(AccessRequest, request_id) if request_id is not None else None
            if request is None or request.repository_id != repository.id:
                raise NotFound("No such access request for {repository}", repository=repository.full_name)
            if request.status is status:
                raise NotFound(
                    "The access request of {name} is {status} already", name=request.user.name, status=Words(status)
                )
            request.status, request.reason = status, reason if status is AccessStatus.REJECTED else None
            self._record(session, actor, repository, request)

    def grant(self, actor: Actor, repository: Repository, user: str) -> None:
        """Open the files to a user who need not have asked.

        Raises:
            Unauthorized, Forbidden: the actor may not manage the repository.
            NotFound: no such user. BadRequest: the user has access, or the repository is not gated.
        """
        require(actor, Action.MANAGE, repository)
        _gate(repository)
        with self._database.write() as session:
            account = find_user(session, user)
            request = _find(session, repository, account.id)
            if request is None:
                request = _new(session, repository, account.id, AccessStatus.ACCEPTED, granted=True, fields={})
            elif request.status is AccessStatus.ACCEPTED:
                raise BadRequest(
                    "{account} has access to {repository} already",
                    account=account.name,
                    repository=repository.full_name,
                )
            else:
                request.status, request.reason = AccessStatus.ACCEPTED, None
            self._record(session, actor, repository, request)

    def _record(self, session: Session, actor: Actor, repository: Repository, request: AccessRequest) -> None:
        record(session, "access.request", actor.name, repository, user=request.user.name, status=request.status)
        for listener in self.listeners:
            listener(session, actor, repository, request)


def _size(fields: dict[str, Any]) -> int:
    """Bytes of the answers; half a character or a number that is none could be stored, and never be listed."""
    try:
        return len(json.dumps(fields, ensure_ascii=False, allow_nan=False).encode())
    except ValueError as error:
        raise BadRequest("The answers are not valid JSON in UTF-8: {reason}", reason=error) from error


def _gate(repository: Repository) -> Gate:
    if repository.gated is Gate.NONE:
        raise BadRequest("{repository} is not gated: there is no access to ask for", repository=repository.full_name)
    return repository.gated


def _find(session: Session, repository: Repository, user_id: int) -> AccessRequest | None:
    return session.scalar(
        select(AccessRequest).where(AccessRequest.repository_id == repository.id, AccessRequest.user_id == user_id)
    )


def _new(
    session: Session,
    repository: Repository,
    user_id: int,
    status: AccessStatus,
    *,
    granted: bool,
    fields: dict[str, Any],
) -> AccessRequest:
    user = session.get_one(Account, user_id)
    request = AccessRequest(repository_id=repository.id, user=user, status=status, granted=granted, fields=fields)
    session.add(request)
    session.flush()
    return request
