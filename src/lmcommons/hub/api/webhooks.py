"""Chapter 6: webhooks, each seen and changed by its owner alone."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse

from lmcommons.hub.api.dependencies import Body, actor, field, hub_of, next_link, required, timestamp
from lmcommons.hub.api.identities import number_of, object_id
from lmcommons.hub.community.webhooks import DOMAINS
from lmcommons.hub.database.events import SCOPES
from lmcommons.hub.database.tables import Webhook, WebhookDelivery
from lmcommons.hub.errors import BadRequest, NotSupported

PAGE = 100

router = APIRouter(prefix="/api")


@router.get("/settings/webhooks")
def webhooks(request: Request) -> list[dict[str, Any]]:
    """The sender's webhooks."""
    return [_fields(webhook) for webhook in hub_of(request).webhooks.listing(actor(request))]


@router.post("/settings/webhooks")
def create(request: Request, body: Body) -> dict[str, Any]:
    """Make a webhook."""
    _refuse_jobs(body)
    room = hub_of(request).webhooks
    domains = field(body, "domains", list)
    webhook = room.create(
        actor(request),
        required(body, "url", str),
        _watched(body),
        DOMAINS if domains is None else domains,
        field(body, "secret", str),
    )
    return {"webhook": _fields(webhook)}


@router.get("/settings/webhooks/{webhook_id}")
def webhook(request: Request, webhook_id: str) -> dict[str, Any]:
    """A webhook."""
    return {"webhook": _fields(hub_of(request).webhooks.find(actor(request), number_of(webhook_id)))}


@router.post("/settings/webhooks/{webhook_id}")
def update(request: Request, webhook_id: str, body: Body) -> dict[str, Any]:
    """Change what the body names."""
    _refuse_jobs(body)
    changed = hub_of(request).webhooks.update(
        actor(request),
        number_of(webhook_id),
        url=field(body, "url", str),
        watched=_watched(body),
        domains=field(body, "domains", list),
        secret=field(body, "secret", str),
    )
    return {"webhook": _fields(changed)}


@router.delete("/settings/webhooks/{webhook_id}")
def delete(request: Request, webhook_id: str) -> dict[str, Any]:
    """Remove a webhook."""
    hub_of(request).webhooks.delete(actor(request), number_of(webhook_id))
    return {"success": True}


@router.post("/settings/webhooks/{webhook_id}/enable")
def enable(request: Request, webhook_id: str) -> dict[str, Any]:
    """Begin again to tell a webhook of events."""
    return {"webhook": _fields(hub_of(request).webhooks.set_disabled(actor(request), number_of(webhook_id), False))}


@router.post("/settings/webhooks/{webhook_id}/disable")
def disable(request: Request, webhook_id: str) -> dict[str, Any]:
    """Stop telling a webhook of events."""
    return {"webhook": _fields(hub_of(request).webhooks.set_disabled(actor(request), number_of(webhook_id), True))}


@router.get("/x/webhooks/{webhook_id}/deliveries")
def deliveries(request: Request, webhook_id: str, p: Annotated[int, Query(ge=0, le=1_000_000)] = 0) -> Response:
    """What a webhook was told and how it went, the last first; this hub's own addition to the protocol."""
    rows = hub_of(request).webhooks.deliveries(actor(request), number_of(webhook_id), offset=p * PAGE, limit=PAGE + 1)
    headers = next_link(request, p=p + 1) if len(rows) > PAGE else None
    return JSONResponse([_delivery(row) for row in rows[:PAGE]], headers=headers)


def _fields(webhook: Webhook) -> dict[str, Any]:
    domains = [domain for domain, chosen in zip(DOMAINS, (webhook.repo, webhook.discussion), strict=True) if chosen]
    return {
        "id": object_id(webhook.id),
        "url": webhook.url,
        "watched": [{"type": watch.kind, "name": watch.name} for watch in webhook.watched],
        "domains": domains,
        "secret": webhook.secret,
        "disabled": webhook.disabled,
    }


def _delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    action, scope = SCOPES[delivery.event.kind]
    waiting = delivery.next_at is not None
    return {
        "id": object_id(delivery.id),
        "event": {"action": action, "scope": scope},
        "repo": {"type": delivery.event.data["type"], "name": delivery.event.data["name"]},
        "createdAt": timestamp(delivery.event.at),
        "state": "waiting" if waiting else "failed" if delivery.error else "delivered",
        "attempts": delivery.attempts,
        "nextAttemptAt": timestamp(delivery.next_at) if delivery.next_at else None,
        "status": delivery.status,
        "error": delivery.error,
    }


def _watched(body: dict[str, Any]) -> list[Mapping[str, Any]]:
    watched = field(body, "watched", list) or []
    if not all(isinstance(item, dict) for item in watched):
        raise BadRequest("`watched` must be an array of objects with `type` and `name`")
    return watched


def _refuse_jobs(body: dict[str, Any]) -> None:
    if body.get("jobSourceId") is not None or body.get("secrets") is not None:
        raise NotSupported("This hub runs no jobs: give the webhook a `url`")
