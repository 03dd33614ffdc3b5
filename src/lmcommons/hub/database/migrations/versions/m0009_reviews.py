"""Who was asked to review pull requests, reactions to comments."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "review_requests",
        sa.Column("discussion_id", sa.Integer(), nullable=False),
        sa.Column("reviewer_id", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["discussion_id"], ["discussions.id"], name=op.f("fk_review_requests_discussion_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["reviewer_id"], ["accounts.id"], name=op.f("fk_review_requests_reviewer_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("discussion_id", "reviewer_id", name=op.f("pk_review_requests")),
    )
    op.create_index(op.f("ix_review_requests_reviewer_id"), "review_requests", ["reviewer_id"])
    op.create_table(
        "reactions",
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column(
            "emoji",
            sa.Enum(
                *("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"),
                name="emoji",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_reactions_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["discussion_events.id"], name=op.f("fk_reactions_event_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("event_id", "account_id", "emoji", name=op.f("pk_reactions")),
    )
    op.create_index(op.f("ix_reactions_account_id"), "reactions", ["account_id"])
