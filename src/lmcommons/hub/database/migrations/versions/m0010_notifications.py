"""Notifications: what concerns somebody, and whether they have read it."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0010"
down_revision = "0009"

REASONS = (
    *("mention", "opened", "reply", "review-asked", "reviewed", "merged", "closed", "reopened"),
    *("access-asked", "access-accepted", "access-rejected", "moderated"),
)
INDEXED = ("repository_id", "discussion_id", "event_id", "actor_id", "created_at", "mail_at")


def upgrade() -> None:
    op.create_table(
        "notifications",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("discussion_id", sa.Integer(), nullable=True),
        sa.Column("event_id", sa.Integer(), nullable=True),
        sa.Column("actor_id", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Enum(*REASONS, name="reason", native_enum=False, length=16), nullable=False),
        sa.Column("read", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("mail_at", UtcDateTime(), nullable=True),
        sa.Column("mail_attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_notifications_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["actor_id"], ["accounts.id"], name=op.f("fk_notifications_actor_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["discussion_id"], ["discussions.id"], name=op.f("fk_notifications_discussion_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["discussion_events.id"], name=op.f("fk_notifications_event_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_notifications_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    op.create_index("ix_notifications_account_id_read", "notifications", ["account_id", "read"])
    for column in INDEXED:
        op.create_index(op.f(f"ix_notifications_{column}"), "notifications", [column])
    op.create_table(
        "watches",
        sa.Column("discussion_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("muted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_watches_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["discussion_id"], ["discussions.id"], name=op.f("fk_watches_discussion_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("discussion_id", "account_id", name=op.f("pk_watches")),
    )
    op.create_index(op.f("ix_watches_account_id"), "watches", ["account_id"])
    op.create_table(
        "mail_choices",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_mail_choices_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_mail_choices")),
    )
