"""Whatever goes wrong becomes a status, headers and one line, as the client reads them (hub-protocol.md, chapter 1)."""

import logging
from collections.abc import Callable
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from lmcommons.hub.addresses import raw_path
from lmcommons.hub.api.headers import common_headers
from lmcommons.hub.errors import (
    BadRequest,
    Crashed,
    HubError,
    MethodNotAllowed,
    Moved,
    NotFound,
    RepositoryNotFound,
)

ErrorPage = Callable[[Request, HubError], Response]

log = logging.getLogger("lmcommons.hub")


def install(app: FastAPI, page: ErrorPage) -> None:
    """Answer errors: browsers (`Accept: text/html`, outside `/api/`) get `page`, all others JSON.

    `app.state.answer_error` does so for what is in front of the routes.
    """

    async def answer(request: Request, error: HubError) -> Response:
        wants_page = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
        if not wants_page:
            return json_response(error)
        response = await run_in_threadpool(page, request, error)
        response.headers.update(_headers(error))
        del response.headers["WWW-Authenticate"]  # a browser would ask for a token; the page says how to sign in
        return response

    async def on_hub_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HubError)
        if isinstance(error, Moved):
            address = _moved_address(request, error)
            if address is None:
                return await answer(request, RepositoryNotFound())
            return Response(status_code=error.status, headers={"Location": address})
        if error.status >= 500:
            log.error("request %s: %s %s: %s", request.state.id, request.method, raw_path(request), error.message)
        return await answer(request, error)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == HTTPStatus.NOT_FOUND:
            found: HubError = NotFound("Nothing at {path}", path=request.url.path)
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            found = MethodNotAllowed(request.method, request.url.path)
        else:
            found = HubError(str(error.detail))
        found.status, found.headers = error.status_code, dict(error.headers or {})
        return await answer(request, found)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        if first["loc"][0] == "path":
            return await answer(request, NotFound("Nothing at {path}", path=request.url.path))
        return await answer(request, BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}"))

    async def on_disconnect(request: Request, error: Exception) -> Response:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is there to read it

    async def on_crash(request: Request, error: Exception) -> Response:
        log.error("request %s: %s %s", request.state.id, request.method, raw_path(request), exc_info=error)
        crashed = Crashed(request.state.id)
        # Starlette answers this outside of all middleware; the server closes the connection.
        crashed.headers = {**common_headers(request.state.id), "Connection": "close"}
        return await answer(request, crashed)

    app.state.answer_error = answer
    app.add_exception_handler(HubError, on_hub_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(Exception, on_crash)


def json_response(error: HubError) -> Response:
    """The error as clients read it."""
    return JSONResponse({"error": error.message, **error.fields}, error.status, _headers(error))


def _headers(error: HubError) -> dict[str, str]:
    line = error.message.encode("unicode_escape").decode()[:1000]
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
