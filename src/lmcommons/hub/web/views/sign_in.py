"""Pages for one's own account: sign in, join, tokens, password, letting a program sign in.

Forms of a signed-in visitor carry the session's secret; the session's cookie changes whenever somebody signs in.
"""

from datetime import timedelta
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.permissions import RIGHTS, Action, Actor
from lmcommons.hub.accounts.sign_in import COOKIE, PASSWORD_LENGTH, SESSION_LIFE
from lmcommons.hub.database.tables import TokenRole
from lmcommons.hub.errors import BadRequest, HubError, Unauthorized
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import SignUp
from lmcommons.hub.web.rendering import page
from lmcommons.hub.web.visitors import Form, form_handler, local, signed_in, visitor

EXPIRIES = (7, 30, 90, 365)  # days that the page for tokens offers


def login(request: Request) -> Response:
    """The form to sign in."""
    visitor(request)
    return _login_page(request, {"next": request.query_params.get("next", "")})


def sign_in(request: Request, form: Form) -> Response:
    """Sign in, and go on to where the visitor wanted to be."""
    hub: Hub = request.app.state.hub
    name = form.get("name", "")
    try:
        hub.limits.take_sign_in(_address(request), name)
        cookie = hub.sign_in.sign_in(name, form.get("password", ""), former=request.cookies.get(COOKIE))
    except HubError as error:
        return _login_page(request, form, error=error)
    return _signed_in(request, cookie, local(form.get("next", "")))


def logout(request: Request, form: Form) -> Response:
    """Sign out."""
    hub: Hub = request.app.state.hub
    hub.sign_in.sign_out(request.cookies.get(COOKIE))
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
        hub.limits.take_sign_in(_address(request))
        cookie = hub.sign_in.join(
            form.get("name", "").strip(),
            form.get("password", ""),
            fullname=form.get("fullname", "").strip() or None,
            email=form.get("email", "").strip() or None,
            code=form.get("code", ""),
        )
    except HubError as error:
        return _join_page(request, form, error=error)
    return _signed_in(request, cookie, "/settings/tokens")


def tokens(request: Request) -> Response:
    """The visitor's tokens, and the form for another one."""
    return _tokens_page(request)


def add_token(request: Request, form: Form) -> Response:
    """Make a token, and show it this once."""
    hub: Hub = request.app.state.hub
    name = _name(request)
    try:
        days = form.get("expires", "")
        if days and days not in map(str, EXPIRIES):
            raise BadRequest(f"A token ends after {', '.join(map(str, EXPIRIES))} days, or never")
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
    hub.tokens.revoke(_name(request), request.path_params["token_id"])
    return RedirectResponse("/settings/tokens", 303)


def password(request: Request) -> Response:
    """The form for another password."""
    return _password_page(request)


def change_password(request: Request, form: Form) -> Response:
    """Change the password; other browsers are signed out."""
    hub: Hub = request.app.state.hub
    name = _name(request)
    try:
        hub.limits.take_sign_in(_address(request), name)
        if form.get("wanted") != form.get("again"):
            raise BadRequest("The two new passwords differ")
        cookie = hub.sign_in.change_password(visitor(request), form.get("present", ""), form.get("wanted", ""))
    except HubError as error:
        return _password_page(request, error=error)
    return _signed_in(request, cookie, "/settings/tokens")


def device(request: Request) -> Response:
    """The form to enter the code that a program shows."""
    return _device_page(request, code=request.query_params.get("user_code", "")[:20])


def answer_device(request: Request, form: Form) -> Response:
    """Let the program sign in, or refuse it."""
    hub: Hub = request.app.state.hub
    name, approve = _name(request), form.get("answer") == "approve"
    try:
        hub.limits.take_sign_in(_address(request), name)
        hub.device_logins.answer(visitor(request), form.get("user_code", ""), approve=approve)
    except HubError as error:
        return _device_page(request, code=form.get("user_code", ""), error=error)
    return _device_page(request, done="approved" if approve else "denied")


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _name(request: Request) -> str:
    """The visitor's name.

    Raises:
        Unauthorized: the visitor is not signed in.
    """
    found: Actor = visitor(request)
    if found.name is None:
        raise Unauthorized("Sign in to see this page")
    return found.name


def _login_page(request: Request, form: Form, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    wanted, is_open = local(form.get("next", "")), hub.sign_in.policy is not SignUp.CLOSED
    return _form_page(request, "account/login.html", error, name=form.get("name", ""), next=wanted, open=is_open)


def _join_page(request: Request, form: Form, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    return _form_page(
        request, "account/join.html", error, filled=form, policy=hub.sign_in.policy, password_length=PASSWORD_LENGTH[0]
    )


def _tokens_page(
    request: Request, *, made: str | None = None, error: HubError | None = None, form: Form | None = None
) -> Response:
    hub: Hub = request.app.state.hub
    found = hub.tokens.of(_name(request))
    return _form_page(
        request,
        "account/tokens.html",
        error,
        tokens=found,
        made=made,
        filled=form or {},
        roles=list(TokenRole),
        rights=list(RIGHTS),
        expiries=EXPIRIES,
    )


def _password_page(request: Request, *, error: HubError | None = None) -> Response:
    return _form_page(request, "account/password.html", error, password_length=PASSWORD_LENGTH[0])


def _device_page(
    request: Request, *, code: str = "", done: str | None = None, error: HubError | None = None
) -> Response:
    return _form_page(request, "account/device.html", error, code=code, done=done)


def _form_page(request: Request, template: str, error: HubError | None, **values: Any) -> Response:
    """A page that no cache keeps; what was wrong with the form stands above it."""
    status, message = (error.status, error.message) if error else (200, None)
    response = page(request, template, status=status, error=message, **values)
    response.headers.update({"Cache-Control": "no-store", **(error.headers if error else {})})
    return response


def _signed_in(request: Request, cookie: str, address: str) -> Response:
    hub: Hub = request.app.state.hub
    response = RedirectResponse(address, 303)
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(SESSION_LIFE.total_seconds()),
        secure=hub.settings.public_url.startswith("https:"),
        httponly=True,
        samesite="lax",
    )
    return response


def _role(text: str) -> TokenRole:
    if text not in list(TokenRole):
        raise BadRequest(f"A token's role is one of {', '.join(TokenRole)}")
    return TokenRole(text)


def _scopes(text: str) -> dict[str, Action]:
    """Lines of `PATH:RIGHT`, as `lmc hub token add --repository` takes them."""
    scopes = {}
    for line in text.split():
        path, _, right = line.rpartition(":")
        if right not in list(RIGHTS):
            raise BadRequest(f"{line[:200]}: write PATH:RIGHT, with a right of {', '.join(RIGHTS)}")
        scopes[path] = Action(right)
    return scopes


def add_routes(router: APIRouter) -> None:
    """Pages of one's own account."""
    router.add_route("/login", login)
    router.add_route("/join", join)
    for address, view in (("/settings/tokens", tokens), ("/settings/password", password), ("/oauth/device", device)):
        router.add_route(address, signed_in(view))
    router.add_route("/login", form_handler(sign_in, signed_in=False), methods=["POST"])
    router.add_route("/join", form_handler(make_account, signed_in=False), methods=["POST"])
    for address, answer in (
        ("/logout", logout),
        ("/settings/tokens", add_token),
        ("/settings/tokens/{token_id:int}/revoke", revoke_token),
        ("/settings/password", change_password),
        ("/oauth/device/answer", answer_device),
    ):
        router.add_route(address, form_handler(answer), methods=["POST"])
