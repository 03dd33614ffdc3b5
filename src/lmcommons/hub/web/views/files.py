"""The files of a repository, and how they changed."""

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.errors import EntryNotFound
from lmcommons.hub.web.lookup import neighbours, page_number, place, repository_of
from lmcommons.hub.web.previews import preview
from lmcommons.hub.web.rendering import page

PAGE = 30  # commits
FOLDER_PAGE = 100  # files; each is followed to its last commit
CHANGES = 200  # files of a commit's page


def tree(request: Request, kind: RepositoryType) -> Response:
    """The files of a folder, each with its last commit."""
    hub, repository, git = repository_of(request, kind)
    revision, path = addresses.revision_and_path(request)
    number = page_number(request)
    head = git.describe(revision)
    start = (number - 1) * FOLDER_PAGE
    entries = git.entries(head.oid, path, start=start, limit=FOLDER_PAGE + 1)
    if number > 1 and not entries:
        raise EntryNotFound(f"{path or 'The first folder'} has no page {number}")
    shown = [path, *(entry.path for entry in entries[:FOLDER_PAGE])]
    last_commits = hub.last_commits.of(repository, head.oid, shown)
    return page(
        request,
        "files/tree.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        revision=revision,
        path=path,
        refs=git.refs(),
        commit=last_commits.get(path, head),
        entries=entries[:FOLDER_PAGE],
        last_commits=last_commits,
        **neighbours(request, number, more=len(entries) > FOLDER_PAGE),
    )


def blob(request: Request, kind: RepositoryType) -> Response:
    """A file."""
    hub, repository, git = repository_of(request, kind, Action.READ)
    revision, path = addresses.revision_and_path(request)
    commit = git.resolve(revision)
    entry = git.entry(commit, path)
    if entry.type == "directory":
        raise EntryNotFound(f"{path} is a folder; its files are at {addresses.at(repository, 'tree', revision, path)}")
    return page(
        request,
        "files/blob.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        revision=revision,
        path=path,
        refs=git.refs(),
        entry=entry,
        last=hub.last_commits.of(repository, commit, [path]).get(path),
        preview=preview(entry, partial(hub.contents.open, repository, entry), place(repository, revision, path)),
    )


def commits(request: Request, kind: RepositoryType) -> Response:
    """The history of a revision, or of one file or folder in it."""
    _, repository, git = repository_of(request, kind)
    revision, path = addresses.revision_and_path(request)
    number = page_number(request)
    found = git.commits(revision, start=(number - 1) * PAGE, limit=PAGE + 1, path=path or None)
    if not found:
        raise EntryNotFound(f"{path or 'this page'} has no history at {revision}")
    return page(
        request,
        "files/commits.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        revision=revision,
        path=path,
        refs=git.refs(),
        commits=found[:PAGE],
        **neighbours(request, number, more=len(found) > PAGE),
    )


def commit(request: Request, kind: RepositoryType) -> Response:
    """What a commit changed."""
    _, repository, git = repository_of(request, kind, Action.READ)
    revision, path = addresses.revision_and_path(request)
    if path:
        raise EntryNotFound(f"A commit's page shows all of it: {addresses.at(repository, 'commit', revision)}")
    found = git.describe(revision)
    changes = git.changes(found.oid)
    return page(
        request,
        "files/commit.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        commit=found,
        changes=changes[:CHANGES],
        total=len(changes),
        additions=sum(change.additions for change in changes),
        deletions=sum(change.deletions for change in changes),
    )


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The pages of a repository at `base`."""
    for view in (tree, blob, commits, commit):
        router.add_route(f"{base}/{view.__name__}/{{rest:path}}", partial(view, kind=kind))
