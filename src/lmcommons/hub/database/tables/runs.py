"""Training runs, as they report themselves, and their curves."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from lmcommons.hub.database.tables.accounts import Account
from lmcommons.hub.database.tables.base import Table, now

SILENCE = timedelta(minutes=5)  # after which a run that says nothing is not taken for one in progress


class RunState(StrEnum):
    """What a run said of itself last."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"  # by somebody; it can go on


class TrainingRun(Table):
    """A run that trains the model of a repository; all but its repository is as the trainer says."""

    __tablename__ = "training_runs"
    __table_args__ = (
        UniqueConstraint("repository_id", "key"),
        Index("ix_training_runs_state_heard_at", "state", "heard_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(64))  # chosen by the trainer, so that a run that goes on is the same one
    reporter_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    stage: Mapped[str] = mapped_column(String(200))
    recipe: Mapped[str] = mapped_column(String(200))
    machine: Mapped[str] = mapped_column(String(200))
    state: Mapped[RunState] = mapped_column(default=RunState.RUNNING)
    started_at: Mapped[datetime] = mapped_column(default=now)
    heard_at: Mapped[datetime] = mapped_column(default=now)
    step: Mapped[int] = mapped_column(BigInteger, default=0)
    steps: Mapped[int | None] = mapped_column(BigInteger)  # that it will have done at its end
    tokens: Mapped[int | None] = mapped_column(BigInteger)  # read so far
    seconds_left: Mapped[int | None] = mapped_column(BigInteger)
    reporter: Mapped[Account | None] = relationship(lazy="joined")

    @property
    def is_silent(self) -> bool:
        """Whether it should be running, and was not heard of for a while."""
        return self.state is RunState.RUNNING and now() - self.heard_at > SILENCE


class RunCurve(Table):
    """The values of one measure over a run."""

    __tablename__ = "run_curves"
    __table_args__ = (UniqueConstraint("run_id", "tag"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("training_runs.id", ondelete="CASCADE"))
    tag: Mapped[str] = mapped_column(String(200))
    points: Mapped[list[Any]] = mapped_column(JSON)  # of each its step, value and tokens read (or None), by step
