"""The contents of large files: plain blobs and Xet xorbs, on a disk or in a bucket; start reading at `store.py`.

Nothing here knows of repositories, except for the rows that say which objects they use.
"""
