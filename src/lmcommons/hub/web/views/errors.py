"""Errors as a browser's user reads them."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from lmcommons.hub.errors import HubError, TooManyRequests
from lmcommons.hub.web.language import language_of
from lmcommons.hub.web.rendering import HEADERS, page, wants_part
from lmcommons.hub.web.visitors import present_page, visitor
from lmcommons.hub.words import translated

UNWRITTEN = ("form", "once", "next")  # fields that a page fills in by itself
SECRETS = ("password", "present", "wanted", "again", "code", "token", "secret")  # parts of names of fields


def error_page(request: Request, error: HubError) -> Response:
    """What went wrong, and what to do; with the texts of a form that was not taken.

    A script is told what went wrong in a line of plain text, to put where it belongs on its page.
    """
    if wants_part(request):
        line = translated(error.message, language_of(request))
        return PlainTextResponse(line, error.status, {**HEADERS, "Cache-Control": "no-store"})
    if error.status < 500 and not isinstance(error, TooManyRequests):  # those must not cost a look into the database
        visitor(request)
    return page(
        request,
        "error.html",
        status=error.status,
        message=error.message,
        seconds=error.headers.get("Retry-After"),
        identity=getattr(request.state, "id", None),
        is_form=request.method == "POST",
        is_unsent=hasattr(request.state, "is_unsent"),
        texts=_texts(getattr(request.state, "form", {})),
        back=present_page(request),
    )


def _texts(form: dict[str, str]) -> list[str]:
    """What somebody wrote, as far as writing it again would be work."""
    return [
        text
        for name, text in form.items()
        if len(text.split()) > 1 and name not in UNWRITTEN and not any(part in name.lower() for part in SECRETS)
    ]
