"""The body of a batch of changes in a bucket: NDJSON, one operation a line (chapter 7)."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from lmcommons.hub.api.dependencies import field, required
from lmcommons.hub.buckets.batch import DeleteFile, Operation, PutFile, Source
from lmcommons.hub.errors import BadRequest, TooLarge

OPERATIONS_LIMIT = 10_000
MTIMES = range(-2_208_988_800_000, 253_402_300_800_000)  # milliseconds, from 1900 to before the year 10000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

HASH = re.compile("[0-9a-f]{64}", re.ASCII)
NAMES = re.compile(r"[^/\x00-\x1f\x7f]+/[^/\x00-\x1f\x7f]+")
CONTENT_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,63}/[a-z0-9!#$&^_.+-]{1,63}", re.ASCII)  # RFC 6838, 4.2


def parse_batch(body: bytes) -> list[Operation]:
    """Read an NDJSON body: one line an operation.

    Raises:
        BadRequest: a line that cannot be read, by number. TooLarge: too many.
    """
    operations: list[Operation] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            operations.append(_operation(json.loads(line)))
        except BadRequest as error:
            raise BadRequest(f"Line {number}: {error.message}") from error
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"Line {number}: not JSON ({error})") from error
        if len(operations) > OPERATIONS_LIMIT:
            raise TooLarge(f"More than {OPERATIONS_LIMIT:,} operations in one batch; send several")
    return operations


def _operation(line: Any) -> Operation:
    if not isinstance(line, dict):
        raise BadRequest("must be a JSON object")
    kind, path = required(line, "type", str), required(line, "path", str)
    if kind == "deleteFile":
        return DeleteFile(path)
    if kind not in ("addFile", "copyFile"):
        raise BadRequest(f"unknown type {kind!r}; one of addFile, copyFile, deleteFile")
    xet_hash = required(line, "xetHash", str)
    if not HASH.fullmatch(xet_hash):
        raise BadRequest(f"{path}: `xetHash` must be 64 lower-case hexadecimal digits")
    content_type = field(line, "contentType", str)
    if content_type is not None and not CONTENT_TYPE.fullmatch(content_type):
        raise BadRequest(f"{path}: `contentType` must be a type like text/plain, not {content_type[:80]!r}")
    source = None
    if kind == "copyFile":
        source = Source(required(line, "sourceRepoType", str), required(line, "sourceRepoId", str))
        if not NAMES.fullmatch(source.name):
            raise BadRequest(f"{path}: `sourceRepoId` must be namespace/name")
    return PutFile(path, xet_hash, _mtime(field(line, "mtime", int)), content_type, source)


def _mtime(milliseconds: int | None) -> datetime | None:
    if milliseconds is None:
        return None
    if milliseconds not in MTIMES:
        raise BadRequest("`mtime` must be milliseconds since 1970, between the years 1900 and 9999")
    return EPOCH + timedelta(milliseconds=milliseconds)
