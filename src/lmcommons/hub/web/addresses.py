"""Where pages and files of a repository are: the only place that builds their paths."""

from urllib.parse import quote

from lmcommons.hub.database.tables import Repository


def repository(of: Repository) -> str:
    """The repository's page."""
    return f"/{of.path}"


def at(of: Repository, view: str, revision: str, path: str = "") -> str:
    """The page `view` (tree, blob, resolve, commits, commit) of a revision, or of a file or folder in it."""
    base = f"/{of.path}/{view}/{quote(revision, safe='')}"
    return f"{base}/{quote(path)}" if path else base
