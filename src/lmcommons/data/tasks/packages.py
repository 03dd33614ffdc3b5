"""Packages of ordinary registries that hold data: fetched by their own tool, checked, and read without unpacking."""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

from lmcommons import files, progress
from lmcommons.errors import CommandError, RequestError

LONGEST_DOWNLOAD = 1800  # seconds
AR_MAGIC = b"!<arch>\n"  # the outer archive of a Debian package, deb(5)
AR_HEADER = 60  # bytes before each of its members


@dataclass(frozen=True)
class Package:
    """A package at the version whose content is known."""

    registry: Literal["debian", "npm", "pypi"]
    name: str
    version: str
    sha256: str
    """of the file; another version, which Debian may offer after an update, is told"""

    def command(self) -> list[str]:
        """What downloads it into the working directory, from the registry that this machine is set up for."""
        if self.registry == "debian":
            return ["apt-get", "download", self.name]
        if self.registry == "npm":
            return ["npm", "pack", f"{self.name}@{self.version}"]
        return [sys.executable, "-m", "pip", "download", "--no-deps", f"{self.name}=={self.version}"]

    def patterns(self) -> list[str]:
        """How its file may be called; npm names a scoped package `scope-name`."""
        name = self.name.lstrip("@").replace("/", "-")
        ends = {"debian": ["_*.deb"], "npm": ["-[0-9]*.tgz"], "pypi": ["-[0-9]*.tar.gz", "-[0-9]*.whl"]}[self.registry]
        return [stem + end for stem in dict.fromkeys([name, name.replace("-", "_")]) for end in ends]


def fetch(package: Package, directory: Path) -> Path:
    """The file of a package in `directory`, downloaded if it is not there.

    Raises:
        CommandError: it cannot be downloaded, or is not the file that its version names; one line.
    """
    found = _present(package, directory)
    if found is None:
        directory.mkdir(parents=True, exist_ok=True)
        progress.say(f"{package.name}: {' '.join(package.command())}")
        with tempfile.TemporaryDirectory(prefix=".download-", dir=directory) as place:
            _download(package, Path(place), directory)
            downloaded = _present(package, Path(place))
            if downloaded is None:
                raise CommandError(f"{package.command()[0]} downloaded no file {' or '.join(package.patterns())}")
            found = directory / downloaded.name
            downloaded.replace(found)
    if files.sha256_file(found) != package.sha256:
        if package.version.replace(":", "%3a") in found.name:
            raise CommandError(
                f"{found}: not the file of {package.name} {package.version} (its sha256 is {package.sha256}); "
                "remove it, and it is downloaded again"
            )
        progress.say(f"{found.name} is not version {package.version}: counts may differ from those documented")
    return found


def _present(package: Package, directory: Path) -> Path | None:
    return next((path for pattern in package.patterns() for path in sorted(directory.glob(pattern))), None)


def _download(package: Package, place: Path, directory: Path) -> None:
    command = package.command()
    by_hand = f"or put the file {package.patterns()[0]} of another machine into {directory}"
    try:
        done = subprocess.run(
            command,
            cwd=place,
            capture_output=True,
            text=True,
            timeout=LONGEST_DOWNLOAD,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
    except FileNotFoundError as error:
        raise CommandError(f"{package.name}: {command[0]} is not installed; install it, {by_hand}") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(
            f"{package.name}: not downloaded after {LONGEST_DOWNLOAD} s; try again, {by_hand}"
        ) from error
    if done.returncode:
        said = [
            line
            for line in (done.stderr + done.stdout).splitlines()
            if re.match(r"E:|(?:npm )?error", line, re.IGNORECASE)
        ]
        reason = said[0] if said else f"exit code {done.returncode}"
        raise CommandError(f"{package.name}: `{' '.join(command)}` failed: {reason}; connect and try again, {by_hand}")


def members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in a package whose name is `wanted`, in the order of the names.

    Raises:
        RequestError: the file is damaged, or none of it is wanted.
    """
    try:
        found = sorted(_zip(path, wanted) if path.suffix == ".whl" else _tar(path, wanted))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise RequestError(f"{path}: not a readable package: {error}") from error
    if not found:
        raise RequestError(f"{path}: a package without the data files that are expected in it")
    yield from found


def _zip(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        yield from ((name, archive.read(name)) for name in archive.namelist() if wanted(name))


def _tar(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    content = BytesIO(_debian_data(path)) if path.suffix == ".deb" else path.open("rb")
    with content, tarfile.open(fileobj=content) as archive:
        for member in archive:
            if member.isfile() and wanted(member.name) and (file := archive.extractfile(member)) is not None:
                yield member.name.removeprefix("./"), file.read()


def _debian_data(path: Path) -> bytes:
    """The tar file with the content of a Debian package."""
    with path.open("rb") as file:
        if file.read(len(AR_MAGIC)) != AR_MAGIC:
            raise ValueError("not a Debian package")
        while len(header := file.read(AR_HEADER)) == AR_HEADER:
            size = int(header[48:58])
            content = file.read(size + size % 2)[:size]
            if header.startswith(b"data.tar"):
                return content
    raise ValueError("a Debian package without data")
