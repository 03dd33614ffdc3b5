"""Who asked for the files of gated repositories, and who may have them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Table, now


class AccessStatus(StrEnum):
    """Where a request stands; the protocol's names."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class AccessRequest(Table):
    """A user's request to read a gated repository's files, or an access that its owner granted unasked."""

    __tablename__ = "access_requests"
    __table_args__ = (UniqueConstraint("repository_id", "user_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    user_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    status: Mapped[AccessStatus]
    granted: Mapped[bool]  # by an owner, unasked: the user agreed to show no address
    fields: Mapped[dict[str, Any]] = mapped_column(default=dict)  # what the user answered
    reason: Mapped[str | None] = mapped_column(String(200))  # of a rejection
    created_at: Mapped[datetime] = mapped_column(default=now)
    user: Mapped[Account] = relationship(lazy="joined", innerjoin=True)
