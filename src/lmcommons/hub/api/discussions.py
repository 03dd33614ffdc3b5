"""Chapter 6: discussions and pull requests."""

import html
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import Body, Kind, field, find_repository, required, timestamp
from lmcommons.hub.api.identities import LARGEST, account_fields, number_of, object_id
from lmcommons.hub.community.discussions import Listing
from lmcommons.hub.database.tables import (
    Account,
    CommentVersion,
    Discussion,
    DiscussionEvent,
    DiscussionEventKind,
    Repository,
)

PAGE = 50  # discussions in one answer
RENDERED_LIMIT = 128 << 10  # characters of Markdown in one answer; the comments after it are shown as they were sent
HIDDEN = "This comment has been hidden"

Number = Annotated[int, Path(ge=1, le=LARGEST)]

router = APIRouter(prefix="/api/{kind}/{namespace}/{name}/discussions")


@router.get("")
def discussions(
    request: Request,
    kind: Kind,
    namespace: str,
    name: str,
    p: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    type: str = "all",  # noqa: A002 - the protocol's name
    status: str = "all",
    author: str | None = None,
) -> dict[str, Any]:
    """A page of a repository's discussions and pull requests, the newest first."""
    hub, _, repository = find_repository(request, kind, namespace, name, Action.SEE)
    query = Listing(type, status, author, offset=p * PAGE, limit=PAGE)
    found, counts = hub.discussions.listing(repository, query)
    return {
        "discussions": [_summary(repository, discussion) for discussion in found],
        "count": counts[status],
        "start": query.offset,
        "numItemsPerPage": PAGE,
    }


@router.post("")
def open_discussion(request: Request, kind: Kind, namespace: str, name: str, body: Body) -> dict[str, Any]:
    """Open a discussion, or a pull request without commits, which is a draft."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    title, text = required(body, "title", str), required(body, "description", str)
    room = hub.pull_requests if field(body, "pullRequest", bool) else hub.discussions
    discussion = room.open(sender, repository, title, text)
    return {
        "num": discussion.number,
        "pullRequest": discussion.is_pull_request,
        "url": f"{hub.settings.public_url}/{repository.path}/discussions/{discussion.number}",
    }


@router.get("/{number}")
def details(
    request: Request, kind: Kind, namespace: str, name: str, number: Number, diff: bool = False
) -> dict[str, Any]:
    """A discussion with its lines; of a pull request, what keeps it from being merged and, when asked for, its diff."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.SEE)
    discussion = hub.discussions.find(repository, number)
    answer = _summary(repository, discussion)
    page = Page(request, repository)
    answer["events"] = [page.event(event) for event in hub.discussions.events(discussion)]
    if discussion.is_pull_request:
        proposal = hub.pull_requests.proposal(sender, repository, discussion, diff=diff)
        answer["changes"] = {"base": f"refs/heads/{discussion.base}"}
        if discussion.merge_commit is not None:
            answer["changes"]["mergeCommitId"] = discussion.merge_commit
        answer["filesWithConflicts"] = proposal.conflicts
        if proposal.diff is not None:
            answer["diff"] = proposal.diff
    return answer


@router.post("/{number}/comment")
def comment(request: Request, kind: Kind, namespace: str, name: str, number: Number, body: Body) -> dict[str, Any]:
    """Add a comment."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    event = hub.discussions.comment(sender, repository, number, required(body, "comment", str))
    return {"newMessage": Page(request, repository).event(event)}


@router.post("/{number}/comment/{comment_id}/edit")
def edit_comment(
    request: Request, kind: Kind, namespace: str, name: str, number: Number, comment_id: str, body: Body
) -> dict[str, Any]:
    """Change the text of one's own comment."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    text = required(body, "content", str)
    event = hub.discussions.edit(sender, repository, number, number_of(comment_id), text)
    return {"updatedComment": Page(request, repository).event(event)}


@router.post("/{number}/comment/{comment_id}/hide")
def hide_comment(
    request: Request, kind: Kind, namespace: str, name: str, number: Number, comment_id: str, body: Body
) -> dict[str, Any]:
    """Remove the text of a comment for good; `reason` is this hub's own addition to the protocol."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    event = hub.discussions.hide(sender, repository, number, number_of(comment_id), field(body, "reason", str))
    return {"updatedComment": Page(request, repository).event(event)}


@router.post("/{number}/title")
def rename(request: Request, kind: Kind, namespace: str, name: str, number: Number, body: Body) -> dict[str, Any]:
    """Change the title."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    event = hub.discussions.rename(sender, repository, number, required(body, "title", str))
    return {"newTitle": Page(request, repository).event(event)}


@router.post("/{number}/status")
def change_status(
    request: Request, kind: Kind, namespace: str, name: str, number: Number, body: Body
) -> dict[str, Any]:
    """Close or open."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    status, text = required(body, "status", str), field(body, "comment", str)
    event = hub.discussions.set_status(sender, repository, number, status, text)
    return {"newStatus": Page(request, repository).event(event)}


@router.post("/{number}/merge")
def merge(request: Request, kind: Kind, namespace: str, name: str, number: Number, body: Body) -> dict[str, Any]:
    """Merge a pull request into its base; `despiteReviews` is this hub's own addition to the protocol."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.WRITE)
    event = hub.pull_requests.merge(
        sender,
        repository,
        number,
        field(body, "comment", str),
        despite_reviews=field(body, "despiteReviews", bool) or False,
    )
    return {"newStatus": Page(request, repository).event(event)}


def _summary(repository: Repository, discussion: Discussion) -> dict[str, Any]:
    return {
        "num": discussion.number,
        "title": discussion.title,
        "status": discussion.status,
        "isPullRequest": discussion.is_pull_request,
        "createdAt": timestamp(discussion.created_at),
        "numComments": discussion.comments,
        "repo": {"name": repository.full_name, "type": repository.type},
        **_author(discussion.author),
    }


class Page:
    """The lines of a discussion, as JSON."""

    def __init__(self, request: Request, repository: Repository) -> None:
        self._render = request.app.state.render_markdown
        self._repository = repository
        self._rendered = 0  # characters

    def event(self, event: DiscussionEvent) -> dict[str, Any]:
        """One line."""
        return {
            "id": object_id(event.id),
            "type": event.kind,
            "createdAt": timestamp(event.created_at),
            "data": self._data(event),
            **_author(event.author),
        }

    def _data(self, event: DiscussionEvent) -> dict[str, Any]:
        if event.kind is DiscussionEventKind.COMMENT:
            return self._comment(event)
        return event.data | (self._comment(event) if event.versions else {})

    def _comment(self, event: DiscussionEvent) -> dict[str, Any]:
        if not event.versions:
            latest = {"raw": HIDDEN, "html": HIDDEN, "updatedAt": timestamp(event.created_at)}
            return {"edited": False, "hidden": True, "latest": latest, "history": []}
        *earlier, last = [_version(version) for version in event.versions]
        latest = last | {"html": self._html(event.versions[-1].text)}
        return {"edited": bool(earlier), "hidden": False, "latest": latest, "history": earlier}

    def _html(self, text: str) -> str:
        self._rendered += len(text)
        if self._rendered > RENDERED_LIMIT:
            return f"<pre>{html.escape(text)}</pre>"
        return str(self._render(text, self._repository))


def _version(version: CommentVersion) -> dict[str, Any]:
    return {"raw": version.text, "updatedAt": timestamp(version.created_at), **_author(version.author)}


def _author(account: Account | None) -> dict[str, Any]:
    """The author, for the client a field that is absent when the account is."""
    return {} if account is None else {"author": account_fields(account)}
