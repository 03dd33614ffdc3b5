"""Models side by side. The address says which, so that it can be shared."""

from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

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
class Curve:
    """A measure over training: the chart, whether it is over tokens, and each model's last value as text."""

    tag: str
    chart: charts.LineChart
    over_tokens: bool
    last: list[tuple[str, str]]


@dataclass(frozen=True)
class Result:
    """The values of the models for a task of a dataset, each with its interval and its place on the row's axis."""

    task: Task
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
        results=_results(models),
        curves=_curves(models),
        losses_compare=len({(model.repository.pipeline_tag, model.config.get("vocab_size")) for model in models}) == 1,
    )


def _results(models: list[Compared]) -> list[Result]:
    tasks = list(dict.fromkeys(task for model in models for task in model.results))[:RESULTS]
    found = []
    for task in tasks:
        values = [model.results.get(task) for model in models]
        places = iter(charts.intervals([(value, of.low, of.high) for value, of in filter(None, values)]))
        found.append(Result(task, [(*value, next(places)) if value else None for value in values]))
    return found


def _curves(models: list[Compared]) -> list[Curve]:
    """The measures that most models have, losses first, each over tokens where all say how many they had read."""
    tags = list(dict.fromkeys(tag for model in models for tag in model.curves))
    tags.sort(key=lambda tag: ("loss" not in tag, -sum(tag in model.curves for model in models)))
    found = []
    for tag in tags[:CURVES]:
        series = {model.asked: model.curves[tag] for model in models if tag in model.curves}
        over_tokens = all(one.tokens is not None for one in series.values())
        lines = {name: ((one.tokens if over_tokens else None) or one.steps, one.values) for name, one in series.items()}
        last = [(name, charts.label(one.last)) for name, one in series.items()]
        found.append(Curve(tag, charts.line_chart(lines), over_tokens, last))
    return found


def add_routes(router: APIRouter) -> None:
    """The page that compares models."""
    router.add_route("/compare", compare)
