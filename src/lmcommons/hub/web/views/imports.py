"""Repositories from other hubs: the form to ask for one, and how far those are that were asked for."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.database.tables import Progress
from lmcommons.hub.errors import HubError
from lmcommons.hub.operating.imports import Imports
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.rendering import page, wants_part
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

ADDRESS = "/imports"


def imports(request: Request) -> Response:
    """The imports of the visitor, and the form for another; for a script, the imports alone."""
    if wants_part(request):
        return page(request, "imports/list.html", **_asked_for(request))
    return _page(request, {})


def begin(request: Request, form: Form) -> Response:
    """Ask for a repository."""
    rooms: Imports = request.app.state.imports
    try:
        rooms.begin(
            visitor(request),
            endpoint=form.get("from", ""),
            source=form.get("source", ""),
            owner=form.get("owner"),
            name=form.get("name", ""),
            private="private" in form,
        )
    except HubError as error:
        return _page(request, form, error)
    return RedirectResponse(ADDRESS, 303)


def end(request: Request, form: Form) -> Response:
    """Stop an import, or take it from the list."""
    rooms: Imports = request.app.state.imports
    rooms.end(visitor(request), request.path_params["number"])
    return RedirectResponse(ADDRESS, 303)


def _page(request: Request, filled: Form, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    rooms: Imports = request.app.state.imports
    return page(
        request,
        "imports/imports.html",
        status=error.status if error else 200,
        hubs=rooms.hubs,
        owners=hub.organisations.namespaces(visitor(request)),
        filled=filled,
        error=error and error.message,
        **_asked_for(request),
    )


def _asked_for(request: Request) -> dict[str, Any]:
    rooms: Imports = request.app.state.imports
    found = rooms.of(visitor(request))
    return {"imports": found, "waits": any(each.progress is Progress.WAITING for each in found)}


def add_routes(router: APIRouter) -> None:
    """/imports."""
    router.add_route(ADDRESS, signed_in(imports))
    router.add_route(ADDRESS, form_handler(begin), methods=["POST"])
    router.add_route(f"{ADDRESS}/{{number:int}}/end", form_handler(end), methods=["POST"])
