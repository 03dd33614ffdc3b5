"""Branches and tags of bare git repositories: make, move and remove them, one writer at a time.

Every change holds the repository's lock, which the kernel frees when its holder dies. So nothing is left locked, git's
own `.lock` files found under it are leftovers, and writers in several threads or processes take turns.
"""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pygit2

from lmcommons.hub.errors import Conflict, Forbidden, RevisionNotFound, storage_errors
from lmcommons.hub.repos import maintenance
from lmcommons.hub.repos.pack import install_packs
from lmcommons.hub.repos.reader import DEFAULT_BRANCH, GitReader
from lmcommons.hub.repos.references import BRANCHES, TAGS, RefChange, all_or_none, check_ref_name, in_the_way, is_ref

LOCK = "lmcommons-writer"
NAMING_LOCK = "lmcommons-naming"
# A ref must not be on disk before, or lost after, what it points to.
pygit2.settings.enable_fsync_gitdir(True)


class RefWriter(GitReader):
    """The bare repository in a directory, to be read, and its refs to be moved."""

    def move_refs(self, changes: Sequence[RefChange], packs: Path, *, atomic: bool) -> dict[str, str | None]:
        """Take in the packs of a directory, and move refs to what is in them, each if it still is where it was.

        Returns:
            By ref, why it did not move; None where it did. With `atomic`, all did or none.

        Raises:
            InsufficientStorage: the disk is full; no ref moved.
        """
        with self._writing(*(change.ref for change in changes)) as repository:
            refusals = {change.ref: self._hinders(repository, change) for change in changes}
            if atomic:
                refusals = all_or_none(refusals)
            moving = [change for change in changes if refusals[change.ref] is None]
            if moving:
                install_packs(packs, self.path / "objects" / "pack")
                refusals |= dict.fromkeys((change.ref for change in moving), maintenance.move_refs(self.path, moving))
            return refusals

    @contextmanager
    def moving_refs(self) -> Iterator[Callable[[Sequence[RefChange]], None]]:
        """A block in which nobody else changes the repository; what it is given moves refs, all of them or none.

        What it is given raises Conflict, when one is not where it was, and InsufficientStorage.
        """

        def move(changes: Sequence[RefChange]) -> None:
            self._clear(*(change.ref for change in changes))
            if changes and (refusal := maintenance.move_refs(self.path, changes)):
                raise Conflict("The repository was changed meanwhile: {reason}", reason=refusal)

        with self._writing():
            yield move

    def create_ref(self, ref: str, start: str) -> str:
        """Make a ref (`refs/pr/1`) at the revision `start`; returns the commit.

        Raises:
            Conflict: there is one of that name, or one that is a folder of it.
            RevisionNotFound: there is no revision `start`, or git does not allow the name.
        """
        with self._writing(ref) as repository:
            target = self._commit(repository, start).id
            self._create_ref(repository, ref, target)
            return str(target)

    def delete_ref(self, ref: str) -> str | None:
        """Remove a ref and return the commit that it was at; its commits stay readable by their ids.

        Raises:
            RevisionNotFound: there is no such ref.
        """
        with self._writing(ref) as repository:
            if repository.references.get(ref) is None:
                raise RevisionNotFound("Invalid rev id: there is no {ref}", ref=ref)
            before = self._peel(repository, ref)
            repository.references.delete(ref)
            return str(before.id) if before is not None else None

    def create_branch(self, name: str, start: str) -> str:
        """Make a branch at the revision `start`; returns the commit.

        Raises:
            BadRequest: git or the hub does not allow the name.
            Conflict: there is one of that name, or one that is a folder of it.
            RevisionNotFound: there is no revision `start`.
        """
        check_ref_name(BRANCHES + name)
        return self.create_ref(BRANCHES + name, start)

    def set_default_branch(self, name: str) -> None:
        """Make a clone check out another branch, and lists and pages show it.

        Raises:
            RevisionNotFound: there is no such branch.
        """
        with self._writing(BRANCHES + name) as repository:
            if self._peel(repository, BRANCHES + name) is None:
                raise RevisionNotFound("branch {name!r}: there is no such branch", name=name)
            repository.set_head(BRANCHES + name)

    def delete_branch(self, name: str) -> str | None:
        """Remove a branch and return the commit that it was at, which stays readable by its id.

        Raises:
            Forbidden: it is the default branch, or `main`, which clients ask for when they are told of no other.
            RevisionNotFound: there is no such branch.
        """
        if name in (DEFAULT_BRANCH, self.default_branch):
            raise Forbidden("Cannot delete {ref}: it is the default branch", ref=BRANCHES + name)
        return self.delete_ref(BRANCHES + name)

    def delete_tag(self, name: str) -> str | None:
        """Remove a tag and return the commit that it was at.

        Raises:
            RevisionNotFound: there is no such tag.
        """
        return self.delete_ref(TAGS + name)

    @contextmanager
    def naming_objects(self, *, alone: bool = False) -> Iterator[None]:
        """A block that links large objects to the repository and then moves a ref to a commit that names them.

        Such blocks run beside each other, and never beside one that is `alone`: that of who takes links away.
        """
        with storage_errors(), (self.path / NAMING_LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield

    @contextmanager
    def _writing(self, *refs: str) -> Iterator[pygit2.Repository]:
        """Hold the repository's lock for a change of `refs`."""
        for ref in refs:
            if not is_ref(ref):
                raise RevisionNotFound("{ref!r}: not the name of a branch or tag", ref=ref)
        repository = self._open()
        with storage_errors(pygit2.GitError), (self.path / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._clear(*refs, "HEAD", "packed-refs")
            yield repository
            maintenance.merge_packs(self.path)

    def _clear(self, *refs: str) -> None:
        """Remove what writers of refs left that died; under the repository's lock."""
        for leftover in (*(f"{ref}.lock" for ref in refs), "packed-refs.new"):
            with suppress(FileNotFoundError, NotADirectoryError):
                (self.path / leftover).unlink()

    def _create_ref(self, repository: pygit2.Repository, ref: str, target: pygit2.Oid) -> None:
        if other := in_the_way(repository, ref):
            raise Conflict("Reference {other} already exists", other=other)
        repository.references.create(ref, target)

    def _hinders(self, repository: pygit2.Repository, change: RefChange) -> str | None:
        """Why a ref cannot change so; None when it can."""
        found = repository.references.get(change.ref)
        if (str(found.target) if found is not None else None) != change.before:
            return "it moved meanwhile: fetch first"
        if change.before is None and change.after is None:
            return "there is no such ref"
        if change.before is None and (other := in_the_way(repository, change.ref)):
            return f"{other} already exists"
        return None
