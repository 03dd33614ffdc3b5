"""Chapter 3, large files: which objects a repository has, giving them to another one, removing them for good."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import Body, Kind, field, find_repository, next_link, required, timestamp
from lmcommons.hub.errors import BadRequest, TooLarge
from lmcommons.hub.objects.store import SHA256
from lmcommons.hub.repos.large_files import LargeFile

LIMIT = 1_000  # objects in one request or answer

router = APIRouter(prefix="/api/{kind}/{namespace}/{name}/lfs-files")


@router.get("")
def listing(request: Request, kind: Kind, namespace: str, name: str, cursor: str = "") -> Response:
    """The objects of a repository, also those that only its history names."""
    hub, _, repository = find_repository(request, kind, namespace, name, Action.READ)
    files, more = hub.large_files.listing(repository, cursor, LIMIT)
    headers = next_link(request, cursor=files[-1].sha256) if more else {}
    return JSONResponse([_item(file) for file in files], headers=headers)


@router.post("/batch")
def remove(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """Remove objects, and unless the client says otherwise the files that are made of them from all commits."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.MANAGE)
    deletions = required(body, "deletions", dict)
    sha256s = [_sha256(value) for value in _bounded(required(deletions, "sha", list))]
    rewrite = field(deletions, "rewriteHistory", bool)
    hub.large_files.remove(sender, repository, sha256s, rewrite_history=rewrite is not False)
    return {"success": True}


@router.post("/duplicate")
def duplicate(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """Give objects of this repository to another one, where a commit can then name them."""
    hub, _, source = find_repository(request, kind, namespace, name, Action.READ)
    target = required(body, "target", dict)
    owner, _, target_name = required(target, "name", str).partition("/")
    # Whoever may open a pull request there may bring its objects, as with LFS.
    _, _, goal = find_repository(request, required(target, "type", str), owner, target_name, Action.DISCUSS)
    wanted: dict[str, str | None] = {}
    for value in _bounded(required(body, "files", list)):
        if not isinstance(value, dict):
            raise BadRequest("`files` must be an array of objects with `sha256` and `xetHash`")
        wanted[_sha256(required(value, "sha256", str))] = field(value, "xetHash", str)
    hashes = hub.objects.xet.hash_of(wanted, source.scope)
    right = [sha256 for sha256, xet_hash in wanted.items() if xet_hash in (None, hashes.get(sha256))]
    sizes = hub.repositories.linked_objects(source.id, right)
    hub.accounts.require_room(goal.account_id, sum(sizes.values()))
    given = hub.large_files.give(source, goal, right)
    message = f"No such file in {source.full_name}"
    return {"failed": [{"sha256": sha256, "error": message} for sha256 in wanted if sha256 not in given]}


def _item(file: LargeFile) -> dict[str, Any]:
    return {
        "fileOid": file.sha256,
        "oid": file.sha256,
        "filename": file.path or "",
        "ref": file.ref,
        "size": file.size,
        "pushedAt": timestamp(file.linked_at),
    }


def _bounded(values: list[Any]) -> list[Any]:
    if len(values) > LIMIT:
        raise TooLarge(f"{len(values)} objects in one request; at most {LIMIT}")
    return values


def _sha256(value: Any) -> str:
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise BadRequest(f"Not a sha256: {str(value)[:80]!r}; 64 lower-case hexadecimal digits are expected")
    return value
