"""Which repositories exist, what they are called and who may see them."""

import logging
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import check_name
from lmcommons.hub.accounts.permissions import Action, Actor, allowed, require
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    Event,
    FormerName,
    Repository,
    RepositoryObject,
    RepositoryTag,
    RepositoryType,
    now,
)
from lmcommons.hub.errors import (
    BadRequest,
    Conflict,
    InsufficientStorage,
    Moved,
    NotFound,
    RepositoryNotFound,
    Unauthorized,
)
from lmcommons.hub.repos.git import GitRepository
from lmcommons.hub.repos.index import Description

LOGGER = logging.getLogger(__name__)

MAIN = "main"

SORTS = {
    "lastModified": Repository.updated_at,
    "createdAt": Repository.created_at,
    "downloads": Repository.downloads,
    "likes": Repository.likes,
    "trendingScore": Repository.likes,
}


@dataclass(frozen=True)
class Listing:
    """What a list shows: text that must occur, an owner, tags that must all be there, and the order."""

    search: str | None = None
    author: str | None = None
    tags: tuple[str, ...] = ()
    sort: str = "lastModified"
    ascending: bool = False
    offset: int = 0
    limit: int = 100


class Repositories:
    """The repositories of a hub."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._directory = directory

    # ------------------------------------------------------------ finding

    def find(self, actor: Actor, type_: RepositoryType, full_name: str, action: Action = Action.READ) -> Repository:
        """The repository called `namespace/name`, on which the actor may do `action`.

        Raises:
            RepositoryNotFound: there is none, or the actor may not know of it.
            Moved: it has another name now.
            Unauthorized, Forbidden: it may be read, but not this.
        """
        with self._database.read() as session:
            repository = _find(session, type_, full_name)
            if repository is None:
                repository = session.scalar(
                    select(Repository)
                    .join(FormerName, FormerName.repository_id == Repository.id)
                    .where(FormerName.type == type_, FormerName.full_name_key == full_name.lower())
                )
                if repository is not None and allowed(actor, Action.READ, repository):
                    raise Moved(full_name, repository.full_name)
                raise RepositoryNotFound()
        require(actor, action, repository)
        return repository

    def listing(self, actor: Actor, type_: RepositoryType, query: Listing) -> tuple[list[Repository], bool]:
        """Repositories that the actor may see, and whether there are more after them.

        Raises:
            BadRequest: an order that does not exist.
        """
        if query.sort not in SORTS:
            raise BadRequest(f"Unknown sort: {query.sort}; one of {', '.join(SORTS)}")
        column = SORTS[query.sort]
        order = (column.asc(), Repository.id.asc()) if query.ascending else (column.desc(), Repository.id.desc())
        chosen = (
            _matching(select(Repository).join(Account, Account.id == Repository.account_id), actor, type_, query)
            .order_by(*order)
            .offset(query.offset)
            .limit(query.limit + 1)
        )
        with self._database.read() as session:
            rows = list(session.scalars(chosen))
        return rows[: query.limit], len(rows) > query.limit

    def count(self, actor: Actor, type_: RepositoryType, query: Listing) -> int:
        """How many repositories match, whatever the limit."""
        chosen = select(func.count()).select_from(Repository).join(Account, Account.id == Repository.account_id)
        with self._database.read() as session:
            return session.scalar(_matching(chosen, actor, type_, query)) or 0

    def owned(self, actor: Actor, account_id: int) -> list[Repository]:
        """All repositories of an account that the actor may see, newest first."""
        chosen = select(Repository).where(Repository.account_id == account_id, _visible(actor))
        with self._database.read() as session:
            return list(session.scalars(chosen.order_by(Repository.updated_at.desc())))

    def tags(self, type_: RepositoryType) -> list[str]:
        """The tags of public repositories, the most used first."""
        chosen = (
            select(RepositoryTag.tag)
            .join(Repository)
            .where(Repository.type == type_, Repository.private.is_(False))
            .group_by(RepositoryTag.tag)
            .order_by(func.count().desc(), RepositoryTag.tag)
            .limit(5_000)
        )
        with self._database.read() as session:
            return list(session.scalars(chosen))

    def all(self) -> list[Repository]:
        """Every repository, whoever owns it: for checks, never for answers."""
        with self._database.read() as session:
            return list(session.scalars(select(Repository).order_by(Repository.id)))

    def git(self, repository: Repository) -> GitRepository:
        """The repository's git directory; it is named by id, so that a rename moves nothing."""
        return GitRepository(self._git_path(repository.id))

    # ------------------------------------------------------------ changing

    def create(
        self, actor: Actor, type_: RepositoryType, namespace: str | None, name: str, *, private: bool | None = None
    ) -> Repository:
        """Make a repository in a namespace, by default the actor's own; its first commit holds `.gitattributes`.

        `private` None is the organisation's default.

        Raises:
            BadRequest: the name is not allowed. Unauthorized, Forbidden: not here. Conflict: it exists.
        """
        check_name(name, "Repository")
        if actor.is_anonymous:
            raise Unauthorized("You must be signed in to create a repository; send a token with write access")
        try:
            with self._database.write() as session:
                owner = _account(session, namespace or actor.name or "")
                require(actor, Action.CREATE, owner)
                found = _find(session, type_, f"{owner.name}/{name}")
                if found is not None:
                    raise _exists(found)
                repository = Repository(
                    type=type_,
                    account=owner,
                    creator_id=actor.account_id,
                    name=name,
                    name_key=name.lower(),
                    private=owner.private_by_default if private is None else private,
                )
                _forget_former(session, type_, f"{owner.name}/{name}")
                session.add(repository)
                session.flush()
                path = self._git_path(repository.id)
                shutil.rmtree(path, ignore_errors=True)  # of a process that died here
                GitRepository.create(path).initialise(author_name=actor.name or "", author_email=actor.email)
                _record(session, "repository.created", actor, repository, private=repository.private)
        except IntegrityError as error:
            raise _exists(repository) from error
        return repository

    def delete(self, actor: Actor, type_: RepositoryType, full_name: str) -> None:
        """Delete a repository and its git directory; objects that others share stay."""
        repository = self.find(actor, type_, full_name, Action.MANAGE)
        with self._database.write() as session:
            row = _present(session, repository.id)
            _record(session, "repository.deleted", actor, row)
            session.delete(row)
        shutil.rmtree(self._git_path(repository.id), ignore_errors=True)

    def move(self, actor: Actor, type_: RepositoryType, former: str, current: str) -> Repository:
        """Rename a repository or give it to another namespace; the former name redirects.

        Raises:
            BadRequest: the new name is not allowed. Conflict: it is taken. Forbidden: from here or to there.
        """
        namespace, _, name = current.partition("/")
        check_name(name, "Repository")
        found = self.find(actor, type_, former, Action.MANAGE)
        try:
            with self._database.write() as session:
                owner = _account(session, namespace)
                require(actor, Action.CREATE, owner)
                repository = _present(session, found.id)
                previous = repository.full_name
                _forget_former(session, type_, current)
                repository.account, repository.name, repository.name_key = owner, name, name.lower()
                repository.terms = repository.terms.replace(previous.lower(), current.lower(), 1)
                session.flush()
                if previous.lower() != current.lower():
                    session.add(FormerName(type=type_, full_name_key=previous.lower(), repository_id=repository.id))
                _record(session, "repository.moved", actor, repository, former=previous)
        except IntegrityError as error:
            raise Conflict(f"A {type_} repository called {current} already exists") from error
        return repository

    def set_private(self, actor: Actor, type_: RepositoryType, full_name: str, private: bool | None) -> Repository:
        """Hide a repository or show it to everybody; None leaves it as it is."""
        found = self.find(actor, type_, full_name, Action.MANAGE)
        if private is None:
            return found
        with self._database.write() as session:
            repository = _present(session, found.id)
            repository.private = private
            _record(session, "repository.settings", actor, repository, private=private)
        return repository

    def count_download(self, repository: Repository) -> None:
        """One more download; when the database cannot take it, it is not counted, and the file is sent all the same."""
        try:
            with self._database.write() as session:
                session.execute(
                    update(Repository).where(Repository.id == repository.id).values(downloads=Repository.downloads + 1)
                )
        except (OperationalError, InsufficientStorage) as error:
            LOGGER.warning("%s: a download was not counted: %s", repository.path, error)

    def describe(self, repository: Repository, commit: str, description: Description) -> Repository:
        """Put what `commit`, now the head of main, says about the repository into the index."""
        with self._database.write() as session:
            row = _present(session, repository.id)
            row.head, row.updated_at = commit, now()
            row.card, row.summary = description.card, description.summary
            row.parameters, row.storage = description.parameters, description.storage
            kept = {tag.tag: tag for tag in row.tag_rows}
            row.tag_rows = [kept.get(tag) or RepositoryTag(tag=tag) for tag in description.tags]
            for position, tag in enumerate(row.tag_rows):
                tag.position = position
            row.terms = " ".join((row.full_name, *description.tags, description.summary)).lower()
        return row

    def record(self, kind: str, actor: Actor, repository: Repository, **data: Any) -> None:
        """Append an event."""
        with self._database.write() as session:
            _record(session, kind, actor, repository, **data)

    # ------------------------------------------------------------ large objects

    def objects_of(self, repository: Repository) -> list[str]:
        """The sha256 of every object linked to a repository."""
        chosen = select(RepositoryObject.sha256).where(RepositoryObject.repository_id == repository.id)
        with self._database.read() as session:
            return list(session.scalars(chosen))

    def link_objects(self, repository_id: int, objects: dict[str, int]) -> None:
        """Note that these objects (sha256: bytes) were uploaded to the repository.

        Raises:
            RepositoryNotFound: it was deleted meanwhile.
        """
        if not objects:
            return
        with self._database.write() as session:
            _present(session, repository_id)
            for sha256, size in objects.items():
                session.merge(RepositoryObject(repository_id=repository_id, sha256=sha256, size=size))

    def linked_objects(self, repository: Repository, sha256s: Collection[str]) -> set[str]:
        """Those of the objects that were uploaded to the repository."""
        return self._objects_where(sha256s, RepositoryObject.repository_id == repository.id)

    def known_objects(self, actor: Actor, sha256s: Collection[str]) -> set[str]:
        """Those of the objects that are in any repository that the actor may read."""
        return self._objects_where(sha256s, _visible(actor))

    def _objects_where(self, sha256s: Collection[str], condition: ColumnElement[bool]) -> set[str]:
        found: set[str] = set()
        ordered = sorted(sha256s)
        with self._database.read() as session:
            for start in range(0, len(ordered), 500):
                named = RepositoryObject.sha256.in_(ordered[start : start + 500])
                chosen = select(RepositoryObject.sha256).join(Repository).where(named, condition)
                found.update(session.scalars(chosen))
        return found

    def _git_path(self, repository_id: int) -> Path:
        return self._directory / f"{repository_id % 256:02x}" / f"{repository_id}.git"


def _find(session: Session, type_: RepositoryType, full_name: str) -> Repository | None:
    namespace, _, name = full_name.partition("/")
    return session.scalar(
        select(Repository)
        .join(Account, Account.id == Repository.account_id)
        .where(Repository.type == type_, Account.name_key == namespace.lower(), Repository.name_key == name.lower())
    )


def _present(session: Session, repository_id: int) -> Repository:
    """A repository that was found before, and may have been deleted since."""
    repository = session.get(Repository, repository_id)
    if repository is None:
        raise RepositoryNotFound
    return repository


def _account(session: Session, name: str) -> Account:
    account = session.scalar(select(Account).where(Account.name_key == name.lower()))
    if account is None:
        raise NotFound(f"No such user or organisation: {name}")
    return account


def _exists(repository: Repository) -> Conflict:
    return Conflict(
        f"You already created this {repository.type} repo: {repository.full_name}", fields={"path": repository.path}
    )


def _visible(actor: Actor) -> ColumnElement[bool]:
    """`allowed(actor, READ, repository)` as a condition on rows."""
    if actor.is_admin:
        return Repository.id.is_not(None)
    if actor.is_anonymous:
        return Repository.private.is_(False)
    return or_(Repository.private.is_(False), Repository.account_id.in_([actor.account_id, *actor.roles]))


def _matching(chosen: Select[Any], actor: Actor, type_: RepositoryType, query: Listing) -> Select[Any]:
    conditions = [Repository.type == type_, _visible(actor)]
    if query.author is not None:
        conditions.append(Account.name_key == query.author.lower())
    conditions.extend(
        exists().where(and_(RepositoryTag.repository_id == Repository.id, func.lower(RepositoryTag.tag) == tag.lower()))
        for tag in query.tags
    )
    conditions.extend(Repository.terms.contains(word, autoescape=True) for word in (query.search or "").lower().split())
    return chosen.where(*conditions)


def _forget_former(session: Session, type_: RepositoryType, full_name: str) -> None:
    former = session.get(FormerName, (type_, full_name.lower()))
    if former is not None:
        session.delete(former)


def _record(session: Session, kind: str, actor: Actor, repository: Repository, **data: Any) -> None:
    data |= {"type": repository.type, "name": repository.full_name}
    session.add(Event(kind=kind, actor=actor.name, repository_id=repository.id, data=data))
