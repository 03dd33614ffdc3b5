"""Whether what moderators hid comes back under another name.

A moderator is told, and decides: nothing is hidden or refused by itself. What is compared is what cannot be alike by
chance: all files of a repository's head together, large files that nobody else shows, and what these are made of. Only
those who have something hidden are asked about. Who comes with an account that has nothing to do with the first one, or
with files of which every stretch of some 64 KiB is another, is not recognised.
"""

from typing import Any

import pygit2
from sqlalchemy import ColumnElement, Select, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.community.hiding import SHUT
from lmcommons.hub.database.tables import ModerationCase, ReportedKind, Repository, RepositoryObject, XetFile
from lmcommons.hub.objects.xet.likeness import content_of, overlap
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.words import Words

ALIKE = 0.8  # the share of the content of large files from which on a repository looks like another one


def suspicion(
    session: Session, repositories: Repositories, actor: Actor, repository: Repository, commit: str
) -> Words | None:
    """Which hidden repository, of the same account or person, `commit` of another one looks like; None for none."""
    whose = [repository.account_id, actor.account_id]
    of_them = or_(Repository.account_id.in_(whose), Repository.creator_id.in_(whose))
    shut = session.scalars(
        select(Repository)
        .join(ModerationCase, ModerationCase.target_id == Repository.id)
        .where(ModerationCase.kind == ReportedKind.REPOSITORY, ModerationCase.status.in_(SHUT))
        .where(Repository.id != repository.id, of_them)
        .order_by(Repository.id)
    ).all()
    tree = _tree(repositories, repository, commit) if shut else None
    for other in shut:
        if other.head is not None and tree is not None and _tree(repositories, other, other.head) == tree:
            return _has_files_of(other)
        if session.scalar(select(_shares_files(repository, other))):
            return _has_files_of(other)
    for other in shut:
        contents = [content_of(session, _large_files(*pair)) for pair in ((repository, other), (other, repository))]
        if overlap(*contents) >= ALIKE:
            return Words(
                "Its large files are for the most part those of {repository}, which is hidden.", repository=other.path
            )
    return None


def _has_files_of(other: Repository) -> Words:
    return Words("It has the files of {repository}, which is hidden.", repository=other.path)


def _shares_files(repository: Repository, other: Repository) -> ColumnElement[bool]:
    """Whether two repositories have a large file that no third one has which can be seen."""
    here, there = aliased(RepositoryObject), aliased(RepositoryObject)
    return exists().where(
        here.repository_id == repository.id,
        there.repository_id == other.id,
        there.sha256 == here.sha256,
        ~_shown(here.sha256, repository, other),
    )


def _large_files(repository: Repository, other: Repository) -> Select[Any]:
    """The Xet hashes of a repository's large files that no one but these two show."""
    mine = select(XetFile.hash).join(RepositoryObject, RepositoryObject.sha256 == XetFile.sha256)
    return mine.where(
        RepositoryObject.repository_id == repository.id, ~_shown(RepositoryObject.sha256, repository, other)
    )


def _shown(sha256: InstrumentedAttribute[str], repository: Repository, other: Repository) -> ColumnElement[bool]:
    """Whether an account that has neither repository shows a large file to all."""
    elsewhere, owner = aliased(RepositoryObject), aliased(Repository)
    return exists().where(
        elsewhere.sha256 == sha256,
        elsewhere.repository_id == owner.id,
        owner.hidden.is_(False),
        owner.private.is_(False),
        owner.account_id.not_in([repository.account_id, other.account_id]),
    )


def _tree(repositories: Repositories, repository: Repository, commit: str) -> pygit2.Oid | None:
    try:
        found = pygit2.Repository(repositories.git(repository).path).get(commit)
    except pygit2.GitError:  # the other one is damaged, which `lmc hub fsck` finds
        return None
    return found.peel(pygit2.Commit).tree_id if isinstance(found, (pygit2.Commit, pygit2.Tag)) else None
