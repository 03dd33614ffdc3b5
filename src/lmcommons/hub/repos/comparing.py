"""Models side by side, each at a revision: sizes, configuration, recipe, results and training curves."""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, EntryNotFound, Moved, NotFound
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.repos import cards, curves
from lmcommons.hub.repos.contents import Contents
from lmcommons.hub.repos.curves import Series
from lmcommons.hub.repos.details import CONFIGURATION, read_object, read_text
from lmcommons.hub.repos.evaluation import Spread, spread
from lmcommons.hub.repos.evaluation import Task as Benchmark
from lmcommons.hub.repos.git import Entry
from lmcommons.hub.repos.index import LARGEST, describe
from lmcommons.hub.repos.leaderboards import Leaderboards
from lmcommons.hub.repos.lineage import RECIPE
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.words import Words

MODELS_LIMIT = 6
KEYS_LIMIT, VALUE_LIMIT = 2_000, 300  # of a configuration or recipe; characters
FINGERPRINTS = "provenance.stages."  # of a recipe: they differ when anything does, and say nothing of what
CURVES_LIMIT = 4  # files of curves of a model that are tried
# What other trainers call the measures that `lmc` writes: `transformers` in its files, and in TensorBoard's.
MEASURES = {"loss": "train/loss", "eval_loss": "validation/loss", "eval/loss": "validation/loss"}

Task = tuple[str, str]  # the name of a dataset in lower case, and a task of it
Flat = dict[str, str]  # nested keys, as `optimizer.learning_rate`, and their values as JSON


@dataclass(frozen=True)
class Compared:
    """A model at a commit; `errors` say which of its files could not be read."""

    asked: str
    repository: Repository
    commit: str
    parameters: int | None
    size: int
    files: int
    config: Flat
    recipe: Flat
    results: dict[Task, tuple[float, Spread]]
    curves: dict[str, Series]
    errors: list[str]


@dataclass(frozen=True)
class Differences:
    """Keys and their values in each of several mappings, None where one has no such key; and those that are equal."""

    different: list[tuple[str, list[str | None]]]
    equal: list[tuple[str, str]]


class Comparisons:
    """Reads what models are compared by."""

    def __init__(
        self, repositories: Repositories, objects: ObjectStore, contents: Contents, leaderboards: Leaderboards
    ) -> None:
        self._repositories = repositories
        self._objects = objects
        self._contents = contents
        self._leaderboards = leaderboards

    def read(self, actor: Actor, asked: str) -> Compared:
        """The model that `namespace/name[@revision]` means; without a revision, at its default branch.

        Raises:
            BadRequest: it is no such name. RepositoryNotFound, GatedRepository: as `Repositories.find`.
            RevisionNotFound: there is no such branch, tag or commit.
        """
        name, _, revision = asked.partition("@")
        if name.count("/") != 1:
            raise BadRequest(
                "{asked!r} is no model: write namespace/name or namespace/name@revision", asked=asked[:200]
            )
        repository = self._find(actor, RepositoryType.MODEL, name, Action.READ)
        git = self._repositories.git(repository)
        commit = git.resolve(revision or git.default_branch)
        described = describe(git, self._objects, commit, RepositoryType.MODEL)
        entries = [entry for entry in git.entries(commit, recursive=True) if entry.type == "file"]
        errors: list[str] = [
            Words("{file}: {reason}", file=file.filename, reason=file.error) for file in described.results if file.error
        ]
        recipe: Any = None
        try:
            recipe = cards.parse_yaml(read_text(git, commit, RECIPE), aliases=False)
        except ValueError as error:
            errors.append(Words("{file}: {reason}", file=RECIPE, reason=error))
        results: dict[Task, tuple[float, Spread]] = {}
        for file in described.results:
            for entry in file.entries:
                task = (entry["dataset"]["id"].lower(), entry["dataset"]["task_id"])
                results.setdefault(task, (float(entry["value"]), spread(entry)))
        counts = described.parameters
        return Compared(
            asked,
            repository,
            commit,
            None if counts is None else min(sum(counts.values()), LARGEST),
            described.storage,
            len(entries),
            flatten(read_object(git, commit, CONFIGURATION)),
            {key: value for key, value in flatten(recipe).items() if not key.startswith(FINGERPRINTS)},
            results,
            self._curves(repository, entries, errors),
            errors,
        )

    def benchmarks(self, actor: Actor, names: Iterable[str]) -> dict[str, tuple[Repository, list[Benchmark]]]:
        """The tasks that datasets declare, by the names that results give them: of those that the actor may see."""
        found = {}
        for name in names:
            with suppress(NotFound, BadRequest):
                dataset = self._find(actor, RepositoryType.DATASET, name, Action.SEE)
                found[name] = dataset, self._leaderboards.tasks(dataset)
        return found

    def _find(self, actor: Actor, type_: RepositoryType, name: str, action: Action) -> Repository:
        try:
            return self._repositories.find(actor, type_, name, action)
        except Moved as moved:
            return self._repositories.find(actor, type_, moved.current, action)

    def _curves(self, repository: Repository, entries: Iterable[Entry], errors: list[str]) -> dict[str, Series]:
        """The curves of the first file that has some; those that lie least deep are tried first."""
        files = [entry for entry in entries if curves.is_curves(entry.path.rpartition("/")[2])]
        files.sort(key=lambda entry: (entry.path.count("/"), entry.path))
        for entry in files[:CURVES_LIMIT]:
            try:
                with self._contents.open(repository, entry) as file:
                    found = curves.read(entry.path.rpartition("/")[2], file)
                return {tag if MEASURES.get(tag) in found else MEASURES.get(tag, tag): found[tag] for tag in found}
            except (ValueError, EntryNotFound) as error:
                errors.append(Words("{file}: {reason}", file=entry.path, reason=error))
        return {}


def flatten(value: Any) -> Flat:
    """The leaves of nested mappings by their keys with dots between, as JSON; lists of plain values are leaves."""
    found: Flat = {}
    left = [("", value)] if isinstance(value, dict) else []
    while left and len(found) < KEYS_LIMIT:
        key, here = left.pop()
        inner: list[tuple[str, Any]] | None = None
        if isinstance(here, dict):
            inner = [(str(name), item) for name, item in here.items()]
        elif isinstance(here, list) and any(isinstance(item, dict | list) for item in here):
            inner = [(str(number), item) for number, item in enumerate(here)]
        if inner:
            left += [(f"{key}.{name}" if key else name, item) for name, item in reversed(inner)]
        elif key:
            found[key] = json.dumps(here, ensure_ascii=False)[:VALUE_LIMIT]
    return found


def differences(mappings: Sequence[Flat]) -> Differences:
    """In which keys mappings differ, in the order of the first that has each, what stands in one section together."""
    keys = list(dict.fromkeys(key for mapping in mappings for key in mapping))
    sections = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    keys.sort(key=lambda key: sections.index(key.partition(".")[0]))
    rows = [(key, [mapping.get(key) for mapping in mappings]) for key in keys]
    same = {key for key, values in rows if len(set(values)) == 1}
    return Differences(
        [row for row in rows if row[0] not in same], [(key, values[0] or "") for key, values in rows if key in same]
    )
