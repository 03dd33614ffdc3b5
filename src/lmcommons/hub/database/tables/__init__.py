"""The tables, by room; imported from here."""

from lmcommons.hub.database.tables.accounts import Account, AccountKind, Membership, Role, Token, TokenRole
from lmcommons.hub.database.tables.base import Table, UtcDateTime, now
from lmcommons.hub.database.tables.events import Event
from lmcommons.hub.database.tables.repositories import (
    FormerName,
    Repository,
    RepositoryObject,
    RepositoryTag,
    RepositoryType,
)

__all__ = [
    "Account",
    "AccountKind",
    "Event",
    "FormerName",
    "Membership",
    "Repository",
    "RepositoryObject",
    "RepositoryTag",
    "RepositoryType",
    "Role",
    "Table",
    "Token",
    "TokenRole",
    "UtcDateTime",
    "now",
]
