"""SSH keys of the visitor, where the hub answers git over SSH."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.errors import HubError, NotFound
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.forms import form_page, own_name
from lmcommons.hub.web.visitors import Form, form_handler, signed_in


def keys(request: Request) -> Response:
    """The keys, and the form for another one."""
    return _page(request, {})


def add(request: Request, form: Form) -> Response:
    """Take a key."""
    hub: Hub = request.app.state.hub
    try:
        hub.keys.add(own_name(request), form.get("name", ""), form.get("key", ""))
    except HubError as error:
        return _page(request, form, error=error)
    return RedirectResponse("/settings/keys", 303)


def remove(request: Request, form: Form) -> Response:
    """Let a key sign in no more."""
    hub: Hub = request.app.state.hub
    hub.keys.remove(own_name(request), request.path_params["key_id"])
    return RedirectResponse("/settings/keys", 303)


def _page(request: Request, filled: Form, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    if hub.settings.ssh_url is None:
        raise NotFound("This hub does not offer git over SSH; sign in with a token, over HTTP")
    found = hub.keys.of(own_name(request))
    return form_page(request, "account/keys.html", error, keys=found, filled=filled)


def add_routes(router: APIRouter) -> None:
    """/settings/keys."""
    router.add_route("/settings/keys", signed_in(keys))
    router.add_route("/settings/keys", form_handler(add), methods=["POST"])
    router.add_route("/settings/keys/{key_id:int}/remove", form_handler(remove), methods=["POST"])
