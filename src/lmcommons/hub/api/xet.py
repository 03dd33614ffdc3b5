"""Chapters 4 and 5: tokens for Xet, the protocol by which clients send and fetch large files in chunks (`cas.py`).

A token of the hub buys one for Xet: an hour, one scope, one right. It names the token and account it was made for, and
what these may do is asked again with each request, so that it ends when they do.
Source: https://huggingface.co/docs/xet/auth
"""

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass
from typing import Literal

from fastapi import APIRouter, Request
from sqlalchemy.orm import raiseload
from starlette.responses import JSONResponse, Response

from lmcommons.hub.accounts.permissions import ANONYMOUS, Action, Actor, require
from lmcommons.hub.api.dependencies import Kind, find_repository, hub_of
from lmcommons.hub.database.tables import Bucket, Repository
from lmcommons.hub.errors import Forbidden, NotFound, Unauthorized
from lmcommons.hub.objects.xet.reach import parse_scope
from lmcommons.hub.rooms import Hub

VALID = 3600  # seconds

Right = Literal["read", "discuss", "write"]

router = APIRouter(prefix="/api/{kind}/{namespace}/{name}")


@dataclass(frozen=True)
class Ticket:
    """What a Xet token says: a right in a scope, for an account through one of its tokens, until `expires`."""

    scope: str
    right: Right
    account: int | None
    token: int | None
    expires: int


@router.get("/xet-{access}-token/{revision:path}")
def repository_token(
    request: Request, kind: Kind, namespace: str, name: str, access: Literal["read", "write"], revision: str
) -> Response:
    """A Xet token for a repository; whoever may open pull requests may send their content."""
    right: Right = access
    proposal = request.query_params.get("create_pr", "").lower() in ("1", "true")
    if access == "write" and (proposal or revision == "None" or revision.startswith("refs/pr/")):
        right = "discuss"
    hub, sender, repository = find_repository(request, kind, namespace, name, Action(right))
    if access == "read":
        hub.repositories.git(repository).resolve(revision)
    return xet_token(hub, sender, repository.scope, right)


def xet_token(hub: Hub, actor: Actor, scope: str, right: Right) -> Response:
    """A Xet token for whom the caller has checked, as the client reads it: in JSON and in headers."""
    ticket = Ticket(scope, right, actor.account_id, actor.token_id, int(time.time()) + VALID)
    payload = urlsafe_b64encode(json.dumps(asdict(ticket)).encode()).decode()
    token = f"{payload}.{signature(hub, 'token', payload)}"
    # Clients keep what they know of xorbs by this address: another account, or a hub that has deleted some, is another.
    memory = signature(hub, "memory", f"{actor.account_id} {hub.objects.xet.generation()}")[:16]
    address = f"{hub.settings.public_url}/xet/{memory}"
    headers = {
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(ticket.expires),
        "X-Xet-Cas-Url": address,
        "Cache-Control": "no-store",
    }
    return JSONResponse({"accessToken": token, "exp": ticket.expires, "casUrl": address}, headers=headers)


def admit(request: Request, *, writing: bool) -> tuple[Hub, Ticket, Actor, Repository | Bucket]:
    """The hub, and what the request's Xet token is good for now.

    Raises:
        Unauthorized: the token is forged or has expired, or what it was made for was revoked.
        Forbidden: it is for reading, or the account may no longer do this. NotFound: the scope was deleted.
    """
    hub = hub_of(request)
    ticket = _read_ticket(hub, request.headers.get("authorization", "").removeprefix("Bearer "))
    if writing and ticket.right == "read":
        raise Forbidden("This Xet token is for reading; ask for one to write")
    actor = ANONYMOUS
    if ticket.account is not None and ticket.token is not None:
        actor = hub.tokens.actor_of(ticket.token, ticket.account)
    kind, number = parse_scope(ticket.scope)
    with hub.database.read() as session:
        if kind == "repository":
            target: Repository | Bucket | None = session.get(
                Repository, number, options=[raiseload(Repository.tag_rows)]
            )
        else:
            target = session.get(Bucket, number)
    if target is None:
        raise NotFound("What this Xet token is for was deleted")
    require(actor, Action(ticket.right), target)
    return hub, ticket, actor, target


def _read_ticket(hub: Hub, token: str) -> Ticket:
    payload, _, given = token.rpartition(".")
    if not hmac.compare_digest(signature(hub, "token", payload).encode(), given.encode()):
        raise Unauthorized("Not a Xet token of this hub; ask for one")
    ticket = Ticket(**json.loads(urlsafe_b64decode(payload)))
    if ticket.expires < time.time():
        raise Unauthorized("This Xet token has expired; ask for a new one")
    return ticket


def signature(hub: Hub, purpose: str, text: str) -> str:
    """Shows that this hub wrote `text` for one purpose."""
    return hmac.new(hub.secret, f"xet {purpose} {text}".encode(), hashlib.sha256).hexdigest()
