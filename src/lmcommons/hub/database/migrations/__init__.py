"""Alembic migrations, run when a database is opened that is older than NEWEST."""

NEWEST = "0023"  # the last revision in versions/
