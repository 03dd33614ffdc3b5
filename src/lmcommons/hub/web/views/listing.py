"""Lists of models and datasets, and search among them."""

from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.repos.search import Listing
from lmcommons.hub.web.lookup import LISTED, neighbours, page_number
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import visitor

PAGE = 30  # repositories


@dataclass(frozen=True)
class Shown:
    """A part of a list, and how many there are in all."""

    repositories: list[Repository]
    total: int


def listing(request: Request, kind: RepositoryType) -> Response:
    """Search among models or datasets."""
    number = page_number(request)
    search = request.query_params.get("search", "").strip()[:200]
    author = request.query_params.get("author") or None
    sort = request.query_params.get("sort") or (None if search else "lastModified")
    query = Listing(search or None, author, sort=sort, offset=(number - 1) * PAGE, limit=PAGE)
    found = shown(request, kind, query)
    return page(
        request,
        "home/listing.html",
        section=kind,
        listing=found,
        search=search,
        author=author,
        sort=sort,
        **neighbours(request, number, more=number * PAGE < found.total),
    )


def shown(request: Request, kind: RepositoryType, query: Listing) -> Shown:
    """What the visitor finds."""
    hub, actor = request.app.state.hub, visitor(request)
    found, _ = hub.search.listing(actor, kind, query)
    return Shown(found, hub.search.count(actor, kind, query))


def add_routes(router: APIRouter) -> None:
    """/models and /datasets."""
    for kind in LISTED:
        router.add_route(f"/{kind.plural}", partial(listing, kind=kind))
