"""Forms with files or long texts (multipart/form-data, RFC 7578): a file goes where it belongs as it comes.

A file is never in memory whole, and nothing is taken from a form that is not of the visitor's session: its secret
stands before the files.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub.errors import BadRequest, TooLarge
from lmcommons.hub.web.visitors import FIELDS_LIMIT, Form, answer_once, refuse_others

TEXT_LIMIT = 2 << 20  # bytes of all the fields that are no files
BLOCK = 1 << 20  # bytes that are handed on at a time


class Sink(Protocol):
    """Where the content of a file goes."""

    def write(self, block: bytes, /) -> object:
        """Take the next part of it."""


Files = list[tuple[str, Any]]  # the name that each file has in the browser, and its sink
Take = Callable[[Request, str], AbstractContextManager[Sink]]  # opens the sink of the file that is called so


def long_form_handler(
    answer: Callable[[Request, Form, Files], Response], take: Take, *, files: int = 0, limit: int = TEXT_LIMIT
) -> Callable[[Request], Awaitable[Response]]:
    """A route as `visitors.form_handler` makes it, for forms of `limit` bytes in all with so many files.

    `take` is called for each file that was chosen, and its sink is left when the file has come, or with the exception
    that ended the request.

    The handler raises what `form_handler` does, and what the sinks raise.
    """

    async def handle(request: Request) -> Response:
        parts = _Parts(request, take, files)
        with parts.sinks:
            await _receive(request, parts, limit)
        refuse_others(request, parts.form, signed_in=True)
        return await run_in_threadpool(
            answer_once, request, parts.form, lambda request, form: answer(request, form, parts.files)
        )

    return handle


def no_files(request: Request, name: str) -> AbstractContextManager[Sink]:
    """For forms that have long texts and no files."""
    raise BadRequest("{name}: this form takes no files", name=name[:80])


async def _receive(request: Request, parts: "_Parts", limit: int) -> None:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLarge("The form is larger than {limit:,} bytes", limit=limit)
    waiting, size = bytearray(), 0
    async for block in request.stream():
        waiting += block
        size += len(block)
        if size > limit:
            raise TooLarge("The form is larger than {limit:,} bytes", limit=limit)
        if len(waiting) >= BLOCK:
            await run_in_threadpool(parts.write, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(parts.write, bytes(waiting))
    await run_in_threadpool(parts.finish)


class _Parts:
    """The parts of a form, in the order in which they come."""

    def __init__(self, request: Request, take: Take, files_limit: int) -> None:
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise BadRequest("Expected a form in multipart/form-data, as browsers send it")
        self.form: Form = {}
        self.files: Files = []
        self.sinks = ExitStack()  # of the file that is coming
        self._request = request
        self._take = take
        self._files_limit = files_limit
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._text: bytearray | None = None  # of the field that is coming
        self._sink: Sink | None = None
        self._whole = False
        self._text_size = 0
        callbacks: Any = {
            "on_part_begin": self._headers.clear,
            "on_header_begin": self._begin_header,
            "on_header_field": lambda data, start, stop: self._header[0].extend(data[start:stop]),
            "on_header_value": lambda data, start, stop: self._header[1].extend(data[start:stop]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._add,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(options[b"boundary"], callbacks)
        except FormParserError as error:  # a boundary that is too long
            raise BadRequest("The form cannot be read: {reason}", reason=error) from error

    def write(self, block: bytes) -> None:
        """Take the next part of the body."""
        try:
            self._parser.write(block)
        except (FormParserError, UnicodeDecodeError) as error:
            raise BadRequest("The form cannot be read: {reason}", reason=error) from error

    def finish(self) -> None:
        """The body has ended."""
        if not self._whole:
            raise BadRequest("The form was cut off; send it again")

    def _begin_header(self) -> None:
        self._header = (bytearray(), bytearray())

    def _end_header(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode()
        self._text, self._sink = None, None
        if b"filename" not in options:
            if len(self.form) >= FIELDS_LIMIT:
                raise BadRequest("Expected a form of at most {limit} fields", limit=FIELDS_LIMIT)
            self._text = bytearray()
        elif filename := options[b"filename"].decode().replace("%22", '"'):
            if len(self.files) >= self._files_limit:
                raise TooLarge("More than {limit} files in one form; send fewer at a time", limit=self._files_limit)
            refuse_others(self._request, self.form, signed_in=True)
            self._sink = self.sinks.enter_context(self._take(self._request, filename))
            self.files.append((filename, self._sink))

    def _add(self, data: bytes, start: int, stop: int) -> None:
        if self._sink is not None:
            self._sink.write(data[start:stop])
        elif self._text is not None:
            self._text_size += stop - start
            if self._text_size > TEXT_LIMIT:
                raise TooLarge("The texts of the form are longer than {limit:,} bytes", limit=TEXT_LIMIT)
            self._text += data[start:stop]

    def _end_part(self) -> None:
        if self._sink is not None:
            self.sinks.close()
        elif self._text is not None:
            self.form[self._name] = self._text.decode()

    def _end(self) -> None:
        self._whole = True
