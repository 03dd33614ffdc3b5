"""Who looks at a page: the session of the browser, and the forms that it may send."""

from collections.abc import Awaitable, Callable
from functools import wraps
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.browser_sessions import COOKIE, is_own_form
from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.addresses import raw_path
from lmcommons.hub.errors import BadRequest, Forbidden, TooLarge
from lmcommons.hub.rooms import Hub

FORM_LIMIT, FIELDS_LIMIT = 64 << 10, 100  # bytes and fields of a form

Form = dict[str, str]


def visitor(request: Request) -> Actor:
    """Who looks; nobody when the browser is not signed in. Reads the database once a request."""
    if not hasattr(request.state, "visitor"):
        hub: Hub = request.app.state.hub
        cookie = request.cookies.get(COOKIE)
        request.state.visitor = hub.browser_sessions.actor(cookie)
        request.state.account = request.state.visitor.name
        if cookie and request.state.visitor.account_id is not None:
            hub.limits.remember(digest(cookie), request.state.visitor.account_id)
    found: Actor = request.state.visitor
    return found


def visitor_known(request: Request) -> Actor:
    """Who looks, where that was asked before: a page about an error must not fail on a database that does."""
    found: Actor = getattr(request.state, "visitor", ANONYMOUS)
    return found


def signed_in(view: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """The view for those who are signed in; others sign in first, and come back."""

    @wraps(view)
    def shown(request: Request) -> Response:
        if not visitor(request).is_anonymous:
            return view(request)
        wanted = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        return RedirectResponse(f"/login?{urlencode({'next': wanted})}", 303)

    return shown


def local(address: str) -> str:
    """The address, where it is one of this hub's pages; else the first page."""
    is_local = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_local else "/"


def present_page(request: Request) -> str:
    """The address of the page that the visitor has open: the one asked for, or the one whose form was sent."""
    if request.method == "POST":
        return local("/" + request.headers.get("referer", "").partition("://")[2].partition("/")[2])
    return local(raw_path(request) + (f"?{request.url.query}" if request.url.query else ""))


def form_handler(
    answer: Callable[[Request, Form], Response], *, signed_in: bool = True
) -> Callable[[Request], Awaitable[Response]]:
    """A route that takes a form: from a page of this hub only and, unless said otherwise, of this visitor's session.

    A form that carries a key (`hidden.html`) and led to another page leads there again when it is sent again.

    The handler raises Forbidden for a form of another site, BadRequest or TooLarge for one that cannot be read, and
    Conflict for one whose first copy is being answered.
    """

    async def handle(request: Request) -> Response:
        form = await read_form(request)
        refuse_others(request, form, signed_in=signed_in)
        return await run_in_threadpool(answer_once, request, form, answer)

    return handle


def refuse_others(request: Request, form: Form, *, signed_in: bool) -> None:
    """Return when the form was filled in on a page of this hub, and in the visitor's session where that is needed.

    Raises:
        Forbidden: it was not.
    """
    _refuse_other_sites(request)
    request.state.form = form  # for the page about an error
    if signed_in and not is_own_form(request.cookies.get(COOKIE), form.get("form", "")):
        request.state.is_unsent = True
        raise Forbidden("This form is not of your present session: load the page again, then send it")


def answer_once(request: Request, form: Form, answer: Callable[[Request, Form], Response]) -> Response:
    """The answer to a form; to one that was sent before, the way to where the first led.

    Raises:
        Conflict: the first is being answered.
    """
    hub: Hub = request.app.state.hub
    key = form.get("once", "")
    if not key or visitor(request).is_anonymous:
        return answer(request, form)
    key = f"{visitor(request).account_id} {request.url.path} {key}"
    if (former := hub.sent_forms.begin(key)) is not None:
        return RedirectResponse(former, 303)
    address = None
    try:
        response = answer(request, form)
        address = response.headers.get("Location")
    finally:
        hub.sent_forms.finish(key, address)
    return response


async def read_form(request: Request) -> Form:
    """The fields of a form that is no file. Browsers send each end of a line as CRLF; rooms get what was typed.

    Raises:
        TooLarge: it is past the limit. BadRequest: it cannot be read.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_LIMIT:
            raise TooLarge("The form is larger than {limit:,} bytes", limit=FORM_LIMIT)
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_LIMIT, errors="strict")
    except ValueError as error:
        raise BadRequest("Expected a form of at most {limit} fields", limit=FIELDS_LIMIT) from error
    return {name: value.replace("\r\n", "\n") for name, value in fields}


def _refuse_other_sites(request: Request) -> None:
    """A browser says where a form was filled in; a program that is no browser says nothing, and has no cookies."""
    hub: Hub = request.app.state.hub
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none") and origin is None:
        return
    own = (request.headers.get("host"), urlsplit(hub.settings.public_url).netloc)
    if (origin or "").partition("://")[2] not in own:  # an origin is a scheme and a host, and nothing more
        raise Forbidden("This form was sent from another site")
