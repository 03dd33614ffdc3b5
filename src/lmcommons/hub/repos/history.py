"""The commits that led to a commit, and what each changed."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count, takewhile
from typing import Literal

import pygit2
from pygit2.enums import DeltaStatus, FileMode, SortMode

from lmcommons.hub.repos import trees
from lmcommons.hub.repos.patches import Side
from lmcommons.hub.repos.renames import Rename, renames
from lmcommons.hub.repos.trees import Entry, changed_paths

PATCH_LIMIT = 64 << 10  # bytes of one file's patch
PATCHES_LIMIT = 512 << 10  # bytes of all patches of one commit
SIDES_LIMIT = 5_000  # changed files of which both sides are read
LATEST = 253_402_300_799  # seconds since 1970, in the year 9999: a commit may claim more
DIFF_LIMIT = 2 << 20  # bytes of the text that a whole pull request is shown as

Status = Literal["added", "modified", "deleted", "renamed"]
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
    """A file that a commit changed, from what it was `before` to what it is `after`; of a renamed one with its rename.

    Past the limits of what a page shows these are None, as where there is nothing, and so is `patch`, which binary and
    large files, and those that were only renamed, have none of either.
    """

    path: str
    status: Status
    before: Entry | None = None
    after: Entry | None = None
    additions: int = 0
    deletions: int = 0
    patch: str | None = None
    rename: Rename | None = None

    def path_on(self, side: Side) -> str:
        """The path of the file on one side."""
        return self.rename.former if self.rename is not None and side == "old" else self.path

    @property
    def is_same(self) -> bool:
        """Whether only its path or its mode changed."""
        return self.before is not None and self.after is not None and self.before.content_id == self.after.content_id

    @property
    def is_large(self) -> bool:
        """Whether git has a pointer to it, on one side at least: its lines are not the file's."""
        return any(entry is not None and entry.lfs is not None for entry in (self.before, self.after))


def describe(commit: pygit2.Commit) -> Commit:
    """What is shown of a commit."""
    encoding = commit.message_encoding
    title, _, message = _decoded(commit.raw_message, encoding).strip().partition("\n")
    return Commit(
        oid=str(commit.id),
        title=title,
        message=message.strip(),
        date=datetime.fromtimestamp(min(commit.commit_time, LATEST), UTC),
        author_name=_decoded(commit.author.raw_name, encoding),
        author_email=_decoded(commit.author.raw_email, encoding),
        parents=tuple(str(parent) for parent in commit.parent_ids),
    )


def _decoded(text: bytes, encoding: str | None) -> str:
    """Text in the encoding that its writer named, which may be none; what cannot be read or written is replaced."""
    try:
        decoded = text.decode(encoding or "utf-8", errors="replace")
    except (LookupError, ValueError):
        decoded = text.decode(errors="replace")
    return decoded.encode(errors="replace").decode()


def walk(head: pygit2.Commit, path: str | None) -> Iterator[pygit2.Commit]:
    """The commits that led to `head`, newest first; with `path`, those that changed the file or folder there.

    Commits are read as they are asked for: libgit2 sorts all of them before it gives the first.
    """
    queue = [(-head.commit_time, 0, head)]
    seen = {head.id}
    while queue:
        commit = heapq.heappop(queue)[2]
        for parent in commit.parents:
            if parent.id not in seen:
                seen.add(parent.id)
                # Commits of one second come in the order in which they were met: a parent after its child.
                heapq.heappush(queue, (-parent.commit_time, len(seen), parent))
        if path is not None:
            here = _oid_at(commit, path)
            before = [_oid_at(parent, path) for parent in commit.parents]
            if here in before or (here is None and not before):
                continue
        yield commit


def between(repository: pygit2.Repository, base: pygit2.Commit, head: pygit2.Commit) -> Iterator[pygit2.Commit]:
    """The commits that led to `head` and not to `base`, newest first."""
    walk = repository.walk(head.id, SortMode.TOPOLOGICAL | SortMode.TIME)
    walk.hide(base.id)
    return iter(walk)


def last_commits(
    repository: pygit2.Repository, head: pygit2.Commit, paths: Iterable[str], known: pygit2.Oid | None = None
) -> dict[str, pygit2.Commit]:
    """For each path that exists in `head`, the commit that last changed it; not where the search comes to `known`.

    A merge is followed to the first parent that already had the same content, as `git log` does.
    """
    wanted = set(paths)
    folder = _common_folder(wanted)
    within = f"{folder}/" if folder else ""
    tree = _tree_at(head, folder)
    if tree is None:
        return {}
    sought = _present(tree, (path.removeprefix(within) for path in wanted if path != folder))
    found: dict[str, pygit2.Commit] = {}
    pending = {head.id: sought}
    number = count()
    queue = [(-head.commit_time, next(number), head)]  # newest first, so that a commit is seldom come to twice
    while queue:
        here = heapq.heappop(queue)[2]
        sought = pending.pop(here.id)
        if here.id == known:
            continue
        tree = _tree_at(here, folder)
        assert tree is not None  # what is sought in it is there
        for parent in here.parents:
            before = _tree_at(parent, folder)
            if before is None or not sought:
                continue
            differing = sought & changed_paths(repository, before.id, tree.id)
            sought -= differing
            if sought:
                if parent.id not in pending:
                    heapq.heappush(queue, (-parent.commit_time, next(number), parent))
                pending.setdefault(parent.id, set()).update(sought)
            sought = differing
        found.update(dict.fromkeys((within + name for name in sought), here))
    return found


def changed_since(
    repository: pygit2.Repository, known: pygit2.Commit, head: pygit2.Commit
) -> tuple[dict[str, pygit2.Commit], set[str]]:
    """How the last commits of paths differ between `known` and its descendant `head`: new ones, and paths gone."""
    touched: set[str] = set()
    for commit in between(repository, known, head):
        for parent in commit.parents:
            touched |= changed_paths(repository, parent.tree_id, commit.tree_id)
        if not commit.parents:
            touched |= changed_paths(repository, None, commit.tree_id)
    gone = touched - _present(head.tree, touched)
    return last_commits(repository, head, touched - gone, known.id), gone


def changes(repository: pygit2.Repository, base: pygit2.Commit | None, head: pygit2.Commit) -> list[Change]:
    """The files that differ from `base`, or from nothing, to `head`, with patches while they are within the limits."""
    diff = _difference(base.tree if base is not None else None, head.tree)
    deltas = list(diff.deltas)
    renamed = renames(repository, base.tree, head.tree, deltas) if base is not None else {}
    moved = {rename.former for rename in renamed.values()}
    deleted = {delta.old_file.path: delta.old_file for delta in deltas if delta.status is DeltaStatus.DELETED}
    odb = repository.odb
    found: list[Change] = []
    budget = PATCHES_LIMIT
    for number, delta in enumerate(deltas):
        path = _path(delta.new_file)
        rename = renamed.get(path)
        if rename is None and delta.old_file.path in moved:
            continue
        old = deleted[rename.former] if rename is not None else delta.old_file
        status = "renamed" if rename is not None else _STATUSES.get(delta.status, "modified")
        change = Change(path, status, rename=rename)
        if number < SIDES_LIMIT:
            change = replace(change, before=_side(odb, old), after=_side(odb, delta.new_file))
        patch = None
        if budget > 0 and not change.is_large:
            patch = diff[number] if rename is None else _patch(repository, old.id, delta.new_file.id)
        if patch is not None:
            _, additions, deletions = patch.line_stats
            change = replace(change, additions=additions, deletions=deletions, patch=text(patch))
            budget -= min(len(patch.data), PATCH_LIMIT)
        found.append(change)
    return found


def patch(repository: pygit2.Repository, before: str, after: str) -> str:
    """What differs between two blobs, as git's unified text within the limit of a page; else, and of bytes, ""."""
    found = _patch(repository, pygit2.Oid(hex=before), pygit2.Oid(hex=after))
    return (text(found) or "") if found is not None else ""


def text(patch: pygit2.Patch) -> str | None:
    """A file's patch as git's unified text; None where that is binary or past the limit."""
    is_shown = not patch.delta.is_binary and len(patch.data) <= PATCH_LIMIT
    return patch.data.decode(errors="replace") if is_shown else None


def diff(base: pygit2.Commit, head: pygit2.Commit) -> str:
    """Git's unified text of what differs from `base` to `head`; files past the first 2 MiB of it are only counted."""
    found = base.tree.diff_to_tree(head.tree)
    shown: list[str] = []
    budget = DIFF_LIMIT
    for number in range(len(found)):
        patch = found[number]
        part = patch.data.decode(errors="replace") if patch is not None else ""
        budget -= len(part)
        if budget < 0:
            return "".join(shown) + f"# {len(found) - number} more changed files are not shown\n"
        shown.append(part)
    return "".join(shown)


def _difference(before: pygit2.Tree | None, after: pygit2.Tree) -> pygit2.Diff:
    return before.diff_to_tree(after) if before is not None else after.diff_to_tree(swap=True)


def _patch(repository: pygit2.Repository, before: pygit2.Oid, after: pygit2.Oid) -> pygit2.Patch | None:
    """What differs between two blobs; None where nothing does, or one is none."""
    old, new = repository.get(before), repository.get(after)
    if before == after or not (isinstance(old, pygit2.Blob) and isinstance(new, pygit2.Blob)):
        return None
    return old.diff(new)


def _side(odb: pygit2.Odb, file: pygit2.DiffFile) -> Entry | None:
    """What is there on one side of a difference; None for nothing, and for a commit of another repository."""
    if file.mode in (FileMode.UNREADABLE, FileMode.COMMIT):
        return None
    return trees.describe(odb, _path(file), "file", str(file.id))


def _path(file: pygit2.DiffFile) -> str:
    """As folders are listed: with signs in the place of bytes that are no text."""
    return file.raw_path.decode(errors="replace")


def _common_folder(paths: set[str]) -> str:
    """The deepest folder that holds all of the paths."""
    folders = [path.split("/")[:-1] for path in paths]
    first, last = min(folders, default=[]), max(folders, default=[])
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return "/".join(first[:same])


def _present(tree: pygit2.Tree, paths: Iterable[str]) -> set[str]:
    """Those of the paths at which the tree has a file or folder; a folder is opened once for all, which reads it."""
    folders: dict[str, pygit2.Object | None] = {"": tree}
    found: set[str] = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            folders[folder] = tree[folder] if _has(tree, folder) else None
        opened = folders[folder]
        if isinstance(opened, pygit2.Tree) and _has(opened, name) and opened[name].filemode != FileMode.COMMIT:
            found.add(path)
    return found


def _has(tree: pygit2.Tree, path: str) -> bool:
    try:
        return path in tree
    except (KeyError, ValueError, TypeError):  # not a path, or not valid Unicode
        return False


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
