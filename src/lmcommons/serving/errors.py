"""Errors in the shape that OpenAI's clients read: {"error": {message, type, param, code}}."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException


class ApiError(Exception):
    """A request that gets no result: an HTTP status and one line; `param` names the wrong field."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = {"Retry-After": "1"} if retry else {}
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    def body(self) -> dict[str, Any]:
        """What the client reads."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def response(error: ApiError) -> JSONResponse:
    """The error as an HTTP response."""
    return JSONResponse(error.body(), error.status, error.headers)


async def on_api_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of `ApiError`."""
    assert isinstance(error, ApiError)
    return response(error)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of the framework's own errors: no such route, wrong method, a body that is too large."""
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code in (404, 405):
        message = f"Invalid URL ({request.method} {request.url.path})"
    return response(ApiError(error.status_code, message))


async def on_validation_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of a body that is not JSON or not what `requests` describes: names the first wrong field."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    kind, place = first["type"], [part for part in first["loc"] if part != "body"]
    if kind == "json_invalid":
        return response(ApiError(400, f"The body is not valid JSON: {first['ctx']['error']} at character {place[0]}"))
    param = ".".join(str(part) for part in place) or None
    if param is None:
        return response(ApiError(400, "The body must be a JSON object, sent with Content-Type: application/json"))
    if kind == "missing":
        return response(ApiError(400, f"Missing required parameter: '{param}'", param=param))
    if kind == "extra_forbidden":
        message = f"Unrecognized request argument supplied: {param}"
        return response(ApiError(400, message, param=param, code="unknown_parameter"))
    message = f"Invalid '{param}': {first['msg'][0].lower()}{first['msg'][1:]}"
    return response(ApiError(400, message, param=param))
