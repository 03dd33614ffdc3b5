"""Alembic migrations, run when a database is opened that is older than NEWEST."""

NEWEST = "0014"  # the last revision in versions/
