"""Bundles: repositories in one file, for sites that no network reaches.

A tar archive, of which nothing is unpacked by name: `manifest.json` comes first and lists every other part with its
size and sha256; then a git pack for each repository, then the large objects that its files name. The sha256 of the
manifest, told apart from the file, vouches for all of it.
"""

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lmcommons import __version__
from lmcommons.errors import CommandError, RequestError
from lmcommons.files import atomic_path, sha256_file
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.operating.copies import Report, filling
from lmcommons.hub.operating.incoming import (
    Offer,
    acting,
    find_or_create,
    read_pack,
    scratch,
    split_name,
    take,
    write_pack,
)
from lmcommons.hub.repos.git import BRANCHES, TAGS
from lmcommons.hub.repos.reachability import named_objects
from lmcommons.hub.rooms import Hub

MANIFEST = "manifest.json"
MANIFEST_LIMIT = 64 << 20  # bytes
BLOCK = 1 << 20  # bytes

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RefName = Annotated[str, Field(pattern=r"^refs/(heads|tags)/.")]
ObjectId = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Part(BaseModel):
    """A file in the bundle, by its content."""

    model_config = ConfigDict(extra="forbid")

    sha256: Sha256
    size: int = Field(ge=0)


class Bundled(BaseModel):
    """A repository in the bundle."""

    model_config = ConfigDict(extra="forbid")

    type: RepositoryType
    name: str = Field(pattern=r"^[^/]{1,96}/[^/]{1,96}$")
    private: bool
    head: str
    refs: dict[RefName, ObjectId]
    pack: Part
    objects: list[Part]


class Manifest(BaseModel):
    """What a bundle holds."""

    model_config = ConfigDict(extra="forbid")

    format: int = Field(ge=1, le=1)
    version: str
    repositories: list[Bundled]


def write_bundle(hub: Hub, names: Sequence[str], out: Path, report: Report) -> str:
    """Write repositories (`namespace/name`, `datasets/namespace/name`) to the file `out`.

    Returns:
        The sha256 of the manifest.

    Raises:
        RequestError: there is no such repository. CommandError: the disk is full, or an object is missing.
    """
    with atomic_path(out) as temporary, tempfile.TemporaryDirectory(dir=out.parent) as folder:
        bundled = []
        for number, name in enumerate(names):
            report(name)
            bundled.append(_bundled(hub, name, Path(folder, str(number))))
        manifest = Manifest(format=1, version=__version__, repositories=bundled).model_dump_json(indent=2).encode()
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, MANIFEST, len(manifest), io.BytesIO(manifest))
            for number, repository in enumerate(bundled):
                with Path(folder, str(number)).open("rb") as pack:
                    _add(archive, repository.pack.sha256, repository.pack.size, pack)
            for sha256, size in _objects(bundled).items():
                with hub.objects.open(sha256) as content:
                    _add(archive, sha256, size, content)
    return hashlib.sha256(manifest).hexdigest()


def read_bundle(hub: Hub, file: Path, report: Report, *, sha256: str | None = None, force: bool = False) -> list[str]:
    """Make or update the repositories of a bundle; their owners must have accounts here.

    All parts are compared with the manifest before any branch moves. Objects that were taken in before a damage was
    found belong to no repository, and are collected like those of an upload that was given up.

    Args:
        sha256: what the manifest must have.
        force: also replace work that is only here.

    Returns:
        The names of the repositories.

    Raises:
        RequestError: the file is no bundle, or its manifest is another. CommandError: it is damaged, or `force` is
            needed.
    """
    if not file.is_file():
        raise RequestError(f"{file}: no such file")
    try:
        with filling(hub.settings.data), tarfile.open(file, "r|") as archive, ExitStack() as files:
            parts = _parts(archive)
            manifest = _manifest(file, next(parts, None), sha256)
            actors = {bundled.name: acting(hub, bundled.name) for bundled in manifest.repositories}
            packs = [files.enter_context(tempfile.TemporaryFile()) for _ in manifest.repositories]
            for bundled, pack in zip(manifest.repositories, packs, strict=True):
                _receive(file, next(parts, None), bundled.pack, pack)
            for sha256_, size in _objects(manifest.repositories).items():
                with hub.objects.receive(sha256_, size) as incoming:
                    _receive(file, next(parts, None), Part(sha256=sha256_, size=size), incoming)
            if next(parts, None) is not None:
                raise CommandError(f"{file}: has parts that its manifest does not name; nothing was imported")
            for bundled, pack in zip(manifest.repositories, packs, strict=True):
                report(_path(bundled))
                try:
                    _import(hub, actors[bundled.name], bundled, pack, force=force)
                except CommandError as error:
                    raise CommandError(f"{_path(bundled)}: {error}") from error
    except (tarfile.TarError, EOFError) as error:
        raise CommandError(f"{file}: not a whole bundle ({error}); nothing was imported") from error
    return [_path(bundled) for bundled in manifest.repositories]


def _import(hub: Hub, actor: Actor, bundled: Bundled, pack: IO[bytes], *, force: bool) -> None:
    """Make or update a repository whose large objects are stored."""
    repository, new = find_or_create(hub, actor, bundled.type, bundled.name, private=bundled.private)
    if lost := hub.contents.link(repository.id, {part.sha256: part.size for part in bundled.objects}):
        raise CommandError(f"{min(lost)} was removed again meanwhile; import once more")
    with scratch(hub.repositories.git(repository)) as source:
        pack.seek(0)
        read_pack(source, pack)
        take(hub, actor, repository, source, Offer(bundled.refs, bundled.head), force=force or new)


class _Writable(Protocol):
    def write(self, block: bytes, /) -> object: ...


def _bundled(hub: Hub, name: str, pack: Path) -> Bundled:
    """What the manifest says of a repository, whose commits are written to `pack`."""
    type_, full_name = split_name(name)
    repository = hub.repositories.find(acting(hub, full_name), type_, full_name)
    git = hub.repositories.git(repository)
    refs = {ref: oid for ref, oid in git.all_refs().items() if ref.startswith((BRANCHES, TAGS))}
    with pack.open("wb") as file:
        write_pack(git, refs.values(), file)
    objects = {named.sha256: named.size for named in named_objects(git.path, refs.values())}
    if missing := objects.keys() - hub.contents.stored(repository, objects):
        raise CommandError(f"{name}: {min(missing)}, which its history names, is not stored; nothing was written")
    return Bundled(
        type=type_,
        name=repository.full_name,
        private=repository.private,
        head=BRANCHES + git.default_branch,
        refs=refs,
        pack=Part(sha256=sha256_file(pack), size=pack.stat().st_size),
        objects=[Part(sha256=sha256, size=size) for sha256, size in sorted(objects.items())],
    )


def _objects(repositories: Sequence[Bundled]) -> dict[str, int]:
    """The large objects (sha256: bytes) in the order of the archive, which has each once."""
    return {part.sha256: part.size for repository in repositories for part in repository.objects}


def _path(bundled: Bundled) -> str:
    return f"{bundled.type.prefix}{bundled.name}"


def _add(archive: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = size
    archive.addfile(entry, content)


def _parts(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    for entry in archive:
        content = archive.extractfile(entry)
        if content is None:
            raise tarfile.ReadError(f"{entry.name[:80]!a} is not a file")
        yield entry, content


def _manifest(file: Path, found: tuple[tarfile.TarInfo, IO[bytes]] | None, sha256: str | None) -> Manifest:
    if found is None or found[0].name != MANIFEST or found[0].size > MANIFEST_LIMIT:
        raise RequestError(f"{file}: not a bundle that `lmc hub export` made")
    text = found[1].read()
    actual = hashlib.sha256(text).hexdigest()
    if sha256 is not None and actual != sha256:
        raise RequestError(f"{file}: the manifest has sha256 {actual}, not {sha256}; nothing was imported")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CommandError(f"{file}: manifest: {where}: {first['msg']}; nothing was imported") from error


def _receive(file: Path, found: tuple[tarfile.TarInfo, IO[bytes]] | None, part: Part, out: _Writable) -> None:
    """Copy the next file of the archive, which must be `part`."""
    if found is None or (found[0].name, found[0].size) != (part.sha256, part.size):
        name = "its end" if found is None else ascii(found[0].name[:80])
        raise CommandError(f"{file}: has {name} where {part.sha256} is expected; nothing was imported")
    digest = hashlib.sha256()
    while block := found[1].read(BLOCK):
        digest.update(block)
        out.write(block)
    if digest.hexdigest() != part.sha256:
        raise CommandError(f"{file}: {part.sha256} is damaged; nothing was imported")
