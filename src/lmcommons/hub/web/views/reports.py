"""Reporting what should not be here, and what was decided about one's own."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, HubError, NotFound
from lmcommons.hub.rooms import Hub
from lmcommons.hub.web.forms import form_page
from lmcommons.hub.web.visitors import Form, form_handler, signed_in, visitor

MAX_ID = 18  # digits


def new(request: Request) -> Response:
    """The form to report a repository, a discussion, a comment or an account."""
    return _new_page(request, dict(request.query_params))


def report(request: Request, form: Form) -> Response:
    """Report it."""
    hub: Hub = request.app.state.hub
    actor, reason = visitor(request), form.get("reason", "")
    try:
        if form.get("account"):
            hub.reports.report_account(actor, form["account"], reason)
            back = f"/{form['account']}"
        else:
            repository, number, comment = _reported(request, form)
            hub.reports.report(actor, repository, reason, number=number, comment=comment)
            back = addresses.repository(repository) + (f"/discussions/{number}" if number else "")
    except HubError as error:
        return _new_page(request, form, error=error)
    return form_page(request, "people/reported.html", None, back=back)


def hiding(request: Request) -> Response:
    """The way to the case that a repository is hidden by."""
    hub: Hub = request.app.state.hub
    repository, _, _ = _reported(request, dict(request.query_params))
    found = hub.moderation.hiding(repository)
    if found is None:
        raise NotFound("{repository} is not hidden", repository=repository.full_name)
    return RedirectResponse(f"/reports/{found.id}", 303)


def case(request: Request) -> Response:
    """What was decided about something of the visitor's, and the form to appeal."""
    return _case_page(request)


def appeal(request: Request, form: Form) -> Response:
    """Appeal against it."""
    hub: Hub = request.app.state.hub
    try:
        hub.moderation.appeal(visitor(request), request.path_params["case_id"], form.get("text", ""))
    except HubError as error:
        return _case_page(request, error=error, text=form.get("text", ""))
    return RedirectResponse(f"/reports/{request.path_params['case_id']}", 303)


def decisions(request: Request) -> Response:
    """All that was decided about what is the visitor's."""
    hub: Hub = request.app.state.hub
    return form_page(request, "account/decisions.html", None, cases=hub.moderation.about(visitor(request)))


def _new_page(request: Request, asked: dict[str, Any], *, error: HubError | None = None) -> Response:
    hub: Hub = request.app.state.hub
    fields = {name: asked[name] for name in ("account", "repository", "discussion", "comment") if asked.get(name)}
    if "account" in fields:
        name = fields["account"] = hub.accounts.find(fields["account"]).name
    else:
        repository, number, _ = _reported(request, fields)
        name = repository.path + (f"#{number}" if number else "")
    return form_page(request, "people/report.html", error, name=name, fields=fields, reason=asked.get("reason", ""))


def _case_page(request: Request, *, error: HubError | None = None, text: str = "") -> Response:
    hub: Hub = request.app.state.hub
    found = hub.moderation.find(visitor(request), request.path_params["case_id"])
    return form_page(request, "people/case.html", error, case=found, deciders=hub.moderation.deciders(found), text=text)


def _reported(request: Request, form: dict[str, Any]) -> tuple[Repository, int | None, int | None]:
    """The repository that a form names, and the numbers of a discussion and of a comment in it."""
    hub: Hub = request.app.state.hub
    path = form.get("repository", "")
    prefixes = {kind.prefix: kind for kind in RepositoryType if kind.prefix and path.startswith(kind.prefix)}
    prefix, kind = next(iter(prefixes.items()), ("", RepositoryType.MODEL))
    repository = hub.repositories.find(visitor(request), kind, path.removeprefix(prefix), Action.SEE)
    return repository, _number(form.get("discussion")), _number(form.get("comment"))


def _number(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_ID):
        raise BadRequest("{text!r} is not the number of a discussion or comment", text=text[:20])
    return int(text)


def add_routes(router: APIRouter) -> None:
    """/reports/new, /reports/N, /settings/decisions."""
    router.add_route("/reports/new", signed_in(new))
    router.add_route("/reports", form_handler(report), methods=["POST"])
    router.add_route("/reports/hiding", signed_in(hiding))
    router.add_route("/reports/{case_id:int}", signed_in(case))
    router.add_route("/reports/{case_id:int}/appeal", form_handler(appeal), methods=["POST"])
    router.add_route("/settings/decisions", signed_in(decisions))
