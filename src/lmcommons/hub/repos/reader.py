"""Reading bare git repositories: revisions, folders, files, history and what merges would do."""

import re
import threading
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pygit2
from pygit2.enums import AttrCheck

from lmcommons.hub.errors import BadRequest, EntryNotFound, RepositoryNotFound, RevisionNotFound
from lmcommons.hub.repos import history, maintenance, trees
from lmcommons.hub.repos.hidden import is_hidden
from lmcommons.hub.repos.history import Change, Commit
from lmcommons.hub.repos.merge import merge
from lmcommons.hub.repos.references import BRANCHES, HIDDEN, PULL_REQUESTS, TAGS, Ref, Refs, full_ref, is_ref
from lmcommons.hub.repos.renames import Rename, renames
from lmcommons.hub.repos.trees import Entry, Listings

DEFAULT_BRANCH = "main"

# The hub's data directory is its operator's, whatever user the files came to belong to.
pygit2.settings.owner_validation = False


class GitReader:
    """The bare repository in a directory, to be read. Many threads may use it: each has a handle of its own."""

    def __init__(self, path: Path, listings: Listings | None = None) -> None:
        self.path = path
        self._listings = listings if listings is not None else Listings()
        self._handles = threading.local()

    def resolve(self, revision: str) -> str:
        """The commit (40 digits) that a branch, a tag, a commit's id of at least 7 digits, or a full ref names.

        Raises:
            RevisionNotFound: there is no such commit here.
        """
        return str(self._commit(self._open(), revision).id)

    @property
    def default_branch(self) -> str:
        """The branch that a clone checks out, and that lists and pages show."""
        return str(self._open().lookup_reference("HEAD").target).removeprefix(BRANCHES)

    def branch(self, name: str) -> str:
        """The commit that a branch, or a pull request by its full ref, is at.

        Raises:
            BadRequest: `name` is a tag or a commit.
            RevisionNotFound: there is no such branch, or nothing on it yet.
        """
        head = self._head(self._open(), name)
        if head is None:
            raise RevisionNotFound("branch {name!r}: has no commits", name=name)
        return str(head.id)

    def refs(self) -> Refs:
        """Branches, tags and pull requests."""
        repository = self._open()
        found: dict[str, list[Ref]] = {BRANCHES: [], TAGS: [], PULL_REQUESTS: []}
        for ref in sorted(repository.references):
            for prefix, refs in found.items():
                if ref.startswith(prefix):
                    target = self._peel(repository, ref)
                    if target is not None:
                        refs.append(Ref(ref.removeprefix(prefix), ref, str(target.id)))
        return Refs(tuple(found[BRANCHES]), tuple(found[TAGS]), tuple(found[PULL_REQUESTS]))

    def all_refs(self, *, hidden: bool = False) -> dict[str, str]:
        """Every ref and the object that it is at: of an annotated tag, the tag itself.

        Args:
            hidden: also those of pull requests that moderators hid.
        """
        repository = self._open()
        refs = sorted(ref for ref in repository.references if hidden or not ref.startswith(HIDDEN))
        return {ref: str(repository.references[ref].target) for ref in refs}

    def entries(
        self,
        commit: str,
        path: str = "",
        *,
        recursive: bool = False,
        folders_first: bool = False,
        start: int = 0,
        limit: int | None = None,
    ) -> list[Entry]:
        """The entries of a folder in git's order, or folders before files, `limit` of them from number `start`.

        Raises:
            EntryNotFound: the commit has no folder `path`.
        """
        repository = self._open()
        tree = trees.find(self._commit(repository, commit), path)
        if not isinstance(tree, pygit2.Tree):
            raise EntryNotFound(
                "{path!r} is a file in {revision}, not a folder", path=path, revision=commit, commit=commit
            )
        stop = None if limit is None else start + limit
        return self._listings.entries(
            repository, tree.id, path, recursive=recursive, folders_first=folders_first, start=start, stop=stop
        )

    def entry(self, commit: str, path: str) -> Entry:
        """The file or folder at `path`.

        Raises:
            EntryNotFound: the commit has none.
        """
        repository = self._open()
        there = trees.find(self._commit(repository, commit), path)
        return trees.describe(repository.odb, *trees.found(path, there))

    def existing(self, commit: str, paths: Iterable[str]) -> list[Entry]:
        """The entries at those of `paths` that exist, in the order asked for."""
        repository = self._open()
        odb = repository.odb
        return [trees.describe(odb, *found) for found in trees.existing(self._commit(repository, commit), paths)]

    def read(self, oid: str) -> bytes:
        """A blob's content: a regular file, or the text of an LFS pointer."""
        return bytes(self._open().odb.read(oid)[1])

    def blob_size(self, oid: str) -> int:
        """A blob's size in bytes, without reading it."""
        return int(self._open().odb.read_header(oid)[1])

    def describe(self, revision: str) -> Commit:
        """The commit at a revision."""
        return history.describe(self._commit(self._open(), revision))

    def describe_all(self, revisions: Iterable[str]) -> dict[str, Commit]:
        """The commits at some revisions."""
        repository = self._open()
        return {revision: history.describe(self._commit(repository, revision)) for revision in revisions}

    def commits(self, revision: str, *, start: int = 0, limit: int = 50, path: str | None = None) -> list[Commit]:
        """`limit` commits from number `start`, newest first; with `path`, those that changed it."""
        repository = self._open()
        walk = history.walk(self._commit(repository, revision), path)
        return [history.describe(commit) for commit in islice(walk, start, start + limit)]

    def last_commits(self, commit: str, paths: Iterable[str]) -> dict[str, str]:
        """For each path that exists in `commit`, the id of the commit that last changed it."""
        repository = self._open()
        found = history.last_commits(repository, self._commit(repository, commit), paths)
        return {path: str(last.id) for path, last in found.items()}

    def changed_since(self, known: str | None, commit: str) -> tuple[dict[str, str], set[str]] | None:
        """How the last commits differ between `known` and `commit`: the new ones by path, and the paths that are gone.

        None when `commit` does not come after `known`: all that is known is of no use then.
        """
        repository = self._open()
        head, before = self._commit(repository, commit), repository.get(known) if known is not None else None
        if not isinstance(before, pygit2.Commit) or not repository.descendant_of(head.id, before.id):
            return None
        found, gone = history.changed_since(repository, before, head)
        return {path: str(last.id) for path, last in found.items()}, gone

    def merge_base(self, one: str, other: str) -> str | None:
        """The newest commit that both revisions have in their history; None when they share none."""
        repository = self._open()
        found = repository.merge_base(self._commit(repository, one).id, self._commit(repository, other).id)
        return str(found) if found is not None else None

    def log(self, base: str, head: str, *, limit: int = 1_000) -> list[Commit]:
        """The commits, newest first, that led to `head` and not to `base`."""
        repository = self._open()
        walk = history.between(repository, self._commit(repository, base), self._commit(repository, head))
        return [history.describe(commit) for commit in islice(walk, limit)]

    def distance(self, base: str, head: str) -> tuple[int, int]:
        """How many commits `head` has in its history that `base` lacks, and how many `base` has that `head` lacks."""
        repository = self._open()
        ahead, behind = repository.ahead_behind(self._commit(repository, head).id, self._commit(repository, base).id)
        return ahead, behind

    def diff(self, base: str, head: str) -> str:
        """What differs from `base` to `head`, as git's unified text, within `history.DIFF_LIMIT`."""
        repository = self._open()
        return history.diff(self._commit(repository, base), self._commit(repository, head))

    def conflicts(self, source: str, target: str) -> list[str]:
        """The paths that keep `source` from being merged into `target`, in order."""
        repository = self._open_anew()
        ours, theirs = self._commit(repository, target).id, self._commit(repository, source).id
        with merge(repository, ours, theirs) as merged:
            return merged.conflicts

    def changes(self, commit: str, base: str | None = None) -> list[Change]:
        """The files that differ to a commit from `base`; by default from its first parent."""
        repository = self._open()
        head = self._commit(repository, commit)
        before = self._commit(repository, base) if base is not None else next(iter(head.parents), None)
        return history.changes(repository, before, head)

    def renames(self, base: str, head: str) -> dict[str, Rename]:
        """The files of `head` that `base` has at another path only, by their path."""
        repository = self._open()
        before, after = (self._commit(repository, revision).tree for revision in (base, head))
        return renames(repository, before, after, before.diff_to_tree(after).deltas)

    def patch(self, before: str, after: str) -> str:
        """What differs between two blobs, as git's unified text within the limit of a page; else, and of bytes, ""."""
        return history.patch(self._open(), before, after)

    def tracked_by_lfs(self, revision: str, paths: Iterable[str]) -> set[str]:
        """Those of `paths` that the `.gitattributes` of `revision` send to LFS, whether or not they exist yet."""
        repository = self._open()
        commit = self._commit(repository, revision).id
        return {
            path
            for path in paths
            if repository.get_attr(path, "filter", AttrCheck.INDEX_ONLY | AttrCheck.INCLUDE_COMMIT, commit) == "lfs"
        }

    def check(self) -> list[str]:
        """What is wrong, a line each: refs that lead nowhere, objects that are missing or damaged."""
        return maintenance.check(self.path)

    def _open(self) -> pygit2.Repository:
        """This thread's handle: libgit2's are not shared between threads, and opening one takes 0.1 ms."""
        handle: pygit2.Repository | None = getattr(self._handles, "open", None)
        if handle is None:
            handle = self._handles.open = self._open_anew()
        return handle

    def _open_anew(self) -> pygit2.Repository:
        try:
            return pygit2.Repository(self.path)
        except pygit2.GitError as error:
            raise RepositoryNotFound(
                "the repository's git directory is absent or damaged: {reason}", reason=error
            ) from error

    def _commit(self, repository: pygit2.Repository, revision: str) -> pygit2.Commit:
        if not re.fullmatch(r"[0-9a-f]{40}", revision):  # which no branch or tag may be called
            for ref in (BRANCHES + revision, TAGS + revision, revision):
                if ref.startswith((BRANCHES, TAGS, PULL_REQUESTS)) and (found := self._peel(repository, ref)):
                    return found
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            with suppress(ValueError):  # an ambiguous beginning of an id
                named = repository.get(revision)
                if isinstance(named, pygit2.Commit) and not is_hidden(self.path, str(named.id)):
                    return named
        raise RevisionNotFound("revision {revision!r}: no such branch, tag or commit", revision=revision)

    def _peel(self, repository: pygit2.Repository, ref: str) -> pygit2.Commit | None:
        """The commit that a ref is at; None when there is no such ref, or it names something else than a commit."""
        reference = repository.references.get(ref) if is_ref(ref) else None
        if reference is None:
            return None
        try:
            return reference.peel(pygit2.Commit)
        except pygit2.InvalidSpecError:
            return None

    def _head(self, repository: pygit2.Repository, branch: str) -> pygit2.Commit | None:
        """The commit that `branch` is at; None for `main` before the first commit."""
        head = self._peel(repository, full_ref(branch))
        if head is None and (branch != DEFAULT_BRANCH or any(repository.references)):
            self._commit(repository, branch)  # RevisionNotFound, unless it names something that cannot be moved
            raise BadRequest("revision {branch!r} is not a branch: commits go to a branch", branch=branch)
        return head
