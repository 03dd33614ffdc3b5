"""Reviews of pull requests: what each reviewer says of one as a whole, and who was asked to say it.

A review is a line of the discussion. A reviewer's verdict is the last one other than `comment` that they gave. Who
asked for changes is answered when they approve; until then a merge must say that it is meant all the same.
"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import find_user
from lmcommons.hub.accounts.permissions import Action, Actor, allowed, require
from lmcommons.hub.accounts.tokens import load_actor
from lmcommons.hub.community import notifications, threads
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    Discussion,
    DiscussionEvent,
    DiscussionEventKind,
    DiscussionStatus,
    Reason,
    Repository,
    ReviewRequest,
    TokenRole,
    Verdict,
)
from lmcommons.hub.errors import BadRequest, Conflict, Forbidden
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.words import Words

ASKED_LIMIT = 20  # reviewers of one pull request who have not answered


@dataclass(frozen=True)
class Standing:
    """What a reviewer says at present, and of which commit."""

    reviewer: Account
    verdict: Verdict
    commit: str


class Reviews:
    """The reviews of a hub."""

    def __init__(self, database: Database, repositories: Repositories) -> None:
        self._database = database
        self._repositories = repositories

    def standings(self, discussion: Discussion) -> list[Standing]:
        """What the reviewers say at present, who spoke last at the end."""
        with self._database.read() as session:
            return standings(session, discussion)

    def asked(self, discussion: Discussion) -> list[Account]:
        """Who was asked for a review and has not given one since, the first to be asked first."""
        chosen = select(ReviewRequest).where(ReviewRequest.discussion_id == discussion.id)
        with self._database.read() as session:
            return [row.reviewer for row in session.scalars(chosen.order_by(ReviewRequest.created_at))]

    def review(
        self, actor: Actor, repository: Repository, number: int, verdict: str, text: str = ""
    ) -> DiscussionEvent:
        """Say of a pull request that it should be merged, that it needs changes, or neither.

        Args:
            text: Markdown; only who approves may leave it empty.

        Raises:
            BadRequest: no pull request, no such verdict, no text. Conflict: it was merged or closed.
            Forbidden: a verdict on one's own.
        """
        require(actor, Action.DISCUSS, repository)
        if verdict not in list(Verdict):
            raise BadRequest(
                "Unknown verdict {verdict!r}: one of {choices}", verdict=verdict[:20], choices=", ".join(Verdict)
            )
        text = threads.check_text(text) if text.strip() or verdict != Verdict.APPROVE else ""
        with self._database.write() as session:
            discussion = _open_pull_request(session, repository, number)
            if verdict != Verdict.COMMENT and discussion.author_id == actor.account_id:
                raise Forbidden("Nobody approves their own pull request or asks themselves for changes; comment on it")
            threads.check_room(session, discussion, text)
            data = {"verdict": verdict, "commit": self._repositories.git(repository).resolve(discussion.ref)}
            event = threads.add_event(session, actor, discussion, DiscussionEventKind.REVIEW, data)
            if text:
                threads.add_version(session, discussion, event, text)
                threads.record_discussion(session, "commented", actor, repository, discussion, comment=event.id)
            asked = session.get(ReviewRequest, (discussion.id, actor.account_id))
            if asked is not None:
                session.delete(asked)
            threads.record_discussion(session, "reviewed", actor, repository, discussion, verdict=verdict)
            notifications.tell(session, actor, repository, discussion, Reason.REVIEWED, event=event, text=text)
        return event

    def ask(self, actor: Actor, repository: Repository, number: int, reviewer: str) -> None:
        """Ask a user for a review, as the pull request's author or a writer; again tells nobody again.

        Raises:
            BadRequest: the reviewer may not discuss there, is the author, or one too many. NotFound: no such user.
        """
        with self._database.write() as session:
            discussion = _asking(session, actor, repository, number)
            user = find_user(session, reviewer)
            if user.id == discussion.author_id:
                raise BadRequest(
                    "{user} opened this pull request and cannot review it; ask somebody else", user=user.name
                )
            if user.disabled or not allowed(
                load_actor(session, user, TokenRole.WRITE, None), Action.DISCUSS, repository
            ):
                raise BadRequest(
                    "{user} may not take part in {repository}: ask somebody who may",
                    user=user.name,
                    repository=repository.full_name,
                )
            if session.get(ReviewRequest, (discussion.id, user.id)) is not None:
                return
            waiting = select(ReviewRequest.reviewer_id).where(ReviewRequest.discussion_id == discussion.id)
            if len(session.scalars(waiting).all()) >= ASKED_LIMIT:
                raise BadRequest(
                    "{limit} people were asked and have not answered: wait for them first", limit=ASKED_LIMIT
                )
            session.add(ReviewRequest(discussion_id=discussion.id, reviewer_id=user.id))
            threads.record_discussion(session, "review_asked", actor, repository, discussion, user=user.name)
            reasons = {user.id: Reason.REVIEW_ASKED}
            notifications.add(session, actor, repository, reasons, discussion=discussion)

    def ask_no_more(self, actor: Actor, repository: Repository, number: int, reviewer: str) -> None:
        """Take back that a user was asked; where they were not, nothing changes.

        Raises:
            NotFound: no such user.
        """
        with self._database.write() as session:
            discussion = _asking(session, actor, repository, number)
            found = session.get(ReviewRequest, (discussion.id, find_user(session, reviewer).id))
            if found is not None:
                session.delete(found)
                threads.record_discussion(
                    session, "review_unasked", actor, repository, discussion, user=found.reviewer.name
                )


# ---------------------------------------------------------------- inside a transaction


def standings(session: Session, discussion: Discussion) -> list[Standing]:
    """What the reviewers say at present, who spoke last at the end; of those whose account is gone, nothing."""
    chosen = (
        select(DiscussionEvent)
        .where(
            DiscussionEvent.discussion_id == discussion.id,
            DiscussionEvent.kind == DiscussionEventKind.REVIEW,
            DiscussionEvent.author_id.is_not(None),
        )
        .order_by(DiscussionEvent.id)
    )
    found: dict[int, Standing] = {}
    for event in session.scalars(chosen):
        if event.author is not None and event.data["verdict"] != Verdict.COMMENT:
            found.pop(event.author.id, None)
            found[event.author.id] = Standing(event.author, Verdict(event.data["verdict"]), event.data["commit"])
    return list(found.values())


def require_answered(session: Session, repository: Repository, discussion: Discussion) -> None:
    """Return when nobody waits for changes that they asked for.

    Raises:
        Conflict: somebody does.
    """
    waiting = [
        standing.reviewer.name
        for standing in standings(session, discussion)
        if standing.verdict is Verdict.REQUEST_CHANGES
    ]
    if waiting:
        raise Conflict(
            "{reviewers} asked for changes to {repository}#{number} and did not approve "
            "it since: say that it is to be merged all the same, by the tick on its page or `despiteReviews`",
            reviewers=", ".join(waiting),
            repository=repository.full_name,
            number=discussion.number,
            fields={"changesRequestedBy": waiting},
        )


def _open_pull_request(session: Session, repository: Repository, number: int) -> Discussion:
    discussion = threads.find(session, repository, number)
    name = f"{repository.full_name}#{number}"
    if not discussion.is_pull_request:
        raise BadRequest("{name} is a discussion, not a pull request: there is nothing to review", name=name)
    if discussion.status not in (DiscussionStatus.OPEN, DiscussionStatus.DRAFT):
        raise Conflict(
            "{name} is {status}: reviews are for open pull requests", name=name, status=Words(discussion.status)
        )
    return discussion


def _asking(session: Session, actor: Actor, repository: Repository, number: int) -> Discussion:
    """The pull request, when the actor may ask for reviews of it."""
    discussion = _open_pull_request(session, repository, number)
    own = discussion.author_id is not None and discussion.author_id == actor.account_id
    require(actor, Action.DISCUSS if own else Action.WRITE, repository)
    return discussion
