"""What items of collections lead to, as far as a reader may see it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session, raiseload
from sqlalchemy.sql.base import ExecutableOption

from lmcommons.hub.accounts.permissions import Actor, readable_buckets, visible, visible_collections
from lmcommons.hub.database.tables import (
    Bucket,
    Collection,
    CollectionItem,
    CollectionItemKind,
    Repository,
)
from lmcommons.hub.repos.search import WITHOUT_CARD

Target = Repository | Bucket | Collection
TABLES: dict[CollectionItemKind, type[Target]] = {
    CollectionItemKind.MODEL: Repository,
    CollectionItemKind.DATASET: Repository,
    CollectionItemKind.SPACE: Repository,
    CollectionItemKind.BUCKET: Bucket,
    CollectionItemKind.COLLECTION: Collection,
}
UNREAD: dict[type[Target], tuple[ExecutableOption, ...]] = {  # of items: long, and shown nowhere
    Repository: (WITHOUT_CARD,),
    Bucket: (),
    Collection: (raiseload(Collection.items),),
}


@dataclass(frozen=True)
class Shown:
    """An item and what it leads to; `items` are those of a collection that the reader may see."""

    item: CollectionItem
    target: Target
    items: int = 0


def shown(session: Session, actor: Actor, collections: Sequence[Collection], limit: int) -> dict[int, list[Shown]]:
    """The first items of each collection (by its id) that are there and that the actor may see."""
    ids = [collection.id for collection in collections]
    seen = _seen(actor)
    there = set(session.scalars(select(CollectionItem.id).where(CollectionItem.collection_id.in_(ids), seen)))
    first = {each.id: [item for item in each.items if item.id in there][:limit] for each in collections}
    wanted: dict[type[Target], set[int]] = {}
    for item in chain.from_iterable(first.values()):
        wanted.setdefault(TABLES[item.kind], set()).add(item.target_id)
    found: dict[tuple[type[Target], int], Target] = {}
    for table, targets in wanted.items():
        rows: Iterable[Target] = session.scalars(select(table).where(table.id.in_(targets)).options(*UNREAD[table]))
        found.update(((table, row.id), row) for row in rows)
    inside = CollectionItem.collection_id.in_(wanted.get(Collection, ()))
    counted = select(CollectionItem.collection_id, func.count()).where(inside, seen)
    numbers = dict(session.execute(counted.group_by(CollectionItem.collection_id)).tuples().all())

    def show(item: CollectionItem) -> Shown:
        target = found[TABLES[item.kind], item.target_id]
        return Shown(item, target, numbers.get(target.id, 0) if isinstance(target, Collection) else 0)

    return {id_: list(map(show, items)) for id_, items in first.items()}


def _seen(actor: Actor) -> ColumnElement[bool]:
    """Items that are there and that the actor may see, as a condition on rows of items."""
    conditions = {Repository: visible(actor), Bucket: readable_buckets(actor), Collection: visible_collections(actor)}
    return or_(
        *(
            and_(CollectionItem.kind == kind, exists().where(table.id == CollectionItem.target_id, conditions[table]))
            for kind, table in TABLES.items()
        )
    )
