"""Mirrors: repositories of another hub that speaks the same protocol, with their commits and large objects.

Commits come by `git fetch`, large objects by the LFS batch API, which every such hub has for git-lfs; what is here
already is not fetched again, so that a mirror which was interrupted goes on where it was.
Sources: https://git-scm.com/docs/gitprotocol-http, https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from itertools import islice
from typing import Any, cast
from urllib.parse import urlsplit

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from lmcommons.errors import CommandError, RequestError
from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import HubError
from lmcommons.hub.operating.copies import Report, copy_commits, git_state, run_git
from lmcommons.hub.operating.incoming import Offer, acting, find_or_create, scratch, take
from lmcommons.hub.repos.git import BRANCHES, TAGS
from lmcommons.hub.repos.reachability import named_objects
from lmcommons.hub.rooms import Hub

BATCH = 100  # objects asked for at once
BLOCK = 1 << 20  # bytes
PATIENCE = 60  # seconds without a byte
HTTPError = cast(type[Exception], HfHubHTTPError.__bases__[0])  # which the client also raises when nobody answers
ANSWER_LIMIT = 16 << 20  # bytes of a batch's answer
Received = Callable[[int, int], None]  # takes bytes that came, and bytes in all

LFS_JSON = "application/vnd.git-lfs+json"


@dataclass(frozen=True)
class Origin:
    """The other hub, and the token for what it does not show to everybody."""

    endpoint: str
    token: str | None = None

    def __post_init__(self) -> None:
        if urlsplit(self.endpoint).scheme not in ("http", "https") or not urlsplit(self.endpoint).netloc:
            raise RequestError(f"--from {self.endpoint}: not an address like https://hub.example.org")

    def named(self, name: str, type_: RepositoryType | None) -> Iterator[tuple[RepositoryType, str, bool]]:
        """Type, name and privacy of the repository `namespace/name`, or of all in a namespace.

        Raises:
            CommandError: the other hub does not have it, or does not answer.
        """
        api = HfApi(self.endpoint, token=self.token or False)
        try:
            if "/" in name:
                found = api.repo_info(name, repo_type=type_ or RepositoryType.MODEL)
                yield type_ or RepositoryType.MODEL, found.id, bool(found.private)
                return
            lists: dict[RepositoryType, Callable[..., Iterable[Any]]] = {
                RepositoryType.MODEL: api.list_models,
                RepositoryType.DATASET: api.list_datasets,
                RepositoryType.SPACE: api.list_spaces,
            }
            for listed, method in lists.items():
                if type_ in (None, listed):
                    for found in method(author=name):
                        yield listed, found.id, bool(found.private)
        except HTTPError as error:
            said = getattr(error, "server_message", None) or str(error).splitlines()[0]
            raise CommandError(f"{name}: {self.endpoint}: {said}") from error

    def address(self, type_: RepositoryType, full_name: str) -> str:
        """Where git finds a repository."""
        return f"{self.endpoint}/{type_.prefix}{full_name}.git"

    @property
    def authorization(self) -> dict[str, str]:
        """The header that says who asks; git and LFS know tokens as passwords."""
        return {"Authorization": f"Basic {b64encode(f'mirror:{self.token}'.encode()).decode()}"} if self.token else {}

    @property
    def environment(self) -> dict[str, str]:
        """Settings of git: the token, for the other hub's own addresses alone, and where no command line shows it."""
        values = {
            f"http.{self.endpoint}/.extraHeader": f"{name}: {value}" for name, value in self.authorization.items()
        }
        values["safe.directory"] = "*"
        numbered = {f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(values)}
        numbered |= {f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(values.values())}
        return numbered | {
            "GIT_CONFIG_COUNT": str(len(values)),
            "GIT_ALLOW_PROTOCOL": "http:https",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_HTTP_LOW_SPEED_LIMIT": "1",  # bytes a second
            "GIT_HTTP_LOW_SPEED_TIME": str(PATIENCE),
        }


def _ignored(done: int, total: int) -> None:
    """Progress that nobody looks at."""


def mirror(
    hub: Hub, origin: Origin, name: str, report: Report, *, type_: RepositoryType | None = None, force: bool = False
) -> list[str]:
    """Bring `namespace/name`, or all repositories of a namespace, to the state that they have on another hub.

    Args:
        type_: of the repository (default: model), or of those in the namespace (default: all).
        force: also replace work that is only here.

    Returns:
        What went wrong, a line for each repository where something did; the others are whole.

    Raises:
        RequestError: the namespace has no account here. CommandError: the other hub does not answer.
    """
    actor = acting(hub, name)
    problems = []
    for listed, full_name, private in origin.named(name, type_):
        try:
            bring(hub, origin, actor, listed, full_name, to=full_name, private=private, report=report, force=force)
        except (CommandError, HubError, OSError, HTTPException) as error:
            problems.append(f"{listed.prefix}{full_name}: {error}")
    return problems


def bring(
    hub: Hub,
    origin: Origin,
    actor: Actor,
    type_: RepositoryType,
    full_name: str,
    *,
    to: str,
    private: bool,
    report: Report,
    received: Received = _ignored,
    force: bool = False,
) -> None:
    """Bring the repository `to` to the state that another hub's repository `full_name` has; made when it is not there.

    Args:
        private: where it is made.
        received: told of the bytes of large files that came, and of all that are to come; what it raises ends this.
        force: also replace work that is only here.

    Raises:
        CommandError: the other hub does not answer, or not as it should; or there is work that is only here.
        HubError: the actor may not do this here, or there is no room for it.
    """
    offer = _offer(origin, type_, full_name)
    repository, new = find_or_create(hub, actor, type_, to, private=private)
    git = hub.repositories.git(repository)
    present = git.all_refs()
    if all(present.get(ref) == oid for ref, oid in offer.refs.items()) and not force:
        report(f"{repository.path}: unchanged")
        return
    with scratch(git) as source:
        copy_commits(
            origin.address(type_, full_name),
            source.path,
            {ref: ref for ref in offer.refs},
            environment=origin.environment,
        )
        fetched = Offer(git_state(source.path).refs, offer.head)  # it may have moved on since it was asked
        named = named_objects(source.path, fetched.refs.values(), present.values())
        objects = {pointer.sha256: pointer.size for pointer in named}
        address = f"{origin.address(type_, full_name)}/info/lfs/objects/batch"
        _fetch_objects(hub, origin, actor, repository, address, objects, report, received)
        moved = take(hub, actor, repository, source, fetched, force=force or new)
    report(f"{repository.path}: {moved} branches and tags moved")


def _offer(origin: Origin, type_: RepositoryType, full_name: str) -> Offer:
    """What the other hub says its branches and tags are at."""
    address = origin.address(type_, full_name)
    said = run_git("ls-remote", "--symref", address, "HEAD", f"{BRANCHES}*", f"{TAGS}*", environment=origin.environment)
    refs, head = {}, ""
    for line in said.decode().splitlines():
        value, _, ref = line.partition("\t")
        if value.startswith("ref: "):
            head = value.removeprefix("ref: ")
        elif ref.startswith((BRANCHES, TAGS)) and not ref.endswith("^{}"):
            refs[ref] = value
    return Offer(refs, head)


def _fetch_objects(
    hub: Hub,
    origin: Origin,
    actor: Actor,
    repository: Repository,
    url: str,
    objects: dict[str, int],
    report: Report,
    received: Received,
) -> None:
    """Store and link the objects (sha256: bytes), fetching those that the actor may not read here.

    A name is no proof: whoever knows the sha256 of somebody's private file could write a history that names it.
    """
    needed = hub.contents.needed(actor, repository, objects)
    done, total = 0, sum(objects[sha256] for sha256 in needed)
    hub.accounts.require_room(repository.account_id, total)
    received(done, total)
    missing = iter(sorted(needed))
    while batch := list(islice(missing, BATCH)):
        asked = {
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": sha256, "size": objects[sha256]} for sha256 in batch],
        }
        headers = {"Content-Type": LFS_JSON, "Accept": LFS_JSON, **origin.authorization}
        with _open(url, headers, json.dumps(asked).encode()) as answer:
            offered = {found["oid"]: found for found in json.loads(answer.read(ANSWER_LIMIT))["objects"]}
        for sha256 in batch:
            found = offered.get(sha256, {})
            if "actions" not in found:
                said = found.get("error", {}).get("message", "not offered")
                raise CommandError(f"{sha256}, which its history names: {said}")
            action = found["actions"]["download"]
            report(f"{repository.path}: {sha256}, {objects[sha256]:,} bytes")
            with (
                _open(action["href"], action.get("header", {})) as content,
                hub.objects.receive(sha256, objects[sha256]) as incoming,
            ):
                while block := content.read(min(BLOCK, objects[sha256] + 1 - incoming.size)):
                    incoming.write(block)
                    done += len(block)
                    received(done, total)
            hub.contents.link(repository.id, {sha256: objects[sha256]})
    if lost := hub.contents.link(repository.id, objects):
        raise CommandError(f"{min(lost)} was removed again meanwhile; mirror once more")


def _open(url: str, headers: Mapping[str, str], body: bytes | None = None) -> Any:
    where = urlsplit(url)
    if where.scheme not in ("http", "https"):
        raise CommandError(f"{url[:200]}: only http and https are followed")
    try:
        return urllib.request.urlopen(urllib.request.Request(url, body, dict(headers)), timeout=PATIENCE)  # noqa: S310
    except urllib.error.HTTPError as error:
        said = error.headers.get("X-Error-Message", error.reason)
        raise CommandError(f"{where.netloc}: answered {error.code} {said}") from error
    except OSError as error:
        raise CommandError(f"{where.netloc}: does not answer ({error})") from error
