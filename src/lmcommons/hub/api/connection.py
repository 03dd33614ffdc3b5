"""What a client may do to a connection before there is a request: headers have an end, in bytes and in time."""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

HEADER_LIMIT = 64 << 10  # bytes; what one read of the socket brings may be past it


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which by itself takes headers of any size, waits for them for ever, and so for what is
    left of a body when it has answered."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        seconds: float,
    ) -> None:
        """
        Args:
            seconds: that a client has to send the header of a request.
        """
        super().__init__(config, server_state, app_state, _loop)
        self._seconds = seconds
        self._deadline: asyncio.TimerHandle | None = None  # while a header is awaited or received
        self._received = 0  # bytes of it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_header()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:
            self._expect_header()

    def on_headers_complete(self) -> None:
        self._end_header()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.cycle.body:
            self.cycle.body = b""  # type: ignore[assignment]  # unlike a bytearray, it becomes `body` without a copy
        super().on_body(body)

    def data_received(self, data: bytes) -> None:
        begun = self._deadline is not None
        super().data_received(data)
        if self._deadline is not None:
            self._received += len(data) if begun else 0
            if self._received > HEADER_LIMIT:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {HEADER_LIMIT:,} bytes of header")
        elif self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # The rest of a body that was answered before its end: it may come, and the connection waits no longer.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _expect_header(self) -> None:
        self._received = 0
        late = f"the header must come within {self._seconds:g} seconds"
        self._deadline = self.loop.call_later(self._seconds, self._refuse, HTTPStatus.REQUEST_TIMEOUT, late)

    def _end_header(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._end_header()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # else a former request is being answered
            line = f"{status.phrase}: {reason}".encode()
            head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(line) + line)
        self.transport.close()
