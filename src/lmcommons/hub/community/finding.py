"""Finding discussions by words of their titles and of what their comments say now, by the rules of `repos/terms.py`."""

from sqlalchemy import ColumnElement, delete, false, or_, select
from sqlalchemy.orm import Session

from lmcommons.hub.database.tables import CommentVersion, Discussion, DiscussionEvent, DiscussionTerms, Repository
from lmcommons.hub.repos import full_text, terms

WORDS_LIMIT = 10  # of a search
TERMS_LIMIT = 250_000  # characters of the terms of one comment: PostgreSQL holds 1 MiB of them
BATCH = 20  # discussions that are indexed in one transaction


def add_title(session: Session, discussion: Discussion) -> None:
    """Make a new discussion found by its title."""
    _add(session, discussion, discussion.title)


def change_title(session: Session, discussion: Discussion) -> None:
    """Make a discussion found by the title that it has now."""
    chosen = select(DiscussionTerms).where(DiscussionTerms.discussion_id == discussion.id)
    row = session.scalar(chosen.where(DiscussionTerms.version_id.is_(None)))
    if row is not None:  # else `add_missing` will come to it
        row.text = _terms(discussion, discussion.title)


def add_comment(session: Session, discussion: Discussion, comment: DiscussionEvent) -> None:
    """Make a discussion found by what a comment says now, and no longer by what it said before."""
    session.flush()  # gives a new version its id
    *former, last = (version.id for version in comment.versions)
    session.execute(delete(DiscussionTerms).where(DiscussionTerms.version_id.in_(former)))
    _add(session, discussion, comment.versions[-1].text, last)


def add_missing(session: Session) -> bool:
    """Index some of the discussions that have no index, from before there was one; whether there were any."""
    indexed = select(DiscussionTerms.discussion_id).where(DiscussionTerms.version_id.is_(None))
    discussions = session.scalars(select(Discussion).where(Discussion.id.not_in(indexed)).limit(BATCH)).all()
    for discussion in discussions:
        session.execute(delete(DiscussionTerms).where(DiscussionTerms.discussion_id == discussion.id))
        add_title(session, discussion)
        events = select(DiscussionEvent.id).where(DiscussionEvent.discussion_id == discussion.id)
        versions = session.execute(
            select(CommentVersion.id, CommentVersion.event_id, CommentVersion.text).where(
                CommentVersion.event_id.in_(events)
            )
        )
        last = {event_id: (number, text) for number, event_id, text in sorted(versions.tuples())}
        for number, text in last.values():
            _add(session, discussion, text, number)
    return bool(discussions)


def having(session: Session, repository: Repository, search: str) -> list[ColumnElement[bool]]:
    """That each word of a search is in the title of a discussion, or in a comment that can be read."""
    words = [found for word in search[: terms.SEARCH_LIMIT].split() if (found := terms.of_search(word))]
    if search.strip() and not words:
        return [false()]
    return [_having(session, repository.id, word) for word in words[:WORDS_LIMIT]]


def _having(session: Session, repository_id: int, word: list[str]) -> ColumnElement[bool]:
    rows = full_text.rows(session, DiscussionTerms, word, _place(repository_id))
    withheld = select(CommentVersion.id).where(CommentVersion.withheld.is_(True))
    can_be_read = or_(DiscussionTerms.version_id.is_(None), DiscussionTerms.version_id.not_in(withheld))
    return Discussion.id.in_(select(DiscussionTerms.discussion_id).where(DiscussionTerms.id.in_(rows), can_be_read))


def _add(session: Session, discussion: Discussion, text: str, version_id: int | None = None) -> None:
    session.add(DiscussionTerms(discussion_id=discussion.id, version_id=version_id, text=_terms(discussion, text)))


def _terms(discussion: Discussion, text: str) -> str:
    return f"{_place(discussion.repository_id)} {terms.of_text(text, limit=None)}"[:TERMS_LIMIT]


def _place(repository_id: int) -> str:
    """A term that all of a repository's rows have, and no text: of the others on a hub none is looked at."""
    return f"\ue000{repository_id}"
