"""The application: an open hub behind its doors, in the order in which addresses are tried."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.api import accounts, errors, files, git_http, lfs, references, repositories, trees, upload
from lmcommons.hub.errors import NotFound
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings
from lmcommons.hub.web import routes as web


def create_app(settings: Settings) -> FastAPI:
    """The hub of `settings` as an ASGI application; it is opened here, so that what is wrong is said at once.

    Raises:
        CommandError: the data directory or the database cannot be opened.
    """
    hub = Hub(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        hub.objects.sweep()
        yield
        hub.close()

    app = FastAPI(title="LM Commons", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = hub
    app.state.git_processes = asyncio.Semaphore(git_http.PROCESS_LIMIT)
    app.add_middleware(errors.RequestId)
    errors.install(app, web.error_page)
    app.router.routes.extend(lfs.routes)
    for api in (accounts, repositories, trees, references, upload):
        app.include_router(api.router)
    app.router.routes.extend([*files.routes, *git_http.routes])
    app.router.add_route("/api/{rest:path}", _nothing, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
    app.include_router(web.router)
    return app


async def _nothing(request: Request) -> Response:
    # Without this, a page could take what follows /api/ for a repository, and the client would say that it is absent.
    raise NotFound(f"Nothing at {request.url.path}")
