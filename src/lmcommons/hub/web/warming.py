"""What a hub does once after its start, so that its first visitors wait no longer than those after them."""

import asyncio
import logging
from io import BytesIO

from starlette.applications import Starlette
from starlette.types import Message

from lmcommons.hub.web import highlight
from lmcommons.hub.web.rendering import compile_templates
from lmcommons.hub.words import LANGUAGES

LOGGER = logging.getLogger(__name__)


def warm(app: Starlette) -> None:
    """Compile the templates, ask for the first page in each language, and show a row and a line of code.

    The page makes ready what all pages share: routes, SQL of the lists, connections, catalogues of words.
    """
    try:
        for language in LANGUAGES:
            compile_templates(language)
            asyncio.run(_ask(app, "/", language))
        _show_content()
    except Exception:  # the pages say what is wrong to those who ask for them
        LOGGER.warning("the pages are not warm", exc_info=True)


def _show_content() -> None:
    """Have what shows rows and code imported, with all that it imports when it is first used."""
    from lmcommons.hub.repos.tabular import read_rows  # a third of a second, for which no start waits
    from lmcommons.hub.web.cells import table

    read = read_rows(BytesIO(b'{"a": 1}\n'), ".jsonl", 0, 1)
    table(read.rows, read.schema.names)
    highlight.lines("{}", "a.json")


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
