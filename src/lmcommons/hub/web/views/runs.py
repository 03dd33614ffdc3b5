"""Training runs of a model: the list of them, and each with its curves while it goes on."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.web.lookup import repository_of
from lmcommons.hub.web.previews.curves import draw
from lmcommons.hub.web.rendering import page, wants_part
from lmcommons.hub.web.visitors import visitor

SHOWN = 6  # runs in progress on the first page of the hub


def runs(request: Request) -> Response:
    """The runs of a model."""
    hub, repository, git = repository_of(request, RepositoryType.MODEL)
    return page(
        request,
        "runs/list.html",
        section=repository.type,
        repository=repository,
        branch=git.default_branch,
        runs=hub.runs.of(repository),
    )


def run(request: Request) -> Response:
    """A run; what a script asks for, while it goes on, is what the page says of it."""
    hub, repository, git = repository_of(request, RepositoryType.MODEL)
    found = hub.runs.find(repository, request.path_params["run"])
    series = hub.runs.curves(found)
    return page(
        request,
        "runs/part.html" if wants_part(request) else "runs/run.html",
        section=repository.type,
        repository=repository,
        branch=git.default_branch,
        run=found,
        curves=draw(series, request.query_params.get("tag")) if series else None,
    )


def in_progress(request: Request) -> Response:
    """The part of the hub's first page that tells of runs in progress."""
    hub = request.app.state.hub
    return page(request, "runs/in_progress.html", running=hub.runs.in_progress(visitor(request), limit=SHOWN))


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The pages of a model's runs."""
    if kind is RepositoryType.MODEL:
        router.add_route(f"{base}/runs", runs)
        router.add_route(f"{base}/runs/{{run}}", run)
