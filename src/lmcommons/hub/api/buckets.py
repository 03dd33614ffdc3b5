"""Chapter 7: buckets and their files."""

from base64 import b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.addresses import segments_after
from lmcommons.hub.api.batch_body import parse_batch
from lmcommons.hub.api.content import file_headers, object_response
from lmcommons.hub.api.dependencies import (
    Body,
    actor,
    hub_of,
    next_link,
    private,
    read_body,
    required,
    timestamp,
)
from lmcommons.hub.api.identities import object_id
from lmcommons.hub.api.xet import xet_token
from lmcommons.hub.buckets.files import BucketFolder
from lmcommons.hub.database.tables import Bucket, BucketFile
from lmcommons.hub.errors import BadRequest, Conflict, NotSupported
from lmcommons.hub.rooms import Hub

PAGE = 1_000  # buckets or entries in one answer
PATHS_LIMIT = 1_000  # paths in one question
BATCH_LIMIT = 16 << 20  # bytes
FIXED_PARTS = 4  # of a file's address, before its path

router = APIRouter(prefix="/api/buckets")


def find_bucket(request: Request, namespace: str, name: str, action: Action) -> tuple[Hub, Actor, Bucket]:
    """The bucket that a path names, for an action of the request's sender."""
    hub, sender = hub_of(request), actor(request)
    return hub, sender, hub.buckets.find(sender, f"{namespace}/{name}", action)


# ------------------------------------------------------------ buckets


@router.get("/{namespace}")
def listing(
    request: Request,
    namespace: str,
    search: str = "",
    limit: Annotated[int, Query(ge=1)] = PAGE,
    cursor: str = "",
) -> Response:
    """The buckets of an account that the sender may see; of the sender, where the namespace is `me`."""
    limit = min(limit, PAGE)
    found = hub_of(request).buckets.listing(
        actor(request), namespace, search=_text(search), after=_text(cursor), limit=limit + 1
    )
    headers = next_link(request, cursor=found[limit - 1].name) if len(found) > limit else None
    return JSONResponse([_information(bucket) for bucket in found[:limit]], headers=headers)


@router.post("/{namespace}/{name}")
def create(request: Request, namespace: str, name: str, body: Body) -> Response:
    """A new, empty bucket; 409 with its address when it exists."""
    if body.get("resourceGroupId") is not None:
        raise NotSupported("This hub has no resource groups; give an organisation's members roles instead")
    hub = hub_of(request)
    try:
        bucket = hub.buckets.create(actor(request), namespace, name, private=private(body))
    except Conflict as error:
        error.fields["url"] = f"{hub.settings.public_url}/{error.fields.pop('path')}"
        raise
    return JSONResponse({**_information(bucket), "url": f"{hub.settings.public_url}/{bucket.path}"})


@router.get("/{namespace}/{name}")
def info(request: Request, namespace: str, name: str) -> dict[str, Any]:
    """Everything about a bucket, its files counted."""
    return _information(find_bucket(request, namespace, name, Action.SEE)[2])


@router.delete("/{namespace}/{name}")
def delete(request: Request, namespace: str, name: str) -> Response:
    """The bucket is gone, with its files."""
    hub_of(request).buckets.delete(actor(request), f"{namespace}/{name}")
    return Response("OK", media_type="text/plain")


@router.put("/{namespace}/{name}/settings")
def update_settings(request: Request, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """Who may see the bucket."""
    wanted = private(body)
    if wanted is None:
        raise BadRequest("The field 'private' must be true or false")
    return _information(hub_of(request).buckets.change(actor(request), f"{namespace}/{name}", private=wanted))


# ------------------------------------------------------------ files


@router.get("/{namespace}/{name}/tree")
@router.get("/{namespace}/{name}/tree/{prefix:path}")
def tree(
    request: Request,
    namespace: str,
    name: str,
    prefix: str = "",
    recursive: bool = True,
    limit: Annotated[int, Query(ge=1)] = PAGE,
    cursor: str | None = None,
) -> Response:
    """The files whose paths begin with a prefix; where not `recursive`, those in folders as their folders."""
    hub, _, bucket = find_bucket(request, namespace, name, Action.SEE)
    start = "" if cursor is None else _read_cursor(cursor)
    page = hub.bucket_files.tree(bucket, _text(prefix), recursive=recursive, start=start, limit=min(limit, PAGE))
    headers = next_link(request, cursor=_write_cursor(page.following)) if page.following is not None else None
    return JSONResponse([_item(entry) for entry in page.entries], headers=headers)


@router.post("/{namespace}/{name}/paths-info")
def paths_info(request: Request, namespace: str, name: str, body: Body) -> list[dict[str, Any]]:
    """The files at some paths; those that do not exist are left out."""
    hub, _, bucket = find_bucket(request, namespace, name, Action.SEE)
    paths = required(body, "paths", list)
    if len(paths) > PATHS_LIMIT or not all(isinstance(path, str) for path in paths):
        raise BadRequest(f"paths must be at most {PATHS_LIMIT:,} strings")
    return [_item(file) for file in hub.bucket_files.existing(bucket, [_text(path) for path in paths])]


@router.post("/{namespace}/{name}/batch")
async def batch(request: Request, namespace: str, name: str) -> Response:
    """Put and delete files by an NDJSON body: 200 when some operations were applied, 422 when none was."""
    hub, sender, bucket = await run_in_threadpool(find_bucket, request, namespace, name, Action.WRITE)
    body = await read_body(request, BATCH_LIMIT)

    def apply() -> Response:
        operations = parse_batch(body)
        failures = hub.bucket_batches.apply(sender, bucket, operations)
        answer = {
            "success": not failures,
            "processed": len(operations),
            "succeeded": len(operations) - len(failures),
            "failed": [{"path": failure.path, "error": failure.error} for failure in failures],
        }
        return JSONResponse(answer, 422 if failures and len(failures) == len(operations) else 200)

    return await run_in_threadpool(apply)


# ------------------------------------------------------------ content


@router.get("/{namespace}/{name}/xet-{right}-token")
def token(request: Request, namespace: str, name: str, right: Literal["read", "write"]) -> Response:
    """A token for the bucket's content in Xet."""
    action = Action.WRITE if right == "write" else Action.READ
    hub, sender, bucket = find_bucket(request, namespace, name, action)
    return xet_token(hub, sender, bucket.scope, right)


async def resolve(request: Request) -> Response:
    """A file's content."""
    hub, bucket, file = await run_in_threadpool(_find_file, request)
    etag = f'"{file.sha256}"'
    headers = file_headers(file.path, download="download" in request.query_params) | {
        "ETag": etag,
        "Last-Modified": format_datetime((file.mtime or file.uploaded_at).astimezone(UTC), usegmt=True),
        "X-Linked-Etag": etag,
        "X-Linked-Size": str(file.size),
        "X-Xet-Hash": file.xet_hash,
        "Link": f'<{hub.settings.public_url}/api/{bucket.path}/xet-read-token>; rel="xet-auth"',
    }
    if file.content_type is not None and not file.content_type.startswith("text/"):
        headers["Content-Type"] = file.content_type
    return await object_response(request, hub, file.sha256, file.size, headers)


def _find_file(request: Request) -> tuple[Hub, Bucket, BucketFile]:
    namespace, name = request.path_params["namespace"], request.path_params["name"]
    hub, _, bucket = find_bucket(request, namespace, name, Action.READ)
    path = _text("/".join(segments_after(request, FIXED_PARTS)))
    return hub, bucket, hub.bucket_files.file(bucket, path)


# ------------------------------------------------------------ values


def _information(bucket: Bucket) -> dict[str, Any]:
    return {
        "_id": object_id(bucket.id),
        "id": bucket.full_name,
        "author": bucket.account.name,
        "private": bucket.private,
        "createdAt": timestamp(bucket.created_at),
        "updatedAt": timestamp(bucket.updated_at),
        "size": bucket.size,
        "totalFiles": bucket.total_files,
    }


def _item(entry: BucketFile | BucketFolder) -> dict[str, Any]:
    if isinstance(entry, BucketFolder):
        return {"type": "directory", "path": entry.path, "uploadedAt": timestamp(entry.uploaded_at)}
    return {
        "type": "file",
        "path": entry.path,
        "size": entry.size,
        "xetHash": entry.xet_hash,
        "mtime": _optional_time(entry.mtime),
        "uploadedAt": timestamp(entry.uploaded_at),
        "contentType": entry.content_type,
    }


def _optional_time(when: datetime | None) -> str | None:
    return timestamp(when) if when is not None else None


def _text(value: str) -> str:
    """A value that a database can compare.

    Raises:
        BadRequest: it has half a character or a null character.
    """
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise BadRequest(f"{value[:80]!a} is not valid text")
    return value


def _write_cursor(path: str) -> str:
    return urlsafe_b64encode(path.encode()).decode()


def _read_cursor(cursor: str) -> str:
    try:
        return _text(b64decode(cursor, altchars=b"-_", validate=True).decode())
    except ValueError as error:
        raise BadRequest("The cursor is not one that this hub gave") from error


routes = [Route("/buckets/{namespace}/{name}/resolve/{path:path}", resolve, methods=["GET", "HEAD"])]
