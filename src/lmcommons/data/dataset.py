"""The dataset directory: `data/SPLIT-00000-of-00001.parquet` with the string columns id, text, source, licence.

The layout is one that the `datasets` library and a hub's viewer read as it is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lmcommons.data.step import Document
from lmcommons.errors import RequestError

SPLITS = ("train", "validation", "test")
COLUMNS = [field.name for field in fields(Document)]
SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS])
ROW_GROUP = 1000  # documents


def split_path(directory: Path, split: str) -> Path:
    """The file of a split."""
    return directory / "data" / f"{split}-00000-of-00001.parquet"


def write(directory: Path, split: str, documents: Iterable[Document]) -> None:
    """Write a split, a row group at a time; equal documents give equal bytes.

    Pages are cut by content, so that a hub with chunk deduplication stores only what changed between versions.
    """
    path = split_path(directory, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    iterator = iter(documents)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", use_content_defined_chunking=True) as writer:
        while group := list(islice(iterator, ROW_GROUP)):
            columns = zip(*map(astuple, group), strict=True)
            writer.write_table(pa.table([pa.array(column, pa.string()) for column in columns], schema=SCHEMA))


def read(directory: Path, split: str) -> Iterator[Document]:
    """The documents of a split, in order, a row group in memory at a time.

    Raises:
        RequestError: the directory has no such split, or not with our columns.
    """
    paths = sorted((directory / "data").glob(f"{split}-*.parquet"))
    if not paths:
        raise RequestError(
            f"{directory}: no data/{split}-*.parquet; a dataset directory has one for each of {', '.join(SPLITS)}"
        )
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=ROW_GROUP, columns=COLUMNS):
                    for row in batch.to_pylist():
                        yield Document(**row)
        except (pa.ArrowException, OSError, TypeError) as error:
            raise RequestError(f"{path}: not a split with the columns {', '.join(COLUMNS)}: {error}") from error
