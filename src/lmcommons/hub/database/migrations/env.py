"""Called by Alembic: `sessions.py` passes the connection, whose transaction holds all migrations or none."""

from alembic import context

from lmcommons.hub.database.tables import Table

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Table.metadata, render_as_batch=True
)
context.run_migrations()
