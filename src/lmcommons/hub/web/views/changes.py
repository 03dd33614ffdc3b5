"""How a repository changed: its history, a commit, what differs between two revisions, and in one file of them."""

from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.errors import BadRequest, EntryNotFound
from lmcommons.hub.repos import row_changes, tensors
from lmcommons.hub.repos.git import Change, GitRepository
from lmcommons.hub.web.lookup import neighbours, page_number, repository_of
from lmcommons.hub.web.rendering import page, wants_part
from lmcommons.hub.words import Words

PAGE = 30  # commits
CHANGES = 200  # files of a page
PATCHES = 100_000  # characters of the patches of a page; what is past them is a link to that file's alone
DIFFERENT_TENSORS = 500  # of a page
COMPARABLE = (".safetensors", *sorted(row_changes.SUFFIXES))  # files of which more can be said than that they differ


def commits(request: Request, kind: RepositoryType) -> Response:
    """The history of a revision, or of one file or folder in it."""
    _, repository, git = repository_of(request, kind)
    revision, path = addresses.revision_and_path(request)
    number = page_number(request)
    found = git.commits(revision, start=(number - 1) * PAGE, limit=PAGE + 1, path=path or None)
    if not found:
        raise EntryNotFound("{path} has no history at {revision}", path=path or Words("this page"), revision=revision)
    shown = found[:PAGE]
    first = shown[-1]
    rename = None
    if path and len(found) <= PAGE and first.parents:
        rename = git.renames(first.parents[0], first.oid).get(path)
    return page(
        request,
        "files/commits.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        revision=revision,
        path=path,
        refs=git.refs(),
        commits=shown,
        first=first,
        rename=rename,
        entries={commit.oid: entry for commit in shown for entry in git.existing(commit.oid, [path])} if path else {},
        **neighbours(request, number, more=len(found) > PAGE),
    )


def commit(request: Request, kind: RepositoryType) -> Response:
    """What a commit changed."""
    _, repository, git = repository_of(request, kind, Action.READ)
    revision, path = addresses.revision_and_path(request)
    if path:
        raise EntryNotFound(
            "A commit's page shows all of it: {address}", address=addresses.at(repository, "commit", revision)
        )
    found = git.describe(revision)
    return page(
        request,
        "files/commit.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        commit=found,
        **_changes(request, git.changes(found.oid), next(iter(found.parents), None), found.oid),
    )


def compare(request: Request, kind: RepositoryType) -> Response:
    """What differs between two revisions, `A..B`; with `A...B`, from where B left A."""
    _, repository, git = repository_of(request, kind, Action.READ)
    between, path = addresses.revision_and_path(request)
    if path:
        raise EntryNotFound("Write revisions with a slash in their names as feature%2Fname")
    one, other = _revisions(between)
    base, head = _ends(git, between)
    return page(
        request,
        "files/compare.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        refs=git.refs(),
        one=one,
        other=other,
        commits=git.log(base, head, limit=PAGE),
        commits_limit=PAGE,
        **_changes(request, git.changes(head, base), base, head),
    )


def choose(request: Request, kind: RepositoryType) -> Response:
    """The comparison of the two revisions that were chosen in a form; by default of the default branch with itself."""
    _, repository, git = repository_of(request, kind, Action.READ)
    chosen = (request.query_params.get(name) or git.default_branch for name in ("base", "head"))
    between = "..".join(quote(revision, safe="") for revision in chosen)
    return RedirectResponse(f"{addresses.repository(repository)}/compare/{between}", 303)


def difference(request: Request, kind: RepositoryType) -> Response:
    """How a file of tensors or rows differs between two revisions, in the first of which it may have another path."""
    hub, repository, git = repository_of(request, kind, Action.READ)
    between, path = addresses.revision_and_path(request)
    base, head = _ends(git, between)
    former_path = request.query_params.get("from") or path
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in COMPARABLE:
        raise BadRequest(
            "{path}: tensors and rows are compared, in files of {choices}",
            path=path,
            choices=", ".join(COMPARABLE),
        )
    former, present = git.entry(base, former_path), git.entry(head, path)
    found: Any = None
    problem = None
    with hub.contents.open(repository, former) as before, hub.contents.open(repository, present) as after:
        try:
            if suffix == ".safetensors":
                found = tensors.difference(before, after)
            else:
                found = row_changes.row_changes(before, after, suffix)
        except ValueError as error:
            problem = str(error)
    return page(
        request,
        "files/difference_part.html" if wants_part(request) else "files/difference.html",
        section=kind,
        repository=repository,
        branch=git.default_branch,
        base=base,
        head=head,
        path=path,
        tensors=found if suffix == ".safetensors" else None,
        rows=found if suffix != ".safetensors" else None,
        problem=problem,
        limit=DIFFERENT_TENSORS,
    )


def _revisions(between: str) -> tuple[str, str]:
    """The two revisions of `A..B` or `A...B`; no name of a branch or tag has two dots."""
    one, dots, other = between.partition("..")
    if not (one and dots and other.removeprefix(".")):
        raise BadRequest("{between!r} does not name two revisions: write them as main..v1.0", between=between[:200])
    return one, other.removeprefix(".")


def _ends(git: GitRepository, between: str) -> tuple[str, str]:
    """The two commits."""
    one, other = _revisions(between)
    base, head = git.resolve(one), git.resolve(other)
    if "..." in between:
        base = git.merge_base(base, head) or base
    return base, head


def _changes(request: Request, changes: Sequence[Change], base: str | None, head: str) -> dict[str, Any]:
    """What the template of changed files takes: those of a page, and which of them have no room for their patches."""
    only = request.query_params.get("file")
    shown = [change for change in changes if only in (None, change.path)][:CHANGES]
    if only is not None and not shown:
        raise EntryNotFound("{only!r} was not changed here", only=only[:200])
    left, folded = PATCHES, set()
    for change in shown:
        left -= len(change.patch or "")
        if left < 0 and only is None:
            folded.add(change.path)
    return {
        "base": base,
        "head": head,
        "changes": shown,
        "folded": folded,
        "only": only,
        **counts(changes),
    }


def counts(changes: Sequence[Change]) -> dict[str, Any]:
    """What the templates say of all changed files, and the endings of those of which more can be said."""
    return {
        "total": len(changes),
        "renamed": sum(change.rename is not None for change in changes),
        "additions": sum(change.additions for change in changes),
        "deletions": sum(change.deletions for change in changes),
        "comparable": COMPARABLE,
    }


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The pages of a repository at `base`."""
    router.add_route(f"{base}/compare", partial(choose, kind=kind))
    for view in (commits, commit, compare, difference):
        router.add_route(f"{base}/{view.__name__}/{{rest:path}}", partial(view, kind=kind))
