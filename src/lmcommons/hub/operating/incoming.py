"""What comes from another hub, in a bundle or over the network: checked as a push is, and never over local work."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pygit2

from lmcommons.errors import CommandError, RequestError
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import Repository, RepositoryType, TokenRole
from lmcommons.hub.errors import NotFound, RepositoryNotFound
from lmcommons.hub.operating.copies import run_git
from lmcommons.hub.repos.git import BRANCHES, DEFAULT_BRANCH, TAGS, GitRepository, RefChange
from lmcommons.hub.repos.push import Push
from lmcommons.hub.rooms import Hub

ATTRIBUTES = ".gitattributes"  # with which every repository begins


@dataclass(frozen=True)
class Offer:
    """The branches and tags of a repository elsewhere, by full ref, and the branch that it shows first."""

    refs: Mapping[str, str]
    head: str


def split_name(text: str) -> tuple[RepositoryType, str]:
    """Type and `namespace/name` of what addresses call a repository: `datasets/ada/text` is a dataset.

    Raises:
        RequestError: it is not such a name.
    """
    for type_ in RepositoryType:
        name = text.removeprefix(type_.prefix) if type_.prefix else text
        if name.count("/") == 1 and all(name.split("/")) and (type_.prefix == "" or name != text):
            return type_, name
    raise RequestError(f"{text}: write namespace/name, datasets/namespace/name or spaces/namespace/name")


def acting(hub: Hub, full_name: str) -> Actor:
    """The account of a name's namespace, for which the operator acts.

    Raises:
        RequestError: there is no such account.
    """
    try:
        account = hub.accounts.find(full_name.partition("/")[0])
    except NotFound as error:
        raise RequestError(f"{error.message}; add it with `lmc hub user add` or `lmc hub org add`") from error
    return Actor(account_id=account.id, name=account.name, is_admin=True, token_role=TokenRole.WRITE)


def find_or_create(
    hub: Hub, actor: Actor, type_: RepositoryType, full_name: str, *, private: bool
) -> tuple[Repository, bool]:
    """The repository of that name, made now if there is none, and whether nothing is in it yet."""
    namespace, _, name = full_name.partition("/")
    try:
        repository = hub.repositories.find(actor, type_, full_name)
    except RepositoryNotFound:
        repository = hub.commits.create_repository(actor, type_, namespace, name, private=private)
    return repository, _is_untouched(hub.repositories.git(repository))


@contextmanager
def scratch(git: GitRepository) -> Iterator[GitRepository]:
    """A repository for commits that may be refused; it sees those of `git` too."""
    with tempfile.TemporaryDirectory(prefix="lmc-incoming-") as folder:
        made = GitRepository.create(Path(folder, "r.git"))
        (made.path / "objects" / "info" / "alternates").write_text(f"{git.path / 'objects'}\n")
        yield made


def write_pack(source: GitRepository, tips: Iterable[str], out: IO[bytes], without: Iterable[str] = ()) -> None:
    """Write a pack of all that the tips lead to and `without` does not."""
    command = ["pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q"]
    revisions = [*tips, *(f"^{oid}" for oid in without), ""]
    run_git(f"--git-dir={source.path}", *command, told="\n".join(revisions).encode(), out=out)


def read_pack(target: GitRepository, pack: IO[bytes]) -> None:
    """Take a pack's objects into a repository.

    Raises:
        CommandError: it is damaged.
    """
    run_git(f"--git-dir={target.path}", "index-pack", "--stdin", "--fix-thin", "--strict", source=pack)


def take(hub: Hub, actor: Actor, repository: Repository, source: GitRepository, offer: Offer, *, force: bool) -> int:
    """Move branches and tags to where `offer` has them; the commits are in `source`, the large objects linked.

    They pass the checks of a push, all of them or none moves, and what follows a push follows.

    Args:
        force: also where commits that are only here are lost, and remove branches and tags that are only here.

    Returns:
        How many moved.

    Raises:
        CommandError: a check refuses them, or there is work that is only here.
    """
    git = hub.repositories.git(repository)
    present = {ref: oid for ref, oid in git.all_refs().items() if ref.startswith((BRANCHES, TAGS))}
    moves = [RefChange(ref, present.get(ref), oid) for ref, oid in offer.refs.items() if present.get(ref) != oid]
    kept = {*offer.refs, BRANCHES + DEFAULT_BRANCH, BRANCHES + git.default_branch}
    if force:
        moves += [RefChange(ref, oid, None) for ref, oid in present.items() if ref not in kept]
    else:
        for move in moves:
            if move.before is not None and not _follows(source, move):
                raise CommandError(f"{move.ref} has work that is only here; --force replaces it")
    if moves:
        with tempfile.TemporaryFile() as pack:
            write_pack(source, [move.after for move in moves if move.after], pack, present.values())
            report = hub.pushes.receive(actor, repository, Push(tuple(moves), frozenset({"atomic"})), pack, _nobody)
        refused = [f"{ref}: {why}" for ref, why in report.refs.items() if why is not None]
        if refused:
            raise CommandError(" ".join(report.messages) or "; ".join(refused))
    if BRANCHES + git.default_branch != offer.head and offer.head in offer.refs:
        git.set_default_branch(offer.head.removeprefix(BRANCHES))
        hub.commits.refresh(repository)
    return len(moves)


def _is_untouched(git: GitRepository) -> bool:
    """Whether a repository has nothing but the commit with which all begin."""
    refs = git.all_refs()
    first = pygit2.Repository(git.path).get(refs.get(BRANCHES + DEFAULT_BRANCH, ""))
    return len(refs) == 1 and isinstance(first, pygit2.Commit) and [e.name for e in first.tree] == [ATTRIBUTES]


def _follows(source: GitRepository, move: RefChange) -> bool:
    """Whether nothing is lost when a branch moves so."""
    repository = pygit2.Repository(source.path)
    before, after = repository.get(move.before or ""), repository.get(move.after or "")
    if not isinstance(before, pygit2.Commit) or not isinstance(after, pygit2.Commit):
        return False  # annotated tags
    return repository.descendant_of(after.id, before.id)


def _nobody(actor: Actor, repository: Repository, ref: str) -> None:
    raise AssertionError("pull requests are not taken from elsewhere")
