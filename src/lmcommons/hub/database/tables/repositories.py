"""Repositories: their settings, what lists show of them, and the large objects that were uploaded to them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Index, String, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Table, now


class RepositoryType(StrEnum):
    """The kinds of repository; the value is the protocol's singular name."""

    MODEL = "model"
    DATASET = "dataset"
    SPACE = "space"  # kept as a repository; nothing runs

    @property
    def plural(self) -> str:
        """The name in API paths."""
        return f"{self.value}s"

    @property
    def prefix(self) -> str:
        """What stands before `namespace/name` in page, file and git addresses."""
        return "" if self is RepositoryType.MODEL else f"{self.plural}/"


class Gate(StrEnum):
    """How the files of a repository that everybody sees are opened to one who asks for them."""

    NONE = ""  # nobody needs to ask
    AUTO = "auto"  # asking is enough
    MANUAL = "manual"  # an owner decides


class Repository(Table):
    """A repository's settings and what lists show of its main branch; its git directory is named by `id`."""

    __tablename__ = "repositories"
    __table_args__ = (
        UniqueConstraint("type", "account_id", "name_key"),
        Index("ix_repositories_type_updated_at", "type", "updated_at"),
        Index("ix_repositories_type_created_at", "type", "created_at"),
        Index("ix_repositories_type_downloads", "type", "downloads"),
        Index("ix_repositories_type_likes", "type", "likes"),
        Index("ix_repositories_type_trending", "type", "trending"),
        # All that counts of a list read, so that they do not look into the table, where cards make rows wide.
        Index("ix_repositories_counted", "type", "parameter_count", "private", "hidden", "account_id", "head"),
        {"sqlite_autoincrement": True},  # the id of a deleted repository is never given to another one
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[RepositoryType]
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    creator_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"))
    name: Mapped[str] = mapped_column(String(96))
    name_key: Mapped[str] = mapped_column(String(96))
    private: Mapped[bool] = mapped_column(default=False)
    gated: Mapped[Gate] = mapped_column(default=Gate.NONE, server_default="")
    hidden: Mapped[bool] = mapped_column(default=False, server_default=false())  # by moderators
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    head: Mapped[str | None] = mapped_column(String(40))  # commit of main that the columns below describe
    card: Mapped[dict[str, Any]] = mapped_column(default=dict)  # front matter of README.md
    summary: Mapped[str] = mapped_column(String(300), default="")
    parameters: Mapped[dict[str, Any] | None] = mapped_column()  # by dtype, from the safetensors headers
    parameter_count: Mapped[int | None] = mapped_column(BigInteger)  # the sum of them
    library: Mapped[str | None] = mapped_column(String(200))
    pipeline_tag: Mapped[str | None] = mapped_column(String(200))
    storage: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes of the files at head
    downloads: Mapped[int] = mapped_column(BigInteger, default=0)  # of the last 30 days
    downloads_all_time: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    likes: Mapped[int] = mapped_column(default=0)
    trending: Mapped[float] = mapped_column(Float(53), default=0.0, server_default="0")  # see `repos/downloads.py`
    last_discussion: Mapped[int] = mapped_column(default=0, server_default="0")  # highest number given
    account: Mapped[Account] = relationship(foreign_keys=[account_id], lazy="joined", innerjoin=True)
    tag_rows: Mapped[list["RepositoryTag"]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by="RepositoryTag.position"
    )

    @property
    def tags(self) -> list[str]:
        """What the repository can be filtered by, in the card's order."""
        return [row.tag for row in self.tag_rows]

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.account.name}/{self.name}"

    @property
    def path(self) -> str:
        """What follows the hub's address: `namespace/name` or `datasets/namespace/name`."""
        return f"{self.type.prefix}{self.full_name}"

    @property
    def scope(self) -> str:
        """What Xet tokens are made for."""
        return f"repository:{self.id}"


class RepositoryTag(Table):
    """One tag of a repository."""

    __tablename__ = "repository_tags"
    # All that filters and counts of tags read, so that neither looks into the table.
    __table_args__ = (Index("ix_repository_tags_tag", "tag", "kind", "repository_id"),)

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(200), primary_key=True)
    position: Mapped[int]
    kind: Mapped[str] = mapped_column(String(24), default="other", server_default="other")  # what it tells


class FormerName(Table):
    """A name that a repository had before it was moved; requests for it are redirected."""

    __tablename__ = "former_names"

    type: Mapped[RepositoryType] = mapped_column(primary_key=True)
    full_name_key: Mapped[str] = mapped_column(String(193), primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), index=True)


class RepositoryObject(Table):
    """A large object that was uploaded to, or copied into, a repository: only then may a commit there refer to it."""

    __tablename__ = "repository_objects"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=now)
    withheld: Mapped[bool] = mapped_column(default=False, server_default=false())  # only what moderators hid names it
