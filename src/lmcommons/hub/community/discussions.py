"""Discussions: a numbered thread of a repository, made of comments and of what was done to it.

Pull requests are discussions too; what only they have is in `pull_requests.py`. Who may look at the repository may
read; who may discuss there opens and comments, and changes what is their own; writers close and rename all, and hide
any comment. Nobody changes another's words.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.community import notifications
from lmcommons.hub.community.attachments import settle_attachments, texts_with_attachments
from lmcommons.hub.database.events import record
from lmcommons.hub.database.sessions import Database
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
from lmcommons.hub.errors import BadRequest, Conflict, Forbidden, NotFound, RepositoryNotFound, TooLarge
from lmcommons.hub.words import Words

TITLE_LIMIT = 200  # characters
TEXT_LIMIT = 64 << 10  # characters
TEXTS_LIMIT = 2 << 20  # characters of all that was said in one discussion
EVENTS_LIMIT = 2_000  # lines of one discussion
VERSIONS_LIMIT = 100  # of one comment

Kind = Literal["all", "discussion", "pull_request"]
StatusFilter = Literal["all", "open", "closed", "merged", "draft"]

# Lines with a text, which is edited, hidden and reacted to.
COMMENTS = (DiscussionEventKind.COMMENT, DiscussionEventKind.REVIEW, DiscussionEventKind.LINE)
HIDING = ("off-topic", "outdated", "duplicate", "resolved", "spam", "abuse")  # why a comment was hidden

# A draft is open, and what was merged is closed, unless they are asked for by name.
STATUSES = {
    "open": (DiscussionStatus.OPEN, DiscussionStatus.DRAFT),
    "closed": (DiscussionStatus.CLOSED, DiscussionStatus.MERGED),
    "merged": (DiscussionStatus.MERGED,),
    "draft": (DiscussionStatus.DRAFT,),
}

# What those are told who take part, when a discussion gets its status; of a draft that is opened, as of a new one.
TOLD = {
    DiscussionStatus.OPEN: Reason.REOPENED,
    DiscussionStatus.CLOSED: Reason.CLOSED,
    DiscussionStatus.MERGED: Reason.MERGED,
}


@dataclass(frozen=True)
class Listing:
    """Which discussions of a repository a list shows."""

    kind: str = "all"
    status: str = "all"
    author: str | None = None
    offset: int = 0
    limit: int = 50


class Discussions:
    """The discussions of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------ reading

    def listing(self, repository: Repository, query: Listing) -> tuple[list[Discussion], int]:
        """Discussions and pull requests, the newest first, and how many match in all.

        Raises:
            BadRequest: a kind or status that does not exist.
        """
        for name, value, choices in (("type", query.kind, Kind), ("status", query.status, StatusFilter)):
            if value not in get_args(choices):
                raise BadRequest(
                    "Unknown {name} {value!r}: one of {choices}",
                    name=name,
                    value=value,
                    choices=", ".join(get_args(choices)),
                )
        conditions: list[ColumnElement[bool]] = [
            Discussion.repository_id == repository.id,
            Discussion.withheld.is_(False),
        ]
        if query.kind != "all":
            conditions.append(
                Discussion.base.is_not(None) if query.kind == "pull_request" else Discussion.base.is_(None)
            )
        if query.status != "all":
            conditions.append(Discussion.status.in_(STATUSES[query.status]))
        if query.author is not None:
            conditions.append(
                Discussion.author_id.in_(select(Account.id).where(Account.name_key == query.author.lower()))
            )
        chosen = select(Discussion).where(*conditions).order_by(Discussion.number.desc())
        with self._database.read() as session:
            total = session.scalar(select(func.count()).select_from(Discussion).where(*conditions)) or 0
            return list(session.scalars(chosen.offset(query.offset).limit(query.limit))), total

    def count_open(self, repository: Repository) -> int:
        """How many discussions and pull requests of a repository are open."""
        return self.listing(repository, Listing(status="open", limit=0))[1] if repository.last_discussion else 0

    def find(self, repository: Repository, number: int) -> Discussion:
        """The discussion of that number.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as session:
            return find(session, repository, number)

    def events(
        self,
        discussion: Discussion,
        *,
        kind: DiscussionEventKind | None = None,
        only: Collection[int] | None = None,
    ) -> list[DiscussionEvent]:
        """The lines of a discussion, the oldest first: all, those of a kind, or `only` those of some ids."""
        chosen = select(DiscussionEvent).where(DiscussionEvent.discussion_id == discussion.id)
        if kind is not None:
            chosen = chosen.where(DiscussionEvent.kind == kind)
        if only is not None:
            chosen = chosen.where(DiscussionEvent.id.in_(only))
        with self._database.read() as session:
            return list(session.scalars(chosen.order_by(DiscussionEvent.id)))

    def outline(self, discussion: Discussion) -> list[tuple[int, DiscussionEventKind]]:
        """The id and kind of each line, the oldest first: a page reads no more of a long discussion than it shows."""
        chosen = select(DiscussionEvent.id, DiscussionEvent.kind).where(DiscussionEvent.discussion_id == discussion.id)
        with self._database.read() as session:
            return [(number, kind) for number, kind in session.execute(chosen.order_by(DiscussionEvent.id))]

    def people(self, discussion: Discussion) -> list[str]:
        """The names of those who took part, the first to do so first."""
        chosen = (
            select(Account.name)
            .join(DiscussionEvent, DiscussionEvent.author_id == Account.id)
            .where(DiscussionEvent.discussion_id == discussion.id)
            .group_by(Account.name)
            .order_by(func.min(DiscussionEvent.id))
        )
        with self._database.read() as session:
            return list(session.scalars(chosen))

    def comment_of(self, discussion: Discussion, comment: int) -> DiscussionEvent:
        """The line of that id, which has or had a text.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as session:
            return find_comment(session, discussion, comment)

    # ------------------------------------------------------------ taking part

    def open(self, actor: Actor, repository: Repository, title: str, text: str) -> Discussion:
        """Open a discussion; `text` is its first comment.

        Raises:
            BadRequest, TooLarge: no title or no text, or one past its limit. Unauthorized, Forbidden: not here.
        """
        require(actor, Action.DISCUSS, repository)
        title = check_title(title)
        with self._database.write() as session:
            discussion = Discussion(number=take_number(session, repository), title=title, status=DiscussionStatus.OPEN)
            create(session, actor, repository, discussion, text)
        return discussion

    def comment(self, actor: Actor, repository: Repository, number: int, text: str) -> DiscussionEvent:
        """Add a comment, in Markdown."""
        require(actor, Action.DISCUSS, repository)
        with self._database.write() as session:
            return add_comment(session, actor, repository, find(session, repository, number), text)

    def edit(self, actor: Actor, repository: Repository, number: int, comment: int, text: str) -> DiscussionEvent:
        """Change the text of one's own comment; earlier ones stay to be seen.

        Raises:
            Conflict: it was hidden. Forbidden: it is somebody else's. NotFound: no such comment.
        """
        require(actor, Action.DISCUSS, repository)
        text = check_text(text)
        with self._database.write() as session:
            discussion = find(session, repository, number)
            event = find_comment(session, discussion, comment)
            if event.author_id != actor.account_id:
                raise Forbidden("Only its author may edit a comment")
            if not event.versions:
                raise Conflict("The comment was hidden: it cannot be edited")
            if len(event.versions) >= VERSIONS_LIMIT:
                raise BadRequest("The comment was edited {limit} times; write another one", limit=VERSIONS_LIMIT - 1)
            check_room(session, discussion, text)
            event.versions.append(CommentVersion(text=text, author=author(session, actor)))
            record_discussion(session, "edited", actor, repository, discussion, comment=event.id)
            notifications.tell_mentioned(session, actor, repository, discussion, event)
        return event

    def hide(
        self, actor: Actor, repository: Repository, number: int, comment: int, reason: str | None = None
    ) -> DiscussionEvent:
        """Remove the text of a comment, one's own or as a writer any, for good; its line stays, and says the reason.

        Raises:
            BadRequest: no such reason. Forbidden: it is somebody else's. NotFound: no such comment.
        """
        require(actor, Action.DISCUSS, repository)
        if reason is not None and reason not in HIDING:
            raise BadRequest(
                "Unknown reason {reason!r}: one of {choices}", reason=reason[:20], choices=", ".join(HIDING)
            )
        with self._database.write() as session:
            discussion = find(session, repository, number)
            event = find_comment(session, discussion, comment)
            own = event.author_id == actor.account_id
            if not own:
                require(actor, Action.WRITE, repository)
            if event.versions:
                texts = [version.text for version in event.versions]
                event.versions.clear()
                session.flush()
                settle_attachments(session, texts)
                event.data = {**event.data, "hiddenBy": "author" if own else "writer", "reason": reason}
                record_discussion(session, "hidden", actor, repository, discussion, comment=event.id, reason=reason)
        return event

    def remove_all(self, session: Session, repository: Repository) -> None:
        """Remove the discussions of a repository that goes, in the transaction in which it does."""
        texts = texts_with_attachments(session, Discussion.repository_id == repository.id)
        session.execute(delete(Discussion).where(Discussion.repository_id == repository.id))
        settle_attachments(session, texts)

    def rename(self, actor: Actor, repository: Repository, number: int, title: str) -> DiscussionEvent:
        """Change the title of one's own discussion, or as a writer of any."""
        title = check_title(title)
        with self._database.write() as session:
            discussion = _own(session, actor, repository, number)
            event = add_event(
                session, actor, discussion, DiscussionEventKind.TITLE, {"from": discussion.title, "to": title}
            )
            discussion.title = title
            record_discussion(session, "renamed", actor, repository, discussion)
        return event

    def set_status(
        self, actor: Actor, repository: Repository, number: int, status: str, text: str | None = None
    ) -> DiscussionEvent:
        """Close or open again one's own discussion, or as a writer any; `text` is a comment made with it.

        Raises:
            BadRequest: no such status. Conflict: it has it already, or was merged.
        """
        if status not in (DiscussionStatus.OPEN, DiscussionStatus.CLOSED):
            raise BadRequest("Unknown status {status!r}: one of open, closed", status=status)
        with self._database.write() as session:
            discussion = _own(session, actor, repository, number)
            if discussion.status in (DiscussionStatus.MERGED, status):
                raise Conflict(
                    "{repository}#{number} is {status} already",
                    repository=repository.full_name,
                    number=number,
                    status=Words(discussion.status),
                )
            if text is not None:
                add_comment(session, actor, repository, discussion, text)
            return change_status(session, actor, repository, discussion, DiscussionStatus(status))


# ---------------------------------------------------------------- inside a transaction, for pull requests too


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
    session.flush()


def _add_comment(session: Session, actor: Actor, discussion: Discussion, text: str) -> DiscussionEvent:
    text = check_text(text)
    check_room(session, discussion, text)
    event = add_event(session, actor, discussion, DiscussionEventKind.COMMENT, {})
    add_version(session, discussion, event, text)
    return event


def _own(session: Session, actor: Actor, repository: Repository, number: int) -> Discussion:
    """The discussion, when it is the actor's own and not full, or the actor writes in the repository."""
    discussion = find(session, repository, number)
    own = discussion.author_id is not None and discussion.author_id == actor.account_id
    own = own and count_events(session, discussion) < EVENTS_LIMIT
    require(actor, Action.DISCUSS if own else Action.WRITE, repository)
    return discussion
