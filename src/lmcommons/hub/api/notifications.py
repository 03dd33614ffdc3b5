"""Notifications: this hub's own, each user's alone."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse

from lmcommons.hub.api.dependencies import Body, actor, field, hub_of, next_link, timestamp
from lmcommons.hub.api.identities import account_fields, number_of, object_id
from lmcommons.hub.community.notifications import Thread

PAGE = 50

router = APIRouter(prefix="/api/x/notifications")


@router.get("")
def notifications(request: Request, p: Annotated[int, Query(ge=0, le=1_000_000)] = 0, unread: bool = False) -> Response:
    """What the sender was told, by thread, the latest first."""
    room = hub_of(request).notifications
    found = room.threads(actor(request), unread=unread, offset=p * PAGE, limit=PAGE + 1)
    headers = next_link(request, p=p + 1) if len(found) > PAGE else None
    return JSONResponse([_fields(thread) for thread in found[:PAGE]], headers=headers)


@router.post("/read")
def mark(request: Request, body: Body) -> dict[str, Any]:
    """Mark as read the thread of the notification `id`; all, when there is none."""
    named = field(body, "id", str)
    hub_of(request).notifications.mark(actor(request), number_of(named) if named is not None else None)
    return {"success": True}


def _fields(thread: Thread) -> dict[str, Any]:
    shown, discussion = thread.shown, thread.last.discussion
    return {
        "id": object_id(shown.id),
        "reason": shown.reason,
        "createdAt": timestamp(shown.created_at),
        "unread": thread.unread,
        "repo": {"type": shown.repository.type, "name": shown.repository.full_name},
        "discussion": None
        if discussion is None
        else {"num": discussion.number, "title": discussion.title, "isPullRequest": discussion.is_pull_request},
        **({} if shown.actor is None else {"actor": account_fields(shown.actor)}),
    }
