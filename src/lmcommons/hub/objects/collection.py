"""Removing plain objects that nothing refers to; Xet's part is `XetStore.collect`, all together `operating/garbage.py`.

What uses an object writes a row that names it and then looks whether the object is here (`Contents.link`). Rows are
looked for here in the transaction that removes the object, and writers take turns: so one of the two sees the other.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Attachment, RepositoryObject
from lmcommons.hub.objects.blobs import Blob
from lmcommons.hub.objects.store import ObjectStore

UNFINISHED = timedelta(days=7)  # after which a hub that starts removes what was not completed
BATCH = 100  # objects removed in one transaction, so that writers wait for a few hundredths of a second

Uses = Set[tuple[int, str]]  # repository id and sha256


@dataclass(frozen=True)
class Removed:
    """How many were removed, and their bytes."""

    count: int = 0
    size: int = 0

    def __add__(self, other: "Removed") -> "Removed":
        return Removed(self.count + other.count, self.size + other.size)


def collect_objects(
    database: Database, objects: ObjectStore, before: datetime, *, ignored: Uses = frozenset(), dry_run: bool = False
) -> Removed:
    """Remove the plain objects that no repository and no attachment uses, and that were not put since `before`.

    Args:
        ignored: uses that do not count, to foresee what is removed once they are gone.
        dry_run: say what would be removed, and leave it.
    """
    removed = Removed()
    for batch in _batches(objects, before):
        with database.read() as session:
            unused: Set[str] = batch.keys() - _used(session, batch.keys(), ignored)
        if unused and not dry_run:
            unused = _remove(database, objects, unused)
        removed += Removed(len(unused), sum(batch[sha256].size for sha256 in unused))
    return removed


def collect_uploads(objects: ObjectStore, before: datetime, *, dry_run: bool = False) -> Removed:
    """Remove what uploads left that did not go on since `before`."""
    removed = Removed()
    for path in objects.blobs.staging.iterdir():
        try:
            found = path.stat()
            if found.st_mtime < before.timestamp():
                removed += Removed(1, found.st_size)
                if not dry_run:
                    path.unlink()
        except FileNotFoundError:
            continue  # it was completed meanwhile
    if (bucket := objects.direct) is not None:
        for blob in bucket.left(before):
            removed += Removed(1, blob.size)
            if not dry_run:
                bucket.delete(blob.key)
        for key, upload_id in bucket.abandoned(before):
            removed += Removed(1)
            if not dry_run:
                bucket.abandon(key, upload_id)
    return removed


def _batches(objects: ObjectStore, before: datetime) -> Iterator[dict[str, Blob]]:
    batch: dict[str, Blob] = {}
    for sha256, blob in objects.plain():
        if blob.modified < before:
            batch[sha256] = blob
        if len(batch) == BATCH:
            yield batch
            batch = {}
    yield batch


def _used(session: Session, sha256s: Set[str], ignored: Uses = frozenset()) -> set[str]:
    linked = select(RepositoryObject.repository_id, RepositoryObject.sha256)
    uses = session.execute(linked.where(RepositoryObject.sha256.in_(sha256s)))
    used = {sha256 for repository_id, sha256 in uses if (repository_id, sha256) not in ignored}
    return used.union(session.scalars(select(Attachment.sha256).where(Attachment.sha256.in_(sha256s))))


def _remove(database: Database, objects: ObjectStore, sha256s: Set[str]) -> Set[str]:
    """Remove those that are still not used; returns them."""
    with database.write() as session:
        unused = sha256s - _used(session, sha256s)
        objects.delete(*unused)
    return unused
