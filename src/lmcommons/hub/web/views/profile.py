"""What one says of oneself: the profile, and the e-mail address, which a link in a mail verifies."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.database.tables import LinkPurpose, now
from lmcommons.hub.errors import HubError, NotFound
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
        hub.limits.take_mail(own_name(request), form.get("email", ""))
        hub.mail_links.change_email(visitor(request), form.get("email", ""))
    except HubError as error:
        return _email_page(request, error=error, form=form)
    return RedirectResponse("/settings/email", 303)


def send_again(request: Request, form: Form) -> Response:
    """Send another link to the address that waits to be verified."""
    hub: Hub = request.app.state.hub
    actor = visitor(request)
    try:
        waiting = hub.mail_links.waiting(actor)
        hub.limits.take_mail(own_name(request), *([waiting.address] if waiting is not None else []))
        hub.mail_links.send_again(actor)
    except HubError as error:
        return _email_page(request, error=error)
    return RedirectResponse("/settings/email", 303)


def open_link(request: Request) -> Response:
    """What the link in a mail leads to: the address is verified by the form, as programs follow links too."""
    visitor(request)
    return _confirm_page(request, request.query_params.get("code", ""))


def confirm(request: Request, form: Form) -> Response:
    """Verify an address; the link says whose, whoever is signed in."""
    hub: Hub = request.app.state.hub
    code = form.get("code", "")
    try:
        hub.limits.take_sign_in(network_address(request))
        user = hub.mail_links.confirm(code)
    except HubError as error:
        return _confirm_page(request, code, error=error)
    return form_page(request, "account/confirm_email.html", None, user=user, link=None)


def _profile_page(request: Request, *, error: HubError | None = None, form: Form | None = None) -> Response:
    hub: Hub = request.app.state.hub
    found = hub.accounts.find(own_name(request))
    filled = form or {"fullname": found.fullname, "bio": found.bio, "website": found.website}
    return form_page(request, "account/profile.html", error, account=found, filled=filled)


def _email_page(request: Request, *, error: HubError | None = None, form: Form | None = None) -> Response:
    hub: Hub = request.app.state.hub
    present = hub.accounts.find(own_name(request)).email or ""
    waiting = hub.mail_links.waiting(visitor(request))
    return form_page(
        request,
        "account/email.html",
        error,
        present=present,
        waiting=waiting,
        has_ended=waiting is not None and waiting.expires_at <= now(),
        is_sent=hub.mail.is_sent,
        filled=form or {"email": waiting.address if waiting is not None else present},
    )


def _confirm_page(request: Request, code: str, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    link = None
    try:
        link = hub.mail_links.find(code, LinkPurpose.EMAIL)
    except NotFound as refused:
        error = error or refused
    return form_page(request, "account/confirm_email.html", error, user=None, link=link, code=code)


def add_routes(router: APIRouter) -> None:
    """/settings/profile, /settings/email and what the link in a mail leads to."""
    for view, answer in ((profile, change_profile), (email, change_email)):
        router.add_route(f"/settings/{view.__name__}", signed_in(view))
        router.add_route(f"/settings/{view.__name__}", form_handler(answer), methods=["POST"])
    router.add_route("/settings/email/again", form_handler(send_again), methods=["POST"])
    router.add_route("/settings/email/confirm", open_link)
    router.add_route("/settings/email/confirm", form_handler(confirm, signed_in=False), methods=["POST"])
