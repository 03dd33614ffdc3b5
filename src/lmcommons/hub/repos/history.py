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
    # Commits of one second come in no order by time alone.
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
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    found: dict[str, Commit] = {}
    for folder, names in folders.items():
        for name, commit in _last_commits_in(head, folder, names).items():
            found[f"{folder}/{name}" if folder else name] = commit
    return found


def _last_commits_in(head: pygit2.Commit, folder: str, names: list[str]) -> dict[str, Commit]:
    """`last_commits` of names in one folder: where the folder is the same, nothing in it needs to be looked at."""
    found: dict[str, Commit] = {}
    tree = _tree_at(head, folder)
    pending = [(head, tree, {name: tree[name].id for name in names if name in tree})] if tree is not None else []
    while pending:
        here, tree, sought = pending.pop()
        for parent in here.parents:
            if not sought:
                break
            before = _tree_at(parent, folder)
            if before is None:
                continue
            if before.id == tree.id:
                same = sought
            else:
                same = {name: oid for name, oid in sought.items() if name in before and before[name].id == oid}
            if same:
                pending.append((parent, before, same))
                sought = {name: oid for name, oid in sought.items() if name not in same}
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


def _tree_at(commit: pygit2.Commit, folder: str) -> pygit2.Tree | None:
    if not folder:
        return commit.tree
    try:
        found = commit.tree[folder]
    except KeyError:
        return None
    return found if isinstance(found, pygit2.Tree) else None
