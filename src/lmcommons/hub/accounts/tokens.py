"""Access tokens: what they may be used for, how long, and whom they speak for."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_account, find_user
from lmcommons.hub.accounts.issuing import TokenPair, digest, issue, issue_pair
from lmcommons.hub.accounts.notices import log_change
from lmcommons.hub.accounts.permissions import ANONYMOUS, RIGHTS, Action, Actor, Scopes, visible
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    AccessRequest,
    AccessStatus,
    Account,
    AccountKind,
    Event,
    Membership,
    Repository,
    RepositoryType,
    Role,
    Token,
    TokenRole,
    now,
)
from lmcommons.hub.errors import BadRequest, Busy, InsufficientStorage, NotFound, Unauthorized

NAME_LIMIT = 96  # characters
SCOPES_LIMIT = 100  # of one token
USE_PRECISION = timedelta(hours=1)  # of `last_used_at`: a write an hour, not one a request
RENEWAL_LIFE = timedelta(days=90)  # after a token's end, in which it can still be renewed

LOGGER = logging.getLogger(__name__)

# Built once: these are asked at every request.
_TOKEN = select(Token).where(Token.sha256 == bindparam("sha256"))
_MEMBERSHIPS = select(Membership.organisation_id, Membership.role).where(Membership.user_id == bindparam("user_id"))
_GRANTED = select(AccessRequest.repository_id).where(
    AccessRequest.user_id == bindparam("user_id"), AccessRequest.status == AccessStatus.ACCEPTED
)


class Tokens:
    """The tokens of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def actor(self, token: str | None) -> Actor:
        """Who a token speaks for; None is nobody.

        Raises:
            Unauthorized: the token is not known or has expired, or its account is disabled.
        """
        if token is None:
            return ANONYMOUS
        with self._database.read() as session:
            found = _valid(session.scalar(_TOKEN, {"sha256": digest(token)}))
            actor = _speaks_for(session, found)
        if found.last_used_at is None or now() - found.last_used_at > USE_PRECISION:
            self._note_use(found)
        return actor

    def actor_of(self, token_id: int, account_id: int) -> Actor:
        """Who a token speaks for now that was sent before, by its id and its account's.

        Raises:
            Unauthorized: it was revoked or has expired, or its account is disabled.
        """
        with self._database.read() as session:
            found = _valid(session.get(Token, token_id))
            if found.account_id != account_id:
                raise Unauthorized("Invalid credentials in Authorization header")
            return _speaks_for(session, found)

    def add(
        self,
        user: str,
        name: str,
        role: TokenRole,
        *,
        scopes: Mapping[str, Action] | None = None,
        life: timedelta | None = None,
        by: Actor | None = None,
    ) -> str:
        """A new token of a user, shown this once.

        Args:
            scopes: what a fine-grained token may do, by `namespace`, `namespace/name` or `datasets/namespace/name`.
            life: when it ends; None is never.
            by: who makes it, None the hub's operator.

        Raises:
            NotFound: no such user, or nothing of a scope's name that the user sees.
            BadRequest: a name or scope that cannot be.
        """
        if not 0 < len(name) <= NAME_LIMIT or not name.isprintable():
            raise BadRequest("A token's name has 1 to {limit} printable characters", limit=NAME_LIMIT)
        if (role is TokenRole.FINE_GRAINED) != bool(scopes):
            raise BadRequest("A fineGrained token needs at least one scope, and only such a token has scopes")
        with self._database.write() as session:
            account = find_user(session, user)
            resolved = _resolve(session, account, scopes) if scopes else None
            created = _event("token.created", account, by, {"name": name, "role": role})
            if role is TokenRole.WRITE or any(right is not Action.READ for right in (scopes or {}).values()):
                log_change(session, account, created)
            else:
                session.add(created)
            return issue(session, account, name, role, scopes=resolved, expires_at=now() + life if life else None)

    def of(self, user: str) -> list[Token]:
        """The tokens of a user, the oldest first.

        Raises:
            NotFound: no such user.
        """
        with self._database.read() as session:
            chosen = select(Token).where(Token.account_id == find_user(session, user).id)
            return list(session.scalars(chosen.order_by(Token.id)))

    def revoke(self, user: str, token_id: int, *, by: Actor | None = None) -> None:
        """End a token at once; `by` is who does it, None the hub's operator.

        Raises:
            NotFound: the user has no such token.
        """
        with self._database.write() as session:
            account = find_user(session, user)
            token = session.get(Token, token_id)
            if token is None or token.account_id != account.id:
                raise NotFound("{account} has no token {token_id}", account=account.name, token_id=token_id)
            session.delete(token)
            session.add(_event("token.revoked", account, by, {"name": token.name}))

    def renew(self, refresh: str) -> TokenPair | None:
        """Both secrets anew, in exchange for the one that renews; None where that is not known or too old.

        Source: RFC 6749, chapter 6, and RFC 9700, 4.14.2: the secret that renews is used once.
        """
        with self._database.write() as session:
            token = session.scalar(select(Token).where(Token.refresh_sha256 == digest(refresh)))
            if token is None or token.expires_at is None or token.account.disabled:
                return None
            return None if _is_past(token.expires_at + RENEWAL_LIFE) else issue_pair(session, token)

    def scopes_of(self, actor: Actor, scopes: Scopes) -> list[tuple[str, str, int, Action]]:
        """The scopes of one of the actor's tokens as (type, name, id, right).

        What was deleted meanwhile is left out, and what the actor sees no more: it may have another name now.
        """
        with self._database.read() as session:
            accounts = session.scalars(select(Account).where(Account.id.in_(scopes.accounts)))
            seen = (Repository.id.in_(scopes.repositories), visible(actor))
            repositories = session.scalars(select(Repository).where(*seen))
            return [
                *((_type(found), found.name, found.id, scopes.accounts[found.id]) for found in accounts),
                *((r.type.value, r.full_name, r.id, scopes.repositories[r.id]) for r in repositories),
            ]

    def _note_use(self, token: Token) -> None:
        try:
            with self._database.write() as session:
                session.execute(update(Token).where(Token.id == token.id).values(last_used_at=now()))
        except (OperationalError, Busy, InsufficientStorage) as error:
            LOGGER.warning("the last use of a token of %s was not noted: %s", token.account.name, error)


def load_actor(
    session: Session, account: Account, role: TokenRole, name: str | None, scopes: Scopes | None = None
) -> Actor:
    """The actor that `account` is, with its memberships and what was opened to it."""
    memberships = session.execute(_MEMBERSHIPS, {"user_id": account.id})
    granted = session.scalars(_GRANTED, {"user_id": account.id})
    return Actor(
        account_id=account.id,
        name=account.name,
        is_admin=account.is_admin,
        token_role=role,
        token_name=name,
        roles={organisation: Role(member) for organisation, member in memberships},
        granted=frozenset(granted),
        scopes=scopes or Scopes(),
        language=account.language,
    )


def _event(kind: str, account: Account, by: Actor | None, data: dict[str, str]) -> Event:
    """What was done to a token of an account; whose it is, where that is not who did it."""
    whose = {} if by is not None and by.account_id == account.id else {"user": account.name}
    return Event(kind=kind, actor=by and by.name, data=data | whose)


def _valid(token: Token | None) -> Token:
    if token is None or token.account.disabled or _is_past(token.expires_at):
        raise Unauthorized("Invalid credentials in Authorization header")
    return token


def _speaks_for(session: Session, token: Token) -> Actor:
    actor = load_actor(session, token.account, TokenRole(token.role), token.name, stored_scopes(token))
    return replace(actor, token_id=token.id)


def _is_past(when: datetime | None) -> bool:
    return when is not None and when <= now()


def _type(account: Account) -> str:
    return "user" if account.kind is AccountKind.USER else "org"


def stored_scopes(token: Token) -> Scopes:
    """What a fine-grained token may do; of others nothing is stored."""
    stored = token.scopes or {}

    def rights(part: str) -> dict[int, Action]:
        return {int(id_): Action(right) for id_, right in stored.get(part, {}).items()}

    return Scopes(rights("repositories"), rights("accounts"))


def _resolve(session: Session, user: Account, named: Mapping[str, Action]) -> Scopes:
    if len(named) > SCOPES_LIMIT:
        raise BadRequest("{count} scopes; a token has at most {limit}", count=len(named), limit=SCOPES_LIMIT)
    repositories: dict[int, Action] = {}
    accounts: dict[int, Action] = {}
    actor = load_actor(session, user, TokenRole.WRITE, None)
    for name, right in named.items():
        if right not in RIGHTS:
            raise BadRequest(
                "{name}: the right {right} cannot be given; one of {choices}",
                name=name,
                right=right,
                choices=", ".join(RIGHTS),
            )
        if "/" in name:
            repositories[_repository(session, actor, name)] = right
        else:
            accounts[find_account(session, name).id] = right
    return Scopes(repositories, accounts)


def _repository(session: Session, actor: Actor, path: str) -> int:
    """The id of a repository that the actor sees."""
    type_ = next(
        (kind for kind in RepositoryType if kind.prefix and path.startswith(kind.prefix)), RepositoryType.MODEL
    )
    namespace, _, name = path.removeprefix(type_.prefix).lower().partition("/")
    found = session.scalar(
        select(Repository.id)
        .join(Account, Account.id == Repository.account_id)
        .where(Repository.type == type_, Account.name_key == namespace, Repository.name_key == name, visible(actor))
    )
    if found is None:
        raise NotFound("No such repository: {path}; write NAMESPACE/NAME or datasets/NAMESPACE/NAME", path=path)
    return found
