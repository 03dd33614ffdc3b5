"""Buckets: named places for files that change, without history."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Table, now

# Paths are compared byte by byte, whatever the language of the database: folders are ranges of them.
PATH = String(1024).with_variant(String(1024, collation="C"), "postgresql")


class ChangeKind(StrEnum):
    """What happened to a file; the protocol's names."""

    ADD = "add"
    UPDATE = "update"
    DELETE = "delete"


class Bucket(Table):
    """A bucket's settings and what is in it, counted; every change of a file is numbered by `revision`."""

    __tablename__ = "buckets"
    __table_args__ = (
        UniqueConstraint("account_id", "name_key"),
        {"sqlite_autoincrement": True},  # content is linked to the id: it is never given to another bucket
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    creator_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"))
    name: Mapped[str] = mapped_column(String(96))
    name_key: Mapped[str] = mapped_column(String(96))
    private: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)  # when a file last changed
    size: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes of all files
    total_files: Mapped[int] = mapped_column(BigInteger, default=0)
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    account: Mapped[Account] = relationship(foreign_keys=[account_id], lazy="joined", innerjoin=True)

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.account.name}/{self.name}"

    @property
    def path(self) -> str:
        """What follows the hub's address."""
        return f"buckets/{self.full_name}"

    @property
    def scope(self) -> str:
        """What Xet tokens are made for."""
        return f"bucket:{self.id}"


class BucketFile(Table):
    """A file; folders are what its path implies."""

    __tablename__ = "bucket_files"
    __table_args__ = (Index("ix_bucket_files_bucket_id_xet_hash", "bucket_id", "xet_hash"),)

    bucket_id: Mapped[int] = mapped_column(ForeignKey("buckets.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(PATH, primary_key=True)
    xet_hash: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    mtime: Mapped[datetime | None]  # of the file that was uploaded, as its sender said
    uploaded_at: Mapped[datetime] = mapped_column(default=now)
    content_type: Mapped[str | None] = mapped_column(String(128))


class BucketChange(Table):
    """A change of a file, for those who follow the bucket; only the last ones are kept."""

    __tablename__ = "bucket_changes"

    bucket_id: Mapped[int] = mapped_column(ForeignKey("buckets.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[ChangeKind]
    path: Mapped[str] = mapped_column(String(1024))
    size: Mapped[int | None] = mapped_column(BigInteger)
    xet_hash: Mapped[str | None] = mapped_column(String(64))
    mtime: Mapped[datetime | None]


class FormerBucketName(Table):
    """A name that a bucket had before it was moved; requests for it are redirected."""

    __tablename__ = "former_bucket_names"

    full_name_key: Mapped[str] = mapped_column(String(193), primary_key=True)
    bucket_id: Mapped[int] = mapped_column(ForeignKey("buckets.id", ondelete="CASCADE"), index=True)
