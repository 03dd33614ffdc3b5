"""What a hidden pull request or comment alone has: large objects and attachments that are not given out meanwhile."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

WITHHELD = ("repository_objects", "attachments")


def upgrade() -> None:
    for table in WITHHELD:
        op.add_column(table, sa.Column("withheld", sa.Boolean(), server_default=sa.false(), nullable=False))
