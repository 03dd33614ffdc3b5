"""The body of a commit: a `header` line, then one line an operation, in NDJSON.

Only one line is in memory at a time: the contents of files go to a spool, and are read from there one by one when the
commit is written.
"""

import binascii
import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from lmcommons.hub.api.dependencies import field as optional
from lmcommons.hub.api.dependencies import required
from lmcommons.hub.errors import BadRequest, TooLarge
from lmcommons.hub.objects.store import SHA256
from lmcommons.hub.repos.git import AddFile, AddLfs, CopyFile, DeleteFile, DeleteFolder, Operation

OPERATIONS_LIMIT = 25_000
LINE_LIMIT = 16 << 20  # bytes; the largest file that is sent in a line has 10 MiB
MESSAGE_LIMIT = 64 << 10  # characters


@dataclass
class CommitBody:
    """A commit as the client describes it."""

    title: str = ""
    description: str = ""
    parent: str | None = None
    operations: list[Operation] = field(default_factory=list)

    @property
    def message(self) -> str:
        """What the commit is signed with."""
        return f"{self.title}\n\n{self.description}".strip()


class SpooledFile(AddFile):
    """Put `size` bytes of `spool`, from `start`, at `path`."""

    def __init__(self, path: str, spool: IO[bytes], start: int, size: int) -> None:
        for name, value in (("path", path), ("_spool", spool), ("_start", start), ("_size", size)):
            object.__setattr__(self, name, value)

    @property
    def content(self) -> bytes:
        """Read anew each time, so that it is in memory only while it is used."""
        spool: IO[bytes] = self._spool  # type: ignore[attr-defined]
        spool.seek(self._start)  # type: ignore[attr-defined]
        return spool.read(self._size)  # type: ignore[attr-defined]


def parse_commit(
    body: IO[bytes], contents: IO[bytes], branch: str, stored_size: Callable[[str], int | None]
) -> CommitBody:
    """Read a body; the contents of its files are put into `contents`, which must stay open for the operations.

    Args:
        branch: where copies come from when they do not say it.
        stored_size: bytes of an object by its sha256, for copies of large files, which do not say it.

    Raises:
        BadRequest: a line that cannot be read, by number. TooLarge: too many, or one too long.
    """
    found = CommitBody()
    for number, line in _lines(body):
        key, value = line.get("key"), line.get("value")
        if not isinstance(value, dict):
            raise BadRequest(f"Line {number}: `value` must be an object")
        try:
            if key == "header":
                found.title = required(value, "summary", str)
                found.description = optional(value, "description", str) or ""
                found.parent = optional(value, "parentCommit", str)
            else:
                found.operations.append(_operation(key, value, contents, branch, stored_size))
        except BadRequest as error:
            raise BadRequest(f"Line {number}: {error.message}") from error
        if len(found.message) > MESSAGE_LIMIT:
            raise TooLarge(f"Line {number}: the message is longer than {MESSAGE_LIMIT:,} characters")
        if len(found.operations) > OPERATIONS_LIMIT:
            raise TooLarge(f"More than {OPERATIONS_LIMIT:,} operations in one commit; make several")
    if not found.title.strip():
        raise BadRequest("The commit has no title: a `header` line with a `summary` is missing")
    return found


def _operation(
    key: Any, value: dict[str, Any], contents: IO[bytes], branch: str, stored_size: Callable[[str], int | None]
) -> Operation:
    path = required(value, "path", str)
    match key:
        case "file":
            if value.get("encoding", "base64") != "base64":
                raise BadRequest(f"{path}: `encoding` must be base64")
            try:
                content = b64decode(required(value, "content", str), validate=True)
            except (binascii.Error, ValueError) as error:
                raise BadRequest(f"{path}: `content` is not base64 ({error})") from error
            start = contents.tell()
            contents.write(content)
            return SpooledFile(path, contents, start, len(content))
        case "lfsFile":
            sha256, size = required(value, "oid", str), optional(value, "size", int)
            if value.get("algo", "sha256") != "sha256" or not SHA256.fullmatch(sha256):
                raise BadRequest(f"{path}: `oid` must be a sha256 in 64 lower-case hexadecimal digits")
            return AddLfs(path, sha256, size if size is not None else stored_size(sha256) or 0)
        case "deletedFile" | "deletedEntry":
            return DeleteFile(path)
        case "deletedFolder":
            return DeleteFolder(path.rstrip("/"))
        case "copyFile":
            return CopyFile(path, required(value, "srcPath", str), optional(value, "srcRevision", str) or branch)
    raise BadRequest(f"unknown operation {key!r}")


def _lines(body: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    while line := body.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) > LINE_LIMIT:
            raise TooLarge(f"Line {number} is longer than {LINE_LIMIT:,} bytes; send the file as an LFS object")
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"Line {number}: not JSON ({error})") from error
        if not isinstance(value, dict):
            raise BadRequest(f"Line {number}: must be a JSON object with `key` and `value`")
        yield number, value
