"""Reports of what should not be on the hub, and what was decided about it."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import SaidOrWritten, Table, now
from lmcommons.hub.words import Words


class ReportedKind(StrEnum):
    """What can be reported."""

    REPOSITORY = "repository"
    DISCUSSION = "discussion"
    COMMENT = "comment"
    ACCOUNT = "account"


class CaseStatus(StrEnum):
    """Where a case stands."""

    OPEN = "open"  # nobody has decided yet
    DISMISSED = "dismissed"  # nothing was done
    HIDDEN = "hidden"  # shut away; whoever is responsible may appeal
    APPEALED = "appealed"  # hidden, and another administrator is to decide
    UPHELD = "upheld"  # hidden for good
    RESTORED = "restored"  # shown again


class ModerationCase(Table):
    """All that was reported and decided about one thing, from its first report until it is closed."""

    __tablename__ = "moderation_cases"
    __table_args__ = (Index("ix_moderation_cases_kind_target_id", "kind", "target_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[ReportedKind]
    target_id: Mapped[int]  # of the repository, discussion, line of a discussion or account
    name: Mapped[str] = mapped_column(String(300))  # as it was called when it was reported
    status: Mapped[CaseStatus] = mapped_column(default=CaseStatus.OPEN, index=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"), index=True)
    opened_at: Mapped[datetime] = mapped_column(default=now)
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"))
    decided_at: Mapped[datetime | None]
    note: Mapped[str | None] = mapped_column(Text)  # why, for the author to read
    appeal: Mapped[str | None] = mapped_column(Text)  # the author's words
    appealed_at: Mapped[datetime | None]
    appeal_decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"))
    appeal_decided_at: Mapped[datetime | None]
    appeal_note: Mapped[str | None] = mapped_column(Text)
    author: Mapped[Account | None] = relationship(lazy="joined", foreign_keys=[author_id])
    decided_by: Mapped[Account | None] = relationship(lazy="joined", foreign_keys=[decided_by_id])
    appeal_decided_by: Mapped[Account | None] = relationship(lazy="joined", foreign_keys=[appeal_decided_by_id])
    reports: Mapped[list["ModerationReport"]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by="ModerationReport.id"
    )


class ModerationReport(Table):
    """What one member said about it, or the hub, which noticed something by itself."""

    __tablename__ = "moderation_reports"

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("moderation_cases.id", ondelete="CASCADE"), index=True)
    reporter_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"), index=True)
    reason: Mapped[str] = mapped_column(SaidOrWritten)
    created_at: Mapped[datetime] = mapped_column(default=now)
    reporter: Mapped[Account | None] = relationship(lazy="joined")  # none: the hub, or somebody who left

    @property
    def by_hub(self) -> bool:
        """Whether the hub noticed it by itself."""
        return isinstance(self.reason, Words)
