"""Reviews of pull requests, who was asked for one, and reactions to comments.

A review, and a comment on a line, are lines of the discussion (`DiscussionEvent`): their text is edited and hidden as
that of any comment.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Table, now


class Verdict(StrEnum):
    """What a reviewer says of a pull request as a whole."""

    APPROVE = "approve"
    REQUEST_CHANGES = "request-changes"
    COMMENT = "comment"


class Emoji(StrEnum):
    """How members react to a comment; the field's names."""

    PLUS_ONE = "+1"
    MINUS_ONE = "-1"
    LAUGH = "laugh"
    HOORAY = "hooray"
    CONFUSED = "confused"
    HEART = "heart"
    ROCKET = "rocket"
    EYES = "eyes"


class Reaction(Table):
    """A user reacts to a comment."""

    __tablename__ = "reactions"

    event_id: Mapped[int] = mapped_column(ForeignKey("discussion_events.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True)
    emoji: Mapped[Emoji] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class ReviewRequest(Table):
    """A user was asked to review a pull request, and has not done so yet."""

    __tablename__ = "review_requests"

    discussion_id: Mapped[int] = mapped_column(ForeignKey("discussions.id", ondelete="CASCADE"), primary_key=True)
    reviewer_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    created_at: Mapped[datetime] = mapped_column(default=now)
    reviewer: Mapped[Account] = relationship(lazy="joined", innerjoin=True)
