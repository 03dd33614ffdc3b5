"""What every answer carries: the id of its request, and what browsers and caches may make of it."""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GIVEN_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
# What one sender sees another may not. Of tokens shared caches know that, of cookies they do not (RFC 9111, 3.5).
PRIVATE = "private, no-cache"


def common_headers(identity: str) -> dict[str, str]:
    """The headers of an answer to the request of this id that says nothing of caches itself."""
    return {"X-Request-Id": identity, "X-Content-Type-Options": "nosniff", "Cache-Control": PRIVATE}


class CommonHeaders:
    """Gives every request an id: the X-Request-Id header, `request.state.id`, and the log line of an error.

    A client that sends an id of its own keeps it. An answer that says nothing of caches is kept by none that others
    use, and no answer is taken for something else than its type says.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("X-Request-Id") or headers.get("X-Amzn-Trace-Id", "")  # the second is the client's own
        identity = given if GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["id"] = identity

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                caches = answered.get("Cache-Control", PRIVATE)
                answered.update({**common_headers(identity), "Cache-Control": caches})
            await send(message)

        await self._app(scope, receive, send_with_headers)
