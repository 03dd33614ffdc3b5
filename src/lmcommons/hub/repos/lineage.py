"""What repositories were made from, and what was made from them.

Cards name datasets and base models, and a `recipe.yaml` its inputs with their revisions: a name without one may be a
folder of its writer's, which nobody else can see, and is left out. What the head of the default
branch says is kept as rows, an index of git like the rest of `index.py`. Names that are not on this hub, or that an
actor may not know of, are ends of the walk.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, select
from sqlalchemy.orm import Session, raiseload

from lmcommons.hub.accounts.permissions import Actor, visible
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    FormerName,
    LineageLink,
    Relation,
    Repository,
    RepositoryType,
)
from lmcommons.hub.repos import cards
from lmcommons.hub.repos.details import CARD, read_text
from lmcommons.hub.repos.git import GitRepository
from lmcommons.hub.repos.search import WITHOUT_CARD

RECIPE = "recipe.yaml"
NAMES_LIMIT = 100  # that a repository names
HOPS = 4  # in each direction
NODES_LIMIT = 200  # of a walk
NAMES_ONLY = (WITHOUT_CARD, raiseload(Repository.tag_rows))  # what a walk shows of a repository

_NAME = re.compile(r"(?P<name>[\w.-]{1,96}(?:/[\w.-]{1,96})?)(?:@(?P<revision>[^@\s]{1,200}))?")
_KINSHIPS = {relation.value: relation for relation in (Relation.ADAPTER, Relation.MERGE, Relation.QUANTIZED)}

Key = tuple[RepositoryType, str]  # of a node: its type, and its name in lower case


@dataclass(frozen=True)
class Source:
    """Something that a repository says it was made from; `revision` is None where it does not say."""

    type: RepositoryType
    name: str
    relation: Relation
    revision: str | None
    stated_in: str

    @property
    def key(self) -> Key:
        """What the name means, however it is written."""
        return self.type, self.name.lower()


@dataclass(frozen=True)
class Node:
    """A repository, or a name that is none here; `hop` counts from the first, below 0 towards what it was made from."""

    type: RepositoryType
    name: str
    hop: int
    repository: Repository | None

    @property
    def key(self) -> Key:
        """What edges call it."""
        return self.type, self.name.lower()


@dataclass(frozen=True)
class Edge:
    """`target` was made from `source`; `revision` is the source's, and `stated_in` a file of the target."""

    source: Key
    target: Key
    relation: Relation
    revision: str | None
    stated_in: str


@dataclass
class Walk:
    """What was found around a repository, nearest first; `cut` when there is more."""

    nodes: dict[Key, Node]
    edges: dict[tuple[Key, Key], Edge] = field(default_factory=dict)
    cut: bool = False


class Lineage:
    """The lineage of a hub's repositories."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, actor: Actor, repository: Repository) -> Walk:
        """What a repository was made from, and what was made from it, that the actor may know of.

        At most 4 hops either way and 200 repositories.
        """
        first = Node(repository.type, repository.full_name, 0, repository)
        walk = Walk({first.key: first})
        with self._database.read() as session:
            for step in (-1, 1):
                frontier = [repository]
                for hop in range(1, HOPS + 2):
                    if not frontier:
                        break
                    found = _above(session, actor, frontier) if step < 0 else _below(session, actor, frontier)
                    if hop > HOPS:  # a look at whether there is more
                        walk.cut |= any(node.key not in walk.nodes for node, _ in found)
                        break
                    frontier = _add(walk, found, hop * step)
        return walk


def sources(git: GitRepository, commit: str, type_: RepositoryType, card: dict[str, Any]) -> list[Source]:
    """What a commit says that the repository was made from, each once; the recipe, which has revisions, goes first."""
    try:
        recipe = cards.parse_yaml(read_text(git, commit, RECIPE), aliases=False)
    except ValueError:
        recipe = None
    found: dict[Key, Source] = {}
    for source in (*_of_recipe(recipe, type_), *_of_card(card, type_)):
        if source is not None:
            found.setdefault(source.key, source)
    return list(found.values())[:NAMES_LIMIT]


def replace(session: Session, repository_id: int, stated: Iterable[Source]) -> None:
    """Put what the head of a repository says in the place of what was said before."""
    session.execute(delete(LineageLink).where(LineageLink.repository_id == repository_id))
    session.add_all(
        LineageLink(
            repository_id=repository_id,
            type=source.type,
            name=source.name,
            name_key=source.name.lower(),
            relation=source.relation,
            revision=source.revision,
            stated_in=source.stated_in,
        )
        for source in stated
    )


def _of_card(card: dict[str, Any], type_: RepositoryType) -> Iterator[Source | None]:
    if type_ is RepositoryType.DATASET:
        for name in _texts(card.get("source_datasets")):
            name = name.removeprefix("extended|")
            if name not in ("original", "extended", "other"):
                yield _source(RepositoryType.DATASET, name, Relation.SOURCE, CARD)
        return
    relation = _KINSHIPS.get(next(iter(_texts(card.get("base_model_relation"))), ""), Relation.FINETUNE)
    for name in _texts(card.get("base_model")):
        yield _source(RepositoryType.MODEL, name, relation, CARD)
    for name in _texts(card.get("datasets")):
        yield _source(RepositoryType.DATASET, name, Relation.TRAINED_ON, CARD)


def _of_recipe(recipe: Any, type_: RepositoryType) -> Iterator[Source | None]:
    """The inputs of a recipe that are repositories: of a dataset, those of its text; of a model, what it learnt from.

    A model whose dataset was published names that one: the dataset says what it was made from itself.
    """
    finetuning = _part(recipe, "finetuning")
    if finetuning:
        if finetuning.get("initial_weights") != "random":
            yield _source(RepositoryType.MODEL, finetuning.get("model"), Relation.FINETUNE, RECIPE, pinned=True)
        path = _part(finetuning, "data").get("path")
        yield _source(RepositoryType.DATASET, path, Relation.TRAINED_ON, RECIPE, pinned=True)
        return
    relation = Relation.SOURCE if type_ is RepositoryType.DATASET else Relation.TRAINED_ON
    published = _part(recipe, "provenance").get("dataset")
    if published is not None and type_ is RepositoryType.MODEL:
        yield _source(RepositoryType.DATASET, published, relation, RECIPE, pinned=True)
        return
    read = _part(recipe, "data").get("sources")
    for source in read if isinstance(read, list) else []:
        if isinstance(source, dict) and source.get("type") == "hub":
            name, revision = source.get("repository"), source.get("revision")
            written = f"{name}@{revision}" if isinstance(revision, str) else name
            yield _source(RepositoryType.DATASET, written, relation, RECIPE)


def _source(type_: RepositoryType, text: Any, relation: Relation, file: str, *, pinned: bool = False) -> Source | None:
    """What a text names; with `pinned` only `namespace/name@revision`."""
    match = _NAME.fullmatch(text) if isinstance(text, str) else None
    if match is None or match["name"].startswith("."):
        return None
    if pinned and ("/" not in match["name"] or match["revision"] is None):
        return None
    return Source(type_, match["name"], relation, match["revision"], file)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]


def _part(mapping: Any, name: str) -> dict[str, Any]:
    part = mapping.get(name) if isinstance(mapping, dict) else None
    return part if isinstance(part, dict) else {}


Found = list[tuple[Node, Edge]]  # what an edge leads to, and the edge


def _add(walk: Walk, found: Found, hop: int) -> list[Repository]:
    """Take in what was found; returns the repositories that the walk comes to for the first time."""
    frontier = []
    for node, edge in found:
        if node.key not in walk.nodes:
            if len(walk.nodes) >= NODES_LIMIT:
                walk.cut = True
                continue
            walk.nodes[node.key] = Node(node.type, node.name, hop, node.repository)
            if node.repository is not None:
                frontier.append(node.repository)
        if edge.source != edge.target:
            walk.edges.setdefault((edge.source, edge.target), edge)
    return frontier


def _above(session: Session, actor: Actor, frontier: list[Repository]) -> Found:
    """What these were made from."""
    targets = {repository.id: _key(repository) for repository in frontier}
    chosen = select(LineageLink).where(LineageLink.repository_id.in_(targets)).order_by(LineageLink.id)
    links = session.scalars(chosen.limit(10 * NODES_LIMIT)).all()
    here = _resolve(session, actor, {(link.type, link.name_key) for link in links})
    found = []
    for link in links:
        repository = here.get((link.type, link.name_key))
        name = repository.full_name if repository else link.name
        node = Node(link.type, name, 0, repository)
        found.append((node, _edge(link, node.key, targets[link.repository_id])))
    return found


def _below(session: Session, actor: Actor, frontier: list[Repository]) -> Found:
    """What was made from these, under any of the names that they had."""
    sources = {_key(repository): _key(repository) for repository in frontier}
    known = {repository.id: _key(repository) for repository in frontier}
    for former in session.scalars(select(FormerName).where(FormerName.repository_id.in_(known))):
        sources[former.type, former.full_name_key] = known[former.repository_id]
    links = session.execute(
        select(LineageLink, Repository)
        .join(Repository, Repository.id == LineageLink.repository_id)
        .options(*NAMES_ONLY)
        .where(_named(sources), visible(actor))
        .order_by(LineageLink.id)
        .limit(10 * NODES_LIMIT)
    ).all()
    return [
        (
            Node(repository.type, repository.full_name, 0, repository),
            _edge(link, sources[link.type, link.name_key], _key(repository)),
        )
        for link, repository in links
    ]


def _resolve(session: Session, actor: Actor, keys: set[Key]) -> dict[Key, Repository]:
    """The repositories that names mean, their former names too, of those that the actor may see."""
    named: dict[Key, Repository] = {}
    for some in _batches(keys):
        former = (
            select(FormerName, Repository)
            .join(Repository, Repository.id == FormerName.repository_id)
            .options(*NAMES_ONLY)
            .where(
                or_(*(and_(FormerName.type == type_, FormerName.full_name_key == name) for type_, name in some)),
                visible(actor),
            )
        )
        named |= {(name.type, name.full_name_key): repository for name, repository in session.execute(former)}
        parts = [(type_, *name.partition("/")) for type_, name in some]
        current = (
            select(Repository)
            .join(Account, Account.id == Repository.account_id)
            .options(*NAMES_ONLY)
            .where(
                or_(
                    *(
                        and_(Repository.type == type_, Account.name_key == namespace, Repository.name_key == name)
                        for type_, namespace, _, name in parts
                    )
                ),
                visible(actor),
            )
        )
        named |= {_key(repository): repository for repository in session.scalars(current)}
    return named


def _named(keys: Iterable[Key]) -> ColumnElement[bool]:
    names: dict[RepositoryType, list[str]] = {}
    for type_, name in keys:
        names.setdefault(type_, []).append(name)
    return or_(
        *(and_(LineageLink.type == type_, LineageLink.name_key.in_(some)) for type_, some in names.items()),
    )


def _batches(keys: set[Key]) -> Iterator[list[Key]]:
    ordered = sorted(keys)
    return (ordered[start : start + 100] for start in range(0, len(ordered), 100))


def _key(repository: Repository) -> Key:
    return repository.type, repository.full_name.lower()


def _edge(link: LineageLink, source: Key, target: Key) -> Edge:
    return Edge(source, target, link.relation, link.revision, link.stated_in)
