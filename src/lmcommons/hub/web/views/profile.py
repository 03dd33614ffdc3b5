"""What one says of oneself: profile and e-mail address."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.errors import HubError
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.forms import form_page, network_address, own_name
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor


def profile(request: Request) -> Response:
    """What the visitor says of themselves."""
    return _profile_page(request)


def change_profile(request: Request, form: Form) -> Response:
    """Say something else."""
    hub: Hub = request.app.state.hub
    try:
        changed = hub.profiles.change(
            visitor(request),
            own_name(request),
            fullname=form.get("fullname", ""),
            bio=form.get("bio", ""),
            website=form.get("website", ""),
        )
    except HubError as error:
        return _profile_page(request, error=error, form=form)
    return RedirectResponse(f"/{changed.name}", 303)


def email(request: Request) -> Response:
    """The visitor's e-mail address."""
    return _email_page(request)


def change_email(request: Request, form: Form) -> Response:
    """Give another address, or none; the password shows that it is no stolen browser."""
    hub: Hub = request.app.state.hub
    try:
        hub.limits.take_sign_in(network_address(request), own_name(request))
        hub.sign_in.require_password(visitor(request), form.get("present", ""))
        hub.profiles.change_email(visitor(request), form.get("email", ""))
    except HubError as error:
        return _email_page(request, error=error, form=form)
    return RedirectResponse("/settings/email", 303)


def _profile_page(request: Request, *, error: HubError | None = None, form: Form | None = None) -> Response:
    hub: Hub = request.app.state.hub
    found = hub.accounts.find(own_name(request))
    filled = form or {"fullname": found.fullname, "bio": found.bio, "website": found.website}
    return form_page(request, "account/profile.html", error, account=found, filled=filled)


def _email_page(request: Request, *, error: HubError | None = None, form: Form | None = None) -> Response:
    hub: Hub = request.app.state.hub
    present = hub.accounts.find(own_name(request)).email or ""
    return form_page(request, "account/email.html", error, present=present, filled=form or {"email": present})


def add_routes(router: APIRouter) -> None:
    """/settings/profile, /settings/email."""
    for view, answer in ((profile, change_profile), (email, change_email)):
        router.add_route(f"/settings/{view.__name__}", signed_in(view))
        router.add_route(f"/settings/{view.__name__}", form_handler(answer), methods=["POST"])
