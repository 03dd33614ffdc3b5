"""What the columns of a dataset's splits hold, computed in the background once for each commit."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from lmcommons.hub.database.tables.base import Said, Table, now


class Progress(StrEnum):
    """How far a computation is; the times of a row tell whether anybody is at it."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class SplitStatistics(Table):
    """The statistics of a split at a commit, or how far they are."""

    __tablename__ = "split_statistics"
    __table_args__ = (UniqueConstraint("repository_id", "commit", "config", "split"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    commit: Mapped[str] = mapped_column(String(40))
    config: Mapped[str] = mapped_column(String(200))
    split: Mapped[str] = mapped_column(String(200))
    progress: Mapped[Progress] = mapped_column(default=Progress.WAITING, index=True)
    leased_until: Mapped[datetime] = mapped_column(default=now)  # until then nobody else takes what waits
    attempts: Mapped[int] = mapped_column(default=0)  # a file may be such that the process dies of it
    rows: Mapped[int] = mapped_column(default=0)  # that were read
    found: Mapped[dict[str, Any] | None]  # as `repos/statistics.py` writes it
    error: Mapped[str | None] = mapped_column(Said(2000))
