"""The rows of a discussion inside a transaction: to find, begin and continue one, and what a line may say.

All that writes to a discussion, `discussions.py`, `pull_requests.py`, `reviews.py`, `line_comments.py` and
`reactions.py`, does so by these functions; whether the actor may is decided there.
"""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.community import finding, notifications
from lmcommons.hub.database.events import record
from lmcommons.hub.database.tables import (
    Account,
    CommentVersion,
    Discussion,
    DiscussionEvent,
    DiscussionEventKind,
    DiscussionStatus,
    Reason,
    Repository,
)
from lmcommons.hub.errors import BadRequest, NotFound, RepositoryNotFound, TooLarge

TITLE_LIMIT = 200  # characters
TEXT_LIMIT = 64 << 10  # characters
TEXTS_LIMIT = 2 << 20  # characters of all that was said in one discussion
EVENTS_LIMIT = 2_000  # lines of one discussion

# Lines with a text, which is edited, hidden and reacted to.
COMMENTS = (DiscussionEventKind.COMMENT, DiscussionEventKind.REVIEW, DiscussionEventKind.LINE)

# What those are told who take part, when a discussion gets its status; of a draft that is opened, as of a new one.
TOLD = {
    DiscussionStatus.OPEN: Reason.REOPENED,
    DiscussionStatus.CLOSED: Reason.CLOSED,
    DiscussionStatus.MERGED: Reason.MERGED,
}


def find(session: Session, repository: Repository, number: int) -> Discussion:
    """The discussion of that number.

    Raises:
        NotFound: there is none.
    """
    chosen = select(Discussion).where(Discussion.repository_id == repository.id, Discussion.number == number)
    found = session.scalar(chosen)
    if found is None or found.withheld:
        raise NotFound(
            "{repository} has no discussion or pull request {number}", repository=repository.full_name, number=number
        )
    return found


def take_number(session: Session, repository: Repository, *, above: int = 0) -> int:
    """The next number of a repository, higher than `above`; it is never given again.

    Raises:
        RepositoryNotFound: it was deleted meanwhile.
    """
    row = session.get(Repository, repository.id)
    if row is None:
        raise RepositoryNotFound
    row.last_discussion = max(row.last_discussion, above) + 1
    return row.last_discussion


def create(
    session: Session, actor: Actor, repository: Repository, discussion: Discussion, text: str
) -> DiscussionEvent:
    """Put a new discussion into the database, with its first comment."""
    discussion.repository_id, discussion.author = repository.id, author(session, actor)
    session.add(discussion)
    session.flush()
    finding.add_title(session, discussion)
    first = _add_comment(session, actor, discussion, text)
    record_discussion(session, "created", actor, repository, discussion, comment=first.id)
    notifications.tell(session, actor, repository, discussion, Reason.OPENED, event=first, text=text)
    return first


def add_comment(
    session: Session, actor: Actor, repository: Repository, discussion: Discussion, text: str
) -> DiscussionEvent:
    """Add a comment and tell of it."""
    event = _add_comment(session, actor, discussion, text)
    record_discussion(session, "commented", actor, repository, discussion, comment=event.id)
    notifications.tell(session, actor, repository, discussion, Reason.REPLY, event=event, text=text)
    return event


def change_status(
    session: Session, actor: Actor, repository: Repository, discussion: Discussion, status: DiscussionStatus
) -> DiscussionEvent:
    """Give a discussion its new status and tell of it."""
    reason = Reason.OPENED if discussion.status is DiscussionStatus.DRAFT else TOLD[status]
    discussion.status = status
    event = add_event(session, actor, discussion, DiscussionEventKind.STATUS, {"status": status})
    record_discussion(session, "status", actor, repository, discussion, status=status)
    notifications.tell(session, actor, repository, discussion, reason, event=event)
    return event


def add_event(
    session: Session, actor: Actor, discussion: Discussion, kind: DiscussionEventKind, data: dict[str, Any]
) -> DiscussionEvent:
    """Add a line; `add_version` gives it a text."""
    event = DiscussionEvent(
        discussion_id=discussion.id, kind=kind, author=author(session, actor), data=data, versions=[]
    )
    session.add(event)
    session.flush()
    return event


def count_events(session: Session, discussion: Discussion) -> int:
    """How many lines a discussion has."""
    return session.scalar(select(func.count()).where(DiscussionEvent.discussion_id == discussion.id)) or 0


def record_discussion(
    session: Session, what: str, actor: Actor, repository: Repository, discussion: Discussion, **data: Any
) -> None:
    """Append an event about a discussion to the log."""
    record(session, f"discussion.{what}", actor.name, repository, number=discussion.number, **data)


def author(session: Session, actor: Actor) -> Account | None:
    """The actor's row."""
    return session.get(Account, actor.account_id) if actor.account_id is not None else None


def check_title(title: str) -> str:
    """A title without the space around it.

    Raises:
        BadRequest: nothing is left, or more than fits.
    """
    title = " ".join(title.split())
    if not title or len(title) > TITLE_LIMIT or "\0" in title:
        raise BadRequest(
            "A title has 1 to {limit} characters, none of them NUL; this one has {count}",
            limit=TITLE_LIMIT,
            count=len(title),
        )
    return title


def check_text(text: str) -> str:
    """The text of a comment, as it is.

    Raises:
        BadRequest: it is empty. TooLarge: it is past the limit.
    """
    if not text.strip():
        raise BadRequest("A comment must not be empty")
    if len(text) > TEXT_LIMIT:
        raise TooLarge(
            "A comment has at most {limit:,} characters; this one has {count:,}", limit=TEXT_LIMIT, count=len(text)
        )
    if "\0" in text:
        raise BadRequest("A comment must not have NUL characters")
    return text


def check_room(session: Session, discussion: Discussion, text: str) -> None:
    """Return when a comment fits into a discussion.

    Raises:
        BadRequest: it is full.
    """
    said = select(func.sum(func.length(CommentVersion.text))).join(
        DiscussionEvent, DiscussionEvent.id == CommentVersion.event_id
    )
    total = session.scalar(said.where(DiscussionEvent.discussion_id == discussion.id)) or 0
    if total + len(text) > TEXTS_LIMIT or count_events(session, discussion) >= EVENTS_LIMIT:
        raise BadRequest(
            "A discussion has at most {limit:,} lines and {characters:,} characters, and this one has no room "
            "for more; open another one",
            limit=EVENTS_LIMIT,
            characters=TEXTS_LIMIT,
        )


def find_comment(session: Session, discussion: Discussion, comment: int) -> DiscussionEvent:
    """The line of that id, which has or had a text.

    Raises:
        NotFound: there is none.
    """
    event = session.get(DiscussionEvent, comment)
    if event is None or event.discussion_id != discussion.id or event.kind not in COMMENTS:
        raise NotFound("Discussion {number} has no such comment", number=discussion.number)
    return event


def add_version(session: Session, discussion: Discussion, event: DiscussionEvent, text: str) -> None:
    """Give a new line its text, which was checked."""
    discussion.comments += 1
    event.versions.append(CommentVersion(text=text, author=event.author, created_at=event.created_at))
    finding.add_comment(session, discussion, event)


def _add_comment(session: Session, actor: Actor, discussion: Discussion, text: str) -> DiscussionEvent:
    text = check_text(text)
    check_room(session, discussion, text)
    event = add_event(session, actor, discussion, DiscussionEventKind.COMMENT, {})
    add_version(session, discussion, event, text)
    return event
