"""Indexes of the log, by whom and about what, and one that counts of lists read instead of the table."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

COUNTED = ["type", "parameter_count", "private", "hidden", "account_id", "head"]


def upgrade() -> None:
    op.create_index("ix_repositories_counted", "repositories", COUNTED, unique=False)
    op.add_column("events", sa.Column("name_key", sa.String(length=193), nullable=True))
    events = sa.table("events", sa.column("data", sa.JSON()), sa.column("name_key", sa.String()))
    name = events.c.data["name"].as_string()
    op.execute(events.update().where(name.is_not(None)).values(name_key=sa.func.substr(sa.func.lower(name), 1, 193)))
    op.create_index("ix_events_actor", "events", ["actor", "id"], unique=False)
    op.create_index("ix_events_name_key", "events", ["name_key", "id"], unique=False)
