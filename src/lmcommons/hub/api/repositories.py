"""Chapter 3: make, find, list, rename and delete repositories."""

from typing import Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from lmcommons.hub.api.dependencies import (
    Body,
    Kind,
    actor,
    field,
    find_repository,
    hub_of,
    next_link,
    repository_type,
    required,
    timestamp,
)
from lmcommons.hub.api.information import (
    BRIEF,
    FULL,
    FULL_OF_MODELS,
    OF_MODELS,
    View,
    check_expand,
    information,
)
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.errors import BadRequest, Conflict, NotSupported, RepositoryNotFound
from lmcommons.hub.repos import cards
from lmcommons.hub.repos.repositories import Listing

PAGE = 1000  # repositories in one answer, at most
SLOW_PAGE = 100  # where each needs a look into its files
SLOW = {"config", "evalResults", "siblings"}

router = APIRouter(prefix="/api")


@router.post("/repos/create")
def create(request: Request, body: Body) -> Response:
    """A new repository with its first commit; 409 with its address when it exists."""
    hub = hub_of(request)
    type_ = repository_type(field(body, "type", str) or "model")
    name = required(body, "name", str)
    namespace = field(body, "organization", str)
    if "/" in name:
        namespace, _, name = name.partition("/")
    public_url = hub.settings.public_url
    try:
        repository = hub.commits.create_repository(actor(request), type_, namespace, name, private=_private(body))
    except Conflict as error:
        path = error.fields.pop("path", None)
        if path is not None:
            error.fields["url"] = f"{public_url}/{path}"
        raise
    url = f"{public_url}/{repository.path}"
    return JSONResponse({"url": url, "name": repository.full_name, "id": f"{repository.id:024x}"})


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
    """Another name, another namespace, or both; the former address redirects."""
    hub = hub_of(request)
    type_ = repository_type(field(body, "type", str) or "model")
    former, current = required(body, "fromRepo", str), required(body, "toRepo", str)
    if former.count("/") != 1 or current.count("/") != 1:
        raise BadRequest("fromRepo and toRepo must be namespace/name")
    repository = hub.repositories.move(actor(request), type_, former, current)
    return {"url": f"{hub.settings.public_url}/{repository.path}"}


@router.put("/{kind}/{namespace}/{name}/settings")
def update_settings(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """Visibility. The client sends `gated` too, which may only be false."""
    if body.get("gated") not in (None, False):
        raise NotSupported("Gated access comes with a later version of this hub; use a private repository")
    sender, type_ = actor(request), repository_type(kind)
    repository = hub_of(request).repositories.set_private(sender, type_, f"{namespace}/{name}", _private(body))
    return {"private": repository.private, "gated": False}


@router.get("/{kind}-tags-by-type")
def tags_by_type(request: Request, kind: Kind) -> dict[str, list[dict[str, str]]]:
    """The tags of public repositories, by their prefix."""
    groups: dict[str, list[dict[str, str]]] = {}
    for tag in hub_of(request).repositories.tags(repository_type(kind)):
        prefix, colon, label = tag.partition(":")
        group = prefix if colon else "other"
        groups.setdefault(group, []).append({"id": tag, "label": label or tag, "type": group})
    return groups


@router.get("/{kind}")
def listing(
    request: Request,
    kind: Kind,
    search: str | None = None,
    author: str | None = None,
    filter_: list[str] = Query([], alias="filter"),
    pipeline_tag: str | None = None,
    sort: str = "trendingScore",
    direction: Literal["-1", "1"] = "-1",
    limit: int = Query(PAGE, ge=1),
    offset: int = Query(0, ge=0, alias="cursor"),
    full: bool = False,
    config: bool = False,
    card_data: bool = Query(False, alias="cardData"),
    expand: list[str] = Query([]),
) -> Response:
    """Repositories that the sender may see; the next page is in the Link header."""
    type_ = repository_type(kind)
    check_expand(type_, expand)
    tags = [*filter_, *([pipeline_tag] if pipeline_tag else [])]
    names: set[str] = set(expand)
    if not expand:
        names.update(BRIEF)
        if type_ is RepositoryType.MODEL:
            names.update(OF_MODELS)
        else:
            names.update(("sha", "disabled", "description"))
        if full:
            names.update(("sha", "siblings", "disabled"))
        if config and type_ is RepositoryType.MODEL:
            names.add("config")
        if card_data or full:
            names.add("cardData")
    query = Listing(
        search=search,
        author=author,
        tags=tuple(tag for part in tags for tag in part.split(",") if tag),
        sort={"last_modified": "lastModified", "created_at": "createdAt"}.get(sort, sort),
        ascending=direction == "1",
        offset=offset,
        limit=min(limit, SLOW_PAGE if names & SLOW else PAGE),
    )
    hub = hub_of(request)
    repositories, more = hub.repositories.listing(actor(request), type_, query)
    answer = [information(View(hub, repository), sorted(names)) for repository in repositories]
    return JSONResponse(answer, headers=next_link(request, cursor=offset + query.limit) if more else None)


@router.get("/{kind}/{namespace}/{name}")
@router.get("/{kind}/{namespace}/{name}/revision/{revision:path}")
def info(
    request: Request,
    kind: Kind,
    namespace: str,
    name: str,
    revision: str | None = None,
    blobs: bool = False,
    expand: list[str] = Query([]),
) -> dict[str, Any]:
    """Everything about a repository at a revision, or only what `expand` names."""
    hub, _, repository = find_repository(request, kind, namespace, name)
    check_expand(repository.type, expand)
    repository = hub.commits.refresh(repository)
    commit = hub.repositories.git(repository).resolve(revision) if revision is not None else None
    names = expand or [*FULL, *(FULL_OF_MODELS if repository.type is RepositoryType.MODEL else ("description",))]
    return information(View(hub, repository, commit, blobs), names)


@router.get("/{kind}/{name}")
@router.get("/{kind}/{name}/revision/{revision:path}")
def without_namespace(kind: Kind, name: str) -> None:
    """Every repository here has a namespace."""
    raise RepositoryNotFound


@router.post("/validate-yaml")
def validate_yaml(body: Body) -> Response:
    """What is wrong with a card's metadata; 400 when something is."""
    content = required(body, "content", str)
    errors = [{"message": message} for message in cards.metadata_errors(content)]
    warnings = [] if errors or cards.split(content)[0] else [{"message": "empty or missing YAML metadata"}]
    return JSONResponse({"errors": errors, "warnings": warnings}, 400 if errors else 200)


@router.get("/settings/repositories")
def own_repositories(request: Request) -> list[dict[str, Any]]:
    """The sender's repositories with their storage."""
    sender = actor(request)
    return _repositories_of(request, sender.name or "")


@router.get("/organizations/{organisation}/settings/repositories")
def organisation_repositories(request: Request, organisation: str) -> list[dict[str, Any]]:
    """An organisation's repositories with their storage."""
    return _repositories_of(request, organisation)


def _repositories_of(request: Request, name: str) -> list[dict[str, Any]]:
    hub = hub_of(request)
    account = hub.accounts.find(name)
    return [
        {
            "id": repository.full_name,
            "type": repository.type,
            "visibility": "private" if repository.private else "public",
            "storage": repository.storage,
            "updatedAt": timestamp(repository.updated_at),
        }
        for repository in hub.repositories.owned(actor(request), account.id)
    ]


def _private(body: dict[str, Any]) -> bool | None:
    visibility = field(body, "visibility", str)
    if visibility is None:
        return field(body, "private", bool)
    if visibility not in ("public", "private"):
        raise BadRequest(f"visibility is 'public' or 'private' here, not {visibility!r}")
    return visibility == "private"
