"""What a list can be narrowed to: the values of each filter among what matches, and how many repositories have each."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, select, true
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Repository, RepositoryTag, RepositoryType
from lmcommons.hub.repos.keeping import Kept
from lmcommons.hub.repos.search import Listing, matching

# The filters of a list and the kinds of tags that they choose among, in the order in which pages show them.
FILTERS = {
    RepositoryType.MODEL: {
        "task": "pipeline_tag",
        "library": "library",
        "language": "language",
        "license": "license",
        "tag": "other",
    },
    RepositoryType.DATASET: {
        "task": "task_categories",
        "size": "size_categories",
        "format": "format",
        "language": "language",
        "license": "license",
        "tag": "other",
    },
}
SIZE = "size"  # of models: a class of parameter counts, which is no tag
SIZES: dict[str, tuple[int | None, int | None]] = {  # least and most parameters, as `Listing.parameters` has them
    "<10M": (None, 10**7 - 1),
    "10M-100M": (10**7, 10**8 - 1),
    "100M-1B": (10**8, 10**9 - 1),
    "1B-10B": (10**9, 10**10 - 1),
    ">10B": (10**10, None),
}
FEW = 2_000  # repositories whose tags are sooner looked for one by one than among those of all


@dataclass(frozen=True)
class Choice:
    """A value of a filter: what chooses it, how it is written, and how many repositories would be left."""

    value: str
    label: str
    count: int


@dataclass(frozen=True)
class Found:
    """How many repositories a list has in all, and for each filter that has values the most frequent of them."""

    total: int
    filters: dict[str, list[Choice]]


class Facets:
    """The filters of a hub's lists."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found = Kept[Found]()

    def of(self, actor: Actor, type_: RepositoryType, query: Listing, *, limit: int = 12) -> Found:
        """What the actor may see and `query` matches, whatever its order; of each filter the `limit` first values.

        Of very many repositories it may be a minute old.

        Raises:
            BadRequest: too many tags in the query.
        """
        question = (repr(actor), type_, query.matching, limit)
        return self._found.get(question, lambda: self._of(actor, type_, query, limit), lambda found: found.total)

    def _of(self, actor: Actor, type_: RepositoryType, query: Listing, limit: int) -> Found:
        with self._database.read() as session:
            sizes = {name: _number(*bounds) for name, bounds in SIZES.items()} if type_ is RepositoryType.MODEL else {}
            numbers: list[Any] = [func.count(Repository.id), *sizes.values()]
            total, *counts = session.execute(matching(session, select(*numbers), actor, type_, query)).one()
            matched = matching(session, select(Repository.id), actor, type_, query)
            found = _tags(session, type_, matched, total > FEW, limit) if total else {}
        if sizes:
            found[SIZE] = [Choice(name, name, count) for name, count in zip(sizes, counts, strict=True) if count]
        return Found(total, {name: found[name] for name in (*FILTERS[type_], SIZE) if found.get(name)})


def _tags(
    session: Session, type_: RepositoryType, matched: Select[tuple[int]], are_many: bool, limit: int
) -> dict[str, list[Choice]]:
    """The values of the filters that are tags, the most frequent first."""
    kinds = {kind: name for name, kind in FILTERS[type_].items()}
    count = func.count()
    place = func.row_number().over(partition_by=RepositoryTag.kind, order_by=(count.desc(), RepositoryTag.tag))
    # The sum keeps SQLite from looking for the tags of each repository: where most are wanted, it takes longer than
    # reading those of all in their order.
    repository_id = RepositoryTag.repository_id + 0 if are_many else RepositoryTag.repository_id
    counted = (
        select(RepositoryTag.kind, RepositoryTag.tag, count.label("count"), place.label("place"))
        .where(repository_id.in_(matched), RepositoryTag.kind.in_(kinds))
        .group_by(RepositoryTag.tag, RepositoryTag.kind)
        .subquery()
    )
    best = select(counted.c.kind, counted.c.tag, counted.c.count).where(counted.c.place <= limit)
    found: dict[str, list[Choice]] = {}
    for kind, tag, number in session.execute(best.order_by(counted.c.place)):
        found.setdefault(kinds[kind], []).append(Choice(tag, tag.removeprefix(f"{kind}:"), number))
    return found


def _number(least: int | None, most: int | None) -> ColumnElement[int]:
    """How many rows have a parameter count in the class."""
    count = Repository.parameter_count
    inside = and_(true() if least is None else count >= least, true() if most is None else count <= most)
    return func.count(case((inside, 1)))
