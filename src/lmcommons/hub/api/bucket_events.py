"""Chapter 7, live follow: what changes in a bucket, as server-sent events (HTML standard, 9.2).

A stream begins with what was missed, says `ready`, tells of changes as they happen, and ends with `reconnect`; `reset`
when what was missed is no longer kept.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.buckets import find_bucket
from lmcommons.hub.api.dependencies import timestamp
from lmcommons.hub.buckets.feed import News
from lmcommons.hub.database.tables import BucketChange, ChangeKind
from lmcommons.hub.errors import BadRequest, Busy, HubError

FOLLOWERS_LIMIT = 100  # streams at a time, in one process
BATCH = 1_000  # changes in one event
LOOK_EVERY = 1.0  # seconds
SPEAK_EVERY = 15.0  # seconds; a client takes a stream for dead after 90 without a word
STREAM_LIMIT = 600.0  # seconds, after which the client is told to connect again

router = APIRouter(prefix="/api/buckets/{namespace}/{name}")


@router.get("/events")
async def events(
    request: Request, namespace: str, name: str, cursor: str | None = None, since: str | None = None
) -> Response:
    """The changes of files after a cursor, or since a time, or from now on."""
    followers: asyncio.Semaphore = request.app.state.bucket_followers
    if followers.locked():
        raise Busy(f"{FOLLOWERS_LIMIT} clients follow buckets here already; try again later", seconds=60)

    def first_number() -> int:
        hub, _, bucket = find_bucket(request, namespace, name, Action.READ)
        number = bucket.revision
        if cursor is not None:
            number = _number(cursor)
        elif since is not None:
            number = hub.bucket_feed.number_at(bucket, _moment(since))
        hub.bucket_feed.after(bucket, number, 1)  # so that a wrong cursor is a status, not a stream that ends
        return number

    number = await run_in_threadpool(first_number)
    return StreamingResponse(
        _follow(request, namespace, name, number, followers),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _follow(
    request: Request, namespace: str, name: str, number: int, followers: asyncio.Semaphore
) -> AsyncIterator[str]:
    """The events after change `number`: what was missed, `ready`, what happens, `reconnect` at the end."""

    def look() -> News:
        # Asked each time: who may follow a bucket can change while it is followed.
        hub, _, bucket = find_bucket(request, namespace, name, Action.READ)
        return hub.bucket_feed.after(bucket, number, BATCH)

    ending: asyncio.Event = request.app.state.ending
    async with followers:
        clock = asyncio.get_running_loop().time
        end, spoken, ready = clock() + STREAM_LIMIT, clock(), False
        while clock() < end and not ending.is_set():
            try:
                news = await run_in_threadpool(look)
            except HubError:
                break
            if news.lost:
                yield _event("reset", reason="cursor_too_old")
                return
            number = news.number
            if news.changes:
                yield _event("changes", cursor=str(number), changes=[_change(change) for change in news.changes])
                spoken = clock()
                continue
            if not ready:
                yield _event("ready", cursor=str(number))
                ready = True
            elif clock() - spoken > SPEAK_EVERY:
                yield ": still here\n\n"
                spoken = clock()
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), LOOK_EVERY)
        yield _event("reconnect", cursor=str(number))


def _event(kind: str, **data: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def _change(change: BucketChange) -> dict[str, Any]:
    item: dict[str, Any] = {"path": change.path, "op": change.kind}
    if change.kind is not ChangeKind.DELETE:
        item |= {
            "size": change.size,
            "xetHash": change.xet_hash,
            "uploadedAt": timestamp(change.at),
            "mtime": timestamp(change.mtime) if change.mtime else None,
        }
    return item


def _number(cursor: str) -> int:
    if not re.fullmatch(r"\d{1,18}", cursor, re.ASCII):
        raise BadRequest("The cursor is not one that this hub gave")
    return int(cursor)


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"since={text[:80]!r} is not a time like 2026-01-31T12:00:00Z") from error
