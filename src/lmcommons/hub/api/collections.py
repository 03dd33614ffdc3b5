"""Chapter 6: collections."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import Body, actor, field, hub_of, next_link, required, timestamp
from lmcommons.hub.api.identities import account_fields, number_of, object_id
from lmcommons.hub.community.collection_items import Shown
from lmcommons.hub.community.collections import Listing
from lmcommons.hub.database.tables import Bucket, Collection, Repository
from lmcommons.hub.errors import NotSupported

NO_GROUPS = "This hub has no resource groups; give an organisation's members roles instead"
IN_LISTS = 4  # items of a collection in a list

router = APIRouter(prefix="/api/collections")


@router.get("")
def collections(
    request: Request,
    owner: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
    item: Annotated[list[str], Query()] = [],  # noqa: B006
    q: str | None = None,
    sort: str = "lastModified",
    limit: Annotated[int, Query(ge=1)] = 100,
    skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """Collections, each with its first items."""
    hub, sender = hub_of(request), actor(request)
    query = Listing(owner, item, q, sort, offset=skip, limit=min(limit, 100))
    found, more = hub.collections.listing(sender, query)
    shown = hub.collections.shown(sender, found, IN_LISTS)
    answer = [_fields(collection, shown[collection.id]) for collection in found]
    headers = next_link(request, skip=skip + query.limit) if more else None
    return JSONResponse(answer, headers=headers)


@router.post("")
def create(request: Request, body: Body) -> dict[str, Any]:
    """Make a collection."""
    if body.get("resourceGroupId") is not None:
        raise NotSupported(NO_GROUPS)
    collection = hub_of(request).collections.create(
        actor(request),
        required(body, "namespace", str),
        required(body, "title", str),
        description=field(body, "description", str),
        private=field(body, "private", bool) or False,
    )
    return _whole(request, collection)


@router.get("/{namespace}/{slug}")
def collection(request: Request, namespace: str, slug: str) -> dict[str, Any]:
    """A collection with all its items."""
    return _whole(request, hub_of(request).collections.find(actor(request), f"{namespace}/{slug}"))


@router.patch("/{namespace}/{slug}")
def update(request: Request, namespace: str, slug: str, body: Body) -> dict[str, Any]:
    """Change what the body names."""
    changed = hub_of(request).collections.update(
        actor(request),
        f"{namespace}/{slug}",
        title=field(body, "title", str),
        description=field(body, "description", str),
        private=field(body, "private", bool),
        theme=field(body, "theme", str),
        position=field(body, "position", int),
    )
    return {"success": True, "data": _whole(request, changed)}


@router.delete("/{namespace}/{slug}")
def delete(request: Request, namespace: str, slug: str) -> dict[str, Any]:
    """Remove a collection."""
    hub_of(request).collections.delete(actor(request), f"{namespace}/{slug}")
    return {"success": True}


@router.post("/{namespace}/{slug}/resource-group")
def set_resource_group(request: Request, namespace: str, slug: str) -> None:
    """Not offered."""
    hub_of(request).collections.find(actor(request), f"{namespace}/{slug}", Action.WRITE)
    raise NotSupported(NO_GROUPS)


@router.post("/{namespace}/{slug}/items")
def add_item(request: Request, namespace: str, slug: str, body: Body) -> dict[str, Any]:
    """Put a repository, a bucket or another collection into a collection."""
    item = required(body, "item", dict)
    changed = hub_of(request).collections.add_item(
        actor(request),
        f"{namespace}/{slug}",
        required(item, "type", str),
        required(item, "id", str),
        field(body, "note", str),
    )
    return _whole(request, changed)


@router.patch("/{namespace}/{slug}/items/{item_id}")
def update_item(request: Request, namespace: str, slug: str, item_id: str, body: Body) -> dict[str, Any]:
    """Change an item's note or place."""
    note, position = field(body, "note", str), field(body, "position", int)
    hub_of(request).collections.update_item(
        actor(request), f"{namespace}/{slug}", number_of(item_id), note=note, position=position
    )
    return {"success": True}


@router.delete("/{namespace}/{slug}/items/{item_id}")
def delete_item(request: Request, namespace: str, slug: str, item_id: str) -> dict[str, Any]:
    """Take an item out of a collection."""
    hub_of(request).collections.delete_item(actor(request), f"{namespace}/{slug}", number_of(item_id))
    return {"success": True}


@router.post("/{namespace}/{slug}/upvote")
def upvote(request: Request, namespace: str, slug: str) -> dict[str, Any]:
    """Find a collection good."""
    changed = hub_of(request).collections.vote(actor(request), f"{namespace}/{slug}", up=True)
    return {"upvotes": changed.upvotes}


@router.delete("/{namespace}/{slug}/upvote")
def withdraw_upvote(request: Request, namespace: str, slug: str) -> dict[str, Any]:
    """Find it good no more."""
    changed = hub_of(request).collections.vote(actor(request), f"{namespace}/{slug}", up=False)
    return {"upvotes": changed.upvotes}


def _whole(request: Request, found: Collection) -> dict[str, Any]:
    shown = hub_of(request).collections.shown(actor(request), [found])
    return {**_fields(found, shown[found.id]), "position": found.position}


def _fields(found: Collection, shown: list[Shown]) -> dict[str, Any]:
    answer = {
        "_id": object_id(found.id),
        "slug": found.full_name,
        "title": found.title,
        "owner": account_fields(found.account),
        "items": [_item(each) for each in shown],
        "lastUpdated": timestamp(found.updated_at),
        "private": found.private,
        "theme": found.theme,
        "upvotes": found.upvotes,
    }
    return answer | ({} if found.description is None else {"description": found.description})


def _item(shown: Shown) -> dict[str, Any]:
    item, target = shown.item, shown.target
    answer = {
        "_id": object_id(item.id),
        "id": target.full_name,
        "type": item.kind,
        "position": item.position,
        "author": target.account.name,
        "private": target.private,
        "lastModified": timestamp(target.updated_at),
    }
    match target:
        case Repository():
            answer |= {"likes": target.likes, "downloads": target.downloads, "gated": target.gated.value or False}
        case Bucket():
            answer |= {"size": target.size, "totalFiles": target.total_files}
        case Collection():
            answer |= {
                "id": object_id(target.id),
                "slug": target.full_name,
                "title": target.title,
                "numberItems": shown.items,
            }
    return answer | ({} if item.note is None else {"note": {"text": item.note}})
