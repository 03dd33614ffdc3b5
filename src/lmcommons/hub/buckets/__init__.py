"""Buckets: mutable storage without history, for checkpoints and logs."""
