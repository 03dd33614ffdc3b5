"""Reports, decisions on them, appeals; what is hidden meanwhile."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0014"
down_revision = "0013"

HIDEABLE = (("repositories", "hidden"), ("discussions", "withheld"), ("comment_versions", "withheld"))
PEOPLE = ("author_id", "decided_by_id", "appeal_decided_by_id")


def upgrade() -> None:
    for table, column in HIDEABLE:
        op.add_column(table, sa.Column(column, sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "moderation_cases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "repository", "discussion", "comment", "account", name="reportedkind", native_enum=False, length=16
            ),
            nullable=False,
        ),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "open",
                "dismissed",
                "hidden",
                "appealed",
                "upheld",
                "restored",
                name="casestatus",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("author_id", sa.Integer(), nullable=True),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("decided_by_id", sa.Integer(), nullable=True),
        sa.Column("decided_at", UtcDateTime(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("appeal", sa.Text(), nullable=True),
        sa.Column("appealed_at", UtcDateTime(), nullable=True),
        sa.Column("appeal_decided_by_id", sa.Integer(), nullable=True),
        sa.Column("appeal_decided_at", UtcDateTime(), nullable=True),
        sa.Column("appeal_note", sa.Text(), nullable=True),
        *(
            sa.ForeignKeyConstraint(
                [column], ["accounts.id"], name=op.f(f"fk_moderation_cases_{column}"), ondelete="SET NULL"
            )
            for column in PEOPLE
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moderation_cases")),
    )
    op.create_index("ix_moderation_cases_kind_target_id", "moderation_cases", ["kind", "target_id"], unique=False)
    op.create_index(op.f("ix_moderation_cases_status"), "moderation_cases", ["status"], unique=False)
    op.create_index(op.f("ix_moderation_cases_author_id"), "moderation_cases", ["author_id"], unique=False)
    op.create_table(
        "moderation_reports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("reporter_id", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id"], ["moderation_cases.id"], name=op.f("fk_moderation_reports_case_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["reporter_id"], ["accounts.id"], name=op.f("fk_moderation_reports_reporter_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moderation_reports")),
    )
    op.create_index(op.f("ix_moderation_reports_case_id"), "moderation_reports", ["case_id"], unique=False)
    op.create_index(op.f("ix_moderation_reports_reporter_id"), "moderation_reports", ["reporter_id"], unique=False)
