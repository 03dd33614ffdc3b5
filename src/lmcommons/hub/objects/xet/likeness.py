"""How much of their content files have in common, by their chunks: of files, too, that differ in every hash."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from lmcommons.hub.database.tables import XetTerm, XetXorb
from lmcommons.hub.objects.xet.rows import batches
from lmcommons.hub.objects.xet.xorb import ChunkTable

XORBS_LIMIT = 1_000  # of each side, about 60 GiB; more is not compared
TERMS_LIMIT = 100_000  # of each side

Content = tuple[NDArray[np.uint64], NDArray[np.uint32]]  # each chunk once: a word of its hash, and its bytes


def content_of(session: Session, files: Select[Any]) -> Content:
    """The chunks of the files whose Xet hashes are chosen."""
    terms = select(XetTerm.xorb_hash, XetTerm.start, XetTerm.stop).where(XetTerm.file_hash.in_(files)).distinct()
    ranges: dict[str, list[tuple[int, int]]] = {}
    for xorb_hash, start, stop in session.execute(terms.order_by(XetTerm.xorb_hash).limit(TERMS_LIMIT)):
        if xorb_hash in ranges or len(ranges) < XORBS_LIMIT:
            ranges.setdefault(xorb_hash, []).append((start, stop))
    words, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.uint32)]
    for some in batches(ranges):
        found = select(XetXorb.hash, XetXorb.chunks).where(XetXorb.hash.in_(some))
        for xorb_hash, packed in session.execute(found):
            table = ChunkTable.from_bytes(packed)
            for start, stop in ranges[xorb_hash]:
                words.append(np.frombuffer(table.hashes(start, stop), "<u8")[::4])
                sizes.append(table.rows["raw"][start:stop])
    chunks, first = np.unique(np.concatenate(words), return_index=True)
    return chunks, np.concatenate(sizes)[first]


def overlap(one: Content, other: Content) -> float:
    """The share, by bytes, of the smaller content that the other has too (the overlap coefficient); 0 of nothing."""
    smaller = min(int(sizes.sum(dtype=np.int64)) for _, sizes in (one, other))
    common = one[1][np.isin(one[0], other[0], assume_unique=True)]
    return int(common.sum(dtype=np.int64)) / smaller if smaller else 0.0
