"""Requests whose body stops coming are ended; those that are slow go on for days, as long as bytes come."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmcommons.hub.errors import RequestTimeout


class StallLimit:
    """Answers 408 and closes the connection when no byte of a body came for some seconds."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Downloads listen for the end of their client, and their requests have no body.
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        whole = False

        async def receive_in_time() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout(self._seconds):
                    message = await receive()
            except TimeoutError as error:
                raise RequestTimeout(f"No byte of the body came for {self._seconds:g} seconds") from error
            whole = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)
