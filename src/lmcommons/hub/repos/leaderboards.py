"""Leaderboards: the results of a hub's models for the tasks of a dataset that declares them.

Results count from a model's default branch and from its open pull requests. The hub runs no evaluation itself, so it
vouches for none: who states a result, and where its traces are, is what a reader can go by.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, or_, select

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
from lmcommons.hub.repos.evaluation import BENCHMARK, Task, parse_benchmark, replace, result_files
from lmcommons.hub.repos.git import PULL_REQUESTS
from lmcommons.hub.repos.repositories import Repositories

LEADERBOARD_LIMIT = 1_000


@dataclass(frozen=True)
class Ranked:
    """A row of a leaderboard; equal values share a rank, and the next one counts them."""

    rank: int
    model: Repository
    result: EvaluationResult


class Leaderboards:
    """The results of a hub's models, by the datasets and tasks that they name."""

    def __init__(self, database: Database, repositories: Repositories) -> None:
        self._database = database
        self._repositories = repositories

    def of(
        self, actor: Actor, dataset: Repository, task_id: str | None = None, *, derived: bool = False
    ) -> tuple[Task, list[Ranked]]:
        """The results for a task of a dataset, by default its first, the best first: at most 1,000.

        They are of models that the actor may see, and with `derived` also of those that name a base model.

        Raises:
            NotFound: the dataset declares no such task.
        """
        task = self._task(dataset, task_id)
        value = EvaluationResult.value
        with self._database.read() as session:
            former = select(FormerName.full_name_key).where(
                FormerName.type == RepositoryType.DATASET, FormerName.repository_id == dataset.id
            )
            names = [dataset.full_name.lower(), *session.scalars(former)]
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
        ranked: list[Ranked] = []
        for place, (result, model) in enumerate(found, 1):
            shared = ranked and ranked[-1].result.value == result.value
            ranked.append(Ranked(ranked[-1].rank if shared else place, model, result))
        return task, ranked

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

    def _task(self, dataset: Repository, task_id: str | None) -> Task:
        name = dataset.full_name
        git = self._repositories.git(dataset)
        text = read_text(git, dataset.head, BENCHMARK) if dataset.head else ""
        if not text:
            raise NotFound(f"{name} has no leaderboard: it declares no tasks in {BENCHMARK}")
        try:
            tasks = parse_benchmark(text)
        except ValueError as error:
            raise NotFound(f"{name} has no leaderboard: {BENCHMARK}: {error}") from error
        for task in tasks:
            if task_id in (None, task.id):
                return task
        raise NotFound(
            f"{name} has no task {task_id!r}; {BENCHMARK} declares {', '.join(repr(task.id) for task in tasks)}"
        )


def _current() -> ColumnElement[bool]:
    """Results of main, and of pull requests that are open."""
    number = EvaluationResult.pull_request
    is_open = exists().where(
        Discussion.repository_id == EvaluationResult.repository_id,
        Discussion.number == number,
        Discussion.status == DiscussionStatus.OPEN,
    )
    return or_(number.is_(None), is_open)
