"""Alembic migrations, run when a database is opened that is older than NEWEST."""

NEWEST = "0022"  # the last revision in versions/
