"""The files of a repository: folders, a file, a tensor of it."""

import re
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, EntryNotFound
from lmcommons.hub.repos import tensors
from lmcommons.hub.repos.git import Entry, GitRepository
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.charts import Bars, histogram
from lmcommons.hub.web.lookup import neighbours, page_number, place, repository_of
from lmcommons.hub.web.previews.files import LINES, preview
from lmcommons.hub.web.rendering import page, wants_part
from lmcommons.hub.words import Words

FOLDER_PAGE = 100  # files; each is followed to its last commit


def tree(request: Request, kind: RepositoryType) -> Response:
    """The files of a folder, each with its last commit."""
    hub, repository, git = repository_of(request, kind)
    revision, path = addresses.revision_and_path(request)
    number = page_number(request)
    head = git.describe(revision)
    if path and git.entry(head.oid, path).type == "file":
        return RedirectResponse(addresses.at(repository, "blob", revision, path), 303)
    start = (number - 1) * FOLDER_PAGE
    entries = git.entries(head.oid, path, folders_first=True, start=start, limit=FOLDER_PAGE + 1)
    if number > 1 and not entries:
        raise EntryNotFound("{path} has no page {number}", path=path or Words("The first folder"), number=number)
    shown = entries[:FOLDER_PAGE]
    refs, distance = git.refs(), None
    if revision != git.default_branch and {revision, git.default_branch} <= {ref.name for ref in refs.branches}:
        distance = git.distance(git.default_branch, head.oid)
    last_commits = hub.last_commits.of(repository, head.oid, [path, *(entry.path for entry in shown)])
    return page(
        request,
        "files/tree.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        revision=revision,
        path=path,
        refs=refs,
        distance=distance,
        commit=last_commits.get(path, head),
        entries=shown,
        in_xet=_in_xet(hub, shown),
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
        return RedirectResponse(addresses.at(repository, "tree", revision, path), 303)
    number = _page_of_line(request) or page_number(request)
    shown = preview(
        entry,
        lambda path: hub.contents.open(repository, _file(git, repository, commit, path)),
        place(hub, repository, revision, path),
        page=number,
        query=request.query_params,
    )
    return page(
        request,
        "files/blob.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        revision=revision,
        path=path,
        refs=git.refs(),
        commit=commit,
        entry=entry,
        in_xet=_in_xet(hub, [entry]),
        last=hub.last_commits.of(repository, commit, [path]).get(path),
        preview=shown,
        is_source=request.query_params.get("view") == "source",
        **neighbours(request, number, more=shown.more),
    )


def tensor(request: Request, kind: RepositoryType) -> Response:
    """The statistics of a tensor of a safetensors file."""
    hub, repository, git = repository_of(request, kind, Action.READ)
    revision, path = addresses.revision_and_path(request)
    entry = _file(git, repository, git.resolve(revision), path)
    name = request.query_params.get("name", "")
    with hub.contents.open(repository, entry) as file:
        try:
            found = tensors.layout(file).get(name)
        except ValueError as error:
            raise BadRequest("{path}: {reason}", path=path, reason=error) from error
        if found is None:
            raise EntryNotFound("{path} has no tensor {name!r}", path=path, name=name[:200])
        try:
            statistics, problem = tensors.statistics(file, found), None
        except ValueError as error:
            statistics, problem = None, str(error)
    return page(
        request,
        "files/statistics.html" if wants_part(request) else "files/tensor.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        revision=revision,
        path=path,
        refs=git.refs(),
        tensor=found,
        statistics=statistics,
        problem=problem,
        bars=_bars(statistics),
    )


def _page_of_line(request: Request) -> int | None:
    """The page with the line of a text that the address asks for."""
    line = request.query_params.get("line", "")
    if "page" in request.query_params or not re.fullmatch("[1-9][0-9]{0,6}", line):
        return None
    return (int(line) - 1) // LINES + 1


def _bars(statistics: tensors.Statistics | None) -> Bars | None:
    if statistics is None or statistics.histogram is None:
        return None
    return histogram(statistics.histogram.edges, statistics.histogram.counts)


def _file(git: GitRepository, repository: Repository, commit: str, path: str) -> Entry:
    """The file at `path`."""
    entry = git.entry(commit, path)
    if entry.type == "directory":
        raise EntryNotFound(
            "{path} is a folder; its files are at {address}",
            path=path,
            address=addresses.at(repository, "tree", commit, path),
        )
    return entry


def _in_xet(hub: Hub, entries: list[Entry]) -> set[str]:
    """The sha256s of those of the large files that are made of Xet chunks."""
    return set(hub.objects.xet.hash_of({entry.lfs.sha256 for entry in entries if entry.lfs}))


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The pages of a repository at `base`."""
    for view in (tree, blob, tensor):
        router.add_route(f"{base}/{view.__name__}/{{rest:path}}", partial(view, kind=kind))
