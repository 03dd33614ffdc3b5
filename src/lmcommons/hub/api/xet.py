"""Chapters 4 and 5: tokens for Xet, the protocol by which clients send and fetch large files in chunks (`cas.py`).

A token of the hub buys one for Xet: an hour, one scope, one right (`tickets.py`).
Source: https://huggingface.co/docs/xet/auth
"""

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.api.dependencies import Kind, find_repository, hub_of
from lmcommons.hub.api.tickets import Right, Ticket, admit, signature
from lmcommons.hub.database.tables import Bucket, Repository
from lmcommons.hub.errors import Forbidden, Unauthorized
from lmcommons.hub.rooms import Hub

VALID = 3600  # seconds

router = APIRouter(prefix="/api/{kind}/{namespace}/{name}")


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
    ticket = Ticket.give(actor, scope, right, VALID)
    payload = urlsafe_b64encode(json.dumps(asdict(ticket)).encode()).decode()
    token = f"{payload}.{signature(hub, 'xet token', payload)}"
    # Clients keep what they know of xorbs by this address: another account, or a hub that has deleted some, is another.
    memory = signature(hub, "xet memory", f"{actor.account_id} {hub.objects.xet.generation()}")[:16]
    address = f"{hub.settings.public_url}/xet/{memory}"
    headers = {
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(ticket.expires),
        "X-Xet-Cas-Url": address,
        "Cache-Control": "no-store",
    }
    return JSONResponse({"accessToken": token, "exp": ticket.expires, "casUrl": address}, headers=headers)


def admit_request(request: Request, *, writing: bool) -> tuple[Hub, Ticket, Actor, Repository | Bucket]:
    """The hub, and what the request's Xet token is good for now.

    Raises:
        Unauthorized: the token is forged or has expired, or as `admit`. Forbidden: it is for reading, or as `admit`.
        NotFound: as `admit`.
    """
    hub = hub_of(request)
    ticket = _read_ticket(hub, request.headers.get("authorization", "").removeprefix("Bearer "))
    if writing and ticket.right == "read":
        raise Forbidden("This Xet token is for reading; ask for one to write")
    return hub, ticket, *admit(hub, ticket)


def _read_ticket(hub: Hub, token: str) -> Ticket:
    payload, _, given = token.rpartition(".")
    if not hmac.compare_digest(signature(hub, "xet token", payload).encode(), given.encode()):
        raise Unauthorized("Not a Xet token of this hub; ask for one")
    ticket = Ticket(**json.loads(urlsafe_b64decode(payload)))
    if ticket.expires < time.time():
        raise Unauthorized("This Xet token has expired; ask for a new one")
    return ticket
