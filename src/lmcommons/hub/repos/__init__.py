"""Repositories: git directories, their rows in the database, and commits that touch both.

`git.py` knows git alone: behind it `trees.py` and `history.py` read; `operations.py`, `pointers.py` and `pack.py`
write; `maintenance.py` runs git itself. `repositories.py` knows which repositories exist and who sees them;
`commits.py` turns a client's upload into a git commit; `index.py` reads from git what lists and searches need. Imports
accounts, objects and database; imported by api and web.
"""
