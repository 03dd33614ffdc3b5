"""Repositories that members bring from other hubs."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Queued, Table, now
from lmcommons.hub.database.tables.repositories import RepositoryType


class Import(Queued, Table):
    """A repository that somebody asked for, or how far it has come."""

    __tablename__ = "imports"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    endpoint: Mapped[str] = mapped_column(String(300))  # of the other hub
    type: Mapped[RepositoryType]
    source: Mapped[str] = mapped_column(String(200))  # its full name there
    target: Mapped[str] = mapped_column(String(200))  # and here
    private: Mapped[bool]
    received: Mapped[int] = mapped_column(BigInteger, default=0)  # bytes of large files
    expected: Mapped[int | None] = mapped_column(BigInteger)  # of them, once that is known
    created_at: Mapped[datetime] = mapped_column(default=now)
    ended_at: Mapped[datetime | None]  # when it had come
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.type.prefix}{self.source}"
