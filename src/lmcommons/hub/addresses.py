"""Where repositories, pages and files are: the only place that builds and reads paths of addresses."""

from urllib.parse import quote, unquote

from starlette.requests import Request

from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, NotFound


def repository(of: Repository) -> str:
    """The repository's page."""
    return f"/{of.path}"


def at(of: Repository, view: str, revision: str, path: str = "") -> str:
    """The page `view` (tree, blob, resolve, commits, commit) of a revision, or of a file or folder in it."""
    base = f"/{of.path}/{view}/{quote(revision, safe='')}"
    return f"{base}/{quote(path)}" if path else base


def raw_path(request: Request) -> str:
    """The path as it was sent: what is quoted stays so."""
    sent: bytes = request.scope["raw_path"]
    return sent.decode("ascii")


def segments_after(request: Request, count: int) -> list[str]:
    """The parts of the path after the first `count`, decoded each: `refs%2Fpr%2F1` is one part.

    Raises:
        BadRequest: a part is not UTF-8. NotFound: there are none, because a slash that separates was quoted.
    """
    parts = raw_path(request).split("/")[count + 1 :]
    if not parts:
        raise NotFound(
            "Nothing at {path}: slashes between the parts of an address must not be quoted", path=request.url.path
        )
    try:
        return [unquote(part, errors="strict") for part in parts]
    except UnicodeDecodeError as error:
        raise BadRequest("The address is not valid UTF-8") from error


def type_of(request: Request) -> RepositoryType:
    """The type that an address outside `/api/` names: `/datasets/…` and `/spaces/…` say it, all others are models."""
    first = request.url.path.split("/")[1]
    return next((kind for kind in RepositoryType if first == kind.plural and kind.prefix), RepositoryType.MODEL)


def revision_and_path(request: Request) -> tuple[str, str]:
    """The revision, in which `%2F` is not the end, and the path that end an address outside `/api/`.

    Raises:
        BadRequest, NotFound: as `segments_after`.
    """
    revision, *names = segments_after(request, 4 if type_of(request).prefix else 3)
    return revision, "/".join(names).strip("/")
