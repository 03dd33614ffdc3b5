"""What the columns of a dataset's splits hold, computed in the background once for each commit."""

from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from lmcommons.hub.database.tables.base import Queued, Table


class SplitStatistics(Queued, Table):
    """The statistics of a split at a commit, or how far they are."""

    __tablename__ = "split_statistics"
    __table_args__ = (UniqueConstraint("repository_id", "commit", "config", "split"),)

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    commit: Mapped[str] = mapped_column(String(40))
    config: Mapped[str] = mapped_column(String(200))
    split: Mapped[str] = mapped_column(String(200))
    rows: Mapped[int] = mapped_column(default=0)  # that were read
    found: Mapped[dict[str, Any] | None]  # as `repos/statistics.py` writes it

    def __str__(self) -> str:
        return f"repository {self.repository_id}, {self.config}/{self.split}"
