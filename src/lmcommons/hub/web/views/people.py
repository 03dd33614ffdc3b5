"""People and organisations."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.repos.search import Listing
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.lookup import LISTED
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.views.listing import PAGE, shown


def account(request: Request) -> Response:
    """What a person or an organisation shares."""
    hub: Hub = request.app.state.hub
    found = hub.accounts.find(request.path_params["namespace"])
    models, datasets = (
        shown(request, kind, Listing(author=found.name, sort="lastModified", limit=PAGE)) for kind in LISTED
    )
    return page(request, "people/account.html", account=found, models=models, datasets=datasets)


def add_routes(router: APIRouter) -> None:
    """/NAME, which is asked for after all other first parts of addresses."""
    router.add_route("/{namespace}", account)
