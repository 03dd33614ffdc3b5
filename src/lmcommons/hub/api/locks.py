"""LFS locks over HTTP, as `git lfs lock`, `locks`, `unlock` and `push` ask for them.

Source: https://github.com/git-lfs/git-lfs/blob/main/docs/api/locking.md
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.addresses import type_of
from lmcommons.hub.api.dependencies import field, find_repository, json_body, required, timestamp
from lmcommons.hub.api.lfs import LFS_JSON
from lmcommons.hub.database.tables import LfsLock, Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, HubError
from lmcommons.hub.repos.locks import LOCKS_LIMIT, LockExists
from lmcommons.hub.rooms import Hub

Answer = tuple[dict[str, Any], int]
Handler = Callable[[Request, dict[str, Any]], Answer]


def create(request: Request, body: dict[str, Any]) -> Answer:
    """A lock on `path`; 409 with the lock that is there already."""
    hub, sender, repository = _find(request, Action.WRITE)
    try:
        return {"lock": _item(hub.locks.lock(sender, repository, required(body, "path", str)))}, 201
    except LockExists as error:
        return {"lock": _item(error.lock), "message": error.message}, error.status


def listing(request: Request, body: dict[str, Any]) -> Answer:
    """All locks, or that on `path`, or that with the `id`."""
    hub, _, repository = _find(request, Action.SEE)
    asked = request.query_params
    number = _number("id", asked["id"]) if asked.get("id") else None
    after, limit = _number("cursor", asked.get("cursor", "0")), _number("limit", asked.get("limit", str(LOCKS_LIMIT)))
    locks, more = hub.locks.listing(repository, path=asked.get("path"), number=number, after=after, limit=limit)
    return {"locks": [_item(lock) for lock in locks], **_next(locks, more=more)}, 200


def verify(request: Request, body: dict[str, Any]) -> Answer:
    """The locks of the sender and those of others, for a client that is about to push."""
    hub, sender, repository = _find(request, Action.WRITE)
    after = _number("cursor", field(body, "cursor", str) or "0")
    locks, more = hub.locks.listing(repository, after=after, limit=field(body, "limit", int) or LOCKS_LIMIT)
    ours = [_item(lock) for lock in locks if lock.owner_id == sender.account_id]
    theirs = [_item(lock) for lock in locks if lock.owner_id != sender.account_id]
    return {"ours": ours, "theirs": theirs, **_next(locks, more=more)}, 200


def unlock(request: Request, body: dict[str, Any]) -> Answer:
    """The lock that was removed."""
    hub, sender, repository = _find(request, Action.WRITE)
    number = _number("id", request.path_params["number"])
    return {"lock": _item(hub.locks.unlock(sender, repository, number, force=bool(field(body, "force", bool))))}, 200


async def _answer(request: Request, handler: Handler) -> Response:
    try:
        answer, status = await run_in_threadpool(handler, request, await json_body(request))
    except HubError as error:
        error.fields["message"] = error.message  # what git-lfs shows
        raise
    return JSONResponse(answer, status, media_type=LFS_JSON)


def _find(request: Request, action: Action) -> tuple[Hub, Actor, Repository]:
    return find_repository(
        request, type_of(request).plural, request.path_params["namespace"], request.path_params["name"], action
    )


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadRequest(f"{name!r} must be a whole number that this hub gave, not {text[:20]!r}")
    return int(text)


def _next(locks: list[LfsLock], *, more: bool) -> dict[str, str]:
    return {"next_cursor": str(locks[-1].id)} if more else {}


def _item(lock: LfsLock) -> dict[str, Any]:
    return {
        "id": str(lock.id),
        "path": lock.path,
        "locked_at": timestamp(lock.locked_at),
        "owner": {"name": lock.owner.name},
    }


routes = [
    Route(
        f"/{kind.prefix}{{namespace}}/{{name}}.git/info/lfs/locks{rest}",
        partial(_answer, handler=handler),
        methods=[method],
    )
    for kind in RepositoryType
    for rest, method, handler in (
        ("", "POST", create),
        ("", "GET", listing),
        ("/verify", "POST", verify),
        ("/{number}/unlock", "POST", unlock),
    )
]
