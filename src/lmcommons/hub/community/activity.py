"""What happens on the hub, for those who look at its first page or at somebody's; and which discussions wait."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, select, tuple_
from sqlalchemy.orm import Session, aliased

from lmcommons.hub.accounts.permissions import Actor, visible
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import (
    Account,
    AccountKind,
    Discussion,
    DiscussionEvent,
    DiscussionStatus,
    Event,
    Membership,
    Repository,
    RepositoryType,
)
from lmcommons.hub.repos.search import WITHOUT_CARD

WINDOW = 20_000  # events that are looked through, and discussions: the latest
IN_A_ROW = 5  # events read for each act: one may be that many commits
HIDDEN = RepositoryType.SPACE  # kept, and without pages

# What others may want to know of; settings, edits and likes that were taken back are nobody's news.
TOLD = (
    "repository.created",
    "repository.liked",
    "branch.moved",
    "tag.created",
    "discussion.created",
    "discussion.commented",
    "discussion.status",
    "run.started",
)


@dataclass(frozen=True)
class Act:
    """What somebody did in a repository, and how many `times` in a row.

    `kind` is the event's. `ref` is the branch or tag, without what git writes before its name; of a discussion there
    are its `number`, its `title` now and, where that was the act, the `status` that it got. Without `actor`, it was
    somebody who left.
    """

    kind: str
    actor: Account | None
    repository: Repository
    at: datetime  # the last time
    ref: str | None = None
    number: int | None = None
    status: str | None = None
    title: str | None = None
    times: int = 1


@dataclass(frozen=True)
class Waiting:
    """A discussion that waits for an answer, and since when."""

    repository: Repository
    discussion: Discussion
    since: datetime


class Activity:
    """The latest acts on a hub, and what waits for one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(self, actor: Actor, *, by: str | None = None, limit: int = 10) -> list[Act]:
        """What was done, by all or by the account of that name, where the actor may see it; the last first.

        Equal acts without another one between them are one.
        """
        doer = aliased(Account)
        oldest = select(func.coalesce(func.max(Event.id), 0) - WINDOW).correlate(None).scalar_subquery()
        chosen = (
            select(Event, Repository, doer)
            .join(Repository, Repository.id == Event.repository_id)
            .outerjoin(doer, (doer.name_key == func.lower(Event.actor)) & (doer.kind == AccountKind.USER))
            .where(Event.id > oldest, Event.kind.in_(TOLD), Repository.type != HIDDEN, visible(actor))
            .options(WITHOUT_CARD)
            .order_by(Event.id.desc())
            .limit(limit * IN_A_ROW)
        )
        if by is not None:
            chosen = chosen.where(Event.actor == by)
        with self._database.read() as session:
            acts = _joined(_act(*row) for row in session.execute(chosen))[:limit]
            titles = _titles(session, acts)
        return [replace(act, title=titles.get((act.repository.id, act.number))) for act in acts]

    def waiting(self, actor: Actor, *, limit: int = 10) -> list[Waiting]:
        """Open discussions in which the last comment that is to be read is not of the owner or a member, newest first.

        Pull requests are among them; drafts are not.
        """
        comment = aliased(DiscussionEvent)
        last = (
            select(func.max(comment.id))
            .where(
                comment.discussion_id == Discussion.id,
                comment.versions.any(),  # it says something, and was not hidden
            )
            .correlate(Discussion)
            .scalar_subquery()
        )
        of_the_owner = exists().where(
            Membership.organisation_id == Repository.account_id, Membership.user_id == DiscussionEvent.author_id
        )
        oldest = select(func.coalesce(func.max(Discussion.id), 0) - WINDOW).correlate(None).scalar_subquery()
        chosen = (
            select(Repository, Discussion, DiscussionEvent.created_at)
            .join(Discussion, Discussion.repository_id == Repository.id)
            .join(DiscussionEvent, DiscussionEvent.id == last)
            .where(
                Discussion.id > oldest,
                Discussion.status == DiscussionStatus.OPEN,
                Discussion.withheld.is_(False),
                Repository.type != HIDDEN,
                visible(actor),
                DiscussionEvent.author_id != Repository.account_id,
                ~of_the_owner,
            )
            .options(WITHOUT_CARD)
            .order_by(Discussion.id.desc())
            .limit(limit)
        )
        with self._database.read() as session:
            return [Waiting(*row) for row in session.execute(chosen)]


def _act(event: Event, repository: Repository, actor: Account | None) -> Act:
    data: dict[str, Any] = event.data
    ref = data.get("ref")
    return Act(
        kind=event.kind,
        actor=actor,
        repository=repository,
        at=event.at,
        ref=ref.split("/", 2)[2] if ref else None,
        number=data.get("number"),
        status=data.get("status"),
    )


def _joined(acts: Iterable[Act]) -> list[Act]:
    found: list[Act] = []
    for act in acts:
        if found and replace(found[-1], at=act.at, times=1) == act:
            found[-1] = replace(found[-1], times=found[-1].times + 1)
        else:
            found.append(act)
    return found


def _titles(session: Session, acts: Iterable[Act]) -> dict[tuple[int, int | None], str]:
    wanted = {(act.repository.id, act.number) for act in acts if act.number is not None}
    place = tuple_(Discussion.repository_id, Discussion.number)
    chosen = select(Discussion.repository_id, Discussion.number, Discussion.title)
    chosen = chosen.where(place.in_(wanted), Discussion.withheld.is_(False))
    return {(repository, number): title for repository, number, title in session.execute(chosen)}
