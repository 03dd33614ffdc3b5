"""What a repository was made from, and what was made from it: as a drawing and as a table."""

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.web.graphs import graph
from lmcommons.hub.web.lookup import repository_of
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import visitor


def lineage(request: Request, kind: RepositoryType) -> Response:
    """The lineage of a repository."""
    hub, repository, git = repository_of(request, kind)
    walk = hub.lineage.of(visitor(request), repository)
    return page(
        request,
        "repository/lineage.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        walk=walk,
        graph=graph(walk) if walk.edges else None,
    )


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The page of a repository's lineage."""
    router.add_route(f"{base}/lineage", partial(lineage, kind=kind))
