"""Chapter 3, branches and tags."""

from typing import Any

from fastapi import APIRouter, Request

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.addresses import segments_after
from lmcommons.hub.api.dependencies import Body, Kind, field, find_repository, required
from lmcommons.hub.repos.git import Ref, full_ref

SQUASH_MESSAGE = "Squash history"

router = APIRouter(prefix="/api")


@router.get("/{kind}/{namespace}/{name}/refs")
def refs(request: Request, kind: Kind, namespace: str, name: str, include_prs: bool = False) -> dict[str, Any]:
    """Branches and tags, and pull requests when they are asked for."""
    hub, _, repository = find_repository(request, kind, namespace, name, Action.SEE)
    found = hub.repositories.git(repository).refs()
    answer: dict[str, Any] = {"branches": _items(found.branches), "converts": [], "tags": _items(found.tags)}
    if include_prs:
        answer["pullRequests"] = _items(found.pull_requests)
    return answer


@router.post("/{kind}/{namespace}/{name}/branch/{rest:path}")
def create_branch(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """A branch at `startingPoint`, by default at the default branch."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.WRITE)
    hub.commits.create_branch(sender, repository, _last(request), field(body, "startingPoint", str))
    return {}


@router.delete("/{kind}/{namespace}/{name}/branch/{rest:path}")
def delete_branch(request: Request, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
    """Remove a branch, but never main or the default branch."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.WRITE)
    hub.commits.delete_branch(sender, repository, _last(request))
    return {}


@router.post("/{kind}/{namespace}/{name}/tag/{rest:path}")
def create_tag(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """The tag `tag` at the revision in the address, with a message when there is one."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.WRITE)
    tag, message = required(body, "tag", str), field(body, "message", str)
    hub.commits.create_tag(sender, repository, tag, _last(request), message)
    return {}


@router.delete("/{kind}/{namespace}/{name}/tag/{rest:path}")
def delete_tag(request: Request, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
    """Remove a tag."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.WRITE)
    hub.commits.delete_tag(sender, repository, _last(request))
    return {}


@router.post("/{kind}/{namespace}/{name}/super-squash/{rest:path}")
def super_squash(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """Replace the history of a branch or a pull request by one commit."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.WRITE)
    branch, git = _last(request), hub.repositories.git(repository)
    before = git.branch(branch)
    commit = git.squash(
        branch,
        message=field(body, "message", str) or SQUASH_MESSAGE,
        author_name=sender.name or "",
        author_email=sender.email,
    )
    hub.commits.moved(sender, repository, full_ref(branch), before, commit)
    return {"commitOid": commit}


def _items(refs: tuple[Ref, ...]) -> list[dict[str, str]]:
    return [{"name": ref.name, "ref": ref.ref, "targetCommit": ref.target} for ref in refs]


def _last(request: Request) -> str:
    """The revision, branch or tag that the address ends with, slashes and all."""
    return "/".join(segments_after(request, 5))
