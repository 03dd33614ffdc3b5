"""Training runs in progress and past: what their trainers report, in the name of somebody who may write.

A run is named by a key that the trainer chooses: beginning it again goes on with it. A report's points replace those
from their first step on, so that one that is sent twice, or a run that goes back to a checkpoint, changes nothing else.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Action, Actor, require, visible
from lmcommons.hub.database.events import record
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Repository, RunCurve, RunState, TrainingRun, now
from lmcommons.hub.database.tables.runs import SILENCE
from lmcommons.hub.errors import BadRequest, NotFound, RepositoryNotFound
from lmcommons.hub.repos.cards import printable
from lmcommons.hub.repos.curves import POINTS, Series
from lmcommons.hub.repos.search import WITHOUT_CARD

RUNS = 100  # of a repository that are kept: those heard of last
TAGS, REPORTED = 50, 1_000  # curves of a run; points of a report
TEXT = 200  # characters of what a run says of itself
KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
LARGEST = (1 << 63) - 1

Point = tuple[int, float, int | None]  # step, value, tokens read


@dataclass(frozen=True)
class Description:
    """What a run says of itself when it begins; texts as the trainer gives them."""

    name: str
    stage: str = ""
    recipe: str = ""
    machine: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a run is; None is what it does not say. It will have done `steps` at its end."""

    step: int | None = None
    steps: int | None = None
    tokens: int | None = None
    seconds_left: int | None = None
    state: RunState | None = None


class Runs:
    """The training runs of a hub's repositories."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, actor: Actor, repository: Repository, key: str, said: Description) -> TrainingRun:
        """Begin a run, or go on with the one of this key.

        Raises:
            BadRequest: the key or a text is none. RepositoryNotFound, Unauthorized, Forbidden: as `require`.
        """
        require(actor, Action.WRITE, repository)
        if not KEY.fullmatch(key):
            raise BadRequest("A run is named by 1 to 64 letters, digits, - and _, not {key}", key=key[:TEXT])
        texts = {name: printable(text.strip()) for name, text in vars(said).items()}
        if not texts["name"] or max(map(len, texts.values())) > TEXT:
            raise BadRequest("A run has a name; it and the other texts have at most {limit} characters", limit=TEXT)
        with self._database.write() as session:
            row = session.get(Repository, repository.id)
            if row is None:
                raise RepositoryNotFound
            run, at = _find(session, row.id, key), now()
            if run is None:
                run = TrainingRun(repository_id=row.id, key=key, reporter_id=actor.account_id, started_at=at)
                session.add(run)
                record(session, "run.started", actor.name, row, run=key)
            for name, text in texts.items():
                setattr(run, name, text)
            run.state, run.heard_at, run.seconds_left = RunState.RUNNING, at, None
            session.flush()
            kept = select(TrainingRun.id).where(TrainingRun.repository_id == row.id)
            kept = kept.order_by(TrainingRun.heard_at.desc(), TrainingRun.id.desc()).limit(RUNS)
            session.execute(delete(TrainingRun).where(TrainingRun.repository_id == row.id, TrainingRun.id.not_in(kept)))
            session.refresh(run)
        return run

    def report(
        self, actor: Actor, repository: Repository, key: str, progress: Progress, points: Sequence[Any] = ()
    ) -> TrainingRun:
        """Hear of a run: how far it is, and rows of its metrics, each an object with its `step` and numbers by tag.

        Raises:
            NotFound: no such run: it is to be begun. BadRequest: a number is none, or there are too many.
            RepositoryNotFound, Unauthorized, Forbidden: as `require`.
        """
        require(actor, Action.WRITE, repository)
        said = {name: value for name, value in vars(progress).items() if value is not None}
        if not all(0 <= value <= LARGEST for value in said.values() if isinstance(value, int)):
            raise BadRequest("The numbers of a run are from 0 to {largest}", largest=LARGEST)
        added = _by_tag(points)
        with self._database.write() as session:
            run = _get(session, repository, key)
            for name, value in said.items():
                setattr(run, name, value)
            run.heard_at = now()
            if run.state is not RunState.RUNNING:
                run.seconds_left = None
            if added:
                _add(session, run, added)
        return run

    def find(self, repository: Repository, key: str) -> TrainingRun:
        """A run of a repository that the actor may see.

        Raises:
            NotFound: no such run.
        """
        with self._database.read() as session:
            return _get(session, repository, key)

    def curves(self, run: TrainingRun) -> dict[str, Series]:
        """The curves of a run by tag, in the order in which it began them."""
        chosen = select(RunCurve).where(RunCurve.run_id == run.id).order_by(RunCurve.id)
        with self._database.read() as session:
            return {curve.tag: _series(curve.points) for curve in session.scalars(chosen)}

    def of(self, repository: Repository) -> list[TrainingRun]:
        """The runs of a repository that the actor may see, the last one that began first."""
        chosen = select(TrainingRun).where(TrainingRun.repository_id == repository.id)
        with self._database.read() as session:
            return list(session.scalars(chosen.order_by(TrainingRun.started_at.desc(), TrainingRun.id.desc())))

    def in_progress(self, actor: Actor, *, limit: int) -> list[tuple[TrainingRun, Repository]]:
        """Runs that go on and were heard of lately, where the actor may see them; the last one that began first."""
        chosen = (
            select(TrainingRun, Repository)
            .join(Repository, Repository.id == TrainingRun.repository_id)
            .where(TrainingRun.state == RunState.RUNNING, TrainingRun.heard_at > now() - SILENCE, visible(actor))
            .options(WITHOUT_CARD)
            .order_by(TrainingRun.started_at.desc(), TrainingRun.id.desc())
            .limit(limit)
        )
        with self._database.read() as session:
            return [(run, repository) for run, repository in session.execute(chosen)]


def _find(session: Session, repository_id: int, key: str) -> TrainingRun | None:
    chosen = select(TrainingRun).where(TrainingRun.repository_id == repository_id, TrainingRun.key == key)
    return session.scalar(chosen)


def _get(session: Session, repository: Repository, key: str) -> TrainingRun:
    run = _find(session, repository.id, key)
    if run is None:
        raise NotFound("{repository} has no run {key}", repository=repository.full_name, key=key[:TEXT])
    return run


def _by_tag(rows: Sequence[Any]) -> dict[str, dict[int, Point]]:
    """The points of rows, by tag and step; of a step that is there twice, the last."""
    if len(rows) > REPORTED:
        raise BadRequest("A report has at most {limit} points, not {number}", limit=REPORTED, number=len(rows))
    found: dict[str, dict[int, Point]] = {}
    for row in rows:
        step = row.get("step") if isinstance(row, dict) else None
        if type(step) is not int or not 0 <= step <= LARGEST:
            raise BadRequest("A point is an object with its step, a whole number from 0, and numbers by name")
        tokens = row.get("tokens")
        read = tokens if type(tokens) is int and 0 <= tokens <= LARGEST else None
        for tag, value in row.items():
            if tag in ("step", "tokens"):
                continue
            if type(value) not in (int, float) or not math.isfinite(number := _float(value)) or len(tag) > TEXT:
                raise BadRequest(
                    "{tag} of step {step} is not a finite number by a short name", tag=tag[:TEXT], step=step
                )
            found.setdefault(printable(tag), {})[step] = (step, number, read)
    return found


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number that no float holds
        return math.inf


def _add(session: Session, run: TrainingRun, added: dict[str, dict[int, Point]]) -> None:
    """Put points in the place of those from their first step on."""
    present = {curve.tag: curve for curve in session.scalars(select(RunCurve).where(RunCurve.run_id == run.id))}
    if len(present.keys() | added.keys()) > TAGS:
        raise BadRequest("A run has at most {limit} curves", limit=TAGS)
    first = min(step for points in added.values() for step in points)
    for tag, curve in present.items():
        former = [point for point in curve.points if point[0] < first]
        if len(former) < len(curve.points):
            curve.points = former
        if not former and tag not in added:
            session.delete(curve)
    for tag, points in added.items():
        if tag not in present:
            present[tag] = RunCurve(run_id=run.id, tag=tag, points=[])
            session.add(present[tag])
        present[tag].points = thinned([*present[tag].points, *(points[step] for step in sorted(points))])


def thinned(points: list[Any]) -> list[Any]:
    """At most `POINTS` points, by step: where there are more, half as many, evenly over the steps, and the last one."""
    if len(points) <= POINTS:
        return points
    apart = (points[-1][0] - points[0][0]) / (POINTS // 2)
    kept = points[:1]
    for point in points[1:-1]:
        if point[0] - kept[-1][0] >= apart:
            kept.append(point)
    return [*kept, points[-1]]


def _series(points: Iterable[Any]) -> Series:
    steps, values, tokens = zip(*points, strict=True)
    return Series(steps, values, None if None in tokens else tokens, len(steps), steps[-1], values[-1])
