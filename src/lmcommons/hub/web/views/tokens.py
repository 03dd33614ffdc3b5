"""Tokens of the visitor, by which programs sign in."""

from datetime import timedelta

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.permissions import RIGHTS, Action
from lmcommons.hub.accounts.tokens import stored_scopes
from lmcommons.hub.database.tables import RepositoryType, TokenRole
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.forms import form_page, own_name
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

EXPIRIES = (7, 30, 90, 365)  # days that the page offers


def tokens(request: Request) -> Response:
    """The visitor's tokens, and the form for another one."""
    return _page(request)


def add(request: Request, form: Form) -> Response:
    """Make a token, and show it this once."""
    hub: Hub = request.app.state.hub
    name = own_name(request)
    try:
        days = form.get("expires", "")
        if days and days not in map(str, EXPIRIES):
            raise BadRequest("A token ends after {choices} days, or never", choices=", ".join(map(str, EXPIRIES)))
        text = hub.tokens.add(
            name,
            form.get("name", "").strip(),
            _role(form.get("role", "")),
            scopes=_scopes(form.get("scopes", "")),
            life=timedelta(days=int(days)) if days else None,
            by=visitor(request),
        )
    except HubError as error:
        return _page(request, error=error, form=form)
    return _page(request, made=text)


def revoke(request: Request, form: Form) -> Response:
    """End a token."""
    hub: Hub = request.app.state.hub
    hub.tokens.revoke(own_name(request), request.path_params["token_id"], by=visitor(request))
    return RedirectResponse("/settings/tokens", 303)


def _page(
    request: Request, *, made: str | None = None, error: HubError | None = None, form: Form | None = None
) -> Response:
    hub: Hub = request.app.state.hub
    found = hub.tokens.of(own_name(request))
    return form_page(
        request,
        "account/tokens.html",
        error,
        tokens=[(token, _lines(hub.tokens.scopes_of(visitor(request), stored_scopes(token)))) for token in found],
        made=made,
        filled=form or {},
        roles=list(TokenRole),
        rights=list(RIGHTS),
        expiries=EXPIRIES,
    )


def _role(text: str) -> TokenRole:
    if text not in list(TokenRole):
        raise BadRequest("A token's role is one of {choices}", choices=", ".join(TokenRole))
    return TokenRole(text)


def _lines(scopes: list[tuple[str, str, int, Action]]) -> list[str]:
    """Scopes as the form takes them."""
    prefixes = {kind.value: kind.prefix for kind in RepositoryType}
    return [f"{prefixes.get(kind, '')}{name}:{right}" for kind, name, _, right in scopes]


def _scopes(text: str) -> dict[str, Action]:
    """Lines of `PATH:RIGHT`, as `lmc hub token add --repository` takes them."""
    scopes = {}
    for line in text.split():
        path, _, right = line.rpartition(":")
        if right not in list(RIGHTS):
            raise BadRequest(
                "{line}: write PATH:RIGHT, with a right of {choices}", line=line[:200], choices=", ".join(RIGHTS)
            )
        scopes[path] = Action(right)
    return scopes


def add_routes(router: APIRouter) -> None:
    """/settings/tokens."""
    router.add_route("/settings/tokens", signed_in(tokens))
    router.add_route("/settings/tokens", form_handler(add), methods=["POST"])
    router.add_route("/settings/tokens/{token_id:int}/revoke", form_handler(revoke), methods=["POST"])
