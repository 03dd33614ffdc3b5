"""How one signs in: password, second factor, sessions, tokens."""

from datetime import timedelta

import segno
from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.permissions import RIGHTS, Action
from lmcommons.hub.accounts.sign_in import COOKIE, PASSWORD_LENGTH, session_id
from lmcommons.hub.database.tables import TokenRole
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.forms import agent, form_page, network_address, own_name, with_session
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

EXPIRIES = (7, 30, 90, 365)  # days that the page for tokens offers
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
    """Show what an authenticator is given."""
    return _enrolment_page(request)


def confirm_two_factor(request: Request, form: Form) -> Response:
    """Turn it on with a first code, and show the recovery codes this once."""
    hub: Hub = request.app.state.hub
    try:
        hub.limits.take_sign_in(network_address(request), own_name(request))
        codes = hub.two_factors.confirm(visitor(request), form.get("code", ""))
    except HubError as error:
        return _enrolment_page(request, error=error)
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


def _enrolment_page(request: Request, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    try:
        begun = hub.two_factors.begin(visitor(request))
    except HubError as refused:  # it is on already
        return _two_factor_page(request, error=refused)
    drawn = segno.make_qr(begun.uri, error="m").svg_inline(border=QR_BORDER, light="#fff", omitsize=True)
    picture = Markup(drawn)  # noqa: S704 - paths alone
    return form_page(request, "account/enrol.html", error, secret=begun.secret, qr=picture)


# ---------------------------------------------------------------- sessions


def sessions(request: Request) -> Response:
    """Where the visitor is signed in."""
    hub: Hub = request.app.state.hub
    present = digest(request.cookies.get(COOKIE, ""))
    found = [(each, session_id(each), each.sha256 == present) for each in hub.sign_in.sessions(visitor(request))]
    return form_page(request, "account/sessions.html", None, sessions=found)


def end_session(request: Request, form: Form) -> Response:
    """Sign out in one browser."""
    hub: Hub = request.app.state.hub
    hub.sign_in.end_session(visitor(request), request.path_params["session_id"])
    return RedirectResponse("/settings/sessions", 303)


def end_other_sessions(request: Request, form: Form) -> Response:
    """Sign out in all other browsers."""
    hub: Hub = request.app.state.hub
    hub.sign_in.end_other_sessions(visitor(request), request.cookies.get(COOKIE))
    return RedirectResponse("/settings/sessions", 303)


# ---------------------------------------------------------------- tokens


def tokens(request: Request) -> Response:
    """The visitor's tokens, and the form for another one."""
    return _tokens_page(request)


def add_token(request: Request, form: Form) -> Response:
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
        )
    except HubError as error:
        return _tokens_page(request, error=error, form=form)
    return _tokens_page(request, made=text)


def revoke_token(request: Request, form: Form) -> Response:
    """End a token."""
    hub: Hub = request.app.state.hub
    hub.tokens.revoke(own_name(request), request.path_params["token_id"])
    return RedirectResponse("/settings/tokens", 303)


def _tokens_page(
    request: Request, *, made: str | None = None, error: HubError | None = None, form: Form | None = None
) -> Response:
    hub: Hub = request.app.state.hub
    return form_page(
        request,
        "account/tokens.html",
        error,
        tokens=hub.tokens.of(own_name(request)),
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
    """/settings/password, /settings/two-factor, /settings/sessions, /settings/tokens."""
    for view in (password, sessions, tokens):
        router.add_route(f"/settings/{view.__name__}", signed_in(view))
    router.add_route("/settings/two-factor", signed_in(two_factor))
    for address, answer in (
        ("password", change_password),
        ("two-factor/begin", begin_two_factor),
        ("two-factor/confirm", confirm_two_factor),
        ("two-factor/recovery-codes", renew_recovery_codes),
        ("two-factor/off", turn_off_two_factor),
        ("sessions/end-others", end_other_sessions),
        ("sessions/{session_id}/end", end_session),
        ("tokens", add_token),
        ("tokens/{token_id:int}/revoke", revoke_token),
    ):
        router.add_route(f"/settings/{address}", form_handler(answer), methods=["POST"])
