"""A repository's settings: who sees it, who may have its files, what it is called, and whether it stays."""

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import Gate, RepositoryType
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.web.lookup import repository_of
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import Form, form_handler, visitor


def settings(request: Request, kind: RepositoryType) -> Response:
    """All settings of a repository."""
    return _page(request, kind, {})


def change(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Change who sees it, who may have its files, and its default branch."""
    hub, repository, git = repository_of(request, kind, Action.MANAGE)
    visibility, gate, branch = (form.get(name, "") for name in ("visibility", "gated", "branch"))
    try:
        if visibility not in ("public", "private") or gate not in list(Gate):
            raise BadRequest("visibility is public or private, and gated is empty, auto or manual")
        if branch and branch != git.default_branch:
            repository = hub.commits.set_default_branch(visitor(request), repository, branch)
        private = visibility == "private"
        hub.repositories.change(visitor(request), kind, repository.full_name, private=private, gated=Gate(gate))
    except HubError as error:
        return _page(request, kind, form, part="general", error=error)
    return RedirectResponse(f"{addresses.repository(repository)}/settings", 303)


def move(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Another name, another owner, or both."""
    hub, repository, _ = repository_of(request, kind, Action.MANAGE)
    current = f"{form.get('owner', '')}/{form.get('name', '').strip()}"
    try:
        repository = hub.repositories.move(visitor(request), kind, repository.full_name, current)
    except HubError as error:
        return _page(request, kind, form, part="move", error=error)
    return RedirectResponse(f"{addresses.repository(repository)}/settings", 303)


def delete(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Delete the repository, when its name was typed."""
    hub, repository, _ = repository_of(request, kind, Action.MANAGE)
    if form.get("typed", "").strip() != repository.full_name:
        error = BadRequest("To delete it, type {repository}", repository=repository.full_name)
        return _page(request, kind, form, part="delete", error=error)
    hub.repositories.delete(visitor(request), kind, repository.full_name)
    return RedirectResponse(f"/{repository.account.name}", 303)


def _page(
    request: Request, kind: RepositoryType, filled: Form, *, part: str = "", error: HubError | None = None
) -> Response:
    hub, repository, git = repository_of(request, kind, Action.MANAGE)
    others = (each.name for each in hub.organisations.namespaces(visitor(request)))
    return page(
        request,
        "repository/settings.html",
        status=error.status if error else 200,
        section=kind,
        repository=repository,
        branch=git.default_branch,
        branches=[ref.name for ref in git.refs().branches],
        owners=list(dict.fromkeys([repository.account.name, *others])),
        filled=filled,
        part=part,
        error=error and error.message,
    )


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The settings at `base`."""
    router.add_route(f"{base}/settings", partial(settings, kind=kind))
    for path, act in (("", change), ("/move", move), ("/delete", delete)):
        router.add_route(f"{base}/settings{path}", form_handler(partial(act, kind=kind)), methods=["POST"])
