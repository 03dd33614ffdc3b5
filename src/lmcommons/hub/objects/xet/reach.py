"""Which files are in which scope, and which an account may read: conditions on rows."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, or_
from sqlalchemy.orm import InstrumentedAttribute, aliased

from lmcommons.hub.database.tables import Bucket, Repository, RepositoryObject, XetFile, XetLink
from lmcommons.hub.errors import BadRequest


@dataclass(frozen=True)
class Reach:
    """An account and what it may read: conditions on rows of repositories and of buckets."""

    account_id: int | None
    repositories: ColumnElement[bool]
    buckets: ColumnElement[bool]


def is_readable(reach: Reach, file_hash: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Whether a file is in some repository or bucket within `reach`."""
    file = aliased(XetFile)
    in_repository = exists().where(
        file.hash == file_hash,
        RepositoryObject.sha256 == file.sha256,
        RepositoryObject.withheld.is_(False),
        Repository.id == RepositoryObject.repository_id,
        reach.repositories,
    )
    in_bucket = exists().where(XetLink.file_hash == file_hash, Bucket.id == XetLink.bucket_id, reach.buckets)
    return or_(in_repository, in_bucket)


def is_linked() -> ColumnElement[bool]:
    """Whether a row of files is in any scope."""
    return or_(
        exists().where(RepositoryObject.sha256 == XetFile.sha256), exists().where(XetLink.file_hash == XetFile.hash)
    )


def within(chosen: Any, scope: str) -> Any:
    """Of the rows of files that are chosen, those in a scope."""
    kind, number = parse_scope(scope)
    if kind == "repository":
        chosen = chosen.join(RepositoryObject, RepositoryObject.sha256 == XetFile.sha256)
        return chosen.where(RepositoryObject.repository_id == number, RepositoryObject.withheld.is_(False))
    return chosen.join(XetLink, XetLink.file_hash == XetFile.hash).where(XetLink.bucket_id == number)


def parse_scope(scope: str) -> tuple[str, int]:
    """The kind and the id in `repository:12` or `bucket:3`.

    Raises:
        BadRequest: the text is neither.
    """
    kind, _, number = scope.partition(":")
    if kind not in ("repository", "bucket") or not number.isdecimal():
        raise BadRequest(f"{scope!r} is no scope; 'repository:NUMBER' and 'bucket:NUMBER' are")
    return kind, int(number)
