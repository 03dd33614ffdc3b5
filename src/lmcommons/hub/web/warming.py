"""What a hub does once after its start, so that its first visitors wait no longer than those after them."""

import asyncio
import gc
import logging

from starlette.applications import Starlette
from starlette.types import Message

from lmcommons.hub.web import highlight
from lmcommons.hub.web.rendering import compile_templates
from lmcommons.hub.words import LANGUAGES

LOGGER = logging.getLogger(__name__)


def warm(app: Starlette) -> None:
    """Compile the templates, ask for the first page in each language, and show a line of code.

    The page makes ready what all pages share: routes, SQL of the lists, connections, catalogues of words. What reads
    rows is left to the first who looks at some: it takes 40 MB. All that is there by then stays, so the search for
    garbage leaves it out from now on: a page that it happens in would wait for it 0.2 s.
    """
    try:
        for language in LANGUAGES:
            compile_templates(language)
            asyncio.run(_ask(app, "/", language))
        highlight.lines("{}", "a.json")
        gc.collect()
        gc.freeze()
    except Exception:  # the pages say what is wrong to those who ask for them
        LOGGER.warning("the pages are not warm", exc_info=True)


async def _ask(app: Starlette, path: str, language: str) -> None:
    """Answer a request that nobody sent: past the doors, so that nothing counts it."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        pass

    scope = {
        "type": "http",
        "app": app,
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"accept-language", language.encode())],
    }
    await app.router(scope, receive, send)
