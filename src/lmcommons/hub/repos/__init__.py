"""Repositories: git directories, their rows in the database, and commits that touch both.

`git.py` knows git alone: behind it `reader.py`, `trees.py` and `history.py` read; `operations.py`, `merge.py`,
`pointers.py` and `pack.py` write; `references.py` says what branches and tags may be called, `ref_writer.py` moves
them, one writer at a time; `maintenance.py` runs git itself. `repositories.py` knows which repositories exist and who
sees them; `commits.py` turns a client's upload into a git commit and `push.py` takes what `git push` sends;
`last_commits.py` keeps who changed what last; `locks.py` keeps the locks of git-lfs; `contents.py` opens files,
wherever their content lies; `index.py` and `details.py` read from git what lists and pages need. Imports accounts,
objects and database; imported by api and web.
"""
