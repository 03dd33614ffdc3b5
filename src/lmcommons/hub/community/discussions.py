"""Discussions: a numbered thread of a repository, made of comments and of what was done to it.

Pull requests are discussions too; what only they have is in `pull_requests.py`. Who may look at the repository may
read; who may discuss there opens and comments, and changes what is their own; writers close and rename all, and hide
any comment. Nobody changes another's words.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.community import finding, notifications, threads
from lmcommons.hub.community.attachments import settle_attachments, texts_with_attachments
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    CommentVersion,
    Discussion,
    DiscussionEvent,
    DiscussionEventKind,
    DiscussionStatus,
    Repository,
)
from lmcommons.hub.errors import BadRequest, Conflict, Forbidden
from lmcommons.hub.words import Words

VERSIONS_LIMIT = 100  # of one comment

Kind = Literal["all", "discussion", "pull_request"]
StatusFilter = Literal["all", "open", "closed", "merged", "draft"]

HIDING = ("off-topic", "outdated", "duplicate", "resolved", "spam", "abuse")  # why a comment was hidden

# A draft is open, and what was merged is closed, unless they are asked for by name.
STATUSES = {
    "open": (DiscussionStatus.OPEN, DiscussionStatus.DRAFT),
    "closed": (DiscussionStatus.CLOSED, DiscussionStatus.MERGED),
    "merged": (DiscussionStatus.MERGED,),
    "draft": (DiscussionStatus.DRAFT,),
}


@dataclass(frozen=True)
class Listing:
    """Which discussions of a repository a list shows; `search` are words of the title or of what was said."""

    kind: str = "all"
    status: str = "all"
    author: str | None = None
    search: str = ""
    offset: int = 0
    limit: int = 50


class Discussions:
    """The discussions of a hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------ reading

    def listing(self, repository: Repository, query: Listing) -> tuple[list[Discussion], dict[str, int]]:
        """Discussions and pull requests, the newest first, and how many match for each status that can be asked for.

        Raises:
            BadRequest: a kind or status that does not exist.
        """
        with self._database.read() as session:
            matching = _conditions(session, query, repository)
            chosen = select(Discussion).where(*matching).order_by(Discussion.number.desc())
            if query.status != "all":
                chosen = chosen.where(Discussion.status.in_(STATUSES[query.status]))
            counted = select(Discussion.status, func.count()).where(*matching).group_by(Discussion.status)
            found = dict(session.execute(counted).tuples().all())
            discussions = list(session.scalars(chosen.offset(query.offset).limit(query.limit)))
        counts = {name: sum(found.get(each, 0) for each in of) for name, of in STATUSES.items()}
        return discussions, {"all": sum(found.values()), **counts}

    def count_open(self, repository: Repository) -> int:
        """How many discussions and pull requests of a repository are open."""
        return self.listing(repository, Listing(limit=0))[1]["open"] if repository.last_discussion else 0

    def find(self, repository: Repository, number: int) -> Discussion:
        """The discussion of that number.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as session:
            return threads.find(session, repository, number)

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
            return threads.find_comment(session, discussion, comment)

    # ------------------------------------------------------------ taking part

    def open(self, actor: Actor, repository: Repository, title: str, text: str) -> Discussion:
        """Open a discussion; `text` is its first comment.

        Raises:
            BadRequest, TooLarge: no title or no text, or one past its limit. Unauthorized, Forbidden: not here.
        """
        require(actor, Action.DISCUSS, repository)
        title = threads.check_title(title)
        with self._database.write() as session:
            discussion = Discussion(
                number=threads.take_number(session, repository), title=title, status=DiscussionStatus.OPEN
            )
            threads.create(session, actor, repository, discussion, text)
        return discussion

    def comment(self, actor: Actor, repository: Repository, number: int, text: str) -> DiscussionEvent:
        """Add a comment, in Markdown."""
        require(actor, Action.DISCUSS, repository)
        with self._database.write() as session:
            return threads.add_comment(session, actor, repository, threads.find(session, repository, number), text)

    def edit(self, actor: Actor, repository: Repository, number: int, comment: int, text: str) -> DiscussionEvent:
        """Change the text of one's own comment; earlier ones stay to be seen.

        Raises:
            Conflict: it was hidden. Forbidden: it is somebody else's. NotFound: no such comment.
        """
        require(actor, Action.DISCUSS, repository)
        text = threads.check_text(text)
        with self._database.write() as session:
            discussion = threads.find(session, repository, number)
            event = threads.find_comment(session, discussion, comment)
            if event.author_id != actor.account_id:
                raise Forbidden("Only its author may edit a comment")
            if not event.versions:
                raise Conflict("The comment was hidden: it cannot be edited")
            if len(event.versions) >= VERSIONS_LIMIT:
                raise BadRequest("The comment was edited {limit} times; write another one", limit=VERSIONS_LIMIT - 1)
            threads.check_room(session, discussion, text)
            event.versions.append(CommentVersion(text=text, author=threads.author(session, actor)))
            finding.add_comment(session, discussion, event)
            threads.record_discussion(session, "edited", actor, repository, discussion, comment=event.id)
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
            discussion = threads.find(session, repository, number)
            event = threads.find_comment(session, discussion, comment)
            own = event.author_id == actor.account_id
            if not own:
                require(actor, Action.WRITE, repository)
            if event.versions:
                texts = [version.text for version in event.versions]
                event.versions.clear()
                session.flush()
                settle_attachments(session, texts)
                event.data = {**event.data, "hiddenBy": "author" if own else "writer", "reason": reason}
                threads.record_discussion(
                    session, "hidden", actor, repository, discussion, comment=event.id, reason=reason
                )
        return event

    def index(self) -> None:
        """Make the discussions found that were opened before there was a search of this kind."""
        more = True
        while more:
            with self._database.write() as session:
                more = finding.add_missing(session)

    def remove_all(self, session: Session, repository: Repository) -> None:
        """Remove the discussions of a repository that goes, in the transaction in which it does."""
        texts = texts_with_attachments(session, Discussion.repository_id == repository.id)
        session.execute(delete(Discussion).where(Discussion.repository_id == repository.id))
        settle_attachments(session, texts)

    def rename(self, actor: Actor, repository: Repository, number: int, title: str) -> DiscussionEvent:
        """Change the title of one's own discussion, or as a writer of any."""
        title = threads.check_title(title)
        with self._database.write() as session:
            discussion = _own(session, actor, repository, number)
            event = threads.add_event(
                session, actor, discussion, DiscussionEventKind.TITLE, {"from": discussion.title, "to": title}
            )
            discussion.title = title
            finding.change_title(session, discussion)
            threads.record_discussion(session, "renamed", actor, repository, discussion)
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
                threads.add_comment(session, actor, repository, discussion, text)
            return threads.change_status(session, actor, repository, discussion, DiscussionStatus(status))


def _own(session: Session, actor: Actor, repository: Repository, number: int) -> Discussion:
    """The discussion, when it is the actor's own and not full, or the actor writes in the repository."""
    discussion = threads.find(session, repository, number)
    own = discussion.author_id is not None and discussion.author_id == actor.account_id
    own = own and threads.count_events(session, discussion) < threads.EVENTS_LIMIT
    require(actor, Action.DISCUSS if own else Action.WRITE, repository)
    return discussion


def _conditions(session: Session, query: Listing, repository: Repository) -> list[ColumnElement[bool]]:
    """What holds of the discussions of a list, whatever their status.

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
        conditions.append(Discussion.base.is_not(None) if query.kind == "pull_request" else Discussion.base.is_(None))
    if query.author is not None:
        conditions.append(Discussion.author_id.in_(select(Account.id).where(Account.name_key == query.author.lower())))
    return conditions + finding.having(session, repository, query.search)
