"""Finding repositories: lists, filters, search and their order, for what an actor may see."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, case, cast, false, func, or_, select, true
from sqlalchemy.orm import Session, defer

from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor, visible
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, Gate, Repository, RepositoryTag, RepositoryTerms, RepositoryType
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.repos import full_text, terms
from lmcommons.hub.repos.keeping import Kept

SORTS: dict[str, Any] = {
    "lastModified": Repository.updated_at,
    "createdAt": Repository.created_at,
    "downloads": Repository.downloads,
    "likes": Repository.likes,
    "trendingScore": Repository.trending,
}
RELEVANCE = "relevance"
TAGS_LIMIT = 5_000
FILTERS_LIMIT = 100  # tags that repositories of a list must all have
WITHOUT_CARD = defer(Repository.card, raiseload=True)  # may be long, and lists show none

Position = tuple[Any, ...]  # of a repository in a list: the values that order it, its id last


@dataclass(frozen=True)
class Listing:
    """What a list shows, and in which order.

    `tags` must all be there, of `any_tags` one; `parameters` is the least and the most; `linked` asks for spaces that
    name a model or a dataset. Without `sort`, a search puts names before texts, and a list what is used most now.
    `after` is where the page before ended; pages by `offset` may show a repository twice when others change.
    """

    search: str | None = None
    author: str | None = None
    tags: Sequence[str] = ()
    any_tags: Sequence[str] = ()
    pipeline_tag: str | None = None
    gated: bool | None = None
    parameters: tuple[int | None, int | None] = (None, None)
    linked: bool = False
    sort: str | None = None
    ascending: bool = False
    after: Position | None = None
    offset: int = 0
    limit: int = 100

    @property
    def order(self) -> str:
        """The name of the order.

        Raises:
            BadRequest: one that does not exist.
        """
        if self.sort is None:
            return RELEVANCE if self.search else "trendingScore"
        if self.sort not in SORTS:
            raise BadRequest("Unknown sort: {sort}; one of {choices}", sort=self.sort, choices=", ".join(SORTS))
        return self.sort

    @property
    def matching(self) -> str:
        """What it asks for, whatever its order and limit."""
        return repr(replace(self, sort=None, ascending=False, after=None, offset=0, limit=0))


class Search:
    """The index of a hub's repositories."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts = Kept[int]()

    def listing(
        self, actor: Actor, type_: RepositoryType, query: Listing, *, cards: bool = False
    ) -> tuple[list[Repository], Position | None]:
        """Repositories that the actor may see, and where the next page begins, if there is one.

        Their metadata is read with `cards` only.

        Raises:
            BadRequest: an order that does not exist, or too many tags.
        """
        keys = _keys(query)
        with self._database.read() as session:
            # Ids first: sorting is cheap when rows are narrow.
            chosen = matching(session, select(*keys), actor, type_, query)
            if query.after is not None:
                chosen = chosen.where(_beyond(keys, query.after, ascending=query.ascending))
            chosen = chosen.order_by(*(key.asc() if query.ascending else key.desc() for key in keys))
            positions = session.execute(chosen.offset(query.offset).limit(query.limit + 1)).all()
            shown = positions[: query.limit]
            wanted = select(Repository).where(Repository.id.in_([position[-1] for position in shown]))
            rows = session.scalars(wanted if cards else wanted.options(WITHOUT_CARD))
            found = {repository.id: repository for repository in rows}
        repositories = [found[position[-1]] for position in shown]
        return repositories, tuple(shown[-1]) if len(positions) > query.limit else None

    def count(self, actor: Actor, type_: RepositoryType, query: Listing) -> int:
        """How many repositories match, whatever the limit; of very many, how many did within the last minute."""

        def count() -> int:
            with self._database.read() as session:
                return session.scalar(matching(session, select(func.count(Repository.id)), actor, type_, query)) or 0

        return self._counts.get((repr(actor), type_, query.matching), count, int)

    def owned(self, actor: Actor, account_id: int) -> list[Repository]:
        """All repositories of an account that the actor may see, newest first."""
        chosen = select(Repository).where(Repository.account_id == account_id, visible(actor)).options(WITHOUT_CARD)
        with self._database.read() as session:
            return list(session.scalars(chosen.order_by(Repository.updated_at.desc())))

    def numbers(self, actor: Actor, account_id: int) -> dict[RepositoryType, int]:
        """How many repositories of each type an account has that the actor may see."""
        counted = select(Repository.type, func.count()).where(Repository.account_id == account_id, visible(actor))
        with self._database.read() as session:
            return dict(session.execute(counted.group_by(Repository.type)).tuples().all())

    def outdated(self) -> list[Repository]:
        """Repositories without an index: a new version of the hub, or a crash, left them so."""
        with self._database.read() as session:
            return list(session.scalars(select(Repository).where(Repository.head.is_(None))))

    def tags(self, type_: RepositoryType) -> list[tuple[str, str]]:
        """The (kind, tag) of public repositories, the most used first."""
        public = select(Repository.id).where(Repository.type == type_, visible(ANONYMOUS))
        chosen = (
            select(RepositoryTag.kind, RepositoryTag.tag)
            # The sum keeps SQLite from looking for the tags of each repository: all are wanted, in their order.
            .where((RepositoryTag.repository_id + 0).in_(public))
            .group_by(RepositoryTag.tag, RepositoryTag.kind)
            .order_by(func.count().desc(), RepositoryTag.tag)
            .limit(TAGS_LIMIT)
        )
        with self._database.read() as session:
            return [(kind, tag) for kind, tag in session.execute(chosen)]


def _keys(query: Listing) -> tuple[ColumnElement[Any], ...]:
    """What a list is ordered by; all in one direction, so that a page ends at one position."""
    if query.order == RELEVANCE:
        return _relevance((query.search or "")[: terms.SEARCH_LIMIT]), Repository.likes, Repository.id  # type: ignore[return-value]
    return SORTS[query.order], Repository.id  # type: ignore[return-value]


def _relevance(search: str) -> ColumnElement[int]:
    """4 the name, 3 its beginning, 2 within it, 1 all terms within it, 0 elsewhere; for `namespace/name` there only."""
    namespace, slash, name = search.strip().lower().rpartition("/")
    found = case(
        (Repository.name_key == name, 4),
        (Repository.name_key.startswith(name, autoescape=True), 3),
        (_within(name), 2),
        (and_(true(), *map(_within, terms.of_search(name))), 1),
        else_=0,
    )
    return case((_owned(namespace), found), else_=0) if slash else found


def _within(part: str) -> ColumnElement[bool]:
    found: ColumnElement[bool] = Repository.name_key.contains(part, autoescape=True)
    return found


def _owned(namespace: str) -> ColumnElement[bool]:
    account = select(Account.id).where(Account.name_key == namespace.lower())
    return Repository.account_id == account.scalar_subquery()


def _beyond(keys: Sequence[ColumnElement[Any]], after: Position, *, ascending: bool) -> ColumnElement[bool]:
    """Rows after a position. The first condition alone lets an index begin there."""
    first, value = keys[0], after[0]
    past: ColumnElement[bool] = first > value if ascending else first < value
    if len(keys) == 1:
        return past
    reached = first >= value if ascending else first <= value
    return and_(reached, or_(past, _beyond(keys[1:], after[1:], ascending=ascending)))


def matching(session: Session, chosen: Select[Any], actor: Actor, type_: RepositoryType, query: Listing) -> Select[Any]:
    """`chosen` among the repositories that the actor may see and `query` matches, whatever its order and limit.

    Raises:
        BadRequest: too many tags.
    """
    if len(query.tags) > FILTERS_LIMIT:
        raise BadRequest("{count} tags to filter by; at most {limit}", count=len(query.tags), limit=FILTERS_LIMIT)
    conditions = [visible(actor), Repository.head.is_not(None)]  # without an index there is nothing to show
    if query.search is None:
        conditions.append(Repository.type == type_)
    else:
        # The cast keeps SQLite from walking an index of all models beside the few that are found.
        conditions += [cast(Repository.type, String) == type_.value, _found(session, query.search)]
    if query.author is not None:
        conditions.append(_owned(query.author))
    if query.pipeline_tag is not None:
        conditions.append(Repository.pipeline_tag == query.pipeline_tag)
    if query.gated is not None:
        conditions.append(Repository.gated != Gate.NONE if query.gated else Repository.gated == Gate.NONE)
    least, most = query.parameters
    if least is not None:
        conditions.append(Repository.parameter_count >= least)
    if most is not None:
        conditions.append(Repository.parameter_count <= most)
    conditions.extend(_tagged(RepositoryTag.tag == tag) for tag in query.tags)
    if query.any_tags:
        conditions.append(_tagged(RepositoryTag.tag.in_(query.any_tags)))
    if query.linked:
        conditions.append(_tagged(RepositoryTag.kind.in_(("model", "dataset"))))
    return chosen.where(*conditions)


def _tagged(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return Repository.id.in_(select(RepositoryTag.repository_id).where(condition))


def _found(session: Session, search: str) -> ColumnElement[bool]:
    """Each term of the search begins one of the repository's."""
    words = terms.of_search(search)
    return Repository.id.in_(full_text.rows(session, RepositoryTerms, words)) if words else false()
