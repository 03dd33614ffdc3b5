"""Putting files into a bucket and taking them out: operations that each succeed or fail on their own."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from lmcommons.hub.accounts.accounts import Accounts
from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.buckets.buckets import Buckets, present, record
from lmcommons.hub.buckets.files import BucketFiles, chunks
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Bucket, BucketChange, BucketFile, ChangeKind, RepositoryType, XetLink, now
from lmcommons.hub.errors import BadRequest, Busy, EntryNotFound, HubError, NotFound
from lmcommons.hub.objects.xet.store import XetStore
from lmcommons.hub.repos.operations import path_names
from lmcommons.hub.repos.repositories import Repositories

CHANGES_KEPT = 10_000  # of each bucket, for those who follow it


@dataclass(frozen=True)
class Source:
    """Where a file is copied from: a repository or bucket, by its type and `namespace/name`."""

    type: str
    name: str


@dataclass(frozen=True)
class PutFile:
    """Put the content `xet_hash` at `path`: uploaded to this bucket, or copied from `source`."""

    path: str
    xet_hash: str
    mtime: datetime | None = None
    content_type: str | None = None
    source: Source | None = None


@dataclass(frozen=True)
class DeleteFile:
    """Remove the file at `path`; one that is not there is no error, so that a batch can be sent again."""

    path: str


Operation = PutFile | DeleteFile


@dataclass(frozen=True)
class Failure:
    """An operation that was not applied, and why."""

    path: str
    error: str


@dataclass(frozen=True)
class Content:
    """What a Xet hash stands for; `size` in bytes."""

    sha256: str
    size: int


class Batches:
    """Applies operations to buckets. Whoever may put a content has uploaded it there, or may read it elsewhere."""

    def __init__(
        self,
        database: Database,
        buckets: Buckets,
        files: BucketFiles,
        repositories: Repositories,
        accounts: Accounts,
        xet: XetStore,
    ) -> None:
        self._database = database
        self._buckets = buckets
        self._files = files
        self._repositories = repositories
        self._accounts = accounts
        self._xet = xet

    def apply(self, actor: Actor, bucket: Bucket, operations: Sequence[Operation]) -> list[Failure]:
        """Apply operations in order, those that can be; returns those that cannot.

        Raises:
            Forbidden: the quota of the bucket's owner is used up; nothing was changed.
            BucketNotFound: it was deleted meanwhile. Busy: content was collected meanwhile; nothing was changed.
        """
        contents = self._contents(actor, bucket, operations)
        failures: list[Failure] = []
        wanted: dict[str, dict[str, Any] | None] = {}  # by path, a row or None
        for operation in operations:
            try:
                path_names(operation.path)
                wanted[operation.path] = _row(bucket, operation, contents)
            except HubError as error:
                failures.append(Failure(operation.path, error.message))
        if wanted:
            self._require_room(bucket, wanted)
            with self._database.write() as session:
                _write(session, actor, present(session, bucket), wanted)
        return failures

    def _contents(
        self, actor: Actor, bucket: Bucket, operations: Iterable[Operation]
    ) -> dict[Source | None, dict[str, Content] | HubError]:
        """By source, what may be put from there; what is copied becomes readable through the bucket."""
        asked: dict[Source | None, set[str]] = defaultdict(set)
        for operation in operations:
            if isinstance(operation, PutFile):
                asked[operation.source].add(operation.xet_hash)
        found: dict[Source | None, dict[str, Content] | HubError] = {}
        for source, xet_hashes in asked.items():
            try:
                found[source] = self._readable(actor, bucket, source, xet_hashes)
            except HubError as error:
                found[source] = error
        return found

    def _readable(
        self, actor: Actor, bucket: Bucket, source: Source | None, xet_hashes: set[str]
    ) -> dict[str, Content]:
        known = {
            xet_hash: Content(sha256, size) for xet_hash, (sha256, size) in self._xet.sha256_of(xet_hashes).items()
        }
        if source is None:
            uploaded = self._xet.in_scope(bucket.scope, known)
            return {xet_hash: known[xet_hash] for xet_hash in uploaded}
        if source.type == "bucket":
            other = self._buckets.find(actor, source.name, Action.READ)
            held = self._files.with_content(other, known)
        else:
            type_ = _repository_type(source.type)
            repository = self._repositories.find(actor, type_, source.name, Action.READ)
            linked = self._repositories.linked_objects(repository.id, {content.sha256 for content in known.values()})
            held = {xet_hash for xet_hash, content in known.items() if content.sha256 in linked}
        if held:
            self._xet.link(bucket.scope, held)
        return {xet_hash: known[xet_hash] for xet_hash in held}

    def _require_room(self, bucket: Bucket, wanted: dict[str, dict[str, Any] | None]) -> None:
        replaced = sum(file.size for file in self._files.existing(bucket, wanted))
        added = sum(row["size"] for row in wanted.values() if row is not None)
        if added > replaced:
            self._accounts.require_room(bucket.account_id, added - replaced)


def _repository_type(name: str) -> RepositoryType:
    try:
        return RepositoryType(name)
    except ValueError as error:
        known = ", ".join([*RepositoryType, "bucket"])
        raise BadRequest(f"Nothing of the type {name!r} can be copied from; one of {known}") from error


def _row(
    bucket: Bucket, operation: Operation, contents: dict[Source | None, dict[str, Content] | HubError]
) -> dict[str, Any] | None:
    if isinstance(operation, DeleteFile):
        return None
    held = contents[operation.source]
    if isinstance(held, NotFound) and operation.source is not None:
        raise NotFound(f"The {operation.source.type} {operation.source.name} to copy from was not found")
    if isinstance(held, HubError):
        raise held
    content = held.get(operation.xet_hash)
    if content is None:
        source = operation.source
        where = f"the {source.type} {source.name}" if source else f"what was uploaded to {bucket.full_name}"
        raise EntryNotFound(f"There is no file with the Xet hash {operation.xet_hash} in {where}")
    return {
        "bucket_id": bucket.id,
        "path": operation.path,
        "xet_hash": operation.xet_hash,
        "sha256": content.sha256,
        "size": content.size,
        "mtime": operation.mtime,
        "content_type": operation.content_type,
    }


def _write(session: Session, actor: Actor, bucket: Bucket, wanted: dict[str, dict[str, Any] | None]) -> None:
    """Make the bucket hold what is wanted; writers take turns, so that what is counted here stays so."""
    at = now()
    sizes: dict[str, int] = {}
    for chunk in chunks(sorted(wanted)):
        named = (BucketFile.bucket_id == bucket.id, BucketFile.path.in_(chunk))
        sizes.update(session.execute(select(BucketFile.path, BucketFile.size).where(*named)).tuples().all())
        session.execute(delete(BucketFile).where(*named))
    rows = [{**row, "uploaded_at": at} for row in wanted.values() if row is not None]
    _require_content(session, bucket, {row["xet_hash"] for row in rows})
    if rows:
        session.execute(insert(BucketFile), rows)
    changed = [(path, row) for path, row in wanted.items() if row is not None or path in sizes]
    if not changed:
        return
    changes = [
        {
            "bucket_id": bucket.id,
            "number": number,
            "at": at,
            "path": path,
            "kind": ChangeKind.DELETE if row is None else ChangeKind.UPDATE if path in sizes else ChangeKind.ADD,
            "size": row["size"] if row else None,
            "xet_hash": row["xet_hash"] if row else None,
            "mtime": row["mtime"] if row else None,
        }
        for number, (path, row) in enumerate(changed, bucket.revision + 1)
    ]
    session.execute(insert(BucketChange), changes)
    bucket.revision += len(changed)
    bucket.updated_at = at
    bucket.size += sum(row["size"] for row in rows) - sum(sizes.values())
    bucket.total_files += len(rows) - len(sizes)
    session.execute(
        delete(BucketChange).where(
            BucketChange.bucket_id == bucket.id, BucketChange.number <= bucket.revision - CHANGES_KEPT
        )
    )
    record(session, "bucket.files", actor, bucket, put=len(rows), deleted=len(changed) - len(rows))


def _require_content(session: Session, bucket: Bucket, xet_hashes: set[str]) -> None:
    """What was sent long ago may have been collected since it was looked for; from here on a file keeps it."""
    for chunk in chunks(sorted(xet_hashes)):
        named = (XetLink.bucket_id == bucket.id, XetLink.file_hash.in_(chunk))
        lost = set(chunk).difference(session.scalars(select(XetLink.file_hash).where(*named)))
        if lost:
            raise Busy(f"The content {min(lost)} was removed as garbage just now; send it again", seconds=1)
