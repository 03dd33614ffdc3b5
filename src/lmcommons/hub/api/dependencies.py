"""What handlers share: the hub, the actor, repositories and revisions in addresses, bodies with limits."""

import json
import re
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Path, Request

from lmcommons.hub.accounts.browser_sessions import COOKIE
from lmcommons.hub.accounts.issuing import digest
from lmcommons.hub.accounts.permissions import ANONYMOUS, Action, Actor
from lmcommons.hub.addresses import raw_path
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, NotFound, TooLarge, Unauthorized
from lmcommons.hub.rooms import Hub

T = TypeVar("T")

JSON_LIMIT = 4 << 20  # bytes


def hub_of(request: Request) -> Hub:
    """The open hub."""
    hub: Hub = request.app.state.hub
    return hub


def actor(request: Request) -> Actor:
    """Who sends the request: `Authorization: Bearer TOKEN`, or Basic with the token as password, as git sends it.

    A browser that is signed in may look too: what its session's cookie comes with reads, and never changes anything.
    Reads the database: call it in a thread, as handlers that are not `async` do.

    Raises:
        Unauthorized: the token is not known, or the header cannot be read.
    """
    hub, header = hub_of(request), request.headers.get("authorization", "").strip()
    if header:
        token = _token(header)
        sender = hub.keys.actor_of(token) or hub.tokens.actor(token)
    elif request.method in ("GET", "HEAD"):
        sender = hub.browser_sessions.actor(request.cookies.get(COOKIE)).reading
    else:
        sender = ANONYMOUS
    if sender.account_id is not None:
        hub.limits.remember(credentials_of(request), sender.account_id)
        request.state.account = sender.name
    return sender


def credentials_of(request: Request) -> str:
    """What names the request's credentials and cannot be turned back into them; empty where there are none."""
    sent = request.headers.get("authorization") or request.cookies.get(COOKIE)
    return digest(sent) if sent else ""


def address_of(request: Request) -> str:
    """The network address of the sender."""
    return request.client.host if request.client else ""


def _token(header: str) -> str:
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    try:
        if scheme.lower() == "basic":
            name, _, token = b64decode(value, validate=True).decode().partition(":")
            return token or name
    except ValueError as error:
        raise Unauthorized("Invalid credentials in Authorization header") from error
    raise Unauthorized("Invalid credentials in Authorization header")


def repository_type(plural: str) -> RepositoryType:
    """The type that a path names in the plural.

    Raises:
        NotFound: no such type.
    """
    try:
        return RepositoryType(plural.removesuffix("s"))
    except ValueError as error:
        raise NotFound(f"No repository type {plural!r}: use 'model', 'dataset' or 'space'") from error


def find_repository(
    request: Request, kind: str, namespace: str, name: str, action: Action = Action.READ
) -> tuple[Hub, Actor, Repository]:
    """The repository that a path names, for an action of the request's sender."""
    hub, sender = hub_of(request), actor(request)
    return hub, sender, hub.repositories.find(sender, repository_type(kind), f"{namespace}/{name}", action)


async def body_blocks(request: Request, limit: int, too_large: str) -> AsyncIterator[bytes]:
    """The body as it comes.

    Raises:
        TooLarge: past `limit` bytes, in the words of `too_large`.
    """
    size = 0
    async for block in request.stream():
        size += len(block)
        if size > limit:
            raise TooLarge(too_large)
        yield block


async def read_body(request: Request, limit: int) -> bytes:
    """The body, in memory.

    Raises:
        TooLarge: past `limit` bytes.
    """
    body = bytearray()
    async for block in body_blocks(request, limit, f"The body is larger than {limit:,} bytes"):
        body += block
    return bytes(body)


async def json_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object; no body is an empty one.

    Raises:
        BadRequest: it is something else. TooLarge: past 4 MiB.
    """
    body = await read_body(request, JSON_LIMIT)
    try:
        value = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object")
    return value


def field(body: dict[str, Any], name: str, kind: type[T]) -> T | None:
    """A field of a JSON body; None when it is absent or null.

    Raises:
        BadRequest: it is of another type.
    """
    return None if body.get(name) is None else required(body, name, kind)


def required(body: dict[str, Any], name: str, kind: type[T]) -> T:
    """A field that must be there.

    Raises:
        BadRequest: it is absent, of another type, or text with half a character, as JSON's escapes can write it.
    """
    value = body.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadRequest(f"The field {name!r} must be {_KINDS[kind]}, not {json.dumps(value)[:80]}")
    if isinstance(value, str) and not value.isascii() and re.search("[\ud800-\udfff]", value):
        raise BadRequest(f"The field {name!r} is not valid Unicode: {value[:80]!a}")
    return value


def private(body: dict[str, Any]) -> bool | None:
    """What `visibility` or `private` of a JSON body asks for; None when it has neither.

    Raises:
        BadRequest: something else than these two are.
    """
    visibility = field(body, "visibility", str)
    if visibility is None:
        return field(body, "private", bool)
    if visibility not in ("public", "private"):
        raise BadRequest(f"visibility is 'public' or 'private' here, not {visibility!r}")
    return visibility == "private"


_KINDS: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    list: "an array",
    dict: "an object",
}


def timestamp(when: datetime) -> str:
    """A time as the client reads it: `2026-01-31T12:00:00.000Z`."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03}Z"


def next_link(request: Request, **changes: str | int) -> dict[str, str]:
    """The Link header to the next page: this address with some parameters changed."""
    kept = [(key, value) for key, value in request.query_params.multi_items() if key not in changes]
    query = urlencode([*kept, *changes.items()])
    return {"Link": f'<{hub_of(request).settings.public_url}{raw_path(request)}?{query}>; rel="next"'}


Body = Annotated[dict[str, Any], Depends(json_body)]
Kind = Annotated[str, Path(pattern="^(models|datasets|spaces)$")]
