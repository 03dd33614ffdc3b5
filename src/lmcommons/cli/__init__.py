"""The command `lmc`: one module per command group; each parses, calls and prints, and decides nothing.

`main` is the edge where errors become one line and an exit code: 0 done, 1 the work failed, 2 the request was wrong.
Groups are imported when they are called, so that `lmc hub` never loads torch and `lmc --help` is instant.
"""
