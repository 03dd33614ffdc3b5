"""What handlers share: the hub, the actor, repositories and revisions in addresses, bodies with limits."""

import binascii
import json
import re
from base64 import b64decode
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Path, Request

from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.addresses import raw_path
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, NotFound, NotSupported, TooLarge, Unauthorized
from lmcommons.hub.rooms import Hub

T = TypeVar("T")

JSON_LIMIT = 4 << 20  # bytes


def hub_of(request: Request) -> Hub:
    """The open hub."""
    hub: Hub = request.app.state.hub
    return hub


def actor(request: Request) -> Actor:
    """Who sends the request: `Authorization: Bearer TOKEN`, or Basic with the token as password, as git sends it.

    Reads the database: call it in a thread, as handlers that are not `async` do.

    Raises:
        Unauthorized: the token is not known, or the header cannot be read.
    """
    scheme, _, value = request.headers.get("authorization", "").strip().partition(" ")
    if not scheme:
        return hub_of(request).accounts.actor(None)
    if scheme.lower() == "bearer":
        return hub_of(request).accounts.actor(value.strip())
    if scheme.lower() == "basic":
        try:
            name, _, token = b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Unauthorized("Invalid credentials in Authorization header") from error
        return hub_of(request).accounts.actor(token or name)
    raise Unauthorized("Invalid credentials in Authorization header")


def repository_type(plural: str) -> RepositoryType:
    """The type that a path names in the plural.

    Raises:
        NotSupported: spaces, for now. NotFound: no such type.
    """
    if plural in ("spaces", "space"):
        raise NotSupported("Spaces are not offered by this hub")
    try:
        return RepositoryType(plural.removesuffix("s"))
    except ValueError as error:
        raise NotFound(f"No repository type {plural!r}: use 'model' or 'dataset'") from error


def find_repository(
    request: Request, kind: str, namespace: str, name: str, action: Action = Action.READ
) -> tuple[Hub, Actor, Repository]:
    """The repository that a path names, for an action of the request's sender."""
    hub, sender = hub_of(request), actor(request)
    return hub, sender, hub.repositories.find(sender, repository_type(kind), f"{namespace}/{name}", action)


async def read_body(request: Request, limit: int) -> bytes:
    """The body, in memory.

    Raises:
        TooLarge: past `limit` bytes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"The body is larger than {limit:,} bytes")
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
