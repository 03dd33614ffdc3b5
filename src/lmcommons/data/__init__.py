"""From sources to a dataset with train, validation and test splits, and back to documents.

`build` runs the pipeline of a recipe: read, normalise, filter, remove duplicates, split, remove overlap, write Parquet.
`read` gives the documents of a split. Imports nothing of the house but the recipe and the client, beside the errors,
files and progress that all share. Start reading at `pipeline.py`; `step.py` is the interface of a step.
"""

from lmcommons.data.dataset import SPLITS, read
from lmcommons.data.pipeline import build, fingerprint, resolve
from lmcommons.data.step import Counts, Document
from lmcommons.data.words import overlaps

__all__ = ["SPLITS", "Counts", "Document", "build", "fingerprint", "overlaps", "read", "resolve"]
