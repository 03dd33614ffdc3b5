"""What pages with forms share: a page that no cache keeps, who sends, and the cookie of who has just signed in."""

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.browser_sessions import COOKIE, SESSION_LIFE
from lmcommons.hub.errors import HubError, Unauthorized
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import visitor


def form_page(request: Request, template: str, error: HubError | None, **values: Any) -> Response:
    """A page that no cache keeps; what was wrong with the form stands above it."""
    status, message = (error.status, error.message) if error else (200, None)
    response = page(request, template, status=status, error=message, **values)
    response.headers.update({"Cache-Control": "no-store", **(error.headers if error else {})})
    return response


def own_name(request: Request) -> str:
    """The visitor's name.

    Raises:
        Unauthorized: the visitor is not signed in.
    """
    name = visitor(request).name
    if name is None:
        raise Unauthorized("Sign in to see this page")
    return name


def network_address(request: Request) -> str:
    """Where the browser is, for limits."""
    return request.client.host if request.client else ""


def agent(request: Request) -> str:
    """How the browser calls itself."""
    return request.headers.get("user-agent", "")


def with_session(request: Request, cookie: str, address: str) -> Response:
    """The way to `address`, with the cookie of a new session."""
    hub: Hub = request.app.state.hub
    response = RedirectResponse(address, 303)
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(SESSION_LIFE.total_seconds()),
        secure=hub.settings.public_url.startswith("https:"),
        httponly=True,
        samesite="lax",
    )
    return response
