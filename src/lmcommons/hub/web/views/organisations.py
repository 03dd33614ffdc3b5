"""Organisations: making one, who belongs to it with which role or is invited, what changed, what it says of itself."""

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.permissions import Action, allowed, require
from lmcommons.hub.database.tables import Account, OrganisationInvitation, Role
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.repos.terms import SEARCH_LIMIT
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.forms import form_page
from lmcommons.hub.web.lookup import neighbours, page_number
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

PAGE = 30  # members, or changes of them


def new(request: Request) -> Response:
    """The form to make an organisation."""
    return _new_page(request, {})


def create(request: Request, form: Form) -> Response:
    """Make an organisation; the visitor is its first member and admin."""
    hub: Hub = request.app.state.hub
    try:
        made = hub.organisations.create(
            visitor(request),
            form.get("name", "").strip(),
            fullname=form.get("fullname", "").strip() or None,
            private_by_default="private" in form,
        )
    except HubError as error:
        return _new_page(request, form, error=error)
    return RedirectResponse(f"/organizations/{made.name}/members", 303)


def members(request: Request) -> Response:
    """Who belongs to an organisation; its admins change that here."""
    return _members_page(request)


def changes(request: Request) -> Response:
    """Who was invited, joined, got another role or left, and by whom."""
    hub: Hub = request.app.state.hub
    found, number = _administered(request), page_number(request)
    told = hub.organisations.membership_log(visitor(request), found.name, offset=(number - 1) * PAGE, limit=PAGE + 1)
    more = neighbours(request, number, more=len(told) > PAGE)
    return form_page(request, "people/membership_log.html", None, organisation=found, told=told[:PAGE], **more)


def set_member(request: Request, form: Form) -> Response:
    """Give a member another role."""
    hub: Hub = request.app.state.hub
    organisation, user = request.path_params["organisation"], form.get("user", "").strip()
    try:
        hub.organisations.set_member(visitor(request), organisation, user, _role(form), joining=False)
    except HubError as error:
        return _members_page(request, error=error, form=form)
    return RedirectResponse(_members_address(request), 303)


def invite(request: Request, form: Form) -> Response:
    """Ask somebody to become a member."""
    hub: Hub = request.app.state.hub
    organisation, user = _administered(request).name, form.get("user", "").strip()
    try:
        hub.limits.take_mail(user)  # only now: a stranger could use up what somebody may be sent
        hub.organisation_invitations.invite(visitor(request), organisation, user, _role(form))
    except HubError as error:
        return _members_page(request, error=error, form=form)
    return RedirectResponse(_members_address(request), 303)


def withdraw(request: Request, form: Form) -> Response:
    """Take an invitation back."""
    hub: Hub = request.app.state.hub
    organisation = request.path_params["organisation"]
    try:
        hub.organisation_invitations.withdraw(visitor(request), organisation, form.get("user", ""))
    except HubError as error:
        return _members_page(request, error=error)
    return RedirectResponse(_members_address(request), 303)


def answer_invitation(request: Request, form: Form) -> Response:
    """Become a member, or decline."""
    hub: Hub = request.app.state.hub
    organisation, accept = request.path_params["organisation"], form.get("answer") == "accept"
    hub.organisation_invitations.answer(visitor(request), organisation, accept=accept)
    return RedirectResponse(f"/{organisation}" if accept else "/notifications", 303)


def remove_member(request: Request, form: Form) -> Response:
    """End a membership; members may end their own."""
    hub: Hub = request.app.state.hub
    organisation, user = request.path_params["organisation"], form.get("user", "")
    actor = visitor(request)
    try:
        hub.organisations.set_member(actor, organisation, user, None)
    except HubError as error:
        return _members_page(request, error=error, form=form)
    left = user.lower() == (actor.name or "").lower()
    return RedirectResponse(f"/{organisation}" if left else _members_address(request), 303)


def settings(request: Request) -> Response:
    """What an organisation says of itself, and whether its new repositories are private."""
    return _settings_page(request)


def change_settings(request: Request, form: Form) -> Response:
    """Say something else."""
    hub: Hub = request.app.state.hub
    try:
        changed = hub.profiles.change(
            visitor(request),
            _administered(request).name,
            fullname=form.get("fullname", ""),
            bio=form.get("bio", ""),
            website=form.get("website", ""),
            private_by_default="private" in form,
        )
    except HubError as error:
        return _settings_page(request, error=error, form=form)
    return RedirectResponse(f"/{changed.name}", 303)


def _role(form: Form) -> Role:
    role = form.get("role", "")
    if role not in list(Role):
        raise BadRequest("A role is one of {choices}", choices=", ".join(Role))
    return Role(role)


def _administered(request: Request) -> Account:
    """The organisation that the address names, which the visitor administers."""
    hub: Hub = request.app.state.hub
    found = hub.organisations.find(request.path_params["organisation"])
    require(visitor(request), Action.ADMINISTER, found)
    return found


def _new_page(request: Request, form: Form, *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    may = hub.settings.member_organisations or visitor(request).is_admin
    return form_page(request, "people/new_organisation.html", error, filled=form, may_create=may)


def _members_address(request: Request) -> str:
    """The page of members that the visitor has open: forms carry what was searched for, and the page's number."""
    return f"/organizations/{request.path_params['organisation']}/members{_query(request)}"


def _query(request: Request) -> str:
    return f"?{request.url.query}" if request.url.query else ""


def _members_page(request: Request, *, error: HubError | None = None, form: Form | None = None) -> Response:
    hub: Hub = request.app.state.hub
    found = hub.organisations.find(request.path_params["organisation"])
    actor, number = visitor(request), page_number(request)
    search = request.query_params.get("search", "").strip()[:SEARCH_LIMIT]
    total = hub.organisations.number_of_members(found.id, search)
    invitations: Sequence[OrganisationInvitation] = ()
    if allowed(actor, Action.ADMINISTER, found):
        invitations = hub.organisation_invitations.of_organisation(actor, found.name)
    return form_page(
        request,
        "people/members.html",
        error,
        organisation=found,
        members=hub.organisations.members(found.id, search, offset=(number - 1) * PAGE, limit=PAGE),
        total=total,
        search=search,
        is_long=bool(search) or total > PAGE,
        query=_query(request),
        roles=list(Role),
        invitations=invitations,
        filled=form or {},
        **neighbours(request, number, more=number * PAGE < total),
    )


def _settings_page(request: Request, *, error: HubError | None = None, form: Form | None = None) -> Response:
    found = _administered(request)
    filled = form or {
        "fullname": found.fullname,
        "bio": found.bio,
        "website": found.website,
        **({"private": "on"} if found.private_by_default else {}),
    }
    return form_page(request, "people/organisation_settings.html", error, organisation=found, filled=filled)


def add_routes(router: APIRouter) -> None:
    """/organizations/new, /organizations/NAME/members, …/changes, …/invitations, …/settings."""
    router.add_route("/organizations/new", signed_in(new))
    router.add_route("/organizations/new", form_handler(create), methods=["POST"])
    base = "/organizations/{organisation}"
    router.add_route(f"{base}/members", members)
    router.add_route(f"{base}/members", form_handler(set_member), methods=["POST"])
    router.add_route(f"{base}/members/remove", form_handler(remove_member), methods=["POST"])
    router.add_route(f"{base}/changes", signed_in(changes))
    for address, answer in (("", invite), ("/withdraw", withdraw), ("/answer", answer_invitation)):
        router.add_route(f"{base}/invitations{address}", form_handler(answer), methods=["POST"])
    router.add_route(f"{base}/settings", signed_in(settings))
    router.add_route(f"{base}/settings", form_handler(change_settings), methods=["POST"])
