"""What can go wrong in a request, as the client understands it (hub-protocol.md, chapter 1).

Rooms raise these where the cause is known; `hub/api/errors.py` turns them into a status, headers and a JSON body.
"""

# ruff: noqa: N818 - each is named after its HTTP status, and all of them are HubErrors

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lmcommons.hub.words import Words

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, past the limit of a file's size


class Malformed(ValueError):
    """A file or a text is not what it should be, or more than is read of its kind; the message is as of a HubError."""

    def __init__(self, message: str, /, **values: Any) -> None:
        super().__init__(Words(message, **values))


class HubError(Exception):
    """A request that ends with `status`; `code` becomes X-Error-Code and the message X-Error-Message.

    The message is a template with `values` at its places (`hub/words.py`): clients read it in English, and pages say it
    in their visitor's language. `headers` and `fields` are added to the response and to its JSON body.
    """

    status = 500
    code: str | None = None

    def __init__(
        self,
        message: str,
        /,
        *,
        headers: dict[str, str] | None = None,
        fields: dict[str, Any] | None = None,
        **values: Any,
    ) -> None:
        self.message = Words(message, **values)
        super().__init__(self.message)
        self.headers = headers or {}
        self.fields = fields or {}


class BadRequest(HubError):
    """The request is malformed or asks for something impossible."""

    status = 400


class InvalidPath(BadRequest):
    """No file or folder of a repository may be called so."""

    status = 422


class Unauthorized(HubError):
    """No token, or one that is not known."""

    status = 401


class Forbidden(HubError):
    """The actor is known and may not do this."""

    status = 403


class NotFound(HubError):
    """No such page, account or route."""

    status = 404


class RepositoryNotFound(NotFound):
    """No such repository, or one that the actor may not know of; which of the two is not said."""

    code = "RepoNotFound"

    def __init__(self, message: str = "Repository not found", /, **values: Any) -> None:
        super().__init__(message, **values)


class BucketNotFound(NotFound):
    """No such bucket, or one that the actor may not know of; the client reads the same code as for repositories."""

    code = "RepoNotFound"

    def __init__(self, *, signed_in: bool) -> None:
        super().__init__("Bucket not found" if signed_in else "Bucket not found; if it is private, send a token")
        if not signed_in:
            self.status = 401


class GatedRepository(HubError):
    """Everybody sees the repository of that kind and name; its files are for those who were given access."""

    status = 403
    code = "GatedRepo"

    def __init__(self, kind: str, name: str, *, signed_in: bool) -> None:
        super().__init__(
            "Access to {kind} {name} is restricted and you are not in the authorized list: {advice}",
            kind=Words(kind),
            name=name,
            advice=Words(
                "ask for access on its page" if signed_in else "sign in, or send a token of somebody who has access"
            ),
        )
        if not signed_in:
            self.status = 401


class RevisionNotFound(NotFound):
    """The repository has no such branch, tag or commit."""

    code = "RevisionNotFound"


class EntryNotFound(NotFound):
    """The commit has no such file or folder; the client remembers this by `commit`."""

    code = "EntryNotFound"

    def __init__(self, message: str, /, *, commit: str | None = None, **values: Any) -> None:
        super().__init__(message, headers={"X-Repo-Commit": commit} if commit else None, **values)


class Moved(HubError):
    """The repository `former` (`namespace/name`) is now called `current`; the same request there will do."""

    status = 307

    def __init__(self, former: str, current: str) -> None:
        super().__init__("{former} is now {current}", former=former, current=current)
        self.former = former
        self.current = current


class MethodNotAllowed(HubError):
    """There is something at the address, and not for this method."""

    status = 405

    def __init__(self, method: str, path: str) -> None:
        super().__init__("{path} does not take {method}", path=path, method=method)


class RequestTimeout(HubError):
    """The body stopped coming; the connection is closed, because what follows cannot be told from the rest of it."""

    status = 408

    def __init__(self, message: str, /, **values: Any) -> None:
        super().__init__(message, headers={"Connection": "close"}, **values)


class Conflict(HubError):
    """The thing exists already, or somebody else changed it first."""

    status = 409


class PreconditionFailed(HubError):
    """The branch is no longer at the commit that the request was made for."""

    status = 412


class TooLarge(HubError):
    """The body, or one value in it, is past its limit."""

    status = 413


class RangeNotSatisfiable(HubError):
    """The range begins past the end of the content."""

    status = 416


class TooManyRequests(HubError):
    """Past a rate limit; the headers say when to come back."""

    status = 429


class NotSupported(HubError):
    """A part of the protocol that this hub does not offer; never retried by the client, unlike 5xx."""

    status = 400
    code = "NotSupported"


class Busy(HubError):
    """The hub does as much of this as it can; the client tries again in some `seconds`."""

    status = 503

    def __init__(self, message: str, /, *, seconds: int, **values: Any) -> None:
        super().__init__(message, headers={"Retry-After": str(seconds)}, **values)


class Crashed(HubError):
    """The hub's own fault; its log has the rest, at the request's `identity`."""

    def __init__(self, identity: str) -> None:
        super().__init__("The hub failed on this request; its log names it {identity}", identity=identity)


class InsufficientStorage(HubError):
    """The disk is full; nothing was stored."""

    status = 507

    def __init__(self) -> None:
        super().__init__("The hub's disk is full; nothing was stored")


class StorageUnavailable(HubError):
    """The service that keeps the hub's objects does not answer as it should; the client tries again by itself."""

    status = 503

    def __init__(self, cause: str) -> None:
        super().__init__("The hub's object storage does not answer: {cause}", cause=cause)


@contextmanager
def storage_errors(*others: type[Exception]) -> Iterator[None]:
    """A block that writes files; `others` are what a library raises where Python raises OSError.

    Raises:
        InsufficientStorage: the disk became full in the block.
    """
    caught: tuple[type[Exception], ...] = (OSError, *others)
    try:
        yield
    except caught as error:
        if _is_full(error):
            raise InsufficientStorage from error
        raise


def _is_full(error: Exception) -> bool:
    """Whether the error is that of a full disk; libgit2 tells it in words only."""
    number = error.errno if isinstance(error, OSError) else None
    return number in FULL or str(error).endswith(tuple(map(os.strerror, FULL)))
