"""How often repositories are downloaded, and what is used now: counts by day, and a score that fades.

`Repository.downloads` counts the last 30 days, `downloads_all_time` everything. `Repository.trending` holds the base-2
logarithm of a sum in which each act weighs twice as much as the same act one half-life earlier; so that sums of
different times compare as they are, and nothing need be recomputed as time passes (forward decay: Cormode et al. 2009,
https://doi.org/10.1109/ICDE.2009.65).
"""

import math
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from lmcommons.hub.database.tables import DailyDownloads, Repository, now

WINDOW = timedelta(days=30)
HALF_LIFE = timedelta(days=7)
DOWNLOAD, LIKE = 1, 10  # what an act adds to the score at the time it is done
NOTHING = 1e-6  # a score that rounding may leave


def count(session: Session, repository_id: int, when: datetime | None = None) -> None:
    """One more download, in the session's transaction; days past the window leave it with the first of a new day."""
    when = when or now()
    today = when.astimezone(UTC).date()
    # The lock on the row comes first: two that count the first download of a day must not both add it.
    trending = session.scalar(select(Repository.trending).where(Repository.id == repository_id).with_for_update())
    if trending is None:
        return
    session.execute(
        update(Repository)
        .where(Repository.id == repository_id)
        .values(
            downloads=Repository.downloads + 1,
            downloads_all_time=Repository.downloads_all_time + 1,
            trending=added(trending, DOWNLOAD, when),
        )
    )
    counted = session.get(DailyDownloads, (today, repository_id))
    if counted is not None:
        counted.count += 1
        return
    session.add(DailyDownloads(day=today, repository_id=repository_id, count=1))
    expire(session, today)


def expire(session: Session, today: date) -> None:
    """Take the days that have left the window out of `Repository.downloads`, and delete them."""
    past = DailyDownloads.day <= today - WINDOW
    left = select(DailyDownloads.repository_id, func.sum(DailyDownloads.count)).where(past)
    for repository_id, number in session.execute(left.group_by(DailyDownloads.repository_id)).all():
        session.execute(
            update(Repository).where(Repository.id == repository_id).values(downloads=Repository.downloads - number)
        )
    session.execute(delete(DailyDownloads).where(past))


def added(trending: float, weight: float, when: datetime) -> float:
    """`Repository.trending` after an act of `weight`; a negative weight takes back the act of that time."""
    at = _half_lives(when)
    total = 2 ** min(trending - at, 500) + weight
    return at + math.log2(total) if total > NOTHING else 0.0


def score(trending: float, when: datetime | None = None) -> int:
    """The score at a time, in acts of weight 1."""
    return round(2 ** min(trending - _half_lives(when or now()), 500))


def _half_lives(when: datetime) -> float:
    return when.timestamp() / HALF_LIFE.total_seconds()
