"""Large files in chunks, as the Xet protocol sends and stores them; https://huggingface.co/docs/xet.

A file is cut into chunks of about 64 KiB, chunks lie in xorbs of at most 64 MiB, and a file is a list of terms, each a
run of chunks in one xorb; what two files share is stored once. `hashing`, `xorb` and `shard` are the formats, pure
functions; `store` keeps what was verified and is where to start reading; `reader` makes files out of xorbs again.
Like all of `objects/`, this knows accounts and scopes as names only and decides nothing about permissions.
"""
