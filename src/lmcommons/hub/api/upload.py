"""Chapter 4: how files must be sent, and the commit that puts them in place, on a branch or as a pull request."""

import tempfile
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.api.commit_body import parse_commit
from lmcommons.hub.api.dependencies import Body, Kind, body_blocks, field, find_repository, required
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import BadRequest, TooLarge, storage_errors
from lmcommons.hub.objects.spooling import spool
from lmcommons.hub.repos.git import PULL_REQUESTS
from lmcommons.hub.rooms import Hub

FILES_LIMIT = 2_000  # files in one preupload request; the client sends 256
COMMIT_LIMIT = 1 << 30  # bytes of a commit's body; larger files go to the object store
TOO_LARGE = f"The commit is larger than {COMMIT_LIMIT:,} bytes; send large files as LFS objects"
MEMORY = 4 << 20  # bytes of a body that are kept in memory

router = APIRouter(prefix="/api/{kind}/{namespace}/{name}")


@router.post("/preupload/{revision:path}")
def preupload(
    request: Request, kind: Kind, namespace: str, name: str, revision: str, body: Body, create_pr: bool = False
) -> dict[str, Any]:
    """For each file: a large object or a part of the commit's body, ignored or not, and what is there now."""
    hub, _, repository = _target(request, kind, namespace, name, revision, create_pr=create_pr)
    files = required(body, "files", list)
    if len(files) > FILES_LIMIT:
        raise TooLarge(f"{len(files)} files in one request; at most {FILES_LIMIT}")
    sizes = [(required(file, "path", str), required(file, "size", int)) for file in _objects(files)]
    if any(size < 0 for _, size in sizes):
        raise BadRequest("`size` must be a number of bytes")
    modes = hub.commits.upload_modes(repository, revision, sizes, field(body, "gitIgnore", str))
    return {
        "files": [
            {
                "path": mode.path,
                "uploadMode": "lfs" if mode.lfs else "regular",
                "shouldIgnore": mode.ignored,
                **({"oid": mode.oid} if mode.oid else {}),
            }
            for mode in modes
        ],
    }


@router.post("/commit/{revision:path}")
async def commit(
    request: Request, kind: Kind, namespace: str, name: str, revision: str, create_pr: bool = False
) -> dict[str, Any]:
    """Apply the operations of an NDJSON body, all or nothing: to a branch or pull request, or as a new one for it."""
    hub, sender, repository = await run_in_threadpool(
        _target, request, kind, namespace, name, revision, create_pr=create_pr
    )
    directory = str(hub.objects.blobs.staging)
    with (
        storage_errors(),
        tempfile.SpooledTemporaryFile(MEMORY, dir=directory) as body,
        tempfile.SpooledTemporaryFile(MEMORY, dir=directory) as contents,
    ):
        await spool(body_blocks(request, COMMIT_LIMIT, TOO_LARGE), body)

        def apply() -> dict[str, Any]:
            found = parse_commit(body, contents, revision, hub.objects.size)
            if create_pr:
                discussion, oid = hub.pull_requests.propose(
                    sender,
                    repository,
                    revision,
                    found.operations,
                    title=found.title,
                    description=found.description,
                    parent=found.parent,
                )
                address = f"{hub.settings.public_url}/{repository.path}/discussions/{discussion.number}"
                return {"commitOid": oid, "pullRequestUrl": address}
            oid = hub.commits.commit(
                sender, repository, revision, found.operations, message=found.message, parent=found.parent
            )
            return {"commitOid": oid}

        answer = await run_in_threadpool(apply)
    url = f"{hub.settings.public_url}/{repository.path}/commit/{answer['commitOid']}"
    return {"success": True, "commitUrl": url, "hookOutput": "", **answer}


def _target(
    request: Request, kind: str, namespace: str, name: str, revision: str, *, create_pr: bool
) -> tuple[Hub, Actor, Repository]:
    """The repository, when the sender may commit to the revision, or open a pull request for it."""
    proposing = create_pr or revision.startswith(PULL_REQUESTS)
    action = Action.DISCUSS if proposing else Action.WRITE
    hub, sender, repository = find_repository(request, kind, namespace, name, action)
    if not create_pr:
        hub.pull_requests.require_write(sender, repository, revision)
    return hub, sender, repository


def _objects(values: list[Any]) -> Iterator[dict[str, Any]]:
    for value in values:
        if not isinstance(value, dict):
            raise BadRequest("`files` must be an array of objects with `path` and `size`")
        yield value
