"""For operators: is the hub well, what does it count, which requests does it take."""

import asyncio
import logging
import time

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmcommons.hub.api.dependencies import actor, hub_of
from lmcommons.hub.database.tables import TokenRole
from lmcommons.hub.errors import Forbidden, Unauthorized
from lmcommons.hub.operating import health
from lmcommons.hub.operating.logs import REQUESTS
from lmcommons.hub.operating.metrics import Metrics

router = APIRouter()
log = logging.getLogger(REQUESTS)

NOWHERE = "none"  # the template of an address that no route takes
PATIENCE = 5  # seconds that the database and the stores have to answer
CLOSED = 499  # the status of a request whose client left before an answer, as nginx writes it


class Observation:
    """Counts every request and writes one line about it: never a query, a header or a body, which may be secret."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status, length, received, sent, noted = CLOSED, "", 0, 0, False

        def note() -> None:
            nonlocal noted
            if not noted:
                noted = True
                self._note(scope, status, time.perf_counter() - began, received, sent)

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status, length, sent
            if message["type"] == "http.response.start":
                status, length = message["status"], Headers(raw=message["headers"]).get("content-length", "")
            else:
                sent += len(message.get("body", b""))
                if not message.get("more_body", False) or str(sent) == length:
                    note()  # first: whoever has the whole answer finds it counted
            await send(message)

        try:
            await self._app(scope, counted_receive, counted_send)
        except Exception:
            status = 500  # answered outside of this
            raise
        finally:
            note()

    def _note(self, scope: Scope, status: int, seconds: float, received: int, sent: int) -> None:
        route = _template(scope)
        self._metrics.count(scope["method"], route, status, seconds, received, sent)
        if log.isEnabledFor(logging.INFO):
            state = scope.get("state", {})
            fields = {
                "request": state.get("id"),
                "status": status,
                "ms": round(seconds * 1000, 1),
                "account": state.get("account"),
                "received": received,
                "sent": sent,
            }
            log.info("%s %s", scope["method"], route, extra={"fields": fields})


def _template(scope: Scope) -> str:
    """The address template of the route that took a request."""
    if "route" not in scope and "endpoint" in scope:  # FastAPI notes its own routes only
        taken = [route for route in scope["app"].routes if getattr(route, "endpoint", None) is scope["endpoint"]]
        scope["route"] = next((route for route in taken if route.matches(scope)[0] is not Match.NONE), None)
    return getattr(scope.get("route"), "path", NOWHERE)


@router.get("/healthz")
async def healthz(request: Request) -> JSONResponse:
    """200 when the database and the stores answer, else 503 and which of them does not."""
    try:
        problems = await asyncio.wait_for(run_in_threadpool(health.problems, hub_of(request)), PATIENCE)
    except TimeoutError:
        problems = {"hub": f"no answer within {PATIENCE} seconds"}
    return JSONResponse({"status": "failing" if problems else "ok", **problems}, 503 if problems else 200)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Counts for Prometheus, to whoever sends the token of an administrator of the hub; one that only reads will do."""
    sender = actor(request)
    if sender.is_anonymous:
        raise Unauthorized("Metrics are for administrators of the hub; send the token of one")
    if not sender.is_admin or sender.token_role is TokenRole.FINE_GRAINED:
        raise Forbidden(
            f"Metrics are for administrators of the hub; {sender.name} is none, or this token is for something else"
        )
    found: Metrics = request.app.state.metrics
    return Response(found.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/api/openapi.json", include_in_schema=False)
def openapi(request: Request) -> JSONResponse:
    """The typed part of the API; files, git, LFS and Xet have protocols of their own."""
    return JSONResponse(request.app.openapi())
