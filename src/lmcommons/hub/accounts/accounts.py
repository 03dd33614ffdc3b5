"""Users, the names of accounts, and how much each may store."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.issuing import issue
from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    AccountKind,
    BrowserSession,
    Bucket,
    Event,
    Repository,
    RepositoryObject,
    SshKey,
    Token,
    TokenRole,
)
from lmcommons.hub.errors import BadRequest, Conflict, Forbidden, NotFound, Unauthorized
from lmcommons.hub.words import Words

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
NAME_LIMIT = 96  # characters, as the client checks
FULLNAME_LIMIT, EMAIL_LIMIT = 200, 254  # characters
OWNERS = {AccountKind.USER, AccountKind.ORGANISATION}

# First parts of the hub's own addresses.
RESERVED = frozenset(
    (
        *("about", "api", "buckets", "collections", "compare", "datasets", "docs", "favicon.ico", "healthz", "jobs"),
        *("join", "kernels", "language", "leaderboards", "lineage", "login", "logout", "metrics", "models", "new"),
        *("notifications", "oauth", "operator", "organizations", "papers", "people", "reports", "robots.txt"),
        *("imports", "search", "settings", "spaces", "static", "uploads", "xet"),
        "me",  # whoever asks, where the client names an owner of buckets
    )
)


def check_name(name: str, what: str) -> str:
    """`name` when it may name an account or a repository.

    Raises:
        BadRequest: what is wrong with it.
    """
    if len(name) > NAME_LIMIT:
        raise BadRequest(
            "{what} name is {count} characters long; at most {limit} are allowed",
            what=what,
            count=len(name),
            limit=NAME_LIMIT,
        )
    if not NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith((".git", ".ipynb")):
        raise BadRequest(
            "{what} name {name!r} is not allowed: use letters, digits, '-', '_' and '.', begin and end with a letter "
            "or digit, no '--' or '..', no '.git' at the end",
            what=what,
            name=name,
        )
    return name


class Accounts:
    """The accounts of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------ finding

    def find(self, name: str) -> Account:
        """The account of that name, in any case.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as session:
            return find_account(session, name)

    def all(self, kind: AccountKind) -> list[Account]:
        """All users, or all organisations, by name."""
        with self._database.read() as session:
            return list(session.scalars(select(Account).where(Account.kind == kind).order_by(Account.name_key)))

    def listing(
        self, kind: AccountKind, text: str = "", *, offset: int = 0, limit: int = 30
    ) -> tuple[list[Account], int]:
        """Users or organisations with `text` in their names or their address, by name; and how many there are."""
        chosen = [Account.kind == kind]
        if text:
            columns = (Account.name_key, Account.fullname, Account.email)
            chosen.append(or_(*(column.icontains(text, autoescape=True) for column in columns)))
        with self._database.read() as session:
            total = session.scalar(select(func.count()).select_from(Account).where(*chosen)) or 0
            rows = select(Account).where(*chosen).order_by(Account.name_key).offset(offset).limit(limit)
            return list(session.scalars(rows)), total

    def last_seen(self, accounts: Sequence[Account]) -> dict[int, datetime]:
        """When each user last used a token, a key or a browser's session, by id; to the hour."""
        found: dict[int, datetime] = {}
        with self._database.read() as session:
            for table in (Token, BrowserSession, SshKey):
                used = select(table.account_id, func.max(table.last_used_at))
                used = used.where(table.account_id.in_([each.id for each in accounts]), table.last_used_at.is_not(None))
                for id_, at in session.execute(used.group_by(table.account_id)).tuples():
                    found[id_] = max(filter(None, (at, found.get(id_))))
        return found

    # ------------------------------------------------------------ changing, for the operator

    def add_user(self, name: str, *, fullname: str | None = None, email: str | None = None, admin: bool = False) -> str:
        """Make a user; return a write token, which is shown this once and kept only as its sha256.

        Raises:
            BadRequest: the name is not allowed. Conflict: it is taken.
        """
        user = new_user(name, fullname, email)
        user.is_admin = admin
        try:
            with self._database.write() as session:
                session.add(user)
                session.flush()
                text = issue(session, user, "default", TokenRole.WRITE)
                session.add(Event(kind="user.created", data={"name": name, "admin": admin}))
        except IntegrityError as error:
            raise Conflict("The name {name} is taken", name=name) from error
        return text

    def change_user(
        self, name: str, *, admin: bool | None = None, disabled: bool | None = None, by: Actor | None = None
    ) -> None:
        """Make a user an administrator of the hub or an ordinary one, shut the user out or let in again.

        Raises:
            NotFound: no such user. Conflict: administrators would change their own standing.
        """
        with self._database.write() as session:
            user = find_user(session, name)
            if by is not None and by.account_id == user.id:
                raise Conflict("Nobody changes their own standing; another administrator does")
            if admin is not None:
                user.is_admin = admin
            if disabled is not None:
                user.disabled = disabled
            changes = {"admin": user.is_admin, "disabled": user.disabled}
            session.add(Event(kind="user.changed", actor=by and by.name, data={"name": user.name, **changes}))

    # ------------------------------------------------------------ quotas

    def set_quota(self, name: str, quota: int | None, *, by: Actor | None = None) -> None:
        """Limit what is stored in an account's namespace to `quota` bytes; None lifts the limit.

        Raises:
            NotFound: no such account.
        """
        with self._database.write() as session:
            account = find_account(session, name)
            account.quota = quota
            told = {"name": account.name, "bytes": quota}
            session.add(Event(kind="account.quota", actor=by and by.name, data=told))

    def used(self, account_id: int) -> int:
        """Bytes stored in an account's namespace.

        Of a repository, every large object that was ever uploaded to it counts, or its present files where they are
        more; what two repositories share counts in both. Of a bucket, its present files count.
        """
        with self._database.read() as session:
            return _used(session, account_id)

    def require_room(self, account_id: int, extra: int) -> None:
        """Return when `extra` more bytes may be stored in the account's namespace.

        Raises:
            Forbidden: they are past its quota.
        """
        with self._database.read() as session:
            account = session.get(Account, account_id)
            if account is not None:
                require_room(session, account, extra)


def new_user(name: str, fullname: str | None, email: str | None) -> Account:
    """A user's row, not yet stored.

    Raises:
        BadRequest: the name is not allowed, or something is too long.
    """
    user = _account(AccountKind.USER, name, fullname)
    user.email = check_email(email)
    return user


def check_email(email: str | None) -> str | None:
    """An address as it is stored; None for none.

    Raises:
        BadRequest: it is no address.
    """
    if email and (len(email) > EMAIL_LIMIT or not re.fullmatch(r"[^@\s]+@[^@\s]+", email)):
        raise BadRequest("{email!r} is not an e-mail address", email=email[:80])
    return email or None


def new_organisation(name: str, fullname: str | None) -> Account:
    """An organisation's row, not yet stored.

    Raises:
        BadRequest: the name is not allowed, or something is too long.
    """
    return _account(AccountKind.ORGANISATION, name, fullname)


def find_account(session: Session, name: str, kind: AccountKind | None = None) -> Account:
    """The account of that name, in any case; of that kind, where one is asked for.

    Raises:
        NotFound: there is none.
    """
    account = session.scalar(select(Account).where(Account.name_key == name.lower()))
    if account is None or account.kind not in ({kind} if kind else OWNERS):
        raise NotFound("No such {kind}: {name}", kind=Words(kind or "user or organisation"), name=name[:NAME_LIMIT])
    return account


def find_user(session: Session, name: str) -> Account:
    """The user of that name, in any case.

    Raises:
        NotFound: there is none, or it is an organisation.
    """
    return find_account(session, name, AccountKind.USER)


def find_own(session: Session, actor: Actor) -> Account:
    """The actor's own account, as one who may change it.

    Raises:
        Unauthorized: nobody is signed in. Forbidden: the token may not.
    """
    if actor.name is None:
        raise Unauthorized("You must be signed in to change your account")
    account = find_user(session, actor.name)
    require(actor, Action.ADMINISTER, account)
    return account


def require_room(session: Session, account: Account, extra: int) -> None:
    """Return when `extra` more bytes may be stored in the account's namespace.

    Raises:
        Forbidden: they are past its quota.
    """
    if account.quota is None:
        return
    used = _used(session, account.id)
    if used + extra > account.quota:
        raise Forbidden(
            "The quota of {account} is {quota:,} bytes, {used:,} are used, and this needs {extra:,} "
            "more; delete something or ask the hub's operator for more",
            account=account.name,
            quota=account.quota,
            used=used,
            extra=extra,
        )


def stored_in(session: Session, repository_id: int) -> int:
    """Bytes that a repository counts for in its account; see `Accounts.used`."""
    return _sum(session, _counted(), Repository.id == repository_id)


def _account(kind: AccountKind, name: str, fullname: str | None) -> Account:
    check_name(name, Words("User") if kind is AccountKind.USER else Words("Organisation"))
    if name.lower() in RESERVED:
        raise BadRequest("The name {name} is reserved for the hub's own pages", name=name)
    if fullname and len(fullname) > FULLNAME_LIMIT:
        raise BadRequest(
            "The full name is {count} characters long; at most {limit} are allowed",
            count=len(fullname),
            limit=FULLNAME_LIMIT,
        )
    return Account(kind=kind, name=name, name_key=name.lower(), fullname=fullname or name)


def _used(session: Session, account_id: int) -> int:
    in_repositories = _sum(session, _counted(), Repository.account_id == account_id)
    return in_repositories + _sum(session, Bucket.size, Bucket.account_id == account_id)


def _counted() -> ColumnElement[int]:
    """What a repository counts for."""
    uploaded = (
        select(func.coalesce(func.sum(RepositoryObject.size), 0))
        .where(RepositoryObject.repository_id == Repository.id)
        .scalar_subquery()
    )
    return case((Repository.storage > uploaded, Repository.storage), else_=uploaded)


def _sum(session: Session, values: Any, condition: ColumnElement[bool]) -> int:
    return int(session.scalar(select(func.sum(values)).where(condition)) or 0)
