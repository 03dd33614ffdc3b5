"""Buckets: named places for files that change, for checkpoints and logs; no history, content in the object store.

A bucket is flat: a file is a path, and a folder is what the paths of files have in common. Start at `buckets.py`; what
happens to files is in `files.py`.
"""
