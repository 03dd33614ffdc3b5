"""Chapter 4: attachments of comments; one request puts a file in, its address is the answer."""

import tempfile

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from lmcommons.hub.api.content import file_headers, object_response
from lmcommons.hub.api.dependencies import actor, body_blocks, hub_of
from lmcommons.hub.community.attachments import VIDEO_LIMIT, file_name
from lmcommons.hub.errors import storage_errors
from lmcommons.hub.objects.spooling import spool

MEMORY = 1 << 20  # bytes of a body that are kept in memory
TOO_LARGE = f"An attachment has at most {VIDEO_LIMIT >> 20} MiB"


async def upload(request: Request) -> Response:
    """Keep the body."""
    hub = hub_of(request)
    sender = await run_in_threadpool(actor, request)
    await run_in_threadpool(hub.attachments.require, sender)
    with storage_errors(), tempfile.SpooledTemporaryFile(MEMORY, dir=str(hub.objects.blobs.staging)) as body:
        size = await spool(body_blocks(request, VIDEO_LIMIT, TOO_LARGE), body)
        added = await run_in_threadpool(hub.attachments.add, sender, body, size)
    return PlainTextResponse(f"{hub.settings.public_url}/uploads/{file_name(added)}")


async def download(request: Request) -> Response:
    """An attachment's content, for everybody who has its address."""
    hub = hub_of(request)
    found = await run_in_threadpool(hub.attachments.find, request.path_params["name"])
    headers = {
        **file_headers(file_name(found), download=False),
        "Content-Type": found.media_type,
        "Cache-Control": "private, max-age=31536000, immutable",
        "ETag": f'"{found.sha256}"',
    }
    return await object_response(request, hub, found.sha256, found.size, headers)


routes: list[BaseRoute] = [
    Route("/uploads", upload, methods=["POST"]),
    Route("/uploads/{name}", download, methods=["GET", "HEAD"]),
]
