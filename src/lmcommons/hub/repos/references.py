"""Names of branches, tags and pull requests, and what a change of them is."""

import re
from dataclasses import dataclass

import pygit2

from lmcommons.hub.errors import BadRequest
from lmcommons.hub.words import Words

ZERO = "0" * 40  # git's word for the object of a ref that is not there
NAME_LIMIT = 200  # characters of a branch or tag name
REF_LIMIT = 1000  # bytes of a full ref that libgit2 can look up
PART_LIMIT = 250  # bytes between two slashes: a file's name, with git's `.lock` after it

BRANCHES, TAGS, PULL_REQUESTS = "refs/heads/", "refs/tags/", "refs/pr/"
HIDDEN = "refs/hidden/"  # what moderators hid: see `hidden.py`
KINDS = {BRANCHES: "branch", TAGS: "tag", PULL_REQUESTS: "pull_request"}


@dataclass(frozen=True)
class Ref:
    """A branch, tag or pull request: short `name`, full `ref`, and the commit it is at."""

    name: str
    ref: str
    target: str


@dataclass(frozen=True)
class RefChange:
    """A full ref that should go from one object to another; None: it is not there before, or not after."""

    ref: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Refs:
    """All that a repository's readers can name, each list in the order of names."""

    branches: tuple[Ref, ...]
    tags: tuple[Ref, ...]
    pull_requests: tuple[Ref, ...]


def all_or_none(refusals: dict[str, str | None]) -> dict[str, str | None]:
    """The refusals, by ref, of changes that are made together: where one is refused, all are."""
    if not any(refusals.values()):
        return refusals
    return {ref: why or "another ref of this atomic push was refused" for ref, why in refusals.items()}


def full_ref(branch: str) -> str:
    """The ref of a branch, which is named without `refs/heads/`, or of a pull request, which is named in full."""
    return branch if branch.startswith(PULL_REQUESTS) else BRANCHES + branch


def check_ref_name(ref: str) -> None:
    """Check the full ref of a branch or a tag.

    Raises:
        BadRequest: git does not allow the name, or it would read as a commit or another ref.
    """
    kind, name = next((kind, ref.removeprefix(prefix)) for prefix, kind in KINDS.items() if ref.startswith(prefix))
    if (
        not is_ref(ref)
        or len(name) > NAME_LIMIT
        or not name.isprintable()
        or name.startswith(("-", "refs/"))
        or name == "HEAD"
        or re.fullmatch(r"[0-9a-f]{7,40}", name)
    ):
        raise BadRequest(
            "Invalid reference for a {kind}: {name!r} is no name for git, or reads as a commit or a ref",
            kind=Words("branch") if kind == "branch" else Words("tag"),
            name=name[:NAME_LIMIT],
        )


def is_ref(name: str) -> bool:
    """Whether git can have a ref of this full name."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return False
    fits = len(encoded) <= REF_LIMIT and all(len(part) <= PART_LIMIT for part in encoded.split(b"/"))
    return fits and b"\0" not in encoded and pygit2.reference_is_valid_name(name)


def in_the_way(repository: pygit2.Repository, ref: str) -> str | None:
    """A ref of this name, or one that is a folder of it, or has it as a folder."""
    return next(
        (other for other in repository.references if f"{ref}/".startswith(f"{other}/") or other.startswith(f"{ref}/")),
        None,
    )
