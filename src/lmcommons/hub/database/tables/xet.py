"""Xorbs, the files made of them, and who has which."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from lmcommons.hub.database.tables.base import Table, now

HASH = String(64)  # a Xet hash as text


class XetXorb(Table):
    """A stored xorb; `chunks` is its packed table of chunks, so that questions are answered without reading it."""

    __tablename__ = "xet_xorbs"

    hash: Mapped[str] = mapped_column(HASH, primary_key=True)
    key: Mapped[str] = mapped_column(String(96))  # of its blob; new each time, so that deleting one cannot hit another
    size: Mapped[int] = mapped_column(BigInteger)  # bytes stored
    chunks: Mapped[bytes] = mapped_column(LargeBinary)
    sent_at: Mapped[datetime] = mapped_column(default=now, index=True)  # for the last time


class XetSender(Table):
    """An account that sent a xorb: it has the content, so it may make files of any of its chunks."""

    __tablename__ = "xet_senders"

    xorb_hash: Mapped[str] = mapped_column(ForeignKey("xet_xorbs.hash", ondelete="CASCADE"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True)


class XetChunk(Table):
    """A chunk that clients ask for when they look for content that the hub has, and a xorb that it is in."""

    __tablename__ = "xet_chunks"

    hash: Mapped[str] = mapped_column(HASH, primary_key=True)
    xorb_hash: Mapped[str] = mapped_column(
        ForeignKey("xet_xorbs.hash", ondelete="CASCADE"), primary_key=True, index=True
    )
    position: Mapped[int]


class XetFile(Table):
    """A file whose content was verified: its hashes and size in bytes."""

    __tablename__ = "xet_files"

    hash: Mapped[str] = mapped_column(HASH, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sent_at: Mapped[datetime] = mapped_column(default=now, index=True)  # for the last time


class XetTerm(Table):
    """A run of chunks in a xorb, `start` to before `stop`: the part of a file at `offset`, `size` bytes."""

    __tablename__ = "xet_terms"
    __table_args__ = (Index("ix_xet_terms_file_hash_offset", "file_hash", "offset"),)

    file_hash: Mapped[str] = mapped_column(ForeignKey("xet_files.hash", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    xorb_hash: Mapped[str] = mapped_column(ForeignKey("xet_xorbs.hash"), index=True)
    start: Mapped[int]
    stop: Mapped[int]
    offset: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int]


class XetLink(Table):
    """A file that was sent to, or copied into, a bucket; of a repository, `RepositoryObject` says it."""

    __tablename__ = "xet_links"

    bucket_id: Mapped[int] = mapped_column(primary_key=True)  # of a deleted bucket too, until garbage is collected
    file_hash: Mapped[str] = mapped_column(
        ForeignKey("xet_files.hash", ondelete="CASCADE"), primary_key=True, index=True
    )
    sent_at: Mapped[datetime] = mapped_column(default=now)


class XetGeneration(Table):
    """One row: how often xorbs were deleted. Clients remember xorbs; a new generation makes them forget."""

    __tablename__ = "xet_generations"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
