"""How repositories and discussions are found and compared: words for search, downloads by day, evaluation results."""

from datetime import date
from typing import Any

from sqlalchemy import Date, Float, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from lmcommons.hub.database.tables.base import Table


class RepositoryTerms(Table):
    """The terms of a repository (see `repos/terms.py`), separated by spaces.

    The migration adds what searches them: a full-text index that triggers keep up on SQLite, a generated column with
    an inverted index on PostgreSQL.
    """

    __tablename__ = "repository_terms"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)


class DiscussionTerms(Table):
    """The terms of a discussion's title, or of what a comment says now; the migration adds to them as above."""

    __tablename__ = "discussion_terms"

    id: Mapped[int] = mapped_column(primary_key=True)
    discussion_id: Mapped[int] = mapped_column(ForeignKey("discussions.id", ondelete="CASCADE"), index=True)
    version_id: Mapped[int | None] = mapped_column(  # None: the title
        ForeignKey("comment_versions.id", ondelete="CASCADE"), unique=True
    )
    text: Mapped[str] = mapped_column(Text)


class DailyDownloads(Table):
    """Downloads of a repository on one day; days that have left the window of `Repository.downloads` are deleted."""

    __tablename__ = "daily_downloads"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    count: Mapped[int]


class EvaluationResult(Table):
    """A number that a model states for a task of a dataset, in a file of main or of a pull request."""

    __tablename__ = "evaluation_results"
    __table_args__ = (Index("ix_evaluation_results_dataset_task", "dataset_key", "task_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), index=True)
    pull_request: Mapped[int | None]  # its number; None for main
    filename: Mapped[str] = mapped_column(Text)
    dataset_key: Mapped[str] = mapped_column(String(193))  # `namespace/name` in lower case, as the file names it
    task_id: Mapped[str] = mapped_column(String(200))
    value: Mapped[float] = mapped_column(Float(53))
    entry: Mapped[dict[str, Any]]  # as the file has it
