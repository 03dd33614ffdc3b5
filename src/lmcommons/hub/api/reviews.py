"""Reviews of pull requests, comments on their lines, reactions: this hub's own, beside the protocol's discussions."""

from typing import Any

from fastapi import APIRouter, Request

from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.api.dependencies import Body, Kind, field, find_repository, required
from lmcommons.hub.api.discussions import Number, Page
from lmcommons.hub.api.identities import account_fields, number_of, object_id
from lmcommons.hub.database.tables import DiscussionEventKind

router = APIRouter(prefix="/api/x/{kind}/{namespace}/{name}/discussions/{number}")


@router.get("/reviews")
def reviews(request: Request, kind: Kind, namespace: str, name: str, number: Number) -> dict[str, Any]:
    """What each reviewer says at present, and who was asked and has not answered."""
    hub, _, repository = find_repository(request, kind, namespace, name, Action.SEE)
    discussion = hub.discussions.find(repository, number)
    return {
        "verdicts": [
            {"reviewer": account_fields(each.reviewer), "verdict": each.verdict, "commit": each.commit}
            for each in hub.reviews.standings(discussion)
        ],
        "asked": [account_fields(account) for account in hub.reviews.asked(discussion)],
    }


@router.post("/reviews")
def review(request: Request, kind: Kind, namespace: str, name: str, number: Number, body: Body) -> dict[str, Any]:
    """Approve, request changes, or comment."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    verdict, text = required(body, "verdict", str), field(body, "comment", str) or ""
    event = hub.reviews.review(sender, repository, number, verdict, text)
    return {"newReview": Page(request, repository).event(event)}


@router.post("/reviewers/{reviewer}")
def ask(request: Request, kind: Kind, namespace: str, name: str, number: Number, reviewer: str) -> dict[str, Any]:
    """Ask a user for a review."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    hub.reviews.ask(sender, repository, number, reviewer)
    return {"success": True}


@router.delete("/reviewers/{reviewer}")
def ask_no_more(
    request: Request, kind: Kind, namespace: str, name: str, number: Number, reviewer: str
) -> dict[str, Any]:
    """Take back that a user was asked."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    hub.reviews.ask_no_more(sender, repository, number, reviewer)
    return {"success": True}


@router.post("/lines")
def comment_on_line(
    request: Request, kind: Kind, namespace: str, name: str, number: Number, body: Body
) -> dict[str, Any]:
    """Comment on a line of the difference, or with `replyTo` answer such a comment at its place."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    text, reply_to = required(body, "comment", str), field(body, "replyTo", str)
    if reply_to is not None:
        event = hub.line_comments.reply(sender, repository, number, number_of(reply_to), text)
    else:
        path, side, line = required(body, "path", str), required(body, "side", str), required(body, "line", int)
        commit = field(body, "commit", str)
        event = hub.line_comments.comment(sender, repository, number, path, side, line, text, commit=commit)
    return {"newMessage": Page(request, repository).event(event)}


@router.get("/lines")
def lines(request: Request, kind: Kind, namespace: str, name: str, number: Number) -> list[dict[str, Any]]:
    """The threads on lines: where each began and stands by now, unless it is outdated, and the ids of its comments."""
    hub, _, repository = find_repository(request, kind, namespace, name, Action.SEE)
    discussion = hub.discussions.find(repository, number)
    said = hub.discussions.events(discussion, kind=DiscussionEventKind.LINE)
    threads = hub.line_comments.threads(repository, discussion, said)
    return [
        {
            "path": thread.place.path,
            "side": thread.place.side,
            "line": thread.place.line,
            "commit": thread.place.commit,
            "presentPath": thread.present.path if thread.present is not None else None,
            "presentLine": thread.present.line if thread.present is not None else None,
            "outdated": thread.outdated,
            "comments": [object_id(comment.id) for comment in thread.comments],
        }
        for thread in threads.values()
    ]


@router.get("/reactions")
def reactions(request: Request, kind: Kind, namespace: str, name: str, number: Number) -> dict[str, Any]:
    """By comment and reaction, the names of those who reacted so."""
    hub, _, repository = find_repository(request, kind, namespace, name, Action.SEE)
    found = hub.reactions.of(hub.discussions.find(repository, number))
    return {object_id(comment): each for comment, each in found.items()}


@router.post("/comment/{comment_id}/reactions/{emoji}")
def react(
    request: Request, kind: Kind, namespace: str, name: str, number: Number, comment_id: str, emoji: str
) -> dict[str, Any]:
    """React to a comment."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    comment = number_of(comment_id)
    return {"reactions": hub.reactions.set(sender, repository, number, comment, emoji, given=True)}


@router.delete("/comment/{comment_id}/reactions/{emoji}")
def react_no_more(
    request: Request, kind: Kind, namespace: str, name: str, number: Number, comment_id: str, emoji: str
) -> dict[str, Any]:
    """Take a reaction back."""
    hub, sender, repository = find_repository(request, kind, namespace, name, Action.DISCUSS)
    comment = number_of(comment_id)
    return {"reactions": hub.reactions.set(sender, repository, number, comment, emoji, given=False)}
