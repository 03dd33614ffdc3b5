"""Files as answers: their types and safety, conditions and ranges, and objects from where they lie to who asked.

A large object leaves by the cheapest way: an address in the bucket, the proxy that reads the disk, or this process.
"""

import re
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from lmcommons.hub.errors import RangeNotSatisfiable
from lmcommons.hub.objects.store import ObjectStore, object_key
from lmcommons.hub.rooms import Hub

BLOCK = 1 << 20  # bytes read and sent at a time

PLAIN_TEXT = "text/plain; charset=utf-8"
TEXT_SUFFIXES = frozenset(
    ("", ".bib", ".c", ".cfg", ".cpp", ".css", ".csv", ".html", ".ini", ".ipynb", ".jinja", ".js", ".json", ".jsonl",
     ".log", ".md", ".py", ".rst", ".sh", ".tex", ".toml", ".ts", ".tsv", ".txt", ".xml", ".yaml", ".yml")
)  # fmt: skip
MEDIA_TYPES = dict.fromkeys(TEXT_SUFFIXES, PLAIN_TEXT) | {
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".flac": "audio/flac",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".ogg": "audio/ogg",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webp": "image/webp",
}
# Members' files come from the same address as the pages, so none of them may run there.
SAFETY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}


def file_headers(path: str, *, download: bool) -> dict[str, str]:
    """What an answer says of a member's file: type, name, and that nothing in it may run."""
    name = PurePosixPath(path).name
    plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", name)
    disposition = "attachment" if download else "inline"
    return {
        "Content-Type": MEDIA_TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream"),
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\"",
        "Accept-Ranges": "bytes",
        **SAFETY,
    }


async def object_response(request: Request, hub: Hub, sha256: str, size: int, headers: dict[str, str]) -> Response:
    """The answer to GET or HEAD of an object of `size` bytes; `headers` hold its ETag.

    Raises:
        RangeNotSatisfiable: the range has no byte of it.
    """
    if is_known(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    start, stop, status = 0, size, 200
    if request.method == "GET":  # the bucket's addresses are for GET alone, and clients use for long what HEAD leads to
        if (address := await run_in_threadpool(_address, hub, sha256, headers)) is not None:
            return Response(status_code=302, headers=headers | {"Location": address, "Cache-Control": "no-store"})
        if hub.settings.accel is not None and await run_in_threadpool(_is_plain, hub, sha256):
            return Response(headers=headers | {"X-Accel-Redirect": hub.settings.accel + object_key(sha256)})
        start, stop, status = choose_range(request, size, headers)
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_stream(hub.objects, sha256, start, stop), status, headers)


def choose_range(request: Request, size: int, headers: dict[str, str]) -> tuple[int, int, int]:
    """The bytes that a GET asks for (first, after the last) and the status; Content-Range is added to `headers`.

    Raises:
        RangeNotSatisfiable: the range has no byte of the content.
    """
    if request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
        wanted = parse_range(request.headers.get("range"), size)
        if wanted is not None:
            headers["Content-Range"] = f"bytes {wanted[0]}-{wanted[1] - 1}/{size}"
            return *wanted, 206
    return 0, size, 200


def is_known(if_none_match: str | None, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or tags == ["*"]


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the byte after the last that a Range header asks for; None for all of it (RFC 9110, 14.2).

    Several ranges, other units and what cannot be read are ignored, as the standard allows.

    Raises:
        RangeNotSatisfiable: the range has no byte of the content.
    """
    match = re.fullmatch(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", header or "", re.ASCII)
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiable(
            f"The range {header!r} has no byte of a file of {size}", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, stop


def _is_plain(hub: Hub, sha256: str) -> bool:
    return hub.objects.blobs.size(object_key(sha256)) is not None


def _address(hub: Hub, sha256: str, headers: dict[str, str]) -> str | None:
    """Where the bucket gives the object, with the type and name of the file; None when the hub must."""
    if (bucket := hub.objects.direct) is None or hub.objects.xet.size(sha256) is not None:
        return None
    answer = {name: value for name, value in headers.items() if name in ("Content-Type", "Content-Disposition")}
    return bucket.address(object_key(sha256), answer)


async def _stream(objects: ObjectStore, sha256: str, start: int, stop: int) -> AsyncIterator[bytes]:
    file = await run_in_threadpool(objects.open, sha256)
    try:
        file.seek(start)
        while start < stop:
            block = await run_in_threadpool(file.read, min(BLOCK, stop - start))
            if not block:
                raise OSError(f"object {sha256} ends at byte {start}, before {stop}")
            start += len(block)
            yield block
    finally:
        file.close()
