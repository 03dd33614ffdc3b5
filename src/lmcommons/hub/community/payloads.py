"""What webhooks are sent: an event as the field's receivers read it, with what is true when it is sent.

So what was hidden or deleted since is not told, and nothing of repositories that the webhook's owner may not see.
Source: https://huggingface.co/docs/hub/webhooks, version 3 of the payload.
"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Action, Actor, allowed
from lmcommons.hub.database.events import DISCUSSIONS, SCOPES
from lmcommons.hub.database.tables import (
    Account,
    Discussion,
    DiscussionEvent,
    Event,
    Repository,
    RepositoryType,
    Webhook,
)

VERSION = 3


def payload(session: Session, owner: Actor, webhook: Webhook, event: Event, public_url: str) -> dict[str, Any] | None:
    """The JSON that tells `webhook` of an event; None when its owner may not know of it, or nothing is left to tell."""
    action, scope = SCOPES[event.kind]
    told: dict[str, Any] = {
        "event": {"action": action, "scope": scope},
        "webhook": {"id": _id(webhook.id), "version": VERSION},
    }
    if event.kind == "repository.deleted":
        deleted = _deleted(session, owner, event, public_url)
        return None if deleted is None else told | {"repo": deleted}
    repository = session.get(Repository, event.repository_id)
    if repository is None or not allowed(owner, Action.SEE, repository):
        return None
    told["repo"] = _repository(
        repository.id,
        repository.type,
        repository.full_name,
        repository.private,
        repository.account_id,
        public_url,
    )
    if event.kind.startswith(DISCUSSIONS):
        discussion = _discussion(session, repository, event, public_url)
        return None if discussion is None else told | discussion
    told["repo"] |= {"headSha": repository.head, "tags": repository.tags}
    match event.kind:
        case "repository.moved":
            told["movedTo"] = {"name": repository.full_name, "owner": {"id": _id(repository.account_id)}}
            told["repo"]["name"] = event.data["former"]
        case "repository.settings":
            told["updatedConfig"] = {"private": event.data["private"]}
        case _ if scope == "repo.content":
            before, after = event.data["before"], event.data["after"]
            told["updatedRefs"] = [{"ref": event.data["ref"], "oldSha": before, "newSha": after}]
    return told


def _repository(
    number: int | None, type_: RepositoryType, name: str, private: bool, owner: int, public_url: str
) -> dict[str, Any]:
    return {
        "type": type_,
        "name": name,
        "id": _id(number),
        "private": private,
        "url": {
            "web": f"{public_url}/{type_.prefix}{name}",
            "api": f"{public_url}/api/{type_.plural}/{name}",
        },
        "owner": {"id": _id(owner)},
    }


def _deleted(session: Session, owner: Actor, event: Event, public_url: str) -> dict[str, Any] | None:
    """A repository of which only its last event is left."""
    name, private = str(event.data["name"]), bool(event.data["private"])
    account = session.scalar(select(Account).where(Account.name_key == name.partition("/")[0].lower()))
    if account is None or (private and not allowed(owner, Action.SEE, account)):
        return None
    type_ = RepositoryType(event.data["type"])
    return _repository(event.repository_id, type_, name, private, account.id, public_url)


def _discussion(session: Session, repository: Repository, event: Event, public_url: str) -> dict[str, Any] | None:
    number = event.data["number"]
    chosen = select(Discussion).where(Discussion.repository_id == repository.id, Discussion.number == number)
    found = session.scalar(chosen)
    if found is None or found.withheld:
        return None
    web = f"{public_url}/{repository.path}/discussions/{number}"
    discussion = {
        "id": _id(found.id),
        "num": number,
        "title": found.title,
        "status": event.data.get("status", found.status),
        "author": {"id": _id(found.author_id)},
        "isPullRequest": found.is_pull_request,
        "url": {
            "web": web,
            "api": f"{public_url}/api/{repository.type.plural}/{repository.full_name}/discussions/{number}",
        },
    }
    if found.is_pull_request:
        merged = {"mergeCommitId": found.merge_commit} if found.merge_commit else {}
        discussion["changes"] = {"base": f"refs/heads/{found.base}", **merged}
    comment = session.get(DiscussionEvent, event.data["comment"]) if "comment" in event.data else None
    return {"discussion": discussion} | ({} if comment is None else {"comment": _comment(comment, web)})


def _comment(comment: DiscussionEvent, web: str) -> dict[str, Any]:
    content = {"content": comment.versions[-1].text} if comment.versions else {}
    return {
        "id": _id(comment.id),
        "author": {"id": _id(comment.author_id)},
        "hidden": not comment.versions,
        "url": {"web": f"{web}#{_id(comment.id)}"},
        **content,
    }


def _id(number: int | None) -> str:
    """The id of a row, in the protocol's 24 digits; of an account that is gone, zeros."""
    return f"{number or 0:024x}"
