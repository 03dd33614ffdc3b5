"""Repositories: git directories, their rows in the database, and commits that touch both.

`git.py` knows git alone: behind it `trees.py` and `history.py` read; `operations.py`, `pointers.py` and `pack.py`
write; `maintenance.py` runs git itself. `repositories.py` knows which repositories exist and who sees them;
`commits.py` turns a client's upload into a git commit; `contents.py` opens files, wherever their content lies;
`index.py` and `details.py` read from git what lists and pages need. Imports accounts, objects and database; imported by
api and web.
"""
