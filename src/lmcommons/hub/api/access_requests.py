"""Chapter 6, gated repositories: ask for their files; list, accept and reject who asked."""

from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from lmcommons.hub.accounts.access import PAGE
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.addresses import type_of
from lmcommons.hub.api.dependencies import (
    JSON_LIMIT,
    Body,
    Kind,
    field,
    find_repository,
    json_body,
    next_link,
    read_body,
    required,
    timestamp,
)
from lmcommons.hub.api.identities import number_of, object_id
from lmcommons.hub.database.tables import AccessRequest, AccessStatus
from lmcommons.hub.errors import BadRequest

FIELDS_LIMIT = 100  # of a form

router = APIRouter(prefix="/api/{kind}/{namespace}/{name}/user-access-request")


@router.get("/{status}")
def requests(
    request: Request, kind: Kind, namespace: str, name: str, status: AccessStatus, cursor: int = Query(0, ge=0)
) -> Response:
    """The requests that stand so, the oldest first."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.MANAGE)
    found = hub.access.requests(sender, repository, status, after=cursor)
    headers = next_link(request, cursor=found[-1].id) if len(found) == PAGE else None
    return JSONResponse([_item(each) for each in found], headers=headers)


@router.post("/handle")
def handle(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """Accept, reject or put back one request, named by its user or its id."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.MANAGE)
    status, wanted = required(body, "status", str), field(body, "requestId", str)
    if status not in list(AccessStatus):
        raise BadRequest(f"status is one of {', '.join(AccessStatus)}, not {status[:40]!r}")
    user = field(body, "user", str)
    if (user is None) == (wanted is None):
        raise BadRequest("Name the request by 'user' or by 'requestId'")
    hub.access.handle(
        sender,
        repository,
        AccessStatus(status),
        user=user,
        request_id=number_of(wanted) if wanted is not None else None,
        reason=field(body, "rejectionReason", str),
    )
    return {}


@router.post("/grant")
def grant(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """Open the files to a user who need not have asked."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.MANAGE)
    hub.access.grant(sender, repository, required(body, "user", str))
    return {}


async def ask(request: Request) -> Response:
    """Ask for the files in the sender's own name; the answers to the card's questions are a form or a JSON object."""
    if request.headers.get("content-type", "").startswith("application/json"):
        fields = await json_body(request)
    else:
        body = await read_body(request, JSON_LIMIT)
        try:
            fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_LIMIT))
        except ValueError as error:
            raise BadRequest(f"Expected a form of at most {FIELDS_LIMIT} fields, or a JSON object") from error

    def answer() -> dict[str, Any]:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        hub, sender, repository = find_repository(request, type_of(request).plural, namespace, name, Action.SEE)
        return {"status": hub.access.ask(sender, repository, fields).status}

    return JSONResponse(await run_in_threadpool(answer))


def _item(request: AccessRequest) -> dict[str, Any]:
    return {
        "requestId": object_id(request.id),
        "user": {
            "user": request.user.name,
            "fullname": request.user.fullname,
            "email": None if request.granted else request.user.email,
            "avatarUrl": "",
            "type": "user",
        },
        "status": request.status,
        "timestamp": timestamp(request.created_at),
        **({"fields": request.fields} if request.fields else {}),
    }


routes = [
    Route(f"{prefix}/{{namespace}}/{{name}}/ask-access", ask, methods=["POST"])
    for prefix in ("", "/datasets", "/spaces")
]
