"""Leaderboards: which datasets have one, and the results for a task of one of them, each with its evidence."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub import addresses
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.errors import HubError, NotFound
from lmcommons.hub.repos.git import PULL_REQUESTS, Commit, GitRepository
from lmcommons.hub.repos.leaderboards import Ranked
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web import charts
from lmcommons.hub.web.lookup import neighbours, page_number, repository_of
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import visitor

PAGE = 50  # results, or leaderboards


@dataclass(frozen=True)
class Row:
    """A result: its place on the page's axis, and the commit that states it.

    `evidence` is the page of the file there, `source` the name and address of what the file refers to, and `data` the
    commit of the dataset that was measured on, where it states one that there is.
    """

    ranked: Ranked
    place: charts.Interval
    commit: Commit | None
    evidence: str | None
    source: tuple[str, str] | None
    data: str | None


def boards(request: Request) -> Response:
    """The datasets that declare tasks."""
    hub: Hub = request.app.state.hub
    number = page_number(request)
    found = hub.leaderboards.all(visitor(request), start=(number - 1) * PAGE, limit=PAGE + 1)
    return page(
        request,
        "dataset/leaderboards.html",
        section="leaderboards",
        boards=found[:PAGE],
        **neighbours(request, number, more=len(found) > PAGE),
    )


def board(request: Request) -> Response:
    """The results for a task of a dataset."""
    hub, repository, git = repository_of(request, RepositoryType.DATASET)
    number = page_number(request)
    derived = request.query_params.get("derived", "yes") != "no"
    values: dict[str, Any] = {"tasks": [], "task": None, "rows": [], "total": 0, "problem": None, "derived": derived}
    try:
        values["tasks"] = hub.leaderboards.tasks(repository)
    except NotFound as error:
        values["problem"] = error.message
    else:
        wanted = request.query_params.get("task") or None
        values["task"], ranked = hub.leaderboards.of(visitor(request), repository, wanted, derived=derived)
        shown = ranked[(number - 1) * PAGE : number * PAGE]
        places = charts.intervals([(row.result.value, row.spread.low, row.spread.high) for row in shown])
        rows = [_row(hub, git, row, place) for row, place in zip(shown, places, strict=True)]
        values |= {"rows": rows, "total": len(ranked), **neighbours(request, number, more=len(ranked) > number * PAGE)}
    return page(
        request,
        "dataset/leaderboard.html",
        section=RepositoryType.DATASET,
        repository=repository,
        branch=git.default_branch,
        **values,
    )


def _row(hub: Hub, data: GitRepository, ranked: Ranked, place: charts.Interval) -> Row:
    """A result with its evidence; without, where its file went while the page was made."""
    model, file, number = ranked.model, ranked.result.filename, ranked.result.pull_request
    try:
        git = hub.repositories.git(model)
        head = git.resolve(f"{PULL_REQUESTS}{number}") if number is not None else model.head or ""
        commit = hub.last_commits.of(model, head, [file]).get(file)
    except HubError:
        commit = None
    evidence = addresses.at(model, "blob", commit.oid, file) if commit else None
    return Row(ranked, place, commit, evidence, _source(hub, ranked, commit), _measured_on(data, ranked))


def _source(hub: Hub, ranked: Ranked, commit: Commit | None) -> tuple[str, str] | None:
    """What a result refers to; a file of the model itself as it was when the result was stated."""
    source = ranked.result.entry.get("source")
    if not source:
        return None
    url, name = source["url"], source.get("name") or ""
    own = f"{hub.settings.public_url}{addresses.at(ranked.model, 'blob', 'main')}/"
    if commit and url.startswith(own):
        url = addresses.at(ranked.model, "blob", commit.oid, unquote(url.removeprefix(own)))
    return name, url


def _measured_on(data: GitRepository, ranked: Ranked) -> str | None:
    revision = ranked.result.entry["dataset"].get("revision")
    try:
        return data.resolve(revision) if revision else None
    except HubError:
        return None


def add_routes(router: APIRouter) -> None:
    """The list of all leaderboards."""
    router.add_route("/leaderboards", boards)


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The leaderboard of a dataset."""
    if kind is RepositoryType.DATASET:
        router.add_route(f"{base}/leaderboard", board)
