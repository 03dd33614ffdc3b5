"""Collections: lists of repositories, buckets and other collections, in their owner's order.

Nobody learns from a collection of what they may not see: such items are left out, as are those that are gone.
"""

import re
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, or_, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_account
from lmcommons.hub.accounts.permissions import Action, Actor, allowed, require, visible_collections
from lmcommons.hub.community.collection_items import Shown, Target, shown
from lmcommons.hub.community.own import own_account
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    Bucket,
    Collection,
    CollectionItem,
    CollectionItemKind,
    CollectionUpvote,
    Event,
    RepositoryType,
    now,
)
from lmcommons.hub.errors import BadRequest, Conflict, HubError, NotFound, Unauthorized
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.words import Words

TITLE_LIMIT, DESCRIPTION_LIMIT, NOTE_LIMIT = 100, 150, 500  # characters
ITEMS_LIMIT = 500
NAMES_LIMIT = 100  # owners, and items, that a list may be asked for
THEMES = ("orange", "blue", "green", "purple", "pink", "indigo")
SORTS = ("lastModified", "trending", "upvotes")
TREND = timedelta(days=7)  # votes of this time make a collection trend

SLUG = re.compile(r"(?P<namespace>[^/]+)/(?:[^/]*-)?0{16}(?P<id>[0-7][0-9a-f]{7})")  # ids are of 31 bits


@dataclass(frozen=True)
class Listing:
    """Which collections a list shows: of any of the owners, with any of the items (`models/ada/gpt`)."""

    owners: Sequence[str] = ()
    items: Sequence[str] = ()
    search: str | None = None
    sort: str = "lastModified"
    offset: int = 0
    limit: int = 100


class Collections:
    """The collections of a hub."""

    def __init__(self, database: Database, repositories: Repositories) -> None:
        self._database = database
        self._repositories = repositories

    # ------------------------------------------------------------ finding

    def find(self, actor: Actor, slug: str, action: Action = Action.SEE) -> Collection:
        """The collection of a slug, whatever its words were, on which the actor may do `action`.

        Raises:
            NotFound: there is none, or the actor may not know of it. Unauthorized, Forbidden: not this.
        """
        with self._database.read() as session:
            return _find(session, actor, slug, action)

    def listing(self, actor: Actor, query: Listing) -> tuple[list[Collection], bool]:
        """Collections that the actor may see, and whether there are more after them.

        Raises:
            BadRequest: an order that does not exist, or too many names.
        """
        if query.sort not in SORTS:
            raise BadRequest("Unknown sort {sort!r}: one of {choices}", sort=query.sort, choices=", ".join(SORTS))
        if max(len(query.owners), len(query.items)) > NAMES_LIMIT:
            raise BadRequest("A list is of at most {limit} owners and {limit} items", limit=NAMES_LIMIT)
        wanted = [found for item in query.items if (found := self._named(actor, item))]
        with self._database.read() as session:
            chosen = select(Collection).where(visible_collections(actor))
            if query.owners:
                names = [owner.lower() for owner in query.owners]
                chosen = chosen.where(Collection.account_id.in_(select(Account.id).where(Account.name_key.in_(names))))
            if query.items:
                chosen = chosen.where(or_(false(), *(_contains(kind, target) for kind, target in wanted)))
            if query.search:
                chosen = chosen.where(Collection.title_key.contains(query.search.casefold(), autoescape=True))
            rows = list(session.scalars(_ordered(chosen, query.sort).offset(query.offset).limit(query.limit + 1)))
        return rows[: query.limit], len(rows) > query.limit

    def shown(
        self, actor: Actor, collections: Sequence[Collection], limit: int = ITEMS_LIMIT
    ) -> dict[int, list[Shown]]:
        """The first items of each collection (by its id) that are there and that the actor may see."""
        with self._database.read() as session:
            return shown(session, actor, collections, limit)

    # ------------------------------------------------------------ changing

    def create(
        self, actor: Actor, namespace: str, title: str, *, description: str | None = None, private: bool = False
    ) -> Collection:
        """Make a collection in a namespace.

        Raises:
            BadRequest: no title, or one past its limit. Conflict: the owner has one of that title.
        """
        if actor.is_anonymous:
            raise Unauthorized("You must be signed in to create a collection; send a token with write access")
        with self._database.write() as session:
            owner = find_account(session, namespace)
            require(actor, Action.CREATE, owner)
            position = select(func.count()).where(Collection.account_id == owner.id)
            collection = Collection(
                account=owner,
                account_id=owner.id,
                creator_id=actor.account_id,
                private=private,
                position=session.scalar(position) or 0,
                items=[],
            )
            _set_title(session, collection, title)
            collection.description = _bounded(Words("description"), description, DESCRIPTION_LIMIT)
            session.add(collection)
            session.flush()
            _record(session, "created", actor, collection)
        return collection

    def update(
        self,
        actor: Actor,
        slug: str,
        *,
        title: str | None = None,
        description: str | None = None,
        private: bool | None = None,
        theme: str | None = None,
        position: int | None = None,
    ) -> Collection:
        """Change what is not None; `position` is the new place among the owner's collections, from 0."""
        if theme is not None and theme not in THEMES:
            raise BadRequest("Unknown theme {theme!r}: one of {choices}", theme=theme, choices=", ".join(THEMES))
        with self._database.write() as session:
            collection = _find(session, actor, slug, Action.WRITE)
            if title is not None:
                _set_title(session, collection, title)
            if description is not None:
                collection.description = _bounded(Words("description"), description, DESCRIPTION_LIMIT)
            if private is not None:
                collection.private = private
            if theme is not None:
                collection.theme = theme
            if position is not None:
                of_owner = select(Collection).where(Collection.account_id == collection.account_id)
                _move(
                    list(session.scalars(of_owner.order_by(Collection.position, Collection.id))), collection, position
                )
            collection.updated_at = now()
            _record(session, "updated", actor, collection)
        return collection

    def delete(self, actor: Actor, slug: str) -> None:
        """Remove a collection."""
        with self._database.write() as session:
            collection = _find(session, actor, slug, Action.WRITE)
            _record(session, "deleted", actor, collection)
            session.delete(collection)

    def add_item(self, actor: Actor, slug: str, kind: str, name: str, note: str | None = None) -> Collection:
        """Put something at the end of a collection.

        Raises:
            BadRequest: no such kind, or the collection is full. Conflict: it is in it. NotFound: it is not here.
        """
        if kind not in list(CollectionItemKind):
            raise BadRequest(
                "Items are of the types {choices}, not {kind!r}", choices=", ".join(CollectionItemKind), kind=kind
            )
        target = self._target(actor, CollectionItemKind(kind), name)
        with self._database.write() as session:
            collection = _find(session, actor, slug, Action.WRITE)
            if any(item.kind == kind and item.target_id == target.id for item in collection.items):
                raise Conflict("{kind} {name} is in the collection already", kind=Words(kind), name=name)
            if len(collection.items) >= ITEMS_LIMIT:
                raise BadRequest("A collection has at most {limit} items", limit=ITEMS_LIMIT)
            item = CollectionItem(
                kind=CollectionItemKind(kind),
                target_id=target.id,
                position=len(collection.items),
                note=_bounded(Words("note"), note, NOTE_LIMIT),
            )
            collection.items.append(item)
            collection.updated_at = now()
            _record(session, "item_added", actor, collection, item=f"{kind} {target.full_name}")
        return collection

    def update_item(
        self, actor: Actor, slug: str, number: int, *, note: str | None = None, position: int | None = None
    ) -> None:
        """Change the note of an item, or its place in the collection, from 0."""
        with self._database.write() as session:
            collection = _find(session, actor, slug, Action.WRITE)
            item = _item(collection, number)
            if note is not None:
                item.note = _bounded(Words("note"), note, NOTE_LIMIT)
            if position is not None:
                _move(list(collection.items), item, position)
            collection.updated_at = now()
            _record(session, "item_updated", actor, collection, item=number)

    def delete_item(self, actor: Actor, slug: str, number: int) -> None:
        """Take an item out of a collection."""
        with self._database.write() as session:
            collection = _find(session, actor, slug, Action.WRITE)
            collection.items.remove(_item(collection, number))
            for position, item in enumerate(collection.items):
                item.position = position
            collection.updated_at = now()
            _record(session, "item_deleted", actor, collection, item=number)

    def vote(self, actor: Actor, slug: str, *, up: bool) -> Collection:
        """Find a collection good, or no more; again changes nothing."""
        with self._database.write() as session:
            collection = _find(session, actor, slug, Action.SEE)
            voter = own_account(session, actor, Action.DISCUSS)
            vote = session.get(CollectionUpvote, (collection.id, voter.id))
            if up and vote is None:
                session.add(CollectionUpvote(collection_id=collection.id, account_id=voter.id))
            elif not up and vote is not None:
                session.delete(vote)
            session.flush()
            votes = select(func.count()).where(CollectionUpvote.collection_id == collection.id)
            collection.upvotes = session.scalar(votes) or 0
            _record(session, "upvoted" if up else "upvote_withdrawn", actor, collection)
        return collection

    # ------------------------------------------------------------ what items name

    def _target(self, actor: Actor, kind: CollectionItemKind, name: str) -> Target:
        """What an item names, when the actor may see it.

        Raises:
            NotFound: it is not here.
        """
        if kind is CollectionItemKind.COLLECTION:
            return self.find(actor, name)
        if kind is not CollectionItemKind.BUCKET:
            return self._repositories.find(actor, RepositoryType(kind), name, Action.SEE)
        namespace, _, bucket_name = name.lower().partition("/")
        chosen = select(Bucket).join(Account, Account.id == Bucket.account_id)
        with self._database.read() as session:
            bucket = session.scalar(chosen.where(Account.name_key == namespace, Bucket.name_key == bucket_name))
        if bucket is None or not allowed(actor, Action.SEE, bucket):
            raise NotFound("No such bucket: {name}", name=name)
        return bucket

    def _named(self, actor: Actor, path: str) -> tuple[CollectionItemKind, int] | None:
        """What `models/ada/gpt` names; None when it is not here."""
        plural, _, name = path.partition("/")
        kind = plural.removesuffix("s")
        try:
            return CollectionItemKind(kind), self._target(actor, CollectionItemKind(kind), name).id
        except (ValueError, HubError):
            return None


def _find(session: Session, actor: Actor, slug: str, action: Action) -> Collection:
    named = SLUG.fullmatch(slug)
    collection = session.get(Collection, int(named["id"], 16)) if named else None
    if (
        named is None
        or collection is None
        or collection.account.name_key != named["namespace"].lower()
        or not allowed(actor, Action.SEE, collection)
    ):
        raise NotFound("No such collection: {slug}", slug=slug[:200])
    require(actor, action, collection)
    return collection


def _contains(kind: CollectionItemKind, target_id: int) -> ColumnElement[bool]:
    item = and_(CollectionItem.kind == kind, CollectionItem.target_id == target_id)
    return exists().where(CollectionItem.collection_id == Collection.id, item)


def _ordered(chosen: Select[Any], sort: str) -> Select[Any]:
    order: list[ColumnElement[Any]] = [Collection.updated_at.desc(), Collection.id.desc()]
    if sort != "lastModified":
        order.insert(0, Collection.upvotes.desc())
    if sort == "trending":
        recent = select(func.count()).where(
            CollectionUpvote.collection_id == Collection.id, CollectionUpvote.created_at > now() - TREND
        )
        order.insert(0, recent.scalar_subquery().desc())
    return chosen.order_by(*order)


def _item(collection: Collection, number: int) -> CollectionItem:
    for item in collection.items:
        if item.id == number:
            return item
    raise NotFound("The collection has no such item")


def _set_title(session: Session, collection: Collection, title: str) -> None:
    title = " ".join(title.split())
    if not title:
        raise BadRequest("A collection needs a title")
    collection.title = _bounded(Words("title"), title, TITLE_LIMIT) or ""
    collection.title_key = title.casefold()
    same = select(Collection).where(
        Collection.account_id == collection.account_id, Collection.title_key == collection.title_key
    )
    with session.no_autoflush:
        other = session.scalar(same)
    if other is not None and other is not collection:
        raise Conflict(
            "{name} has a collection called {title!r}",
            name=collection.account.name,
            title=title,
            fields={"slug": other.full_name},
        )


def _bounded(name: str, text: str | None, limit: int) -> str | None:
    if text is not None and (len(text) > limit or "\0" in text):
        raise BadRequest(
            "A {name} has at most {limit} characters, none of them NUL; this one has {count}",
            name=name,
            limit=limit,
            count=len(text),
        )
    return text


def _move(rows: MutableSequence[Any], row: Any, position: int) -> None:
    """Put one of `rows` at a place among them, and number them all anew."""
    rows.remove(row)
    rows.insert(min(max(0, position), len(rows)), row)
    for number, each in enumerate(rows):
        each.position = number


def _record(session: Session, what: str, actor: Actor, collection: Collection, **data: Any) -> None:
    data |= {"slug": collection.full_name}
    session.add(Event(kind=f"collection.{what}", actor=actor.name, data=data))
