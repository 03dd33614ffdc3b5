"""Chapter 5, download: the content of files, with the headers that clients cache and resume by."""

from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lmcommons.hub.addresses import revision_and_path, type_of
from lmcommons.hub.api.content import choose_range, file_headers, is_known, object_response
from lmcommons.hub.api.dependencies import find_repository
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import EntryNotFound, RepositoryNotFound
from lmcommons.hub.repos.git import Entry, GitRepository
from lmcommons.hub.rooms import Hub

# The file by which a repository's downloads are counted: every use of it reads it once.
COUNTED = {
    RepositoryType.MODEL: "config.json",
    RepositoryType.DATASET: "README.md",
    RepositoryType.SPACE: "README.md",
}


@dataclass(frozen=True)
class Content:
    """What an address leads to: `size` bytes in the object store (`sha256`), or in git (`data`)."""

    commit: str
    entry: Entry
    size: int
    sha256: str | None
    data: bytes
    xet: dict[str, str] = field(default_factory=dict)  # headers, where clients can fetch it in chunks

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
    content, hub = await run_in_threadpool(_open, request, pointers=pointers)
    headers = {
        **file_headers(content.entry.path, download="download" in request.query_params),
        "ETag": content.etag,
        "X-Repo-Commit": content.commit,
        **content.xet,
    }
    if content.sha256 is not None:
        headers |= {"X-Linked-Etag": content.etag, "X-Linked-Size": str(content.size)}
        return await object_response(request, hub, content.sha256, content.size, headers)
    if is_known(request.headers.get("if-none-match"), content.etag):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(content.size)})
    start, stop, status = choose_range(request, content.size, headers)
    return Response(content.data[start:stop], status, headers)


def _open(request: Request, *, pointers: bool) -> tuple[Content, Hub]:
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
            xet = _xet_headers(hub, repository, commit, entry.lfs.sha256)
            return Content(commit, entry, entry.lfs.size, entry.lfs.sha256, b"", xet), hub
    size = git.blob_size(entry.oid)
    data = git.read(entry.oid) if request.method == "GET" else b""
    return Content(commit, entry, size, None, data), hub


def _xet_headers(hub: Hub, repository: Repository, commit: str, sha256: str) -> dict[str, str]:
    found = hub.objects.xet.hash_of([sha256], repository.scope)
    if not found:
        return {}
    kind = repository.type.plural
    address = f"{hub.settings.public_url}/api/{kind}/{repository.full_name}/xet-read-token/{commit}"
    return {"X-Xet-Hash": found[sha256], "Link": f'<{address}>; rel="xet-auth"'}


def _file(git: GitRepository, commit: str, path: str) -> Entry:
    entry = git.entry(commit, path)
    if entry.type != "file":
        raise EntryNotFound(f"{path!r} is a folder in commit {commit}, not a file", commit=commit)
    return entry


routes = [
    Route(f"{start}/{door}/{{revision}}/{{path:path}}", handler, methods=["GET", "HEAD"])
    for door, handler in (("resolve", resolve), ("raw", raw))
    for start in ("/{namespace}/{name}", "/datasets/{namespace}/{name}", "/spaces/{namespace}/{name}")
]
routes.append(Route("/{name}/resolve/{revision}/{path:path}", without_namespace, methods=["GET", "HEAD"]))
