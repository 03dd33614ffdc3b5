"""Chapters 2 and 3: likes, and who follows whom."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import JSONResponse

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import Kind, actor, find_repository, hub_of, next_link, timestamp
from lmcommons.hub.api.identities import object_id
from lmcommons.hub.database.tables import Account, AccountKind, Like
from lmcommons.hub.errors import RepositoryNotFound

T = TypeVar("T")

PAGE = 100

Page = Annotated[int, Query(ge=0, le=1_000_000)]

router = APIRouter(prefix="/api")


def _account_kind(request: Request) -> AccountKind:
    return AccountKind.USER if request.url.path.startswith("/api/users/") else AccountKind.ORGANISATION


Followed = Annotated[AccountKind, Depends(_account_kind)]


@router.post("/{kind}/{namespace}/{name}/like")
def like(request: Request, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
    """Like a repository."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    hub.likes.like(sender, repository)
    return {"success": True}


@router.delete("/{kind}/{namespace}/{name}/like")
def unlike(request: Request, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
    """Take a like back."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    hub.likes.unlike(sender, repository)
    return {"success": True}


@router.get("/{kind}/{namespace}/{name}/likers")
def likers(request: Request, kind: Kind, namespace: str, name: str, p: Page = 0) -> Response:
    """Who likes a repository."""
    hub, _, repository = find_repository(request, kind, namespace, name, Action.SEE)
    return _page(request, p, hub.likes.likers(repository, offset=p * PAGE, limit=PAGE + 1), _user)


@router.get("/users/{name}/likes")
def likes_of_user(request: Request, name: str, p: Page = 0) -> Response:
    """What a user likes."""
    hub, sender = hub_of(request), actor(request)
    return _page(request, p, hub.likes.of_user(sender, name, offset=p * PAGE, limit=PAGE + 1), _like)


@router.post("/users/{name}/follow")
@router.post("/organizations/{name}/follow")
def follow(request: Request, kind: Followed, name: str) -> dict[str, Any]:
    """Follow a user or an organisation."""
    hub_of(request).follows.follow(actor(request), name, kind)
    return {"success": True}


@router.delete("/users/{name}/follow")
@router.delete("/organizations/{name}/follow")
def unfollow(request: Request, kind: Followed, name: str) -> dict[str, Any]:
    """Follow a user or an organisation no more."""
    hub_of(request).follows.unfollow(actor(request), name, kind)
    return {"success": True}


@router.get("/users/{name}/followers")
@router.get("/organizations/{name}/followers")
def followers(request: Request, kind: Followed, name: str, p: Page = 0) -> Response:
    """Who follows a user or an organisation."""
    hub = hub_of(request)
    return _page(request, p, hub.follows.followers(name, kind, offset=p * PAGE, limit=PAGE + 1), _user)


@router.get("/users/{name}/following")
def following(request: Request, name: str, p: Page = 0) -> Response:
    """The users that a user follows."""
    hub = hub_of(request)
    return _page(request, p, hub.follows.following(name, offset=p * PAGE, limit=PAGE + 1), _user)


@router.api_route("/{kind}/{name}/like", methods=["POST", "DELETE"])
def without_namespace(kind: Kind, name: str) -> None:
    """Every repository here has a namespace."""
    raise RepositoryNotFound


def _page(request: Request, p: int, rows: list[T], show: Callable[[T], dict[str, Any]]) -> Response:
    """A page of rows; one more than fit tells of the next page."""
    headers = next_link(request, p=p + 1) if len(rows) > PAGE else None
    return JSONResponse([show(row) for row in rows[:PAGE]], headers=headers)


def _user(account: Account) -> dict[str, Any]:
    return {
        "_id": object_id(account.id),
        "user": account.name,
        "fullname": account.fullname,
        "avatarUrl": "",
        "isPro": False,
        "type": "user",
    }


def _like(like: Like) -> dict[str, Any]:
    repository = like.repository
    return {
        "createdAt": timestamp(like.created_at),
        "repo": {"name": repository.full_name, "type": repository.type},
    }
