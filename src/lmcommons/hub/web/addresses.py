"""Where pages and files of a repository are: the only place that builds and reads their paths."""

from urllib.parse import quote, unquote

from starlette.requests import Request

from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import NotFound


def repository(of: Repository) -> str:
    """The repository's page."""
    return f"/{of.path}"


def at(of: Repository, view: str, revision: str, path: str = "") -> str:
    """The page `view` (tree, blob, resolve, commits, commit) of a revision, or of a file or folder in it."""
    base = f"/{of.path}/{view}/{quote(revision, safe='')}"
    return f"{base}/{quote(path)}" if path else base


def revision_and_path(request: Request) -> tuple[str, str]:
    """What follows the view's name in an address: a revision, in which `%2F` is not the end, and a path in it.

    Raises:
        NotFound: there is no revision, because a slash before it was quoted.
    """
    before = 4 if request.url.path.startswith("/datasets/") else 3
    parts = request.scope["raw_path"].split(b"?")[0].decode("ascii").split("/")[1 + before :]
    if not parts:
        raise NotFound(f"Nothing at {request.url.path}")
    revision, *names = [unquote(part, errors="replace") for part in parts]
    return revision, "/".join(names).strip("/")
