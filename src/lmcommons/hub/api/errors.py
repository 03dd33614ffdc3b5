"""Whatever goes wrong becomes a status, headers and one line, as the client reads them (hub-protocol.md, chapter 1)."""

import logging
import re
import secrets
from collections.abc import Callable
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmcommons.hub.addresses import raw_path
from lmcommons.hub.errors import (
    BadRequest,
    HubError,
    Moved,
    NotFound,
    RepositoryNotFound,
)

ErrorPage = Callable[[Request, HubError], Response]

GIVEN_ID = re.compile(r"[A-Za-z0-9-]{1,64}")

log = logging.getLogger("lmcommons.hub")


class RequestId:
    """Gives every request an id: the X-Request-Id header, `request.state.id`, and the log line of an error.

    A client that sends an id of its own keeps it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("X-Request-Id", "")
        identity = given if GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["id"] = identity

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = identity
            await send(message)

        await self._app(scope, receive, send_with_id)


def install(app: FastAPI, page: ErrorPage) -> None:
    """Answer errors: browsers (`Accept: text/html`, outside `/api/`) get `page`, all others JSON."""

    def answer(request: Request, error: HubError) -> Response:
        wants_page = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
        response = page(request, error) if wants_page else _json(error)
        response.headers.update(_headers(error))
        return response

    async def on_hub_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HubError)
        if isinstance(error, Moved):
            address = _moved_address(request, error)
            if address is None:
                return answer(request, RepositoryNotFound())
            return Response(status_code=error.status, headers={"Location": address})
        if error.status >= 500:
            log.error("request %s: %s %s: %s", request.state.id, request.method, request.url.path, error.message)
        return answer(request, error)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        found = HubError(str(error.detail), headers=dict(error.headers or {}))
        found.status = error.status_code
        if error.status_code == HTTPStatus.NOT_FOUND:
            found.message = f"Nothing at {request.url.path}"
        return answer(request, found)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        if first["loc"][0] == "path":
            return answer(request, NotFound(f"Nothing at {request.url.path}"))
        return answer(request, BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}"))

    async def on_disconnect(request: Request, error: Exception) -> Response:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is there to read it

    async def on_crash(request: Request, error: Exception) -> Response:
        log.error("request %s: %s %s", request.state.id, request.method, request.url.path, exc_info=error)
        # Starlette answers this outside of all middleware, so the id is set here; the server closes the connection.
        headers = {"X-Request-Id": request.state.id, "Connection": "close"}
        message = f"The hub failed on this request; its log names it {request.state.id}"
        return answer(request, HubError(message, headers=headers))

    app.add_exception_handler(HubError, on_hub_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(Exception, on_crash)


def _json(error: HubError) -> Response:
    return JSONResponse({"error": error.message, **error.fields}, error.status)


def _headers(error: HubError) -> dict[str, str]:
    line = " ".join(error.message.split()).encode("unicode_escape").decode()[:1000]
    headers = {"X-Error-Message": line, **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="LM Commons", charset="UTF-8"'
    return headers


def _moved_address(request: Request, error: Moved) -> str | None:
    """The request's address with the new name; None where the former one is not in it, but in the body."""
    path = raw_path(request)
    start = path.lower().find(f"/{error.former.lower()}")
    if start < 0:
        return None
    address = f"{path[:start]}/{error.current}{path[start + 1 + len(error.former) :]}"
    return f"{address}?{request.url.query}" if request.url.query else address
