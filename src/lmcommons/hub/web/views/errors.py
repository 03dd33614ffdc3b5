"""Errors as a browser's user reads them."""

from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.errors import HubError
from lmcommons.hub.web.rendering import page


def error_page(request: Request, error: HubError) -> Response:
    """What went wrong, and what to do."""
    return page(
        request, "error.html", status=error.status, message=error.message, identity=getattr(request.state, "id", None)
    )
