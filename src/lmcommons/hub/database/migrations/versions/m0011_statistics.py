"""Statistics of datasets, computed once for each commit."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "split_statistics",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("commit", sa.String(length=40), nullable=False),
        sa.Column("config", sa.String(length=200), nullable=False),
        sa.Column("split", sa.String(length=200), nullable=False),
        sa.Column("progress", sa.String(length=16), nullable=False),
        sa.Column("leased_until", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("found", sa.JSON(), nullable=True),
        sa.Column("error", sa.String(length=2000), nullable=True),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_split_statistics_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_split_statistics")),
        sa.UniqueConstraint(
            "repository_id", "commit", "config", "split", name=op.f("uq_split_statistics_repository_id")
        ),
    )
    op.create_index(op.f("ix_split_statistics_progress"), "split_statistics", ["progress"], unique=False)
