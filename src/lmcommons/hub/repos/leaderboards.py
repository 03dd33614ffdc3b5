"""Leaderboards: the results of a hub's models for the tasks of a dataset that declares them.

Results count from a model's default branch and from its open pull requests. The hub runs no evaluation itself, so it
vouches for none: who states a result, and where its traces are, is what a reader can go by.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Actor, visible
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Discussion,
    DiscussionStatus,
    EvaluationResult,
    FormerName,
    Repository,
    RepositoryTag,
    RepositoryType,
)
from lmcommons.hub.errors import NotFound
from lmcommons.hub.repos.details import read_text
from lmcommons.hub.repos.evaluation import (
    BENCHMARK,
    Spread,
    Task,
    parse_benchmark,
    replace,
    result_files,
    spread,
)
from lmcommons.hub.repos.git import PULL_REQUESTS
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.repos.search import WITHOUT_CARD

LEADERBOARD_LIMIT = 1_000
OFFICIAL = "benchmark:official"  # the tag of datasets that declare tasks


@dataclass(frozen=True)
class Ranked:
    """A row of a leaderboard.

    `rank` is the protocol's: of the value alone; equal values share one, and the next one counts them. `places` are
    the first and the last that the intervals leave open; see `open_places`.
    """

    rank: int
    places: tuple[int, int]
    model: Repository
    result: EvaluationResult
    spread: Spread


@dataclass(frozen=True)
class Board:
    """A dataset that declares tasks, and how many results there are for them."""

    dataset: Repository
    results: int


class Leaderboards:
    """The results of a hub's models, by the datasets and tasks that they name."""

    def __init__(self, database: Database, repositories: Repositories) -> None:
        self._database = database
        self._repositories = repositories

    def stated(self, repository: Repository, pull_request: int) -> int:
        """How many results the files of an open pull request state."""
        chosen = select(func.count()).where(
            EvaluationResult.repository_id == repository.id, EvaluationResult.pull_request == pull_request
        )
        with self._database.read() as session:
            return session.scalar(chosen) or 0

    def of(
        self, actor: Actor, dataset: Repository, task_id: str | None = None, *, derived: bool = False
    ) -> tuple[Task, list[Ranked]]:
        """The results for a task of a dataset, by default its first, the best first: at most 1,000.

        They are of models that the actor may see, and with `derived` also of those that name a base model.

        Raises:
            NotFound: the dataset declares no such task.
        """
        task = _choose(dataset, self.tasks(dataset), task_id)
        value = EvaluationResult.value
        with self._database.read() as session:
            names = _names(session, [dataset])
            chosen = (
                select(EvaluationResult, Repository)
                .join(Repository, Repository.id == EvaluationResult.repository_id)
                .where(
                    EvaluationResult.dataset_key.in_(names),
                    EvaluationResult.task_id == task.id,
                    visible(actor),
                    _current(),
                )
                .order_by(value.desc() if task.higher_is_better else value.asc(), EvaluationResult.id)
                .limit(LEADERBOARD_LIMIT)
            )
            if not derived:
                derivation = exists().where(
                    RepositoryTag.repository_id == Repository.id, RepositoryTag.kind == "base_model"
                )
                chosen = chosen.where(~derivation)
            found = session.execute(chosen).all()
        spreads = [spread(result.entry) for result, _ in found]
        reaches = [certain.reach(result.value) for certain, (result, _) in zip(spreads, found, strict=True)]
        places = open_places(reaches, higher_is_better=task.higher_is_better)
        ranked: list[Ranked] = []
        for number, (result, model) in enumerate(found):
            same = number > 0 and found[number - 1][0].value == result.value
            rank = ranked[-1].rank if same else number + 1
            ranked.append(Ranked(rank, places[number], model, result, spreads[number]))
        return task, ranked

    def all(self, actor: Actor, *, start: int, limit: int) -> list[Board]:
        """The datasets that declare tasks and that the actor may see, those last changed first."""
        declared = select(RepositoryTag.repository_id).where(
            RepositoryTag.tag == OFFICIAL, RepositoryTag.kind == "benchmark"
        )
        chosen = (
            select(Repository)
            .options(WITHOUT_CARD)
            .where(Repository.type == RepositoryType.DATASET, Repository.id.in_(declared), visible(actor))
            .order_by(Repository.updated_at.desc(), Repository.id.desc())
        )
        with self._database.read() as session:
            datasets = session.scalars(chosen.offset(start).limit(limit)).all()
            names = _names(session, datasets)
            stated = (
                select(EvaluationResult.dataset_key, func.count())
                .join(Repository, Repository.id == EvaluationResult.repository_id)
                .where(EvaluationResult.dataset_key.in_(names), visible(actor), _current())
                .group_by(EvaluationResult.dataset_key)
            )
            counts: Counter[int] = Counter()
            for name, count in session.execute(stated):
                counts[names[name]] += count
        return [Board(dataset, counts[dataset.id]) for dataset in datasets]

    def tasks(self, dataset: Repository) -> list[Task]:
        """The tasks that a dataset declares.

        Raises:
            NotFound: it declares none, or not as it should.
        """
        name = dataset.full_name
        git = self._repositories.git(dataset)
        text = read_text(git, dataset.head, BENCHMARK) if dataset.head else ""
        if not text:
            raise NotFound(
                "{name} has no leaderboard: it declares no tasks in {benchmark}", name=name, benchmark=BENCHMARK
            )
        try:
            return parse_benchmark(text)
        except ValueError as error:
            raise NotFound(
                "{name} has no leaderboard: {benchmark}: {reason}", name=name, benchmark=BENCHMARK, reason=error
            ) from error

    def follow(self, actor: Actor, repository: Repository, ref: str, before: str | None, after: str | None) -> None:
        """Index what a pull request of a model states at its new head, and main does not; see `Commits.moved`."""
        if repository.type is not RepositoryType.MODEL or not ref.startswith(PULL_REQUESTS):
            return
        git = self._repositories.git(repository)
        known = {(file.filename, file.oid) for file in result_files(git, repository.head)} if repository.head else set()
        stated = [file for file in result_files(git, after) if (file.filename, file.oid) not in known] if after else []
        with self._database.write() as session:
            if session.get(Repository, repository.id) is not None:  # else it was deleted meanwhile
                replace(session, repository.id, stated, int(ref.removeprefix(PULL_REQUESTS)))


def open_places(reaches: Sequence[tuple[float, float]], *, higher_is_better: bool) -> list[tuple[int, int]]:
    """The first and the last place that each of some results can have, from 1, by where their intervals end.

    Before the first are those that lie wholly ahead of it, after the last those that lie wholly behind: results whose
    intervals have values in common are tied. That ranks need intervals too: Goldstein and Spiegelhalter, League Tables
    and Their Limitations (1996). A test on the same rows may tell apart what is tied here.
    """
    ends = list(reaches) if higher_is_better else [(-high, -low) for low, high in reaches]
    lows, highs = sorted(low for low, _ in ends), sorted(high for _, high in ends)
    count = len(ends)
    return [(1 + count - bisect_right(lows, high), count - bisect_left(highs, low)) for low, high in ends]


def _choose(dataset: Repository, tasks: list[Task], task_id: str | None) -> Task:
    for task in tasks:
        if task_id in (None, task.id):
            return task
    known = ", ".join(repr(task.id) for task in tasks)
    raise NotFound(
        "{repository} has no task {task_id!r}; {benchmark} declares {known}",
        repository=dataset.full_name,
        task_id=task_id,
        benchmark=BENCHMARK,
        known=known,
    )


def _names(session: Session, datasets: Sequence[Repository]) -> dict[str, int]:
    """The names that datasets have and had, in lower case, and the ids of the datasets."""
    ids = [dataset.id for dataset in datasets]
    former = select(FormerName).where(FormerName.type == RepositoryType.DATASET, FormerName.repository_id.in_(ids))
    names = {name.full_name_key: name.repository_id for name in session.scalars(former)}
    return names | {dataset.full_name.lower(): dataset.id for dataset in datasets}


def _current() -> ColumnElement[bool]:
    """Results of main, and of pull requests that are open."""
    number = EvaluationResult.pull_request
    is_open = exists().where(
        Discussion.repository_id == EvaluationResult.repository_id,
        Discussion.number == number,
        Discussion.status == DiscussionStatus.OPEN,
        Discussion.withheld.is_(False),
    )
    return or_(number.is_(None), is_open)
