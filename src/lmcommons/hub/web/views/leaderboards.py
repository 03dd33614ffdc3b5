"""Leaderboards: which datasets have one, and the results for a task of one of them, each with its evidence."""

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub import addresses
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.errors import HubError, NotFound
from lmcommons.hub.repos.git import PULL_REQUESTS, Commit
from lmcommons.hub.repos.leaderboards import Ranked
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web import charts
from lmcommons.hub.web.lookup import neighbours, page_number, repository_of
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import visitor

PAGE = 50  # results, or leaderboards


@dataclass(frozen=True)
class Row:
    """A result: its place on the page's axis, the commit that states it, and the page of the file there."""

    ranked: Ranked
    place: charts.Interval
    commit: Commit | None
    evidence: str | None


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
        rows = [_row(hub, row, place) for row, place in zip(shown, places, strict=True)]
        values |= {"rows": rows, "total": len(ranked), **neighbours(request, number, more=len(ranked) > number * PAGE)}
    return page(
        request,
        "dataset/leaderboard.html",
        section=RepositoryType.DATASET,
        repository=repository,
        branch=git.default_branch,
        **values,
    )


def _row(hub: Hub, ranked: Ranked, place: charts.Interval) -> Row:
    """A result with its evidence; without, where its file went while the page was made."""
    model, file, number = ranked.model, ranked.result.filename, ranked.result.pull_request
    try:
        git = hub.repositories.git(model)
        head = git.resolve(f"{PULL_REQUESTS}{number}") if number is not None else model.head or ""
        commit = hub.last_commits.of(model, head, [file]).get(file)
    except HubError:
        commit = None
    return Row(ranked, place, commit, addresses.at(model, "blob", commit.oid, file) if commit else None)


def add_routes(router: APIRouter) -> None:
    """The list of all leaderboards."""
    router.add_route("/leaderboards", boards)


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The leaderboard of a dataset."""
    if kind is RepositoryType.DATASET:
        router.add_route(f"{base}/leaderboard", board)
