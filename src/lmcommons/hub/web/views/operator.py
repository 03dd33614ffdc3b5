"""For administrators of the hub: users, organisations, storage, invitations, reports, the log, health.

To others these pages are not there.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub.accounts.joining import invitation_id
from lmcommons.hub.accounts.permissions import operates
from lmcommons.hub.database.tables import AccountKind, CaseStatus
from lmcommons.hub.errors import BadRequest, HubError, NotFound
from lmcommons.hub.operating import overview
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import SignUp
from lmcommons.hub.web.formatting import parse_size
from lmcommons.hub.web.forms import form_page
from lmcommons.hub.web.lookup import neighbours, page_number, row_number
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor
from lmcommons.hub.words import Words

PAGE = 30  # users, cases
EVENTS = 50  # of the log on a page
INVITATION_USES, INVITATION_DAYS = 1, 7  # unless the form says otherwise

# How kinds of events begin, as the log is filtered by them.
TOPICS = (
    *("access", "account", "attachment", "branch", "bucket", "collection", "device", "discussion", "import"),
    *("invitation", "key", "moderation", "organisation", "pull_request", "repository", "run", "session", "tag"),
    *("token", "two_factor", "user", "webhook"),
)


def for_operators(view: Callable[..., Response]) -> Callable[..., Response]:
    """The view for administrators of the hub; for others there is none."""

    @wraps(view)
    def shown(request: Request, *more: Any) -> Response:
        if not operates(visitor(request)):
            raise NotFound("Nothing at {path}", path=request.url.path)
        return view(request, *more)

    return shown


def users(request: Request) -> Response:
    """The users, and what an operator may change about each."""
    return _people_page(request, AccountKind.USER)


def organisations(request: Request) -> Response:
    """The organisations with what they store."""
    return _people_page(request, AccountKind.ORGANISATION)


def change_account(request: Request, form: Form) -> Response:
    """Shut out or let in again, give or take rights, set a quota, reset a second factor."""
    hub: Hub = request.app.state.hub
    actor, name, act = visitor(request), request.path_params["account"], form.get("act", "")
    kind = hub.accounts.find(name).kind
    try:
        match act:
            case "disable" | "enable":
                hub.accounts.change_user(name, disabled=act == "disable", by=actor)
            case "promote" | "demote":
                hub.accounts.change_user(name, admin=act == "promote", by=actor)
            case "quota":
                hub.accounts.set_quota(name, _bytes(form.get("quota", "")), by=actor)
            case "reset-two-factor":
                hub.two_factors.reset(name, by=actor)
            case _:
                raise BadRequest("{act!r} is nothing to do with an account", act=act[:20])
    except HubError as error:
        return _people_page(request, kind, error=error, search=name)
    address = "users" if kind is AccountKind.USER else "organisations"
    return RedirectResponse(f"/operator/{address}?search={name}", 303)


def storage(request: Request) -> Response:
    """What is stored, and what takes the most room."""
    hub: Hub = request.app.state.hub
    return form_page(request, "operator/storage.html", None, storage=overview.storage(hub, visitor(request)))


def invitations(request: Request) -> Response:
    """The invitations that somebody can still use."""
    return _invitations_page(request)


def invite(request: Request, form: Form) -> Response:
    """Make an invitation, and show its address this once."""
    hub: Hub = request.app.state.hub
    try:
        uses = _number(form.get("uses", ""), Words("How many people may use it"))
        days = _number(form.get("days", ""), Words("For how many days"))
        code = hub.joining.invite(uses=uses, life=timedelta(days=days), by=visitor(request))
    except HubError as error:
        return _invitations_page(request, error=error, filled=form)
    return _invitations_page(request, made=f"{hub.settings.public_url}/join?code={code}")


def end_invitation(request: Request, form: Form) -> Response:
    """End an invitation."""
    hub: Hub = request.app.state.hub
    hub.joining.end_invitation(request.path_params["invitation_id"], by=visitor(request))
    return RedirectResponse("/operator/invitations", 303)


def reports(request: Request) -> Response:
    """The cases that wait for a decision, or those that stand otherwise."""
    hub: Hub = request.app.state.hub
    number, wanted = page_number(request), request.query_params.get("status", "")
    if wanted and wanted not in list(CaseStatus):
        raise BadRequest("status={wanted}: one of {choices}", wanted=wanted[:20], choices=", ".join(CaseStatus))
    status = CaseStatus(wanted) if wanted else None
    cases, total = hub.moderation.queue(visitor(request), status, offset=(number - 1) * PAGE, limit=PAGE)
    return form_page(
        request,
        "operator/reports.html",
        None,
        cases=cases,
        total=total,
        chosen=status,
        statuses=list(CaseStatus),
        **neighbours(request, number, more=number * PAGE < total),
    )


def case(request: Request) -> Response:
    """A case: what was said about it, and the forms to decide."""
    return _case_page(request)


def decide(request: Request, form: Form) -> Response:
    """Take the next step in a case."""
    hub: Hub = request.app.state.hub
    actor, case_id = visitor(request), request.path_params["case_id"]
    act, note = form.get("act", ""), form.get("note", "")
    try:
        match act:
            case "hide" | "dismiss":
                hub.moderation.decide(actor, case_id, hide=act == "hide", note=note)
            case "restore":
                hub.moderation.restore(actor, case_id, note=note)
            case "uphold" | "grant":
                hub.moderation.decide_appeal(actor, case_id, restore=act == "grant", note=note)
            case _:
                raise BadRequest("{act!r} is nothing that can be decided", act=act[:20])
    except HubError as error:
        return _case_page(request, error=error, note=note)
    return RedirectResponse(f"/operator/reports/{case_id}", 303)


def log(request: Request) -> Response:
    """The log of events, the last first."""
    hub: Hub = request.app.state.hub
    asked = {name: request.query_params.get(name, "").strip()[:200] for name in ("kind", "by", "about")}
    before = request.query_params.get("before", "")
    earlier = row_number("before", before) if before else None
    found = overview.events(hub, visitor(request), **asked, before=earlier, limit=EVENTS + 1)
    return form_page(
        request,
        "operator/log.html",
        None,
        events=found[:EVENTS],
        asked=asked,
        topics=TOPICS,
        before=found[EVENTS - 1].id if len(found) > EVENTS else None,
    )


def health(request: Request) -> Response:
    """Whether the hub is well."""
    hub: Hub = request.app.state.hub
    found = overview.state(hub, visitor(request), request.app.state.background)
    return form_page(request, "operator/health.html", None, health=found)


def _people_page(
    request: Request, kind: AccountKind, *, error: HubError | None = None, search: str | None = None
) -> Response:
    hub: Hub = request.app.state.hub
    actor, number = visitor(request), page_number(request)
    search = (request.query_params.get("search", "") if search is None else search).strip()[:200]
    found, total = overview.people(hub, actor, kind, search, offset=(number - 1) * PAGE, limit=PAGE)
    return form_page(
        request,
        "operator/accounts.html",
        error,
        kind=kind,
        people=[(person, hub.two_factors.is_on(person.account.id)) for person in found],
        total=total,
        search=search,
        **neighbours(request, number, more=number * PAGE < total),
    )


def _invitations_page(
    request: Request, *, made: str | None = None, error: HubError | None = None, filled: Form | None = None
) -> Response:
    hub: Hub = request.app.state.hub
    return form_page(
        request,
        "operator/invitations.html",
        error,
        made=made,
        invitations=[(each, invitation_id(each)) for each in hub.joining.invitations()],
        asked_for=hub.joining.policy is SignUp.INVITE,
        filled=filled or {"uses": str(INVITATION_USES), "days": str(INVITATION_DAYS)},
    )


def _case_page(request: Request, *, error: HubError | None = None, note: str = "") -> Response:
    hub: Hub = request.app.state.hub
    actor = visitor(request)
    found = hub.moderation.find(actor, request.path_params["case_id"])
    return form_page(
        request,
        "operator/case.html",
        error,
        case=found,
        text=hub.moderation.text(actor, found),
        proposed=hub.moderation.proposed(actor, found),
        deciders=hub.moderation.deciders(found),
        note=note,
    )


def _number(text: str, name: Words) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= 10_000):
        raise BadRequest("{name}: write a number from 1 to 10,000", name=name)
    return int(text[:9])


def _bytes(text: str) -> int | None:
    """`50 GB`, `1000`, or nothing for no limit."""
    text = text.strip()
    if not text:
        return None
    try:
        value = parse_size(text)
    except ValueError as error:
        raise BadRequest(
            "{text!r}: write a number of bytes like 50 GB, or nothing for no limit", text=text[:20]
        ) from error
    if value >= 2**63:
        raise BadRequest("{text!r} is no size that a namespace can have", text=text[:20])
    return value


def add_routes(router: APIRouter) -> None:
    """/operator and what lies below it."""
    router.add_route("/operator", signed_in(for_operators(lambda _: RedirectResponse("/operator/reports", 303))))
    for view in (users, organisations, storage, invitations, reports, log, health):
        router.add_route(f"/operator/{view.__name__}", signed_in(for_operators(view)))
    router.add_route("/operator/reports/{case_id:int}", signed_in(for_operators(case)))
    for address, answer in (
        ("accounts/{account}", change_account),
        ("invitations", invite),
        ("invitations/{invitation_id}/end", end_invitation),
        ("reports/{case_id:int}", decide),
    ):
        router.add_route(f"/operator/{address}", form_handler(for_operators(answer)), methods=["POST"])
