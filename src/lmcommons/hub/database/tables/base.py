"""What all tables share. A change in any table needs a migration in `migrations/versions/`; a test compares them."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Enum, MetaData, String, Text, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lmcommons.hub import words

SAID_LIMIT = 10_000  # characters of what the hub says, in a column that has no length


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC, on databases that forget the zone too."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class Said(TypeDecorator[str]):
    """A line that readers are told in their own language, cut where it is longer than the column."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self._length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else words.kept(value, self._length)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else words.said_again(value)


class SaidOrWritten(TypeDecorator[str]):
    """What the hub says, which readers are told in their own language, or the text of a member, which stays as it is.

    A member's text does not begin with a line break.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return words.kept(value, SAID_LIMIT) if isinstance(value, words.Words) else value

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else words.said_again(value)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Table(DeclarativeBase):
    """All tables; constraints have names so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        StrEnum: Enum(
            StrEnum, native_enum=False, length=16, values_callable=lambda kinds: [kind.value for kind in kinds]
        ),
    }


class Mailed:
    """What is also told by mail: such rows are the queue of what is to be sent (`community/mail.py`)."""

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    mail_at: Mapped[datetime | None] = mapped_column(index=True)  # of the next attempt to send it; None: no more
    mail_attempts: Mapped[int] = mapped_column(default=0)


class Progress(StrEnum):
    """How far the work on a row is; its times tell whether anybody is at it."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class Queued:
    """What the hub works off beside its answers: such rows are the queue, and tell how it went (`background.py`)."""

    id: Mapped[int] = mapped_column(primary_key=True)
    progress: Mapped[Progress] = mapped_column(default=Progress.WAITING, index=True)
    leased_until: Mapped[datetime] = mapped_column(default=now)  # until then nobody else takes what waits
    attempts: Mapped[int] = mapped_column(default=0)  # work may be such that the process dies of it
    error: Mapped[str | None] = mapped_column(Said(2000))
