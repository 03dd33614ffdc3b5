"""Users, organisations, memberships and tokens."""

import hashlib
import re
import secrets
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, AccountKind, Event, Membership, Role, Token, TokenRole
from lmcommons.hub.errors import BadRequest, Conflict, NotFound, Unauthorized

TOKEN_PREFIX = "hf_"  # noqa: S105 - what clients and secret scanners recognise
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
NAME_LIMIT = 96  # characters, as the client checks

# First parts of the hub's own addresses.
RESERVED = frozenset(
    (
        *("about", "api", "buckets", "collections", "datasets", "docs", "favicon.ico", "healthz", "jobs", "join"),
        *("kernels", "login", "logout", "models", "new", "oauth", "organizations", "papers", "robots.txt", "search"),
        *("settings", "spaces", "static", "uploads"),
    )
)


def check_name(name: str, what: str) -> str:
    """`name` when it may name an account or a repository.

    Raises:
        BadRequest: what is wrong with it.
    """
    if len(name) > NAME_LIMIT:
        raise BadRequest(f"{what} name is {len(name)} characters long; at most {NAME_LIMIT} are allowed")
    if not NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith((".git", ".ipynb")):
        raise BadRequest(
            f"{what} name {name!r} is not allowed: use letters, digits, '-', '_' and '.', begin and end with a letter "
            "or digit, no '--' or '..', no '.git' at the end"
        )
    return name


class Accounts:
    """The accounts of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_user(self, name: str, *, fullname: str | None = None, email: str | None = None, admin: bool = False) -> str:
        """Make a user; return a write token, which is shown this once and kept only as its sha256.

        Raises:
            BadRequest: the name is not allowed. Conflict: it is taken.
        """
        user = _account(AccountKind.USER, name, fullname)
        user.email, user.is_admin = email, admin
        try:
            with self._database.write() as session:
                session.add(user)
                session.flush()
                text = _issue_token(session, user, "default", TokenRole.WRITE)
                session.add(Event(kind="user.created", actor=name, data={"admin": admin}))
        except IntegrityError as error:
            raise Conflict(f"The name {name} is taken") from error
        return text

    def add_token(self, user: str, name: str, role: TokenRole) -> str:
        """Another token for a user, shown this once.

        Raises:
            NotFound: no such user.
        """
        with self._database.write() as session:
            account = _find(session, user)
            if account is None or account.kind is not AccountKind.USER:
                raise NotFound(f"No such user: {user}")
            session.add(Event(kind="token.created", actor=account.name, data={"name": name, "role": role}))
            return _issue_token(session, account, name, role)

    def add_organisation(
        self,
        name: str,
        *,
        fullname: str | None = None,
        members: Sequence[tuple[str, Role]] = (),
        private_by_default: bool = False,
    ) -> None:
        """Make an organisation whose members are users with their roles.

        Raises:
            BadRequest: the name is not allowed. Conflict: it is taken. NotFound: a member is no user.
        """
        organisation = _account(AccountKind.ORGANISATION, name, fullname)
        organisation.private_by_default = private_by_default
        try:
            with self._database.write() as session:
                session.add(organisation)
                session.flush()
                for user, role in members:
                    account = _find(session, user)
                    if account is None or account.kind is not AccountKind.USER:
                        raise NotFound(f"No such user: {user}")
                    session.merge(Membership(organisation_id=organisation.id, user_id=account.id, role=role))
                session.add(
                    Event(kind="organisation.created", data={"name": name, "members": [list(m) for m in members]})
                )
        except IntegrityError as error:
            raise Conflict(f"The name {name} is taken") from error

    def actor(self, token: str | None) -> Actor:
        """Who a token speaks for; None is nobody.

        Raises:
            Unauthorized: the token is not known.
        """
        if token is None:
            return ANONYMOUS
        with self._database.read() as session:
            found = session.scalar(select(Token).where(Token.sha256 == _hash(token)))
            if found is None:
                raise Unauthorized("Invalid credentials in Authorization header")
            memberships = session.scalars(select(Membership).where(Membership.user_id == found.account_id))
            return Actor(
                account_id=found.account_id,
                name=found.account.name,
                is_admin=found.account.is_admin,
                token_role=TokenRole(found.role),
                token_name=found.name,
                roles={membership.organisation_id: Role(membership.role) for membership in memberships},
            )

    def find(self, name: str) -> Account:
        """The account of that name, in any case.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as session:
            account = _find(session, name)
        if account is None:
            raise NotFound(f"No such user or organisation: {name}")
        return account

    def organisations(self, account_id: int) -> list[tuple[Account, Role]]:
        """The organisations that a user is a member of, by name."""
        with self._database.read() as session:
            rows = session.execute(
                select(Account, Membership.role)
                .join(Membership, Membership.organisation_id == Account.id)
                .where(Membership.user_id == account_id)
                .order_by(Account.name_key)
            )
            return [(account, Role(role)) for account, role in rows]

    def members(self, organisation_id: int) -> list[tuple[Account, Role]]:
        """The members of an organisation, by name."""
        with self._database.read() as session:
            rows = session.execute(
                select(Account, Membership.role)
                .join(Membership, Membership.user_id == Account.id)
                .where(Membership.organisation_id == organisation_id)
                .order_by(Account.name_key)
            )
            return [(account, Role(role)) for account, role in rows]


def _account(kind: AccountKind, name: str, fullname: str | None) -> Account:
    check_name(name, "User" if kind is AccountKind.USER else "Organisation")
    if name.lower() in RESERVED:
        raise BadRequest(f"The name {name} is reserved for the hub's own pages")
    return Account(kind=kind, name=name, name_key=name.lower(), fullname=fullname or name)


def _find(session: Session, name: str) -> Account | None:
    return session.scalar(select(Account).where(Account.name_key == name.lower()))


def _issue_token(session: Session, account: Account, name: str, role: TokenRole) -> str:
    text = TOKEN_PREFIX + secrets.token_urlsafe(32).replace("-", "A").replace("_", "b")
    session.add(Token(account_id=account.id, name=name, sha256=_hash(text), role=role))
    return text


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
