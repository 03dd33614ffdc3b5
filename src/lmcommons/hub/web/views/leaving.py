"""Deleting one's own account."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.browser_sessions import COOKIE
from lmcommons.hub.errors import BadRequest, Conflict, HubError
from lmcommons.hub.operating import departures
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.forms import form_page, network_address, own_name
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor


def leaving(request: Request) -> Response:
    """What is deleted with the account and what stays; what must be done first, or the form."""
    return _page(request)


def leave(request: Request, form: Form) -> Response:
    """Delete the account, when its name was typed."""
    hub: Hub = request.app.state.hub
    name = own_name(request)
    try:
        hub.limits.take_sign_in(network_address(request), name)
        if form.get("typed", "").strip() != name:
            raise BadRequest("To delete it, type {repository}", repository=name)
        departures.leave(hub, visitor(request), form.get("present", ""), form.get("code", ""))
    except HubError as error:
        return _page(request, error=error)
    response = RedirectResponse("/login?deleted=yes", 303)
    response.delete_cookie(COOKIE)
    return response


def _page(request: Request, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    try:
        departures.require_free(hub, own_name(request))
        hindrance = None
    except Conflict as found:
        hindrance = found.message
    asks_code = hub.two_factors.is_on(visitor(request).account_id or 0)
    return form_page(request, "account/delete.html", error, hindrance=hindrance, asks_code=asks_code)


def add_routes(router: APIRouter) -> None:
    """/settings/delete."""
    router.add_route("/settings/delete", signed_in(leaving))
    router.add_route("/settings/delete", form_handler(leave), methods=["POST"])
