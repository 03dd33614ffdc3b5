"""How one signs in by a browser: password, second factor, sessions."""

import segno
from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.browser_sessions import COOKIE, session_id
from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.passwords import PASSWORD_LENGTH
from lmcommons.hub.accounts.two_factor import Enrolment
from lmcommons.hub.errors import BadRequest, Conflict, HubError
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.forms import agent, form_page, network_address, own_name, with_session
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

QR_BORDER = 4  # modules around a QR code (ISO/IEC 18004, 5.3.8)


# ---------------------------------------------------------------- password


def password(request: Request) -> Response:
    """The form for another password."""
    return _password_page(request)


def change_password(request: Request, form: Form) -> Response:
    """Change the password; other browsers are signed out."""
    hub: Hub = request.app.state.hub
    try:
        hub.limits.take_sign_in(network_address(request), own_name(request))
        if form.get("wanted") != form.get("again"):
            raise BadRequest("The two new passwords differ")
        cookie = hub.sign_in.change_password(
            visitor(request), form.get("present", ""), form.get("wanted", ""), agent=agent(request)
        )
    except HubError as error:
        return _password_page(request, error=error)
    return with_session(request, cookie, "/settings/tokens")


def _password_page(request: Request, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    has_password = hub.sign_in.has_password(visitor(request))
    return form_page(
        request, "account/password.html", error, password_length=PASSWORD_LENGTH[0], has_password=has_password
    )


# ---------------------------------------------------------------- two-factor sign-in


def two_factor(request: Request) -> Response:
    """Whether signing in asks for a code, and how to change that."""
    return _two_factor_page(request)


def begin_two_factor(request: Request, form: Form) -> Response:
    """Show what an authenticator is given; the password shows that it is no stolen browser."""
    hub: Hub = request.app.state.hub
    try:
        hub.limits.take_sign_in(network_address(request), own_name(request))
        hub.sign_in.require_password(visitor(request), form.get("present", ""))
        begun = hub.two_factors.begin(visitor(request))
    except HubError as error:
        return _two_factor_page(request, error=error)
    return _enrolment_page(request, begun)


def confirm_two_factor(request: Request, form: Form) -> Response:
    """Turn it on with a first code, and show the recovery codes this once."""
    hub: Hub = request.app.state.hub
    try:
        hub.limits.take_sign_in(network_address(request), own_name(request))
        codes = hub.two_factors.confirm(visitor(request), form.get("code", ""))
    except HubError as error:
        try:
            return _enrolment_page(request, hub.two_factors.begun(visitor(request)), error=error)
        except Conflict:
            return _two_factor_page(request, error=error)
    return _two_factor_page(request, codes=codes)


def renew_recovery_codes(request: Request, form: Form) -> Response:
    """New recovery codes, shown this once."""
    hub: Hub = request.app.state.hub
    try:
        hub.limits.take_sign_in(network_address(request), own_name(request))
        codes = hub.two_factors.renew_recovery_codes(visitor(request), form.get("code", ""))
    except HubError as error:
        return _two_factor_page(request, error=error)
    return _two_factor_page(request, codes=codes)


def turn_off_two_factor(request: Request, form: Form) -> Response:
    """Ask for no code any more."""
    hub: Hub = request.app.state.hub
    try:
        hub.limits.take_sign_in(network_address(request), own_name(request))
        hub.sign_in.turn_off_two_factor(visitor(request), form.get("present", ""), form.get("code", ""))
    except HubError as error:
        return _two_factor_page(request, error=error)
    return RedirectResponse("/settings/two-factor", 303)


def _two_factor_page(request: Request, *, codes: list[str] | None = None, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    account_id = visitor(request).account_id or 0
    return form_page(
        request,
        "account/two_factor.html",
        error,
        on=hub.two_factors.is_on(account_id),
        left=hub.two_factors.recovery_codes_left(account_id),
        codes=codes,
    )


def _enrolment_page(request: Request, begun: Enrolment, *, error: HubError | None = None) -> Response:
    drawn = segno.make_qr(begun.uri, error="m").svg_inline(border=QR_BORDER, light="#fff", omitsize=True)
    picture = Markup(drawn)  # noqa: S704 - paths alone
    return form_page(request, "account/enrol.html", error, secret=begun.secret, qr=picture)


# ---------------------------------------------------------------- sessions


def sessions(request: Request) -> Response:
    """Where the visitor is signed in."""
    hub: Hub = request.app.state.hub
    present = digest(request.cookies.get(COOKIE, ""))
    found = [(each, session_id(each), each.sha256 == present) for each in hub.browser_sessions.of(visitor(request))]
    return form_page(request, "account/sessions.html", None, sessions=found)


def end_session(request: Request, form: Form) -> Response:
    """Sign out in one browser."""
    hub: Hub = request.app.state.hub
    hub.browser_sessions.end(visitor(request), request.path_params["session_id"])
    return RedirectResponse("/settings/sessions", 303)


def end_other_sessions(request: Request, form: Form) -> Response:
    """Sign out in all other browsers."""
    hub: Hub = request.app.state.hub
    hub.browser_sessions.end_others(visitor(request), request.cookies.get(COOKIE))
    return RedirectResponse("/settings/sessions", 303)


def add_routes(router: APIRouter) -> None:
    """/settings/password, /settings/two-factor, /settings/sessions."""
    for address, view in (("password", password), ("two-factor", two_factor), ("sessions", sessions)):
        router.add_route(f"/settings/{address}", signed_in(view))
    for address, answer in (
        ("password", change_password),
        ("two-factor/begin", begin_two_factor),
        ("two-factor/confirm", confirm_two_factor),
        ("two-factor/recovery-codes", renew_recovery_codes),
        ("two-factor/off", turn_off_two_factor),
        ("sessions/end-others", end_other_sessions),
        ("sessions/{session_id}/end", end_session),
    ):
        router.add_route(f"/settings/{address}", form_handler(answer), methods=["POST"])
