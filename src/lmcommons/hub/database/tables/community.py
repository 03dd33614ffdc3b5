"""Discussions and pull requests, likes, follows, collections, webhooks, attachments."""

import re
import unicodedata
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Said, Table, now
from lmcommons.hub.database.tables.events import Event
from lmcommons.hub.database.tables.repositories import Repository


class DiscussionStatus(StrEnum):
    """Where a discussion stands; only pull requests are drafts or merged. The protocol's names."""

    DRAFT = "draft"
    OPEN = "open"
    CLOSED = "closed"
    MERGED = "merged"


class DiscussionEventKind(StrEnum):
    """What a line of a discussion is; the protocol's names."""

    COMMENT = "comment"
    COMMIT = "commit"
    STATUS = "status-change"
    TITLE = "title-change"
    REVIEW = "review"  # this hub's own: a verdict, and a text when there is one
    LINE = "line-comment"  # this hub's own: a comment on a line of a pull request's files


class Discussion(Table):
    """A discussion of a repository; with a `base` it is a pull request, whose commits are at `refs/pr/NUMBER`."""

    __tablename__ = "discussions"
    __table_args__ = (UniqueConstraint("repository_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    number: Mapped[int]  # from 1, in its repository
    title: Mapped[str] = mapped_column(String(200))
    status: Mapped[DiscussionStatus]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    comments: Mapped[int] = mapped_column(default=0)
    base: Mapped[str | None] = mapped_column(String(210))  # the branch that a pull request is for
    start: Mapped[str | None] = mapped_column(String(40))  # the commit that a pull request began at
    merge_commit: Mapped[str | None] = mapped_column(String(40))
    withheld: Mapped[bool] = mapped_column(default=False, server_default=false())  # by moderators: nobody finds it
    author: Mapped[Account | None] = relationship(lazy="joined")

    @property
    def is_pull_request(self) -> bool:
        """Whether it proposes commits."""
        return self.base is not None

    @property
    def ref(self) -> str:
        """Where the commits of a pull request are."""
        return f"refs/pr/{self.number}"


class DiscussionEvent(Table):
    """A line of a discussion: a comment, or what was done to it."""

    __tablename__ = "discussion_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    discussion_id: Mapped[int] = mapped_column(ForeignKey("discussions.id", ondelete="CASCADE"), index=True)
    kind: Mapped[DiscussionEventKind]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)  # as the protocol has it; of comments, why it was hidden
    author: Mapped[Account | None] = relationship(lazy="joined")
    versions: Mapped[list["CommentVersion"]] = relationship(
        lazy="selectin",
        cascade="all, delete-orphan",
        order_by="CommentVersion.id",
        primaryjoin="and_(CommentVersion.event_id == DiscussionEvent.id, CommentVersion.withheld.is_(False))",
    )


class CommentVersion(Table):
    """A text that a comment has or had; a comment that was hidden has none, or only withheld ones."""

    __tablename__ = "comment_versions"
    __table_args__ = (
        Index(
            "ix_comment_versions_withheld",
            "id",
            sqlite_where=text("withheld IS 1"),
            postgresql_where=text("withheld IS true"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("discussion_events.id", ondelete="CASCADE"), index=True)
    text: Mapped[str] = mapped_column(Text)  # Markdown, as it was sent
    author_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    withheld: Mapped[bool] = mapped_column(default=False, server_default=false())  # by moderators: nobody reads it
    author: Mapped[Account | None] = relationship(lazy="joined")


class Like(Table):
    """An account likes a repository."""

    __tablename__ = "likes"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    repository: Mapped[Repository] = relationship(lazy="joined", innerjoin=True)
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)


class Follow(Table):
    """A user follows a user or an organisation."""

    __tablename__ = "follows"

    follower_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    followed_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    created_at: Mapped[datetime] = mapped_column(default=now)


class RepositoryFollow(Table):
    """A user follows a repository."""

    __tablename__ = "repository_follows"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class CollectionItemKind(StrEnum):
    """What can be put into a collection; the protocol's names."""

    MODEL = "model"
    DATASET = "dataset"
    SPACE = "space"
    COLLECTION = "collection"
    BUCKET = "bucket"


class Collection(Table):
    """A list that an account keeps of repositories, buckets and other collections."""

    __tablename__ = "collections"
    __table_args__ = (
        UniqueConstraint("account_id", "title_key"),
        {"sqlite_autoincrement": True},  # items name it by its id, which is never given to another one
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    creator_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"))
    title: Mapped[str] = mapped_column(String(100))
    title_key: Mapped[str] = mapped_column(String(300))  # case folded: titles of an owner differ by more than case
    description: Mapped[str | None] = mapped_column(String(150))
    private: Mapped[bool] = mapped_column(default=False)
    theme: Mapped[str] = mapped_column(String(16), default="orange")
    position: Mapped[int] = mapped_column(default=0)
    upvotes: Mapped[int] = mapped_column(default=0)
    updated_at: Mapped[datetime] = mapped_column(default=now, index=True)
    account: Mapped[Account] = relationship(foreign_keys=[account_id], lazy="joined", innerjoin=True)
    items: Mapped[list["CollectionItem"]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by="CollectionItem.position"
    )

    @property
    def full_name(self) -> str:
        """The slug: the owner, words of the title, and the id, by which alone it is found."""
        words = unicodedata.normalize("NFKD", self.title).encode("ascii", "ignore").decode().lower()
        return f"{self.account.name}/{'-'.join([*re.findall('[a-z0-9]+', words), f'{self.id:024x}'])}"


class CollectionItem(Table):
    """Something in a collection; what is gone since stays as a line that nobody is shown."""

    __tablename__ = "collection_items"
    __table_args__ = (UniqueConstraint("collection_id", "kind", "target_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    kind: Mapped[CollectionItemKind]
    target_id: Mapped[int] = mapped_column(index=True)  # of the repository, bucket or collection
    position: Mapped[int]  # from 0
    note: Mapped[str | None] = mapped_column(String(500))


class CollectionUpvote(Table):
    """A user finds a collection good."""

    __tablename__ = "collection_upvotes"

    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Webhook(Table):
    """An address that is told what happens in what it watches."""

    __tablename__ = "webhooks"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    url: Mapped[str] = mapped_column(String(2000))
    secret: Mapped[str | None] = mapped_column(String(200))  # in clear: it is sent, and signs what is sent
    repo: Mapped[bool]  # domains: what happens to repositories
    discussion: Mapped[bool]  # and to their discussions
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)
    watched: Mapped[list["WebhookWatch"]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by="WebhookWatch.position"
    )


class WebhookWatch(Table):
    """Something that a webhook watches, by its name: a repository, or an account with all its repositories."""

    __tablename__ = "webhook_watches"

    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))  # user, org, model, dataset, space
    name: Mapped[str] = mapped_column(String(193))
    name_key: Mapped[str] = mapped_column(String(193), index=True)


class WebhookDelivery(Table):
    """An event that a webhook is told of: a queue while `next_at` is set, a log after it."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"), index=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"))
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime | None] = mapped_column(index=True)  # of the next attempt; None: no more
    status: Mapped[int | None]  # of the last answer
    error: Mapped[str | None] = mapped_column(Said(300))  # why the last attempt failed
    event: Mapped[Event] = relationship(lazy="joined", innerjoin=True)


class Attachment(Table):
    """A picture, video or sound that was uploaded for a comment; its content is in the object store."""

    __tablename__ = "attachments"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    media_type: Mapped[str] = mapped_column(String(32))
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    withheld: Mapped[bool] = mapped_column(default=False, server_default=false())  # only in what moderators hid
