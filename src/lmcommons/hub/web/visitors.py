"""Who looks at a page: the session of the browser, and the forms that it may send."""

from collections.abc import Awaitable, Callable
from functools import wraps
from urllib.parse import parse_qsl, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.accounts.sign_in import COOKIE, is_own_form
from lmcommons.hub.errors import BadRequest, Forbidden, TooLarge
from lmcommons.hub.rooms import Hub

FORM_LIMIT, FIELDS_LIMIT = 64 << 10, 100  # bytes and fields of a form

Form = dict[str, str]


def visitor(request: Request) -> Actor:
    """Who looks; nobody when the browser is not signed in. Reads the database once a request."""
    if not hasattr(request.state, "visitor"):
        hub: Hub = request.app.state.hub
        cookie = request.cookies.get(COOKIE)
        request.state.visitor = hub.sign_in.actor(cookie)
        request.state.account = request.state.visitor.name
        if cookie and request.state.visitor.account_id is not None:
            hub.limits.remember(digest(cookie), request.state.visitor.account_id)
    found: Actor = request.state.visitor
    return found


def visitor_known(request: Request) -> Actor:
    """Who looks, where that was asked before: a page about an error must not fail on a database that does."""
    found: Actor = getattr(request.state, "visitor", ANONYMOUS)
    return found


def form_handler(
    answer: Callable[[Request, Form], Response], *, signed_in: bool = True
) -> Callable[[Request], Awaitable[Response]]:
    """A route that takes a form: from a page of this hub only and, unless said otherwise, of this visitor's session.

    The handler raises Forbidden for a form of another site, BadRequest or TooLarge for one that cannot be read.
    """

    @wraps(answer)
    async def handle(request: Request) -> Response:
        form = await _read(request)
        _refuse_other_sites(request)
        if signed_in and not is_own_form(request.cookies.get(COOKIE), form.get("form", "")):
            raise Forbidden("This form is not of your present session: load the page again, then send it")
        return await run_in_threadpool(answer, request, form)

    return handle


async def _read(request: Request) -> Form:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_LIMIT:
            raise TooLarge(f"The form is larger than {FORM_LIMIT:,} bytes")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_LIMIT, errors="strict"))
    except ValueError as error:
        raise BadRequest(f"Expected a form of at most {FIELDS_LIMIT} fields") from error


def _refuse_other_sites(request: Request) -> None:
    """A browser says where a form was filled in; a program that is no browser says nothing, and has no cookies."""
    hub: Hub = request.app.state.hub
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none") and origin is None:
        return
    if urlsplit(origin or "").netloc not in (request.headers.get("host"), urlsplit(hub.settings.public_url).netloc):
        raise Forbidden("This form was sent from another site")
