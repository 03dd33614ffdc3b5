"""Lists of models and datasets: search, filters, order, pages."""

from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.repos.facets import FILTERS, SIZE, SIZES, Choice
from lmcommons.hub.repos.search import Listing
from lmcommons.hub.repos.terms import SEARCH_LIMIT
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.lookup import LISTED, neighbours, page_number
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import visitor

PAGE = 30  # repositories


@dataclass(frozen=True)
class Shown:
    """A part of a list, and how many there are in all."""

    repositories: list[Repository]
    total: int


@dataclass(frozen=True)
class Chosen:
    """A filter that is on, and the address of the list without it."""

    filter: str
    value: str
    label: str
    without: str


@dataclass(frozen=True)
class Offered:
    """A filter that can be put on: how many repositories it would leave, and the address of that list."""

    label: str
    count: int
    address: str


def listing(request: Request, kind: RepositoryType) -> Response:
    """Search among models or datasets, and narrow the list down."""
    hub: Hub = request.app.state.hub
    actor, number = visitor(request), page_number(request)
    asked = [(name, value) for name, value in request.query_params.multi_items() if name in (*FILTERS[kind], SIZE)]
    search = request.query_params.get("search", "").strip()[:SEARCH_LIMIT]
    author = request.query_params.get("author") or None
    sort = request.query_params.get("sort") or (None if search else "lastModified")
    query = Listing(
        search or None,
        author,
        tags=[value for name, value in asked if name in FILTERS[kind]],
        parameters=_parameters(kind, [value for name, value in asked if name not in FILTERS[kind]]),
        sort=sort,
        offset=(number - 1) * PAGE,
        limit=PAGE,
    )
    repositories, _ = hub.search.listing(actor, kind, query)
    found = hub.facets.of(actor, kind, query)
    return page(
        request,
        "home/listing.html",
        section=kind,
        listing=Shown(repositories, found.total),
        search=search,
        search_limit=SEARCH_LIMIT,
        author=author,
        sort=sort,
        chosen=[_chosen(request, kind, name, value) for name, value in dict.fromkeys(asked)],
        filters=_offered(request, found.filters, asked),
        unfiltered=_address(request, drop=asked),
        **neighbours(request, number, more=number * PAGE < found.total),
    )


def shown(request: Request, kind: RepositoryType, query: Listing) -> Shown:
    """What the visitor finds."""
    hub, actor = request.app.state.hub, visitor(request)
    found, _ = hub.search.listing(actor, kind, query)
    return Shown(found, hub.search.count(actor, kind, query))


def _parameters(kind: RepositoryType, names: list[str]) -> tuple[int | None, int | None]:
    """The least and most parameters of the class that is asked for."""
    if not names:
        return None, None
    if kind is not RepositoryType.MODEL or len(set(names)) > 1 or names[0] not in SIZES:
        raise BadRequest(
            "size={size}: models have one size, of {choices}", size=names[-1][:20], choices=", ".join(SIZES)
        )
    return SIZES[names[0]]


def _chosen(request: Request, kind: RepositoryType, name: str, value: str) -> Chosen:
    label = value.removeprefix(f"{FILTERS[kind].get(name)}:")
    return Chosen(name, value, label, _address(request, drop=[(name, value)]))


def _offered(
    request: Request, filters: dict[str, list[Choice]], asked: list[tuple[str, str]]
) -> list[tuple[str, list[Offered]]]:
    """The filters that would change the list, with their values."""
    found = [
        (
            name,
            [
                Offered(choice.label, choice.count, _address(request, add=(name, choice.value)))
                for choice in choices
                if (name, choice.value) not in asked
            ],
        )
        for name, choices in filters.items()
    ]
    return [(name, offered) for name, offered in found if offered]


def _address(request: Request, *, drop: list[tuple[str, str]] | None = None, add: tuple[str, str] | None = None) -> str:
    """This list with another filter, or without some; from its first page."""
    kept = [pair for pair in request.query_params.multi_items() if pair not in (drop or []) and pair[0] != "page"]
    return f"{request.url.path}?{urlencode([*kept, add] if add else kept)}"


def add_routes(router: APIRouter) -> None:
    """/models and /datasets."""
    for kind in LISTED:
        router.add_route(f"/{kind.plural}", partial(listing, kind=kind))
