"""Repositories that members bring from other hubs."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Said, Table, now
from lmcommons.hub.database.tables.repositories import RepositoryType
from lmcommons.hub.database.tables.statistics import Progress


class Import(Table):
    """A repository that somebody asked for, or how far it has come."""

    __tablename__ = "imports"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    endpoint: Mapped[str] = mapped_column(String(300))  # of the other hub
    type: Mapped[RepositoryType]
    source: Mapped[str] = mapped_column(String(200))  # its full name there
    target: Mapped[str] = mapped_column(String(200))  # and here
    private: Mapped[bool]
    progress: Mapped[Progress] = mapped_column(default=Progress.WAITING, index=True)
    leased_until: Mapped[datetime] = mapped_column(default=now)  # until then nobody else takes what waits
    attempts: Mapped[int] = mapped_column(default=0)
    received: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes of large files
    expected: Mapped[int | None] = mapped_column(BigInteger)  # of them, once that is known
    error: Mapped[str | None] = mapped_column(Said(2000))
    created_at: Mapped[datetime] = mapped_column(default=now)
    ended_at: Mapped[datetime | None]
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)
