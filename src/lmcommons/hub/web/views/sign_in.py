"""Signing in and out, joining, a forgotten password, and letting a program sign in.

Forms of a signed-in visitor carry the session's secret; the session's cookie changes whenever somebody signs in.
"""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.browser_sessions import COOKIE
from lmcommons.hub.accounts.passwords import PASSWORD_LENGTH
from lmcommons.hub.accounts.sign_in import SecondStep
from lmcommons.hub.database.tables import LinkPurpose
from lmcommons.hub.errors import BadRequest, HubError, NotFound, Unauthorized
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import SignUp
from lmcommons.hub.web.forms import agent, form_page, network_address, own_name, with_session
from lmcommons.hub.web.language import language_of
from lmcommons.hub.web.visitors import Form, form_handler, local, signed_in, visitor


def login(request: Request) -> Response:
    """The form to sign in."""
    visitor(request)
    return _login_page(request, {"next": request.query_params.get("next", "")})


def sign_in(request: Request, form: Form) -> Response:
    """Sign in, and go on to where the visitor wanted to be; or first to the form for a code."""
    hub: Hub = request.app.state.hub
    name = form.get("name", "")
    try:
        hub.limits.take_sign_in(network_address(request), name)
        done = hub.sign_in.sign_in(
            name, form.get("password", ""), former=request.cookies.get(COOKIE), agent=agent(request)
        )
    except HubError as error:
        return _login_page(request, form, error=error)
    if isinstance(done, SecondStep):
        return _code_page(request, done.ticket, form)
    has_password = hub.sign_in.has_password(hub.browser_sessions.actor(done))
    return with_session(request, done, local(form.get("next", "")) if has_password else "/settings/password")


def second_step(request: Request, form: Form) -> Response:
    """Sign in with the code of an authenticator, after the password."""
    hub: Hub = request.app.state.hub
    ticket = form.get("ticket", "")
    try:
        name = hub.sign_in.name_of(ticket)
    except Unauthorized as error:
        return _login_page(request, form, error=error)
    try:
        hub.limits.take_sign_in(network_address(request), name)
        cookie = hub.sign_in.second_step(
            ticket, form.get("code", ""), former=request.cookies.get(COOKIE), agent=agent(request)
        )
    except HubError as error:
        return _code_page(request, ticket, form, error=error)
    return with_session(request, cookie, local(form.get("next", "")))


def logout(request: Request, form: Form) -> Response:
    """Sign out."""
    hub: Hub = request.app.state.hub
    hub.browser_sessions.sign_out(request.cookies.get(COOKIE))
    response = RedirectResponse("/", 303)
    response.delete_cookie(COOKIE)
    return response


def join(request: Request) -> Response:
    """The form to make an account."""
    visitor(request)
    return _join_page(request, {"code": request.query_params.get("code", "")})


def make_account(request: Request, form: Form) -> Response:
    """Make an account, and sign in."""
    hub: Hub = request.app.state.hub
    try:
        hub.limits.take_sign_in(network_address(request))
        if form.get("email", "").strip():
            hub.limits.take_mail(form["email"])
        cookie = hub.joining.join(
            form.get("name", "").strip(),
            form.get("password", ""),
            fullname=form.get("fullname", "").strip() or None,
            email=form.get("email", "").strip() or None,
            language=language_of(request),
            code=form.get("code", ""),
            agent=agent(request),
        )
    except HubError as error:
        return _join_page(request, form, error=error)
    return with_session(request, cookie, "/settings/tokens")


def forgotten(request: Request) -> Response:
    """The form of who forgot a password; or that a mail is under way, if there is such an account."""
    visitor(request)
    return _forgotten_page(request, {})


def send_link(request: Request, form: Form) -> Response:
    """Send a link to choose a new password."""
    hub: Hub = request.app.state.hub
    named = form.get("named", "")
    try:
        hub.limits.take_sign_in(network_address(request))
        hub.limits.take_mail(named)
        hub.mail_links.forgotten(named)
    except HubError as error:
        return _forgotten_page(request, form, error=error)
    return RedirectResponse("/login/forgotten?sent=yes", 303)


def new_password(request: Request) -> Response:
    """What the link in a mail leads to: the form for a new password."""
    visitor(request)
    hub: Hub = request.app.state.hub
    code = request.query_params.get("code", "")
    try:
        hub.mail_links.find(code, LinkPurpose.PASSWORD)
    except NotFound as error:
        return _forgotten_page(request, {}, error=error)
    return _new_password_page(request, code)


def choose_password(request: Request, form: Form) -> Response:
    """Choose a new password by a link; signing in with it still asks for a code, where that is turned on."""
    hub: Hub = request.app.state.hub
    code = form.get("code", "")
    try:
        hub.limits.take_sign_in(network_address(request))
        if form.get("wanted") != form.get("again"):
            raise BadRequest("The two new passwords differ")
        hub.sign_in.reset_password(code, form.get("wanted", ""))
    except NotFound as error:
        return _forgotten_page(request, {}, error=error)
    except HubError as error:
        return _new_password_page(request, code, error=error)
    return RedirectResponse("/login?changed=yes", 303)


def device(request: Request) -> Response:
    """The form to enter the code that a program shows."""
    return _device_page(request, code=request.query_params.get("user_code", "")[:20])


def answer_device(request: Request, form: Form) -> Response:
    """Let the program sign in, or refuse it."""
    hub: Hub = request.app.state.hub
    name, approve = own_name(request), form.get("answer") == "approve"
    try:
        hub.limits.take_sign_in(network_address(request), name)
        hub.device_logins.answer(visitor(request), form.get("user_code", ""), approve=approve)
    except HubError as error:
        return _device_page(request, code=form.get("user_code", ""), error=error)
    return _device_page(request, done="approved" if approve else "denied")


def _login_page(request: Request, form: Form, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    wanted, is_open = local(form.get("next", "")), hub.joining.policy is not SignUp.CLOSED
    said = {word: word in request.query_params for word in ("changed", "deleted")}
    return form_page(request, "account/login.html", error, name=form.get("name", ""), next=wanted, open=is_open, **said)


def _code_page(request: Request, ticket: str, form: Form, *, error: HubError | None = None) -> Response:
    return form_page(request, "account/code.html", error, ticket=ticket, next=local(form.get("next", "")))


def _join_page(request: Request, form: Form, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    return form_page(
        request, "account/join.html", error, filled=form, policy=hub.joining.policy, password_length=PASSWORD_LENGTH[0]
    )


def _forgotten_page(request: Request, form: Form, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    sent = "sent" in request.query_params
    return form_page(
        request, "account/forgotten.html", error, named=form.get("named", ""), is_sent=hub.mail.is_sent, sent=sent
    )


def _new_password_page(request: Request, code: str, *, error: HubError | None = None) -> Response:
    return form_page(request, "account/new_password.html", error, code=code, password_length=PASSWORD_LENGTH[0])


def _device_page(
    request: Request, *, code: str = "", done: str | None = None, error: HubError | None = None
) -> Response:
    return form_page(request, "account/device.html", error, code=code, done=done)


def add_routes(router: APIRouter) -> None:
    """/login, /login/forgotten, /login/new-password, /join, /logout, /oauth/device."""
    router.add_route("/login", login)
    router.add_route("/login", form_handler(sign_in, signed_in=False), methods=["POST"])
    router.add_route("/login/code", form_handler(second_step, signed_in=False), methods=["POST"])
    router.add_route("/login/forgotten", forgotten)
    router.add_route("/login/forgotten", form_handler(send_link, signed_in=False), methods=["POST"])
    router.add_route("/login/new-password", new_password)
    router.add_route("/login/new-password", form_handler(choose_password, signed_in=False), methods=["POST"])
    router.add_route("/join", join)
    router.add_route("/join", form_handler(make_account, signed_in=False), methods=["POST"])
    router.add_route("/logout", form_handler(logout), methods=["POST"])
    router.add_route("/oauth/device", signed_in(device))
    router.add_route("/oauth/device/answer", form_handler(answer_device), methods=["POST"])
