"""Who asked for the files of a gated repository, who may have them, and letting people in unasked."""

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import AccessStatus, RepositoryType
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.web.lookup import repository_of, row_number
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import Form, form_handler, visitor

SHOWN = 100  # requests of a page


def requests(request: Request, kind: RepositoryType) -> Response:
    """The requests that stand so, `?status=`, by default those that wait; the oldest first, after the one `?after=`."""
    return _page(request, kind)


def answer(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Accept or reject a request, or put it back among those that wait."""
    hub, repository, _ = repository_of(request, kind, Action.MANAGE)
    status, reason = _status(form.get("status", "")), form.get("reason", "").strip() or None
    try:
        hub.access.handle(visitor(request), repository, status, user=form.get("user", ""), reason=reason)
    except HubError as error:
        return _page(request, kind, error)
    return RedirectResponse(f"{addresses.repository(repository)}/access", 303)


def grant(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Let somebody in who need not have asked."""
    hub, repository, _ = repository_of(request, kind, Action.MANAGE)
    try:
        hub.access.grant(visitor(request), repository, form.get("user", "").strip())
    except HubError as error:
        return _page(request, kind, error, user=form.get("user", ""))
    return RedirectResponse(f"{addresses.repository(repository)}/access?status=accepted", 303)


def _status(text: str) -> AccessStatus:
    if text not in list(AccessStatus):
        raise BadRequest("status is one of {choices}, not {text!r}", choices=", ".join(AccessStatus), text=text[:40])
    return AccessStatus(text)


def _page(request: Request, kind: RepositoryType, error: HubError | None = None, *, user: str = "") -> Response:
    hub, repository, git = repository_of(request, kind, Action.MANAGE)
    status = _status(request.query_params.get("status", AccessStatus.PENDING))
    after = row_number("after", request.query_params.get("after", "0"))
    gated = bool(repository.gated)
    found = hub.access.requests(visitor(request), repository, status, after=after) if gated else []
    return page(
        request,
        "repository/access.html",
        status=error.status if error else 200,
        section=kind,
        repository=repository,
        branch=git.default_branch,
        requests=found[:SHOWN],
        more=found[SHOWN - 1].id if len(found) > SHOWN else None,
        standing=status,
        user=user,
        error=error and error.message,
    )


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The page of access requests at `base`."""
    router.add_route(f"{base}/access", partial(requests, kind=kind))
    router.add_route(f"{base}/access", form_handler(partial(answer, kind=kind)), methods=["POST"])
    router.add_route(f"{base}/access/grant", form_handler(partial(grant, kind=kind)), methods=["POST"])
