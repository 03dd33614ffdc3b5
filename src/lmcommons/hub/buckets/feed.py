"""What changed in a bucket, for those who follow it: each change has a number, and the last ones are kept."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Bucket, BucketChange
from lmcommons.hub.errors import BadRequest


@dataclass(frozen=True)
class News:
    """Changes after a number; `number` is where to go on. `lost` when some that came between are no longer kept."""

    changes: list[BucketChange]
    number: int
    lost: bool = False


class Feed:
    """The changes of all buckets, for those who may see them: `Buckets.find` is asked first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, bucket: Bucket, number: int, limit: int) -> News:
        """The changes after `number`, at most `limit` of them.

        Raises:
            BadRequest: the bucket has not had so many changes.
        """
        with self._database.read() as session:
            revision = session.scalar(select(Bucket.revision).where(Bucket.id == bucket.id)) or 0
            if not 0 <= number <= revision:
                raise BadRequest(f"{bucket.full_name} has had {revision} changes; the cursor names change {number}")
            changes = list(
                session.scalars(
                    select(BucketChange)
                    .where(BucketChange.bucket_id == bucket.id, BucketChange.number > number)
                    .order_by(BucketChange.number)
                    .limit(limit)
                )
            )
        if number < revision and (not changes or changes[0].number > number + 1):
            return News([], revision, lost=True)
        return News(changes, changes[-1].number if changes else number)

    def number_at(self, bucket: Bucket, moment: datetime) -> int:
        """The number of the last change up to a moment; 0 when all changes that are known came later."""
        chosen = select(func.max(BucketChange.number)).where(
            BucketChange.bucket_id == bucket.id, BucketChange.at <= moment
        )
        with self._database.read() as session:
            return session.scalar(chosen) or 0
