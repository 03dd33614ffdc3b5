"""What concerns somebody: notifications, the threads that they watch or muted, whether they want mail."""

from enum import StrEnum

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Mailed, Table
from lmcommons.hub.database.tables.community import Discussion
from lmcommons.hub.database.tables.repositories import Repository


class Reason(StrEnum):
    """Why somebody is told."""

    MENTION = "mention"
    OPENED = "opened"  # a discussion or pull request in a repository that they look after
    REPLY = "reply"
    REVIEW_ASKED = "review-asked"
    REVIEWED = "reviewed"
    MERGED = "merged"
    CLOSED = "closed"
    REOPENED = "reopened"
    ACCESS_ASKED = "access-asked"
    ACCEPTED = "access-accepted"
    REJECTED = "access-rejected"
    MODERATED = "moderated"  # an administrator decided about something of theirs


class Notification(Mailed, Table):
    """Somebody is told of something; shown only while they may see the repository."""

    __tablename__ = "notifications"
    __table_args__ = (Index("ix_notifications_account_id_read", "account_id", "read"),)

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), index=True)
    discussion_id: Mapped[int | None] = mapped_column(ForeignKey("discussions.id", ondelete="CASCADE"), index=True)
    event_id: Mapped[int | None] = mapped_column(ForeignKey("discussion_events.id", ondelete="CASCADE"), index=True)
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"), index=True)
    reason: Mapped[Reason]
    read: Mapped[bool] = mapped_column(default=False)
    repository: Mapped[Repository] = relationship(lazy="joined", innerjoin=True)
    discussion: Mapped[Discussion | None] = relationship(lazy="joined")
    actor: Mapped[Account | None] = relationship(foreign_keys=[actor_id], lazy="joined")


class Watch(Table):
    """A user wants to be told of all that is said in a discussion, or of nothing."""

    __tablename__ = "watches"

    discussion_id: Mapped[int] = mapped_column(ForeignKey("discussions.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True)
    muted: Mapped[bool]


class MailChoice(Table):
    """A user wants no mail; who is not here does."""

    __tablename__ = "mail_choices"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    wanted: Mapped[bool]
