"""Chapter 3: make, find, list, rename and delete repositories."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import (
    Body,
    Kind,
    actor,
    field,
    find_repository,
    hub_of,
    private,
    repository_type,
    required,
    timestamp,
)
from lmcommons.hub.api.identities import object_id
from lmcommons.hub.database.tables import Bucket, Gate, Repository
from lmcommons.hub.errors import BadRequest, Conflict, NotSupported, Unauthorized
from lmcommons.hub.repos import cards
from lmcommons.hub.rooms import Hub

RUNNING = (  # what the protocol has for spaces that run
    "dev-mode", "hardware", "logs/build", "logs/run", "pause", "restart", "runtime", "secrets", "sleeptime",
    "variables", "volumes",
)  # fmt: skip

router = APIRouter(prefix="/api")


@router.post("/repos/create")
def create(request: Request, body: Body) -> Response:
    """A new repository with its first commit; 409 with its address when it exists."""
    hub = hub_of(request)
    type_ = repository_type(field(body, "type", str) or "model")
    namespace, name = _target(required(body, "name", str), field(body, "organization", str))
    sdk = field(body, "sdk", str)
    with _existing(hub):
        repository = hub.commits.create_repository(
            actor(request), type_, namespace, name, private=private(body), sdk=sdk
        )
    return _made(hub, repository)


@router.post("/{kind}/{namespace}/{name}/duplicate")
def duplicate(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> Response:
    """A new repository, `repository`, with the history and files of this one; all of them are there at once."""
    hub, sender, source = find_repository(request, kind, namespace, name)
    target, target_name = _target(required(body, "repository", str), None)
    with _existing(hub):
        repository = hub.commits.duplicate(sender, source, target, target_name, private=private(body))
    return _made(hub, repository, filesCopyPending=False)


@router.delete("/repos/delete")
def delete(request: Request, body: Body) -> Response:
    """The repository is gone, with its history."""
    hub, sender = hub_of(request), actor(request)
    type_ = repository_type(field(body, "type", str) or "model")
    name = required(body, "name", str)
    if "/" not in name:
        name = f"{field(body, 'organization', str) or sender.name}/{name}"
    hub.repositories.delete(sender, type_, name)
    return Response("OK", media_type="text/plain")


@router.post("/repos/move")
def move(request: Request, body: Body) -> dict[str, Any]:
    """Another name, another namespace, or both, for a repository or bucket; the former address redirects."""
    hub, kind = hub_of(request), field(body, "type", str) or "model"
    former, current = required(body, "fromRepo", str), required(body, "toRepo", str)
    if former.count("/") != 1 or current.count("/") != 1:
        raise BadRequest("fromRepo and toRepo must be namespace/name")
    if kind == "bucket":
        path = hub.buckets.move(actor(request), former, current).path
    else:
        path = hub.repositories.move(actor(request), repository_type(kind), former, current).path
    return {"url": f"{hub.settings.public_url}/{path}"}


@router.put("/{kind}/{namespace}/{name}/settings")
def update_settings(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """Visibility; to whom files are given (`gated`: "auto", "manual" or false); the default branch."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.MANAGE)
    branch, hidden, gate = field(body, "defaultBranch", str), private(body), _gate(body)
    if branch:
        hub.commits.set_default_branch(sender, repository, branch)
    repository = hub.repositories.change(sender, repository.type, repository.full_name, private=hidden, gated=gate)
    return {"private": repository.private, "gated": repository.gated or False}


def running_space(request: Request, namespace: str, name: str) -> None:
    """Spaces are kept here, and run elsewhere."""
    find_repository(request, "spaces", namespace, name, Action.SEE)
    raise NotSupported("This hub keeps the files of spaces and runs none: it has no hardware, secrets or logs of them")


for part in RUNNING:
    router.add_api_route(
        f"/spaces/{{namespace}}/{{name}}/{part}", running_space, methods=["GET", "POST", "PUT", "DELETE"], name=part
    )


@router.post("/validate-yaml")
def validate_yaml(request: Request, body: Body) -> Response:
    """What is wrong with a card's metadata, as JSON or as lines of text; 400 when something is."""
    content = required(body, "content", str)
    found = cards.metadata_errors(content)
    if found and request.headers.get("accept") == "text/plain":
        return PlainTextResponse("\n".join(f"- Error: {message}" for message in found), 400)
    errors = [{"message": message} for message in found]
    warnings = [] if errors or cards.split(content)[0] else [{"message": "empty or missing YAML metadata"}]
    return JSONResponse({"errors": errors, "warnings": warnings}, 400 if errors else 200)


@router.get("/settings/repositories")
def own_repositories(request: Request) -> list[dict[str, Any]]:
    """The sender's repositories with their storage."""
    sender = actor(request)
    if sender.name is None:
        raise Unauthorized("You must be signed in to list your repositories; send a token")
    return _repositories_of(request, sender.name)


@router.get("/organizations/{organisation}/settings/repositories")
def organisation_repositories(request: Request, organisation: str) -> list[dict[str, Any]]:
    """An organisation's repositories with their storage."""
    return _repositories_of(request, organisation)


def _target(name: str, namespace: str | None) -> tuple[str | None, str]:
    """The namespace, None for the sender's own, and the name of a new repository."""
    first, slash, rest = name.partition("/")
    return (first, rest) if slash else (namespace, name)


@contextmanager
def _existing(hub: Hub) -> Iterator[None]:
    """Tell the address of a repository that exists already: `exist_ok` reads it."""
    try:
        yield
    except Conflict as error:
        path = error.fields.pop("path", None)
        if path is not None:
            error.fields["url"] = f"{hub.settings.public_url}/{path}"
        raise


def _made(hub: Hub, repository: Repository, **more: bool) -> Response:
    url = f"{hub.settings.public_url}/{repository.path}"
    return JSONResponse({"url": url, "name": repository.full_name, "id": object_id(repository.id), **more})


def _repositories_of(request: Request, name: str) -> list[dict[str, Any]]:
    hub, sender = hub_of(request), actor(request)
    account = hub.accounts.find(name)
    repositories = [
        _storage(repository.type, repository, repository.storage) for repository in hub.search.owned(sender, account.id)
    ]
    return repositories + [
        _storage("bucket", bucket, bucket.size) for bucket in hub.buckets.listing(sender, account.name)
    ]


def _storage(kind: str, of: Repository | Bucket, size: int) -> dict[str, Any]:
    return {
        "id": of.full_name,
        "type": kind,
        "visibility": "private" if of.private else "public",
        "storage": size,
        "updatedAt": timestamp(of.updated_at),
    }


def _gate(body: dict[str, Any]) -> Gate | None:
    gated = body.get("gated")
    if gated is None:
        return None
    if gated not in (False, Gate.AUTO, Gate.MANUAL):
        raise BadRequest(f"gated is 'auto', 'manual' or false, not {gated!r}")
    return Gate(gated or "")
