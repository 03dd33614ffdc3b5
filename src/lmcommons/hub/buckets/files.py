"""What is in a bucket: finding files by path, and listing them by prefix."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, String, column, exists, func, select, values
from sqlalchemy.orm import Session

from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Bucket, BucketFile, XetLink
from lmcommons.hub.errors import EntryNotFound

CHUNK = 500  # values in one statement
SCAN = 256  # paths read at a time to find the folders among them
LAST_CODE_POINT = 0x10FFFF
SURROGATES = range(0xD800, 0xE000)  # no characters


@dataclass(frozen=True)
class BucketFolder:
    """A folder that paths imply; `uploaded_at` is that of the newest file in it."""

    path: str
    uploaded_at: datetime


@dataclass(frozen=True)
class Page:
    """Part of a listing; `following` is where the next part starts, None at the end."""

    entries: list[BucketFile | BucketFolder]
    following: str | None


class BucketFiles:
    """The files of all buckets, for those who may read them: `Buckets.find` is asked first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def file(self, bucket: Bucket, path: str) -> BucketFile:
        """The file at a path.

        Raises:
            EntryNotFound: there is none.
        """
        with self._database.read() as session:
            found = session.get(BucketFile, (bucket.id, path))
        if found is None:
            raise EntryNotFound(f"{path!r} is not in the bucket {bucket.full_name}")
        return found

    def existing(self, bucket: Bucket, paths: Collection[str]) -> list[BucketFile]:
        """The files at those of the paths that have one, in their order."""
        with self._database.read() as session:
            found = _files_at(session, bucket, paths)
        return [found[path] for path in dict.fromkeys(paths) if path in found]

    def with_content(self, bucket: Bucket, xet_hashes: Collection[str]) -> set[str]:
        """Those of the Xet hashes that a file of the bucket has."""
        found: set[str] = set()
        with self._database.read() as session:
            for chunk in chunks(sorted(xet_hashes)):
                chosen = select(BucketFile.xet_hash).where(
                    BucketFile.bucket_id == bucket.id, BucketFile.xet_hash.in_(chunk)
                )
                found.update(session.scalars(chosen))
        return found

    def tree(self, bucket: Bucket, prefix: str, *, recursive: bool, start: str = "", limit: int) -> Page:
        """The files whose paths begin with `prefix`, by path.

        Args:
            recursive: all of them; otherwise what is below a folder after the prefix is shown as that folder, as a
                listing of objects with a delimiter does. A slash that follows the prefix belongs to it, so that the
                prefix `logs` shows what is in the folder `logs`, and beside that `logs.json`.
            start: `following` of the page before.
            limit: entries on a page.
        """
        with self._database.read() as session:
            if recursive:
                rows = list(session.scalars(_range(select(BucketFile), bucket, prefix, start).limit(limit + 1)))
                return Page(list(rows[:limit]), rows[limit].path if len(rows) > limit else None)
            return _folder_page(session, bucket, prefix, start, limit)

    def check(self) -> list[str]:
        """What is wrong with the books, a line each: files without content, and buckets that are miscounted."""
        missing = (
            select(BucketFile, Bucket)
            .join(Bucket, Bucket.id == BucketFile.bucket_id)
            .where(~exists().where(XetLink.bucket_id == Bucket.id, XetLink.file_hash == BucketFile.xet_hash))
        )
        held = select(func.coalesce(func.sum(BucketFile.size), 0)).where(BucketFile.bucket_id == Bucket.id)
        miscounted = select(Bucket).where(Bucket.size != held.scalar_subquery())
        with self._database.read() as session:
            problems = [
                f"{bucket.path}: the content of {file.path} is missing" for file, bucket in session.execute(missing)
            ]
            problems.extend(
                f"{bucket.path}: its size is not that of its files" for bucket in session.scalars(miscounted)
            )
        return problems


def chunks(items: list[str]) -> Iterator[list[str]]:
    """`items` in parts that one statement can name."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def _folder_page(session: Session, bucket: Bucket, prefix: str, start: str, limit: int) -> Page:
    found: dict[tuple[str, bool], None] = {}  # by path, and whether it is a folder; in order
    while True:
        paths = list(session.scalars(_range(select(BucketFile.path), bucket, prefix, start).limit(SCAN)))
        for path in paths:
            folder = _folder(path, prefix)
            entry = (path, False) if folder is None else (folder, True)
            if entry not in found and len(found) == limit:
                return Page(_entries(session, bucket, list(found)), path)
            found[entry] = None
        if len(paths) < SCAN:
            return Page(_entries(session, bucket, list(found)), None)
        # On from the last path, or over the rest of the folder that it is in.
        start = paths[-1] if folder is None else f"{folder}0"


def _folder(path: str, prefix: str) -> str | None:
    """The folder by which a path is shown after `prefix`; None when it is shown itself."""
    end = path.find("/", len(prefix) + 1 if path.startswith(f"{prefix}/") else len(prefix))
    return path[:end] if end > 0 else None


def _range(chosen: Select[Any], bucket: Bucket, prefix: str, start: str) -> Select[Any]:
    """The rows of a bucket whose paths begin with `prefix`, from `start` on, by path."""
    chosen = chosen.where(BucketFile.bucket_id == bucket.id, BucketFile.path >= max(prefix, start))
    end = _successor(prefix)
    if end is not None:
        chosen = chosen.where(BucketFile.path < end)
    return chosen.order_by(BucketFile.path)


def _successor(prefix: str) -> str | None:
    """The first text after all that begin with `prefix`; None when nothing is."""
    kept = prefix.rstrip(chr(LAST_CODE_POINT))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(SURROGATES.stop if following in SURROGATES else following)


def _entries(session: Session, bucket: Bucket, found: list[tuple[str, bool]]) -> list[BucketFile | BucketFolder]:
    files = _files_at(session, bucket, [path for path, is_folder in found if not is_folder])
    dates: dict[str, datetime] = {}
    for chunk in chunks([path for path, is_folder in found if is_folder]):
        folders = values(column("path", String), name="folders").data([(folder,) for folder in chunk]).cte("folders")
        newest = select(func.max(BucketFile.uploaded_at)).where(
            BucketFile.bucket_id == bucket.id,
            # "0" follows "/": what is in a folder is between the two.
            BucketFile.path >= folders.c.path + "/",
            BucketFile.path < folders.c.path + "0",
        )
        dates.update(session.execute(select(folders.c.path, newest.scalar_subquery())).tuples().all())
    return [BucketFolder(path, dates[path]) if is_folder else files[path] for path, is_folder in found]


def _files_at(session: Session, bucket: Bucket, paths: Iterable[str]) -> dict[str, BucketFile]:
    found: dict[str, BucketFile] = {}
    for chunk in chunks(sorted(set(paths))):
        chosen = select(BucketFile).where(BucketFile.bucket_id == bucket.id, BucketFile.path.in_(chunk))
        found.update((file.path, file) for file in session.scalars(chosen))
    return found
