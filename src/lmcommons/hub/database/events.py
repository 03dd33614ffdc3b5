"""The one way into the log of events; the webhooks that watch are queued with the event, or not at all."""

from typing import Any

from sqlalchemy import and_, insert, literal, or_, select
from sqlalchemy.orm import Session

from lmcommons.hub.database.tables import Event, Repository, UtcDateTime, Webhook, WebhookDelivery, WebhookWatch, now

DISCUSSIONS = "discussion."  # how the kinds of the webhooks' domain `discussion` begin

# What webhooks are told of: the event's kind -> `action` and `scope` in the payload.
SCOPES = {
    "repository.created": ("create", "repo"),
    "repository.deleted": ("delete", "repo"),
    "repository.moved": ("move", "repo"),
    "repository.settings": ("update", "repo.config"),
    **{
        f"{ref}.{change}": ("update", "repo.content")
        for ref in ("branch", "tag", "pull_request")
        for change in ("created", "moved", "removed")
    },
    "discussion.created": ("create", "discussion"),
    "discussion.renamed": ("update", "discussion"),
    "discussion.status": ("update", "discussion"),
    "discussion.commented": ("create", "discussion.comment"),
    "discussion.edited": ("update", "discussion.comment"),
    "discussion.hidden": ("update", "discussion.comment"),
}


def record(session: Session, kind: str, actor: str | None, repository: Repository, **data: Any) -> Event:
    """Append an event of a repository, in the transaction of what it tells; texts stay where they can be removed."""
    data |= {"type": repository.type, "name": repository.full_name, "private": repository.private}
    event = Event(kind=kind, actor=actor, repository_id=repository.id, data=data)
    session.add(event)
    if kind in SCOPES:
        session.flush()
        _queue(session, event, repository)
    return event


def _queue(session: Session, event: Event, repository: Repository) -> None:
    watching = select(WebhookWatch.webhook_id).where(
        or_(
            and_(WebhookWatch.kind == repository.type.value, WebhookWatch.name_key == repository.full_name.lower()),
            and_(WebhookWatch.kind.in_(("user", "org")), WebhookWatch.name_key == repository.account.name_key),
        )
    )
    domain = Webhook.discussion if event.kind.startswith(DISCUSSIONS) else Webhook.repo
    told = select(Webhook.id, literal(event.id), literal(0), literal(now(), UtcDateTime())).where(
        Webhook.id.in_(watching), domain, Webhook.disabled.is_(False)
    )
    session.execute(insert(WebhookDelivery).from_select(["webhook_id", "event_id", "attempts", "next_at"], told))
