"""Branches and tags: what there is, and making and removing them."""

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.errors import HubError
from lmcommons.hub.repos.reader import DEFAULT_BRANCH
from lmcommons.hub.web.lookup import repository_of
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import Form, form_handler, visitor

SHOWN = 500  # branches, and tags


def references(request: Request, kind: RepositoryType) -> Response:
    """All branches and tags, each with its commit."""
    return _page(request, kind, {})


def create(request: Request, form: Form, kind: RepositoryType, what: str) -> Response:
    """Make a branch or a tag."""
    hub, repository, _ = repository_of(request, kind, Action.WRITE)
    name, start = form.get("name", "").strip(), form.get("start", "").strip()
    try:
        if what == "branch":
            hub.commits.create_branch(visitor(request), repository, name, start)
        else:
            hub.commits.create_tag(visitor(request), repository, name, start, form.get("message", "").strip())
    except HubError as error:
        return _page(request, kind, form, what=what, error=error)
    return RedirectResponse(f"{addresses.repository(repository)}/refs", 303)


def delete(request: Request, form: Form, kind: RepositoryType, what: str) -> Response:
    """Remove a branch or a tag; its commits stay readable by their ids."""
    hub, repository, _ = repository_of(request, kind, Action.WRITE)
    act = hub.commits.delete_branch if what == "branch" else hub.commits.delete_tag
    act(visitor(request), repository, form.get("name", ""))
    return RedirectResponse(f"{addresses.repository(repository)}/refs", 303)


def _page(
    request: Request, kind: RepositoryType, filled: Form, *, what: str = "", error: HubError | None = None
) -> Response:
    _, repository, git = repository_of(request, kind)
    refs = git.refs()
    shown = [*refs.branches[:SHOWN], *refs.tags[:SHOWN]]
    return page(
        request,
        "repository/references.html",
        status=error.status if error else 200,
        section=kind,
        repository=repository,
        branch=git.default_branch,
        fixed={DEFAULT_BRANCH, git.default_branch},
        refs=refs,
        limit=SHOWN,
        commits=git.describe_all({ref.target for ref in shown}),
        filled=filled,
        what=what,
        error=error and error.message,
    )


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The page of branches and tags at `base`."""
    router.add_route(f"{base}/refs", partial(references, kind=kind))
    for what in ("branch", "tag"):
        making, removing = (form_handler(partial(act, kind=kind, what=what)) for act in (create, delete))
        router.add_route(f"{base}/refs/{what}", making, methods=["POST"])
        router.add_route(f"{base}/refs/{what}/delete", removing, methods=["POST"])
