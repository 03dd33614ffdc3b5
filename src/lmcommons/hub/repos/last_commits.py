"""The commit that last changed each file and folder, kept beside git so that a page need not walk the history.

Rows speak of the head of the default branch: each commit there changes those of the paths that it touched. They are an
index: what is absent or behind is made again from git, and other revisions are walked.
"""

from collections.abc import Iterable, Iterator

from sqlalchemy import ColumnElement, and_, delete, insert, select
from sqlalchemy.orm import Session

from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import IndexedHead, PathCommit, Repository
from lmcommons.hub.repos.git import Commit, GitRepository
from lmcommons.hub.repos.repositories import Repositories

BATCH = 500  # paths in one statement


class LastCommits:
    """The last commits of paths in the repositories of a hub."""

    def __init__(self, database: Database, repositories: Repositories) -> None:
        self._database = database
        self._repositories = repositories

    def of(self, repository: Repository, commit: str, paths: Iterable[str]) -> dict[str, Commit]:
        """For each path that exists in `commit`, the commit that last changed it."""
        git, wanted = self._repositories.git(repository), list(paths)
        found: dict[str, str] = {}
        with self._database.read() as session:
            if _head(session, repository.id) == commit:
                for some in _batches(wanted):
                    rows = select(PathCommit.path, PathCommit.commit).where(_at(repository.id, some))
                    found.update((path, last) for path, last in session.execute(rows))
        if not found:
            found = git.last_commits(commit, wanted)
        described = git.describe_all(set(found.values()))
        return {path: described[last] for path, last in found.items()}

    def update(self, repository: Repository, head: str) -> None:
        """Bring the rows of a repository to `head`, the head of its default branch."""
        git = self._repositories.git(repository)
        while True:
            with self._database.read() as session:
                known = _head(session, repository.id)
            if known == head:
                return
            fresh, gone = git.changed_since(known, head) or (_all(git, head), None)
            with self._database.write() as session:
                if _head(session, repository.id) != known:
                    continue  # another process was here meanwhile
                if session.get(Repository, repository.id) is None:
                    return
                if gone is None:
                    session.execute(delete(PathCommit).where(PathCommit.repository_id == repository.id))
                else:
                    for some in _batches([*fresh, *gone]):
                        session.execute(delete(PathCommit).where(_at(repository.id, some)))
                if fresh:
                    rows = [{"repository_id": repository.id, "path": path, "commit": fresh[path]} for path in fresh]
                    session.execute(insert(PathCommit), rows)
                session.merge(IndexedHead(repository_id=repository.id, commit=head))
                return

    def check(self, repository: Repository) -> list[str]:
        """What the rows say otherwise than git, a line each; the next commit makes them anew then."""
        git = self._repositories.git(repository)
        with self._database.read() as session:
            head = _head(session, repository.id)
            rows = session.scalars(select(PathCommit).where(PathCommit.repository_id == repository.id))
            kept = {row.path: row.commit for row in rows}
        if head is None or head != git.resolve(git.default_branch):
            return []
        right = _all(git, head)
        wrong = sorted(path for path in kept.keys() | right.keys() if kept.get(path) != right.get(path))
        if wrong:
            with self._database.write() as session:
                session.execute(delete(IndexedHead).where(IndexedHead.repository_id == repository.id))
        return [f"last commit of {path}: kept as {kept.get(path)}, in git {right.get(path)}" for path in wrong]


def _all(git: GitRepository, head: str) -> dict[str, str]:
    return git.last_commits(head, [entry.path for entry in git.entries(head, recursive=True)])


def _head(session: Session, repository_id: int) -> str | None:
    return session.scalar(select(IndexedHead.commit).where(IndexedHead.repository_id == repository_id))


def _at(repository_id: int, paths: list[str]) -> ColumnElement[bool]:
    return and_(PathCommit.repository_id == repository_id, PathCommit.path.in_(paths))


def _batches(paths: list[str]) -> Iterator[list[str]]:
    return (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))
