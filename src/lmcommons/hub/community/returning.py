"""Whether what moderators hid comes back under another name.

A moderator is told, and decides: nothing is hidden or refused by itself. What is compared is what cannot be alike by
chance: all files of a repository's head together, and large files that nobody else shows. Who changes a byte of each,
or uploads under an account that has nothing to do with the first one, is not recognised.
"""

import pygit2
from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session, aliased

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.community.hiding import SHUT
from lmcommons.hub.database.tables import ModerationCase, ReportedKind, Repository, RepositoryObject
from lmcommons.hub.repos.repositories import Repositories


def hidden_before(
    session: Session, repositories: Repositories, actor: Actor, repository: Repository, commit: str
) -> Repository | None:
    """A hidden repository, of the same account or person, whose files `commit` of another repository has."""
    whose = [repository.account_id, actor.account_id]
    of_them = or_(Repository.account_id.in_(whose), Repository.creator_id.in_(whose))
    shut = session.scalars(
        select(Repository)
        .join(ModerationCase, ModerationCase.target_id == Repository.id)
        .where(ModerationCase.kind == ReportedKind.REPOSITORY, ModerationCase.status.in_(SHUT))
        .where(Repository.id != repository.id, of_them)
        .order_by(Repository.id)
    )
    tree = _tree(repositories, repository, commit)
    for other in shut:
        if other.head is not None and tree is not None and _tree(repositories, other, other.head) == tree:
            return other
        if session.scalar(select(_shares_files(repository, other))):
            return other
    return None


def _shares_files(repository: Repository, other: Repository) -> ColumnElement[bool]:
    """Whether two repositories have a large file that no third one has which can be seen."""
    here, there, elsewhere = (aliased(RepositoryObject) for _ in range(3))
    shown = exists().where(
        elsewhere.sha256 == here.sha256,
        elsewhere.repository_id == Repository.id,
        Repository.id != repository.id,
        Repository.hidden.is_(False),
        Repository.account_id.not_in([repository.account_id, other.account_id]),
    )
    return exists().where(
        here.repository_id == repository.id, there.repository_id == other.id, there.sha256 == here.sha256, ~shown
    )


def _tree(repositories: Repositories, repository: Repository, commit: str) -> pygit2.Oid | None:
    try:
        found = pygit2.Repository(repositories.git(repository).path).get(commit)
    except pygit2.GitError:  # the other one is damaged, which `lmc hub fsck` finds
        return None
    return found.peel(pygit2.Commit).tree_id if isinstance(found, (pygit2.Commit, pygit2.Tag)) else None
