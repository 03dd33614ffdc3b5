"""The log of what happened."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column, validates

from lmcommons.hub.database.tables.base import Table, now


class Event(Table):
    """What happened, appended and never changed. Names are copied, so that a line outlives what it speaks of.

    Only where a user is deleted does a pseudonym take the place of the name; see `operating/departures.py`.
    """

    __tablename__ = "events"
    __table_args__ = (  # by whom and about what, the last first
        Index("ix_events_actor", "actor", "id"),
        Index("ix_events_name_key", "name_key", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    kind: Mapped[str] = mapped_column(String(48))
    actor: Mapped[str | None] = mapped_column(String(96))
    repository_id: Mapped[int | None] = mapped_column(index=True)
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    name_key: Mapped[str | None] = mapped_column(String(193))  # of what it speaks of, when its data has a name

    @validates("data")
    def _take_name(self, _: str, data: dict[str, Any]) -> dict[str, Any]:
        self.name_key = data["name"].lower()[:193] if "name" in data else None
        return data
