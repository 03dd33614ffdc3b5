"""Models side by side. The address says which, so that it can be shared."""

from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import HubError
from lmcommons.hub.repos.comparing import MODELS_LIMIT, Compared, Task, differences
from lmcommons.hub.repos.evaluation import Spread
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web import charts
from lmcommons.hub.web.lookup import LISTED
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import visitor

NAMES_LIMIT = 20  # that an address may have; six of them are shown
NAME_LENGTH = 400  # characters
CURVES, RESULTS = 6, 100  # that are shown


@dataclass(frozen=True)
class Measure:
    """A measure over training: each model's last value as text, and charts of models that count tokens or do not."""

    tag: str
    last: dict[str, str]
    over_tokens: charts.LineChart | None
    over_steps: charts.LineChart | None


@dataclass(frozen=True)
class Result:
    """The values of the models for a task of a dataset, each with its interval and its place on the row's axis.

    `board` is the dataset and `higher_is_better` what it says of the task, where it is on this hub and says so.
    """

    task: Task
    board: Repository | None
    higher_is_better: bool | None
    cells: list[tuple[float, Spread, charts.Interval] | None]


def compare(request: Request) -> Response:
    """The models that the address names."""
    hub: Hub = request.app.state.hub
    actor = visitor(request)
    asked = [name.strip()[:NAME_LENGTH] for name in request.query_params.getlist("models")[:NAMES_LIMIT]]
    names = list(dict.fromkeys(name for name in asked if name))
    models: list[Compared] = []
    problems: list[tuple[str, str]] = []
    for name in names[:MODELS_LIMIT]:
        try:
            models.append(hub.comparisons.read(actor, name))
        except HubError as error:
            problems.append((name, error.message))
    return page(
        request,
        "compare.html",
        section=LISTED[0],
        names=names,
        models=models,
        problems=problems,
        left_out=names[MODELS_LIMIT:],
        without={name: "?" + urlencode([("models", other) for other in names if other != name]) for name in names},
        config=differences([model.config for model in models]),
        recipe=differences([model.recipe for model in models]),
        results=_results(hub, actor, models),
        measures=_measures(models),
        losses_compare=len({(model.repository.pipeline_tag, model.config.get("vocab_size")) for model in models}) == 1,
    )


def _results(hub: Hub, actor: Actor, models: list[Compared]) -> list[Result]:
    tasks = list(dict.fromkeys(task for model in models for task in model.results))[:RESULTS]
    benchmarks = hub.comparisons.benchmarks(actor, {dataset for dataset, _ in tasks})
    found = []
    for task in tasks:
        board, declared = benchmarks.get(task[0], (None, []))
        higher_is_better = next((each.higher_is_better for each in declared if each.id == task[1]), None)
        values = [model.results.get(task) for model in models]
        places = iter(charts.intervals([(value, of.low, of.high) for value, of in filter(None, values)]))
        cells = [(*value, next(places)) if value else None for value in values]
        found.append(Result(task, board if higher_is_better is not None else None, higher_is_better, cells))
    return found


def _measures(models: list[Compared]) -> list[Measure]:
    """The measures that most models have, losses first."""
    tags = list(dict.fromkeys(tag for model in models for tag in model.curves))
    tags.sort(key=lambda tag: ("loss" not in tag, -sum(tag in model.curves for model in models)))
    names = [model.asked for model in models]
    found = []
    for tag in tags[:CURVES]:
        series = {model.asked: model.curves[tag] for model in models if tag in model.curves}
        last = {name: charts.label(one.last) for name, one in series.items()}
        over_tokens = {name: (one.tokens, one.values) for name, one in series.items() if one.tokens is not None}
        over_steps = {name: (one.steps, one.values) for name, one in series.items() if one.tokens is None}
        found.append(
            Measure(
                tag,
                last,
                over_tokens=charts.line_chart(over_tokens, names=names) if over_tokens else None,
                over_steps=charts.line_chart(over_steps, names=names) if over_steps else None,
            )
        )
    return found


def add_routes(router: APIRouter) -> None:
    """The page that compares models."""
    router.add_route("/compare", compare)
