"""The application: an open hub behind its doors, in the order in which addresses are tried."""

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from types import FrameType

import anyio
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.api import (
    access_requests,
    accounts,
    attachments,
    bucket_events,
    buckets,
    cas,
    collections,
    data,
    discussions,
    errors,
    files,
    git_http,
    headers,
    large_files,
    leaderboard,
    lfs,
    likes,
    limits,
    lineage,
    listing,
    locks,
    notifications,
    oauth,
    operating,
    organisations,
    references,
    repositories,
    reviews,
    runs,
    stalls,
    trees,
    upload,
    webhooks,
    xet,
)
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import NotFound
from lmcommons.hub.objects.collection import UNFINISHED, collect_uploads
from lmcommons.hub.objects.staged import clear_staged
from lmcommons.hub.operating.imports import Imports
from lmcommons.hub.operating.metrics import Metrics
from lmcommons.hub.repos.transport import Turns
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings
from lmcommons.hub.ssh import server as ssh
from lmcommons.hub.web import markdown
from lmcommons.hub.web import routes as web
from lmcommons.hub.web.lookup import place
from lmcommons.hub.web.views.errors import error_page
from lmcommons.hub.web.warming import warm


def create_app(settings: Settings, ssh_listener: socket.socket | None = None) -> FastAPI:
    """The hub of `settings` as an ASGI application; it is opened here, so that what is wrong is said at once.

    Args:
        ssh_listener: where git is answered over SSH too, in the same process.

    Raises:
        CommandError: the data directory or the database cannot be opened.
    """
    hub = Hub(settings)
    imports = Imports(hub)
    background = (hub.deliveries, hub.statistics, hub.mail, imports)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        clear_staged(hub.objects.blobs.staging)
        collect_uploads(hub.objects, datetime.now(UTC) - UNFINISHED)
        threading.Thread(target=hub.index, name="index", daemon=True).start()
        for each in background:
            each.start()
        gc.collect()
        gc.freeze()  # what is loaded by now stays: no collection walks it again
        warming = threading.Thread(target=warm, args=(app,), name="warm", daemon=True)
        warming.start()
        with _told_of_the_end(app.state.ending):
            async with ssh.serving(hub, ssh_listener, app.state.git_turns):
                yield
        warming.join()
        for each in background:
            each.stop()
        for each in background:
            each.join()
        hub.close()

    app = FastAPI(title="LM Commons", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = hub
    app.state.render_markdown = partial(_render, hub)
    app.state.git_turns = Turns()
    app.state.bucket_followers = asyncio.Semaphore(bucket_events.FOLLOWERS_LIMIT)
    app.state.ending = asyncio.Event()
    app.state.metrics = Metrics(hub)
    app.state.imports = imports
    app.state.background = background
    app.state.xet_work = anyio.CapacityLimiter(os.cpu_count() or 1)
    app.add_middleware(stalls.StallLimit, seconds=settings.stall_limit)
    app.add_middleware(limits.RateLimits)
    app.add_middleware(headers.CommonHeaders)
    app.add_middleware(operating.Observation, metrics=app.state.metrics)
    errors.install(app, error_page)
    app.router.routes.extend([*buckets.routes, *cas.routes, *lfs.routes, *locks.routes])
    for api in (
        operating,
        notifications,
        bucket_events,
        buckets,
        accounts,
        organisations,
        large_files,
        likes,
        collections,
        webhooks,
        repositories,
        listing,
        data,
        leaderboard,
        lineage,
        trees,
        references,
        upload,
        xet,
        access_requests,
        oauth,
        discussions,
        reviews,
        runs,
    ):
        app.include_router(api.router)
    app.router.routes.extend(
        [*access_requests.routes, *attachments.routes, *files.routes, *git_http.routes, *trees.routes]
    )
    app.router.add_route("/api/{rest:path}", _nothing, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
    app.include_router(web.router)
    return app


@contextmanager
def _told_of_the_end(ending: asyncio.Event) -> Iterator[None]:
    """Sets `ending` when the process is told to stop: the server then waits for all answers, also those without end."""
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield  # in a program that has the application in a thread, signals are that program's
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(ending.set)
        handler = former[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in former:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _render(hub: Hub, text: str, repository: Repository) -> str:
    """The text of a comment as safe HTML; its links are those of the repository's card."""
    return str(markdown.render(text, place(hub, repository, "main", "")))


async def _nothing(request: Request) -> Response:
    # Without this, a page could take what follows /api/ for a repository, and the client would say that it is absent.
    raise NotFound("Nothing at {path}", path=request.url.path)
