"""The visitor's webhooks that watch a repository: what they tell, to whom, and how it went."""

import json
import secrets
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lmcommons.hub import addresses
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.community.webhooks import DOMAINS
from lmcommons.hub.database.tables import Repository, RepositoryType, Webhook
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.web.lookup import neighbours, page_number, repository_of, row_number
from lmcommons.hub.web.rendering import page, wants_part
from lmcommons.hub.web.visitors import Form, form_handler, visitor

PAGE = 30  # deliveries
BODY_SHOWN = 10_000  # characters


def webhooks(request: Request, kind: RepositoryType) -> Response:
    """The visitor's webhooks that watch the repository, and the form for another one."""
    return _list_page(request, kind, dict.fromkeys(DOMAINS, "yes"))


def create(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Begin to tell an address what happens in the repository."""
    hub, repository, _ = repository_of(request, kind, Action.MANAGE)
    watched = [{"type": repository.type.value, "name": repository.full_name}]
    url, secret = form.get("url", "").strip(), form.get("secret", "").strip()
    try:
        made = hub.webhooks.create(visitor(request), url, watched, _domains(form), secret)
    except HubError as error:
        return _list_page(request, kind, form, error)
    return RedirectResponse(_address(repository, made.id), 303)


def webhook(request: Request, kind: RepositoryType) -> Response:
    """A webhook, and its last deliveries."""
    return _page(request, kind)


def delivery(request: Request, kind: RepositoryType) -> Response:
    """What one delivery sends, without secrets, and how it went."""
    hub, _, _ = repository_of(request, kind, Action.MANAGE)
    actor, number = visitor(request), request.path_params["webhook"]
    found = hub.webhooks.delivery(actor, number, request.path_params["delivery"])
    message = hub.deliveries.message(found.id)
    body = json.dumps(json.loads(message.body), ensure_ascii=False, indent=2) if message else ""
    return _shown(
        request,
        kind,
        "repository/delivery.html",
        None,
        webhook=hub.webhooks.find(actor, number),
        delivery=found,
        message=message,
        body=body[:BODY_SHOWN],
        is_cut=len(body) > BODY_SHOWN,
    )


def change(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Another address, other events, another secret."""
    hub, repository, _ = repository_of(request, kind, Action.MANAGE)
    number, secret = request.path_params["webhook"], form.get("secret", "").strip() or None
    try:
        hub.webhooks.update(
            visitor(request), number, url=form.get("url", "").strip(), domains=_domains(form), secret=secret
        )
    except HubError as error:
        return _page(request, kind, error, form)
    return RedirectResponse(_address(repository, number), 303)


def act(request: Request, form: Form, kind: RepositoryType) -> Response:
    """Test a webhook, send a delivery again, stop it, begin again, or remove it."""
    hub, repository, _ = repository_of(request, kind, Action.MANAGE)
    actor, number, wanted = visitor(request), request.path_params["webhook"], form.get("do", "")
    try:
        match wanted:
            case "delete":
                hub.webhooks.delete(actor, number)
                return RedirectResponse(f"{addresses.repository(repository)}/settings/webhooks", 303)
            case "disable" | "enable":
                hub.webhooks.set_disabled(actor, number, wanted == "disable")
            case "test":
                hub.webhooks.send_again(actor, number)
            case "again":
                hub.webhooks.send_again(actor, number, row_number("delivery", form.get("delivery", "")))
            case _:
                raise BadRequest("{act!r} is nothing to do with a webhook", act=wanted[:20])
    except HubError as error:
        return _page(request, kind, error)
    return RedirectResponse(_address(repository, number), 303)


def _domains(form: Form) -> list[str]:
    return [domain for domain in DOMAINS if form.get(domain)]


def _address(repository: Repository, number: int) -> str:
    return f"{addresses.repository(repository)}/settings/webhooks/{number}"


def _watches(webhook: Webhook, repository: Repository) -> bool:
    owner, name = repository.account.name_key, repository.full_name.lower()
    return any(
        (watch.kind, watch.name_key) in (("user", owner), ("org", owner), (repository.type, name))
        for watch in webhook.watched
    )


def _list_page(request: Request, kind: RepositoryType, filled: Form, error: HubError | None = None) -> Response:
    hub, repository, _ = repository_of(request, kind, Action.MANAGE)
    return _shown(
        request,
        kind,
        "repository/webhooks.html",
        error,
        webhooks=[each for each in hub.webhooks.listing(visitor(request)) if _watches(each, repository)],
        filled=filled,
        secret=secrets.token_urlsafe(24),
    )


def _page(request: Request, kind: RepositoryType, error: HubError | None = None, form: Form | None = None) -> Response:
    hub, _, _ = repository_of(request, kind, Action.MANAGE)
    actor, number, shown = visitor(request), request.path_params["webhook"], page_number(request)
    found = hub.webhooks.find(actor, number)
    deliveries = hub.webhooks.deliveries(actor, number, offset=(shown - 1) * PAGE, limit=PAGE + 1)
    return _shown(
        request,
        kind,
        "repository/deliveries.html" if wants_part(request) else "repository/webhook.html",
        error,
        webhook=found,
        filled=form or {"url": found.url, **{domain: "yes" for domain in DOMAINS if getattr(found, domain)}},
        deliveries=deliveries[:PAGE],
        secret=secrets.token_urlsafe(24),
        **neighbours(request, shown, more=len(deliveries) > PAGE),
    )


def _shown(request: Request, kind: RepositoryType, template: str, error: HubError | None, **values: Any) -> Response:
    _, repository, git = repository_of(request, kind, Action.MANAGE)
    status = error.status if error else 200
    common = {"section": kind, "repository": repository, "branch": git.default_branch, "error": error and error.message}
    response = page(request, template, status=status, **common, **values)
    response.headers["Cache-Control"] = "no-store"  # it may hold a secret
    return response


def add_repository_routes(router: APIRouter, kind: RepositoryType, base: str) -> None:
    """The pages of webhooks at `base`."""
    one = f"{base}/settings/webhooks/{{webhook:int}}"
    router.add_route(f"{base}/settings/webhooks", partial(webhooks, kind=kind))
    router.add_route(f"{base}/settings/webhooks", form_handler(partial(create, kind=kind)), methods=["POST"])
    router.add_route(one, partial(webhook, kind=kind))
    router.add_route(f"{one}/deliveries/{{delivery:int}}", partial(delivery, kind=kind))
    router.add_route(one, form_handler(partial(change, kind=kind)), methods=["POST"])
    router.add_route(f"{one}/act", form_handler(partial(act, kind=kind)), methods=["POST"])
