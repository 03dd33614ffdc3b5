"""Backups: a directory that holds all of a hub, taken while it serves; and a hub made of one again.

    manifest.json            what the backup is: written last, so that it names a whole state, or still the former one
    database-….sqlite3       every row, also of a hub on PostgreSQL: a backup can be restored to either
    repositories/N.git       every commit that a ref was at; where the refs are is in the manifest
    objects/…                the object store
    secret                   the hub's key

All parts are of one state: the rows are those of an instant at which no process wrote, and the refs of repositories
that changed since the backup began are read at that instant too. A commit links its objects, then moves the branch,
then notes the event; what lies between two of these steps is as after a crash there, which a hub puts right by itself.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pygit2
from sqlalchemy import func, select

from lmcommons import __version__
from lmcommons.errors import CommandError, RequestError
from lmcommons.files import exclusive_lock, read_json, sha256_file, write_json
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Account, Event, Repository
from lmcommons.hub.objects.blobs import DiskBlobs
from lmcommons.hub.operating import garbage
from lmcommons.hub.operating.copies import GitState, Report, copy_blobs, copy_commits, copy_rows, filling, git_state
from lmcommons.hub.repos.git import GitRepository
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.rooms import Hub, open_blobs
from lmcommons.hub.settings import LOCK as OPENING
from lmcommons.hub.settings import Settings

FORMAT = 1
MANIFEST, LOCK, SECRET = "manifest.json", ".lock", "secret"
KEPT = "refs/kept/"  # in the backup's repositories: by its id, each object that a ref was at
SHOWN = 100  # repositories between two lines of progress


@dataclass(frozen=True)
class Summary:
    """What a backup holds, and how many bytes of objects this run had to copy."""

    repositories: int
    copied: int


def back_up(hub: Hub, out: Path, report: Report) -> Summary:
    """Bring the backup in the directory `out` up to the hub's present state; make it when there is none.

    Raises:
        RequestError: `out` holds something else.
        CommandError: the disk is full, another backup runs there, or a repository was deleted meanwhile.
    """
    if out.exists() and any(out.iterdir()) and not any((out / own).exists() for own in (MANIFEST, LOCK)):
        raise RequestError(f"{out}: has files but no {MANIFEST}; choose an empty directory or a backup's")
    with (
        exclusive_lock(out / LOCK, busy="another backup is being made there"),
        exclusive_lock(hub.settings.data / garbage.LOCK),
        filling(out),
    ):
        out.chmod(0o700)  # private repositories are in it
        states = _states(_manifest(out)) if (out / MANIFEST).exists() else {}
        with hub.database.read() as session:
            before = session.scalar(select(func.max(Event.id))) or 0
            first = list(session.scalars(select(Repository.id)))
        _keep(hub, out, states, ((id_, git_state(_git(hub, id_))) for id_ in first if _git(hub, id_).is_dir()), report)
        name = f"database-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.sqlite3"
        with ExitStack() as blocks:
            with hub.database.write():  # nobody writes while the state is taken
                session = blocks.enter_context(hub.database.read())
                present = set(session.scalars(select(Repository.id)))
                changed = set(session.scalars(select(Event.repository_id).where(Event.id > before)))
                moved = {id_: git_state(_git(hub, id_)) for id_ in present if id_ in changed or id_ not in states}
            _keep(hub, out, states, moved.items(), report)
            report("database")
            rows = blocks.enter_context(_database(out / name))
            with rows.write() as copy:
                copy_rows(session.connection(), copy.connection())
        copied = copy_blobs(hub.objects.blobs, DiskBlobs(out / "objects"), report)
        shutil.copy2(hub.settings.data / SECRET, out / SECRET)
        manifest = {
            "format": FORMAT,
            "version": __version__,
            "at": datetime.now(UTC).isoformat(),
            "database": {"file": name, "sha256": sha256_file(out / name)},
            "repositories": {str(id_): asdict(states[id_]) for id_ in sorted(present)},
        }
        write_json(out / MANIFEST, manifest)
        _forget(out, name, present)
    return Summary(len(present), copied)


def restore(backup: Path, settings: Settings, report: Report) -> list[str]:
    """Make the hub of `settings` from a backup; returns what is wrong with it, a line each, as `Hub.check` does.

    Until everything is there, the directory is not a hub's: one that was interrupted is removed and restored again.

    Raises:
        RequestError: the directory or the database has something in it already; nothing was changed.
        CommandError: the backup is damaged, or the disk is full.
    """
    manifest = _manifest(backup)
    states = _states(manifest)
    source = backup / manifest["database"]["file"]
    if not source.is_file() or sha256_file(source) != manifest["database"]["sha256"]:
        raise CommandError(f"{source}: absent or damaged; restore from another backup")
    if settings.data.exists() and any(settings.data.iterdir()):
        raise RequestError(f"{settings.data}: not empty; a hub is restored into a new directory")
    with filling(settings.data):
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = Database(settings)
        with database.read() as session:
            if session.scalar(select(func.count()).select_from(Account)):
                raise RequestError("--database: it has accounts; a hub is restored into an empty database")
        repositories = Repositories(database, settings.repositories_dir)
        for number, (id_, state) in enumerate(states.items(), 1):
            target = GitRepository.create(repositories.git(Repository(id=id_)).path)
            copy_commits(_kept(backup, id_), target.path, state.refs)
            pygit2.Repository(target.path).set_head(state.head)
            if number % SHOWN == 0:
                report(f"repositories: {number:,} of {len(states):,}")
        copy_blobs(DiskBlobs(backup / "objects"), open_blobs(settings), report)
        report("database")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, source.name)
            shutil.copyfile(source, copy)
            # Opening it brings a backup of an older version to the present schema.
            with _database(copy) as rows, rows.read() as found, database.write() as session:
                copy_rows(found.connection(), session.connection())
        database.close()
        shutil.copy2(backup / SECRET, settings.data / SECRET)
        (settings.data / OPENING).touch()  # from here on it is a hub's directory
    report("every object and ref is checked")
    hub = Hub(settings)
    try:
        return hub.check()
    finally:
        hub.close()


def _keep(
    hub: Hub, out: Path, states: dict[int, GitState], found: Iterable[tuple[int, GitState]], report: Report
) -> None:
    """Copy what the repositories found have and the backup does not, and note their states in `states`."""
    for number, (id_, state) in enumerate(found, 1):
        if states.get(id_) != state:
            target = _kept(out, id_)
            if not target.exists():
                GitRepository.create(target)
            copy_commits(_git(hub, id_), target, {KEPT + oid: oid for oid in state.refs.values()})
            states[id_] = state
        if number % SHOWN == 0:
            report(f"repositories: {number:,}")


def _forget(out: Path, database: str, present: set[int]) -> None:
    """Remove what only a former manifest named. Objects that the hub has collected stay: a backup only grows."""
    for file in out.glob("database-*.sqlite3*"):
        if file.name != database:
            file.unlink()
    for path in (out / "repositories").glob("*.git"):
        if int(path.stem) not in present:
            shutil.rmtree(path, ignore_errors=True)


def _git(hub: Hub, id_: int) -> Path:
    return hub.repositories.git(Repository(id=id_)).path


def _kept(backup: Path, id_: int) -> Path:
    return backup / "repositories" / f"{id_}.git"


def _manifest(backup: Path) -> dict[str, Any]:
    """The manifest of a backup.

    Raises:
        RequestError: there is none. CommandError: it is damaged, or a newer version made it.
    """
    path = backup / MANIFEST
    if not path.is_file():
        raise RequestError(f"{backup}: no {MANIFEST} in it; --from needs a directory that `lmc hub backup` made")
    found = read_json(path)
    version = found.get("format") if isinstance(found, dict) else None
    if not isinstance(version, int):
        raise CommandError(f"{path}: damaged; restore from another backup")
    if version > FORMAT:
        raise CommandError(f"{backup}: made by a newer lmcommons ({found.get('version')}); upgrade")
    return dict(found)


def _states(manifest: Mapping[str, Any]) -> dict[int, GitState]:
    return {int(id_): GitState(**state) for id_, state in manifest["repositories"].items()}


@contextmanager
def _database(path: Path) -> Iterator[Database]:
    database = Database(Settings.make(path.parent, database=f"sqlite:///{path}"))
    try:
        yield database
    finally:
        database.close()
