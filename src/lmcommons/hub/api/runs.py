"""What no protocol has: training runs that report their progress, under `/api/x/`.

A trainer begins a run with PUT under a name that it chooses, and goes on with it in the same way after a stop. It tells
how far it is with PATCH, every few seconds: the hub says of a run that was silent for five minutes that it is.
"""

from typing import Any

from fastapi import APIRouter, Request

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import Body, field, find_repository, required, timestamp
from lmcommons.hub.community.runs import Description, Progress
from lmcommons.hub.database.tables import RunState, TrainingRun
from lmcommons.hub.errors import BadRequest

MODELS = "models"  # what is trained

router = APIRouter(prefix="/api/x/models/{namespace}/{name}/runs")


@router.get("")
def runs(request: Request, namespace: str, name: str) -> list[dict[str, Any]]:
    """The runs of a repository, the last one that began first."""
    hub, _, repository = find_repository(request, MODELS, namespace, name, Action.SEE)
    return [_fields(run) for run in hub.runs.of(repository)]


@router.get("/{run}")
def run(request: Request, namespace: str, name: str, run: str) -> dict[str, Any]:
    """A run and its curves: by tag, steps, values and, where the run says so, tokens read by then."""
    hub, _, repository = find_repository(request, MODELS, namespace, name, Action.SEE)
    found = hub.runs.find(repository, run)
    curves = {
        tag: {"steps": series.steps, "values": series.values, "tokens": series.tokens}
        for tag, series in hub.runs.curves(found).items()
    }
    return {**_fields(found), "curves": curves}


@router.put("/{run}")
def begin(request: Request, namespace: str, name: str, run: str, body: Body) -> dict[str, Any]:
    """Begin a run, or go on with it: `name`, and as far as there are `stage`, `recipe` and `machine`."""
    hub, sender, repository = find_repository(request, MODELS, namespace, name, Action.WRITE)
    texts = {part: field(body, part, str) or "" for part in ("stage", "recipe", "machine")}
    return _fields(hub.runs.begin(sender, repository, run, Description(required(body, "name", str), **texts)))


@router.patch("/{run}")
def report(request: Request, namespace: str, name: str, run: str, body: Body) -> dict[str, Any]:
    """Tell how far a run is: any of `step`, `steps`, `tokens`, `secondsLeft`, `state`, and `points`.

    Points are as in `metrics.jsonl`, and take the place of those from the first one's step on.
    """
    hub, sender, repository = find_repository(request, MODELS, namespace, name, Action.WRITE)
    counts = {part: field(body, part, int) for part in ("step", "steps", "tokens")}
    progress = Progress(**counts, seconds_left=field(body, "secondsLeft", int), state=_state(body))
    return _fields(hub.runs.report(sender, repository, run, progress, field(body, "points", list) or []))


def _state(body: dict[str, Any]) -> RunState | None:
    state = field(body, "state", str)
    try:
        return None if state is None else RunState(state)
    except ValueError as error:
        raise BadRequest(f"state is {', '.join(RunState)}, not {state!r}") from error


def _fields(run: TrainingRun) -> dict[str, Any]:
    return {
        "id": run.key,
        "name": run.name,
        "stage": run.stage,
        "recipe": run.recipe,
        "machine": run.machine,
        "reporter": run.reporter.name if run.reporter else None,
        "state": run.state,
        "silent": run.is_silent,
        "startedAt": timestamp(run.started_at),
        "heardAt": timestamp(run.heard_at),
        "step": run.step,
        "steps": run.steps,
        "tokens": run.tokens,
        "secondsLeft": run.seconds_left,
    }
