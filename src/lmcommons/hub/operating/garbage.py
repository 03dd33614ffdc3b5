"""`lmc hub gc`: remove what nothing refers to any more, while the hub serves.

What began within the grace period is left alone: an upload comes before the commit that names it. After that an object
stays in a repository only as long as a branch, tag or pull request can reach a file that is made of it.
"""

import shutil
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from lmcommons.files import exclusive_lock
from lmcommons.hub.database.tables import Repository, RepositoryObject
from lmcommons.hub.objects.collection import Removed, collect_objects, collect_uploads
from lmcommons.hub.repos.reachability import Unreadable, leftovers, named_objects
from lmcommons.hub.rooms import Hub

LOCK = ".collecting"  # in the data directory: held by who removes, and by who copies all
NOTHING = Removed()
IDLE = timedelta(hours=1)  # that a file which is being written may go without a write


@dataclass
class Collected:
    """What was removed; `problems` name repositories that could not be read, of which everything was kept."""

    unlinked: int = 0  # objects that a repository had, and none of whose files is made of them
    objects: Removed = NOTHING
    xorbs: Removed = NOTHING
    uploads: Removed = NOTHING
    repositories: int = 0  # git directories of repositories that were deleted
    temporary: int = 0  # files that writers left in git directories
    pull_requests: int = 0  # refs of pull requests that were never opened
    problems: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of content that were removed."""
        return self.objects.size + self.xorbs.size + self.uploads.size

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return asdict(self) | {"size": self.size}


def collect(hub: Hub, before: datetime, *, dry_run: bool = False) -> Collected:
    """Remove what nothing has referred to since `before`.

    Args:
        dry_run: say what would be removed, and leave it; of Xet's content only what is unused already.

    Raises:
        CommandError: another collection or a backup is running.
    """
    done = Collected()
    idle = min(before, datetime.now(UTC) - IDLE)
    with exclusive_lock(hub.settings.data / LOCK, busy="another `lmc hub gc` or a backup is running; wait for it"):
        unlinked = _unlink(hub, before, idle, done, dry_run=dry_run)
        ignored = unlinked if dry_run else frozenset()
        done.unlinked = len(unlinked)
        done.objects = collect_objects(hub.database, hub.objects, before, ignored=ignored, dry_run=dry_run)
        done.xorbs = _collect_xorbs(hub, before, dry_run=dry_run)
        done.uploads = collect_uploads(hub.objects, idle, dry_run=dry_run)
        done.repositories = _remove_orphans(hub, idle, dry_run=dry_run)
    return done


def _unlink(hub: Hub, before: datetime, idle: datetime, done: Collected, *, dry_run: bool) -> set[tuple[int, str]]:
    """Take from each repository the objects that its history does not name."""
    unlinked: set[tuple[int, str]] = set()
    for repository in hub.repositories.all():
        git = hub.repositories.git(repository)
        try:
            done.pull_requests += hub.pull_requests.remove_unfinished(repository, idle, dry_run=dry_run)
            with git.naming_objects(alone=True):
                unnamed = _unnamed(hub, repository, git.path, before)
                if not dry_run:
                    hub.repositories.unlink_objects(repository.id, unnamed, before)
        except (Unreadable, FileNotFoundError) as error:
            done.problems.append(f"{repository.path}: {error.message if isinstance(error, Unreadable) else error}")
            continue
        unlinked.update((repository.id, sha256) for sha256 in unnamed)
        for leftover in leftovers(git.path, idle):
            done.temporary += 1
            if not dry_run:
                _remove(leftover)
    return unlinked


def _unnamed(hub: Hub, repository: Repository, path: Path, before: datetime) -> set[str]:
    """The objects linked to a repository before a time that no file of its refs is made of."""
    old = select(RepositoryObject.sha256).where(
        RepositoryObject.repository_id == repository.id, RepositoryObject.created_at < before
    )
    with hub.database.read() as session:
        linked = set(session.scalars(old))
    return linked - {named.sha256 for named in named_objects(path)} if linked else linked


def _collect_xorbs(hub: Hub, before: datetime, *, dry_run: bool) -> Removed:
    if dry_run:
        unreferenced = hub.objects.xet.unreferenced(before)
        return Removed(len(unreferenced), sum(xorb.size for xorb in unreferenced))
    collected = hub.objects.xet.collect(before)
    return Removed(collected.xorbs, collected.size)


def _remove_orphans(hub: Hub, before: datetime, *, dry_run: bool) -> int:
    """Remove the git directories that are no repository's."""
    present = {hub.repositories.git(repository).path for repository in hub.repositories.all()}
    orphans = [path for path in hub.settings.repositories_dir.glob("*/*") if path not in present]
    orphans = [path for path in orphans if path.stat().st_mtime < before.timestamp()]
    for path in orphans if not dry_run else ():
        aside = path.with_suffix(".removed")
        with hub.database.write() as session:  # a repository that is being made has its row when this has its turn
            number = path.stem
            if path.suffix == ".git" and number.isdecimal() and session.get(Repository, int(number)) is not None:
                continue
            path.rename(aside)
        _remove(aside)
    return len(orphans)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
