"""Followers of repositories."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "repository_follows",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        *(
            sa.ForeignKeyConstraint(
                [column], [f"{table}.id"], name=op.f(f"fk_repository_follows_{column}"), ondelete="CASCADE"
            )
            for column, table in (("repository_id", "repositories"), ("account_id", "accounts"))
        ),
        sa.PrimaryKeyConstraint("repository_id", "account_id", name=op.f("pk_repository_follows")),
    )
    op.create_index(op.f("ix_repository_follows_account_id"), "repository_follows", ["account_id"], unique=False)
