"""Rate limits at the door: every answer says how many requests are left, and too many are refused."""

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmcommons.hub.accounts.limits import Kind
from lmcommons.hub.api.dependencies import address_of, credentials_of, hub_of
from lmcommons.hub.errors import TooManyRequests

# Operators' probes, the style sheet, and what moves contents: those addresses are signed, and large files have many.
FREE = ("/healthz", "/metrics", "/static/", "/api/lfs/", "/xet/")


class RateLimits:
    """Counts each request in the class of its address; past the limit the answer is 429."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(FREE):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        limits = hub_of(request).limits
        caller = limits.caller(credentials_of(request), address_of(request))
        standing = limits.take(_kind(scope["path"]), caller)
        if standing is None:
            await self._app(scope, receive, send)
            return
        try:
            standing.require()
        except TooManyRequests as error:
            response = await request.app.state.answer_error(request, error)
            await response(scope, receive, send)
            return

        async def send_with_standing(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(standing.headers)
            await send(message)

        await self._app(scope, receive, send_with_standing)


def _kind(path: str) -> Kind:
    if "/resolve/" in path or "/raw/" in path:
        return "resolvers"
    return "api" if path.startswith(("/api/", "/oauth/")) or ".git/" in path else "pages"
