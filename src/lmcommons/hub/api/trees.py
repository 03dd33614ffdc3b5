"""Chapter 3, trees and history: what files a revision has, and the commits that led to it."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from html import escape
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.addresses import segments_after
from lmcommons.hub.api.dependencies import (
    JSON_LIMIT,
    Kind,
    find_repository,
    next_link,
    read_body,
    timestamp,
)
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import BadRequest, RepositoryNotFound
from lmcommons.hub.repos.git import Commit, Entry
from lmcommons.hub.rooms import Hub

TREE_LIMIT = 1_000  # entries on a page
EXPANDED_LIMIT = 50  # when each comes with its last commit
PATHS_LIMIT = 1_000  # paths in one question
COMMITS_LIMIT = 1_000  # commits on a page

FIXED_PARTS = 5  # of the addresses below, before the revision: api, kind, namespace, name, what is asked

router = APIRouter(prefix="/api")


@router.get("/{kind}/{namespace}/{name}/tree/{rest:path}")
def tree(
    request: Request,
    kind: Kind,
    namespace: str,
    name: str,
    recursive: bool = False,
    expand: bool = False,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1)] = TREE_LIMIT,
) -> Response:
    """The entries of a folder; following pages stay at the commit of the first."""
    hub, _, repository = find_repository(request, kind, namespace, name, Action.SEE)
    git = hub.repositories.git(repository)
    revision, *path = segments_after(request, FIXED_PARTS)
    if cursor is None:
        commit, start = git.resolve(revision), 0
    else:
        commit, start = _read_cursor(cursor)
    limit = min(limit, EXPANDED_LIMIT if expand else TREE_LIMIT)
    entries = git.entries(commit, "/".join(path).strip("/"), recursive=recursive, start=start, limit=limit + 1)
    headers = next_link(request, cursor=_write_cursor(commit, start + limit)) if len(entries) > limit else None
    return JSONResponse(_items(hub, repository, commit, entries[:limit], expand=expand), headers=headers)


async def _paths_asked(request: Request) -> tuple[list[str], bool]:
    """The paths and `expand` of a form, as the client sends them, or of a JSON object."""
    body = await read_body(request, JSON_LIMIT)
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            asked = json.loads(body)
            paths, expand = asked["paths"], asked.get("expand", False)
        else:
            form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=PATHS_LIMIT + 10)
            paths, expand = form.get("paths", []), form.get("expand", ["false"])[-1].lower() == "true"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadRequest(f"Expected paths (at most {PATHS_LIMIT:,}) and expand, as a form or a JSON object") from error
    if isinstance(paths, str):
        paths = [paths]
    if not isinstance(paths, list) or len(paths) > PATHS_LIMIT or not all(isinstance(path, str) for path in paths):
        raise BadRequest(f"paths must be at most {PATHS_LIMIT:,} strings")
    return paths, bool(expand)


@router.post("/{kind}/{namespace}/{name}/paths-info/{rest:path}")
def paths_info(
    request: Request,
    kind: Kind,
    namespace: str,
    name: str,
    asked: Annotated[tuple[list[str], bool], Depends(_paths_asked)],
) -> list[dict[str, Any]]:
    """The entries at some paths; those that do not exist are left out."""
    hub, _, repository = find_repository(request, kind, namespace, name, Action.SEE)
    git = hub.repositories.git(repository)
    commit = git.resolve("/".join(segments_after(request, FIXED_PARTS)))
    paths, expand = asked
    entries = git.existing(commit, dict.fromkeys(path.strip("/") for path in paths))
    return _items(hub, repository, commit, entries, expand=expand)


@router.get("/{kind}/{namespace}/{name}/commits/{rest:path}")
def commits(
    request: Request,
    kind: Kind,
    namespace: str,
    name: str,
    p: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=COMMITS_LIMIT)] = 50,
) -> Response:
    """The commits that led to a revision, newest first; page `p` counts from 0."""
    hub, _, repository = find_repository(request, kind, namespace, name, Action.SEE)
    git = hub.repositories.git(repository)
    found = git.commits("/".join(segments_after(request, FIXED_PARTS)), start=p * limit, limit=limit + 1)
    formatted = "formatted" in request.query_params.getlist("expand[]") + request.query_params.getlist("expand")
    items = [_commit_item(commit, formatted=formatted) for commit in found[:limit]]
    return JSONResponse(items, headers=next_link(request, p=p + 1) if len(found) > limit else None)


async def without_namespace(request: Request) -> Response:
    """Every repository here has a namespace; a client that gives none is told so in its own terms."""
    raise RepositoryNotFound


# Tried after all others: what looks like these may be about a repository that is called `tree`.
routes = [
    Route(f"/api/{{kind}}/{{name}}/{what}/{{rest:path}}", without_namespace, methods=["GET", "POST"])
    for what in ("commits", "paths-info", "tree")
]


def _items(
    hub: Hub, repository: Repository, commit: str, entries: list[Entry], *, expand: bool
) -> list[dict[str, Any]]:
    last = hub.last_commits.of(repository, commit, [entry.path for entry in entries]) if expand else {}
    xet = hub.objects.xet.hash_of((entry.lfs.sha256 for entry in entries if entry.lfs), repository.scope)
    items = []
    for entry in entries:
        item: dict[str, Any] = {"type": entry.type, "oid": entry.oid, "size": entry.size, "path": entry.path}
        if entry.lfs is not None:
            item["lfs"] = {"oid": entry.lfs.sha256, "size": entry.lfs.size, "pointerSize": entry.lfs.pointer_size}
            if entry.lfs.sha256 in xet:
                item["xetHash"] = xet[entry.lfs.sha256]
        if expand:
            changed = last[entry.path]
            item["lastCommit"] = {"id": changed.oid, "title": changed.title, "date": timestamp(changed.date)}
        items.append(item)
    return items


def _commit_item(commit: Commit, *, formatted: bool) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": commit.oid,
        "title": commit.title,
        "message": commit.message,
        "authors": [{"user": commit.author_name}],
        "date": timestamp(commit.date),
    }
    if formatted:
        item["formatted"] = {"title": escape(commit.title), "message": escape(commit.message).replace("\n", "<br>")}
    return item


def _write_cursor(commit: str, start: int) -> str:
    return urlsafe_b64encode(f"{commit}:{start}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[str, int]:
    try:
        commit, start = urlsafe_b64decode(cursor).decode().split(":")
        position = int(start)
    except ValueError as error:
        raise BadRequest("The cursor is not one that this hub gave") from error
    if position < 0:
        raise BadRequest("The cursor is not one that this hub gave")
    return commit, position
