"""The commits that led to a commit, and what each changed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import pygit2
from pygit2.enums import DeltaStatus, SortMode

PATCH_LIMIT = 64 << 10  # bytes of one file's patch
PATCHES_LIMIT = 512 << 10  # bytes of all patches of one commit

Status = Literal["added", "modified", "deleted"]
_STATUSES: dict[DeltaStatus, Status] = {DeltaStatus.ADDED: "added", DeltaStatus.DELETED: "deleted"}


@dataclass(frozen=True)
class Commit:
    """A commit; `title` is the first line of what was written and `message` the rest."""

    oid: str
    title: str
    message: str
    date: datetime
    author_name: str
    author_email: str
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A file that a commit changed. `patch` is None for binary files and past the limits of what a page shows."""

    path: str
    status: Status
    additions: int
    deletions: int
    patch: str | None


def describe(commit: pygit2.Commit) -> Commit:
    """What is shown of a commit."""
    title, _, message = commit.message.strip().partition("\n")
    return Commit(
        oid=str(commit.id),
        title=title,
        message=message.strip(),
        date=datetime.fromtimestamp(commit.commit_time, UTC),
        author_name=commit.author.name,
        author_email=commit.author.email,
        parents=tuple(str(parent) for parent in commit.parent_ids),
    )


def walk(repository: pygit2.Repository, head: pygit2.Commit, path: str | None) -> Iterator[pygit2.Commit]:
    """The commits that led to `head`, newest first; with `path`, those that changed the file or folder there."""
    for commit in repository.walk(head.id, SortMode.TOPOLOGICAL | SortMode.TIME):
        if path is not None:
            here = _oid_at(commit, path)
            before = [_oid_at(parent, path) for parent in commit.parents]
            if here in before or (here is None and not before):
                continue
        yield commit


def last_commits(head: pygit2.Commit, paths: Iterable[str]) -> dict[str, Commit]:
    """For each path that exists in `head`, the commit that last changed it.

    A merge is followed to the first parent that already had the same content, as `git log` does.
    """
    found: dict[str, Commit] = {}
    pending = [(head, {path: oid for path in paths if (oid := _oid_at(head, path)) is not None})]
    while pending:
        here, sought = pending.pop()
        for parent in here.parents:
            if not sought:
                break
            same = {path: oid for path, oid in sought.items() if _oid_at(parent, path) == oid}
            if same:
                pending.append((parent, same))
                sought = {path: oid for path, oid in sought.items() if path not in same}
        if sought:
            found.update(dict.fromkeys(sought, describe(here)))
    return found


def changes(commit: pygit2.Commit) -> list[Change]:
    """The files that differ between a commit and its first parent, with patches while they are within the limits."""
    parent = commit.parents[0].tree if commit.parents else None
    diff = parent.diff_to_tree(commit.tree) if parent is not None else commit.tree.diff_to_tree(swap=True)
    found: list[Change] = []
    budget = PATCHES_LIMIT
    for number, delta in enumerate(diff.deltas):
        patch = diff[number] if budget > 0 else None
        additions = deletions = 0
        text = None
        if patch is not None:
            _, additions, deletions = patch.line_stats
            size = len(patch.data)
            if not patch.delta.is_binary and size <= PATCH_LIMIT:
                text = patch.data.decode(errors="replace")
            budget -= min(size, PATCH_LIMIT)
        status = _STATUSES.get(delta.status, "modified")
        found.append(Change(delta.new_file.path, status, additions, deletions, text))
    return found


def _oid_at(commit: pygit2.Commit, path: str) -> pygit2.Oid | None:
    try:
        return commit.tree[path].id
    except KeyError:
        return None
