"""The hub's index: accounts, tokens, repositories, links to objects, events. SQLAlchemy 2, sync; SQLite or PostgreSQL.

Imported by the rooms above it (accounts, repos); imports nothing of the hub but settings. Content lives in git and in
the object store. Start reading in `tables.py`; `sessions.py` opens the database, `migrations/` brings it up to date.
"""
