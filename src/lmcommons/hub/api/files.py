"""Chapter 5, download: the content of files, with the headers that clients cache and resume by."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from lmcommons.hub.addresses import revision_and_path, type_of
from lmcommons.hub.api.dependencies import find_repository
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.errors import EntryNotFound, RangeNotSatisfiable, RepositoryNotFound
from lmcommons.hub.objects.store import ObjectStore
from lmcommons.hub.repos.git import Entry, GitRepository

BLOCK = 1 << 20  # bytes read and sent at a time

PLAIN_TEXT = "text/plain; charset=utf-8"
TEXT_SUFFIXES = frozenset(
    ("", ".bib", ".c", ".cfg", ".cpp", ".css", ".csv", ".html", ".ini", ".ipynb", ".jinja", ".js", ".json", ".jsonl",
     ".log", ".md", ".py", ".rst", ".sh", ".tex", ".toml", ".ts", ".tsv", ".txt", ".xml", ".yaml", ".yml")
)  # fmt: skip
MEDIA_TYPES = dict.fromkeys(TEXT_SUFFIXES, PLAIN_TEXT) | {
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
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}

# The file by which a repository's downloads are counted: every use of it reads it once.
COUNTED = {RepositoryType.MODEL: "config.json", RepositoryType.DATASET: "README.md"}


@dataclass(frozen=True)
class Content:
    """What an address leads to: `size` bytes in the object store (`sha256`), or in git (`data`)."""

    commit: str
    entry: Entry
    size: int
    sha256: str | None
    data: bytes

    @property
    def etag(self) -> str:
        """Quoted: the sha256 of a large file, git's id of another, so that equal content has equal tags."""
        return f'"{self.sha256 or self.entry.oid}"'


async def resolve(request: Request) -> Response:
    """A file's content."""
    return await _answer(request, pointers=False)


async def raw(request: Request) -> Response:
    """What git holds: of a large file, its pointer."""
    return await _answer(request, pointers=True)


async def without_namespace(request: Request) -> Response:
    """Every repository has a namespace; a client that gives none is told so in its own terms."""
    raise RepositoryNotFound(f"Repository not found: {request.path_params['name']}; its name is namespace/name")


async def _answer(request: Request, *, pointers: bool) -> Response:
    content, objects = await run_in_threadpool(_open, request, pointers=pointers)
    headers = _headers(request, content)
    if _is_known(request.headers.get("if-none-match"), content.etag):
        return Response(status_code=304, headers=headers)
    start, stop, status = 0, content.size, 200
    if request.method == "GET" and request.headers.get("if-range", content.etag) == content.etag:
        wanted = parse_range(request.headers.get("range"), content.size)
        if wanted is not None:
            start, stop = wanted
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    if content.sha256 is None:
        return Response(content.data[start:stop], status, headers)
    return StreamingResponse(_stream(objects, content.sha256, start, stop), status, headers)


def _open(request: Request, *, pointers: bool) -> tuple[Content, ObjectStore]:
    namespace, name = request.path_params["namespace"], request.path_params["name"]
    revision, path = revision_and_path(request)
    hub, _, repository = find_repository(request, type_of(request).plural, namespace, name)
    git = hub.repositories.git(repository)
    commit = git.resolve(revision)
    entry = _file(git, commit, path)
    if not pointers:
        hub.contents.require(repository, entry)
        if request.method == "GET" and entry.path == COUNTED[repository.type]:
            hub.repositories.count_download(repository)
        if entry.lfs is not None:
            return Content(commit, entry, entry.lfs.size, entry.lfs.sha256, b""), hub.objects
    size = git.blob_size(entry.oid)
    data = git.read(entry.oid) if request.method == "GET" else b""
    return Content(commit, entry, size, None, data), hub.objects


def _file(git: GitRepository, commit: str, path: str) -> Entry:
    entry = git.entry(commit, path)
    if entry.type != "file":
        raise EntryNotFound(f"{path!r} is a folder in commit {commit}, not a file", commit=commit)
    return entry


def _headers(request: Request, content: Content) -> dict[str, str]:
    name = PurePosixPath(content.entry.path).name
    suffix = PurePosixPath(name).suffix.lower()
    plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", name)
    disposition = "attachment" if "download" in request.query_params else "inline"
    headers = {
        "ETag": content.etag,
        "X-Repo-Commit": content.commit,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Type": MEDIA_TYPES.get(suffix, "application/octet-stream"),
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\"",
        **SAFETY,
    }
    if content.sha256 is not None:
        headers |= {"X-Linked-Etag": content.etag, "X-Linked-Size": str(content.size)}
    return headers


def _is_known(if_none_match: str | None, etag: str) -> bool:
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


routes = [
    Route(f"{start}/{door}/{{revision}}/{{path:path}}", handler, methods=["GET", "HEAD"])
    for door, handler in (("resolve", resolve), ("raw", raw))
    for start in ("/{namespace}/{name}", "/datasets/{namespace}/{name}")
]
routes.append(Route("/{name}/resolve/{revision}/{path:path}", without_namespace, methods=["GET", "HEAD"]))
