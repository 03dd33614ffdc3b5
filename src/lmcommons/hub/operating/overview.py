"""What an operator looks at: the log of events, what is stored, whether the hub is well. The pages of /operator ask.

Each raises Forbidden when the actor is no administrator of the hub.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select

from lmcommons import __version__
from lmcommons.hub.accounts.permissions import Actor, operates
from lmcommons.hub.background import Background
from lmcommons.hub.database.migrations import NEWEST
from lmcommons.hub.database.tables import (
    Account,
    AccountKind,
    Bucket,
    Event,
    Repository,
    RepositoryObject,
    RepositoryType,
)
from lmcommons.hub.errors import Forbidden
from lmcommons.hub.operating import health
from lmcommons.hub.repos.search import WITHOUT_CARD
from lmcommons.hub.rooms import Hub

LARGEST = 20  # repositories


@dataclass(frozen=True)
class Person:
    """A user or an organisation as an operator sees it: bytes stored in the namespace, last sign of life."""

    account: Account
    used: int
    last_seen: datetime | None


@dataclass(frozen=True)
class Storage:
    """What is stored: large objects and their bytes, each counted once; repositories; buckets and their bytes."""

    objects: int
    object_bytes: int
    repositories: dict[RepositoryType, tuple[int, int]]  # how many, and bytes of their present files
    buckets: int
    bucket_bytes: int
    largest: Sequence[Repository]
    limited: Sequence[Person]  # accounts with a quota


@dataclass(frozen=True)
class Health:
    """Whether the hub is well: what is wrong by part, versions, disks, what this process does beside its answers."""

    problems: dict[str, str]
    version: str
    schema: str
    database: str  # its kind
    database_version: str
    disks: dict[str, tuple[int, int]]  # free and all bytes of the file systems of the parts
    background: Sequence[Background]
    letters_held_up: int

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong."""
        failing = any(not work.is_running or work.failing_since for work in self.background)
        return not (self.problems or failing or self.letters_held_up)


def people(
    hub: Hub, actor: Actor, kind: AccountKind, text: str, *, offset: int, limit: int
) -> tuple[list[Person], int]:
    """Users or organisations by name, of those whose name or address has `text` in it; and how many there are."""
    _require(actor)
    found, total = hub.accounts.listing(kind, text, offset=offset, limit=limit)
    return _persons(hub, found), total


def events(
    hub: Hub,
    actor: Actor,
    *,
    kind: str = "",
    by: str = "",
    about: str = "",
    before: int | None = None,
    limit: int = 50,
) -> Sequence[Event]:
    """The log, the last first, before the event of that id: of kinds that begin so, by an account, about a name.

    Names are whole, in either case: `ada` is an account, `ada/model` what it owns.
    """
    _require(actor)
    chosen: list[ColumnElement[bool]] = []
    if kind:
        chosen.append(Event.kind.startswith(kind, autoescape=True))
    if by:
        written = select(Account.name).where(Account.name_key == by.lower()).scalar_subquery()
        chosen.append(Event.actor == func.coalesce(written, by))
    if about:
        chosen.append(Event.name_key == about.lower())
    if before is not None:
        chosen.append(Event.id < before)
    with hub.database.read() as session:
        return session.scalars(select(Event).where(*chosen).order_by(Event.id.desc()).limit(limit)).all()


def storage(hub: Hub, actor: Actor) -> Storage:
    """What the hub stores."""
    _require(actor)
    once = select(func.max(RepositoryObject.size).label("size")).group_by(RepositoryObject.sha256).subquery()
    by_type = select(Repository.type, func.count(), func.sum(Repository.storage)).group_by(Repository.type)
    with hub.database.read() as session:
        objects, object_bytes = session.execute(select(func.count(), func.sum(once.c.size)).select_from(once)).one()
        repositories = {kind: (count, int(size or 0)) for kind, count, size in session.execute(by_type)}
        buckets, bucket_bytes = session.execute(select(func.count(), func.sum(Bucket.size)).select_from(Bucket)).one()
        largest = select(Repository).order_by(Repository.storage.desc(), Repository.id).limit(LARGEST)
        rows = session.scalars(largest.options(WITHOUT_CARD)).all()
        limited = session.scalars(select(Account).where(Account.quota.is_not(None)).order_by(Account.name_key)).all()
    persons = _persons(hub, limited)
    return Storage(objects, int(object_bytes or 0), repositories, buckets, int(bucket_bytes or 0), rows, persons)


def state(hub: Hub, actor: Actor, background: Sequence[Background]) -> Health:
    """Whether the hub is well, as /healthz says it, and what else an operator wants to know then.

    `background` is what the process does beside its answers.
    """
    _require(actor)
    with hub.database.read() as session:
        kind = session.get_bind().dialect.name
        asked = func.sqlite_version() if kind == "sqlite" else func.version()
        database_version = str(session.scalar(select(asked)))
    disks = {}
    for part, directory in (("repositories", hub.settings.repositories_dir), ("objects", hub.objects.blobs.staging)):
        usage = shutil.disk_usage(directory)
        disks[part] = (usage.free, usage.total)
    return Health(
        health.problems(hub), __version__, NEWEST, kind, database_version, disks, background, hub.mail.held_up()
    )


def _persons(hub: Hub, accounts: Sequence[Account]) -> list[Person]:
    seen = hub.accounts.last_seen(accounts)
    return [Person(each, hub.accounts.used(each.id), seen.get(each.id)) for each in accounts]


def _require(actor: Actor) -> None:
    if not operates(actor):
        raise Forbidden("This is for administrators of the hub")
