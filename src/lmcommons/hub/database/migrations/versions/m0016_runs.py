"""Training runs, as they report themselves, and their curves."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0016"
down_revision = "0015"

STATES = ("running", "finished", "failed", "stopped")
TEXTS = ("name", "stage", "recipe", "machine")


def upgrade() -> None:
    op.create_table(
        "training_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("reporter_id", sa.Integer(), nullable=True),
        *(sa.Column(name, sa.String(length=200), nullable=False) for name in TEXTS),
        sa.Column("state", sa.Enum(*STATES, name="runstate", native_enum=False, length=16), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("heard_at", UtcDateTime(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in ("steps", "tokens", "seconds_left")),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_training_runs_repository_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["reporter_id"], ["accounts.id"], name=op.f("fk_training_runs_reporter_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_runs")),
        sa.UniqueConstraint("repository_id", "key", name=op.f("uq_training_runs_repository_id")),
    )
    op.create_index(op.f("ix_training_runs_reporter_id"), "training_runs", ["reporter_id"], unique=False)
    op.create_index("ix_training_runs_state_heard_at", "training_runs", ["state", "heard_at"], unique=False)
    op.create_table(
        "run_curves",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(length=200), nullable=False),
        sa.Column("points", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["training_runs.id"], name=op.f("fk_run_curves_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_curves")),
        sa.UniqueConstraint("run_id", "tag", name=op.f("uq_run_curves_run_id")),
    )
