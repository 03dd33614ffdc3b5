"""The first page."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.repos.search import Listing
from lmcommons.hub.web.lookup import LISTED
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.views.listing import shown

RECENT = 8  # repositories of each type


def home(request: Request) -> Response:
    """What this commons is, and what was updated last."""
    models, datasets = (shown(request, kind, Listing(sort="lastModified", limit=RECENT)) for kind in LISTED)
    return page(request, "home/home.html", models=models, datasets=datasets)


def add_routes(router: APIRouter) -> None:
    """/."""
    router.add_route("/", home)
