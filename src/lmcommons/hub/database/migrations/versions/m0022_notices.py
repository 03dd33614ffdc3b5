"""Notices of changes to how an account signs in."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "security_notices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(length=254), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("mail_at", UtcDateTime(), nullable=True),
        sa.Column("mail_attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_security_notices_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_notices")),
        sa.UniqueConstraint("account_id", name=op.f("uq_security_notices_account_id")),
    )
    for column in ("created_at", "mail_at"):
        op.create_index(op.f(f"ix_security_notices_{column}"), "security_notices", [column], unique=False)
