"""The first page: what this commons is, and what happens in it."""

from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.repos import downloads
from lmcommons.hub.repos.search import Listing
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web import markdown
from lmcommons.hub.web.lookup import LISTED
from lmcommons.hub.web.rendering import page, wants_part
from lmcommons.hub.web.views.listing import shown
from lmcommons.hub.web.views.runs import SHOWN, in_progress
from lmcommons.hub.web.visitors import visitor

RECENT, TRENDING = 5, 5  # repositories of each type
ACTS, WAITING = 12, 8


def home(request: Request) -> Response:
    """What the operator says, what is new or much used, what people do, and who waits for them."""
    if wants_part(request):
        return in_progress(request)
    hub: Hub = request.app.state.hub
    actor = visitor(request)
    models, datasets = (shown(request, kind, Listing(sort="lastModified", limit=RECENT)) for kind in LISTED)
    popular_models, popular_datasets = (_popular(request, kind) for kind in LISTED)
    return page(
        request,
        "home/home.html",
        about=_about(hub),
        models=models,
        datasets=datasets,
        popular_models=popular_models,
        popular_datasets=popular_datasets,
        running=hub.runs.in_progress(actor, limit=SHOWN),
        activity=hub.activity.latest(actor, limit=ACTS),
        waiting=hub.activity.waiting(actor, limit=WAITING),
    )


def _about(hub: Hub) -> Markup | None:
    text = hub.settings.about
    return markdown.render(text, markdown.Place("", "", hub=hub.settings.public_url)) if text else None


def _popular(request: Request, kind: RepositoryType) -> list[Repository]:
    """What is used now; nothing on a hub where nothing was used of late."""
    hub: Hub = request.app.state.hub
    found, _ = hub.search.listing(visitor(request), kind, Listing(sort="trendingScore", limit=TRENDING))
    return [repository for repository in found if downloads.score(repository.trending) > 0]


def add_routes(router: APIRouter) -> None:
    """/."""
    router.add_route("/", home)
