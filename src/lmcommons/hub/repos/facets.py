"""What a list can be narrowed to: the values of each filter among what matches, and how many repositories have each."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select, true

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Repository, RepositoryTag, RepositoryType
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


@dataclass(frozen=True)
class Choice:
    """A value of a filter: what chooses it, how it is written, and how many repositories would be left."""

    value: str
    label: str
    count: int


class Facets:
    """The filters of a hub's lists."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, actor: Actor, type_: RepositoryType, query: Listing, *, limit: int = 12) -> dict[str, list[Choice]]:
        """For each filter that has values, the `limit` most frequent among what the actor may see and `query` matches.

        Raises:
            BadRequest: too many tags in the query.
        """
        kinds = {kind: name for name, kind in FILTERS[type_].items()}
        found: dict[str, list[Choice]] = {name: [] for name in (*FILTERS[type_], SIZE)}
        with self._database.read() as session:
            matched = matching(session, select(Repository.id), actor, type_, query)
            count = func.count()
            place = func.row_number().over(partition_by=RepositoryTag.kind, order_by=(count.desc(), RepositoryTag.tag))
            counted = (
                select(RepositoryTag.kind, RepositoryTag.tag, count.label("count"), place.label("place"))
                # The sum keeps SQLite from looking for the tags of each repository: most are wanted, in their order.
                .where((RepositoryTag.repository_id + 0).in_(matched), RepositoryTag.kind.in_(kinds))
                .group_by(RepositoryTag.tag, RepositoryTag.kind)
                .subquery()
            )
            best = select(counted.c.kind, counted.c.tag, counted.c.count).where(counted.c.place <= limit)
            for kind, tag, number in session.execute(best.order_by(counted.c.place)):
                found[kinds[kind]].append(Choice(tag, tag.removeprefix(f"{kind}:"), number))
            if type_ is RepositoryType.MODEL:
                sums: list[Any] = [_number(*bounds) for bounds in SIZES.values()]
                numbers = session.execute(matching(session, select(*sums), actor, type_, query)).one()
                found[SIZE] = [
                    Choice(name, name, number) for name, number in zip(SIZES, numbers, strict=True) if number
                ]
        return {name: choices for name, choices in found.items() if choices}


def _number(least: int | None, most: int | None) -> ColumnElement[int]:
    """How many rows have a parameter count in the class."""
    count = Repository.parameter_count
    inside = and_(true() if least is None else count >= least, true() if most is None else count <= most)
    return func.count(case((inside, 1)))
