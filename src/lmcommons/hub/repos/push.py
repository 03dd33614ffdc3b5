"""Pushes: the objects and refs that `git push` sends, checked before any of them is in the repository.

Git's own `index-pack` unpacks what is sent into a quarantine directory, from which nothing is read but by this push.
The check is made here, where accounts and stored objects are known; a hook of `git receive-pack` would be another
process that has to ask back. What is good is renamed into the repository, and refs move under its lock, in turn with
commits. Sources: gitprotocol-pack(5) "Pushing Data To a Server", gitprotocol-common(5) for pkt-lines.
"""

import errno
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pygit2

from lmcommons.hub.accounts.accounts import Accounts
from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import BadRequest, Forbidden, HubError, storage_errors
from lmcommons.hub.repos.commits import REGULAR_LIMIT, Commits
from lmcommons.hub.repos.git import (
    BRANCHES,
    DEFAULT_BRANCH,
    PULL_REQUESTS,
    TAGS,
    AddLfs,
    GitRepository,
    RefChange,
    check_ref_name,
)
from lmcommons.hub.repos.hidden import VISIBLE
from lmcommons.hub.repos.maintenance import git_environment
from lmcommons.hub.repos.operations import PATH_LIMIT, check_name
from lmcommons.hub.repos.pointers import POINTER_SIZES, parse_pointer
from lmcommons.hub.repos.references import ZERO, all_or_none
from lmcommons.hub.repos.repositories import Repositories
from lmcommons.hub.repos.trees import Record, records

CAPABILITIES = "report-status delete-refs side-band-64k ofs-delta atomic object-format=sha1 agent=lmcommons"
COMMANDS_LIMIT = 4 << 20  # bytes of a request before its pack
REFS_LIMIT = 2_000  # refs that one push changes
UNPACK_LIMIT = 1_800  # seconds
QUARANTINE = "tmp_objdir-incoming-"  # the beginning that git's own clearing knows
EMPTY_PACK = 32  # bytes: a header that counts no objects, and a checksum
SIDEBAND = 65_515  # bytes in a packet of a band

RequireWrite = Callable[[Actor, Repository, str], None]  # raises when the actor may not commit to a pull request


@dataclass(frozen=True)
class Push:
    """What a push asks for: the refs to change, and what the client understands."""

    changes: tuple[RefChange, ...]
    capabilities: frozenset[str]


@dataclass
class Report:
    """What became of a push."""

    refs: dict[str, str | None] = field(default_factory=dict)  # why each was refused; None: it moved
    messages: list[str] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        """Whether no ref may move."""
        return all(self.refs.values())

    def refuse(self, message: str) -> "Report":
        """Refuse all refs for one reason, which is told in full beside them."""
        self.refs = dict.fromkeys(self.refs, "refused")
        self.messages.append(message)
        return self


class Pushes:
    """Takes pushes to the repositories of a hub."""

    def __init__(self, accounts: Accounts, repositories: Repositories, commits: Commits) -> None:
        self._accounts = accounts
        self._repositories = repositories
        self._commits = commits

    def judge(self, actor: Actor, repository: Repository, push: Push, require_write: RequireWrite) -> Report:
        """What of a push is refused whatever is in its objects: known before any of them is here.

        Args:
            require_write: asked for pull requests, which take commits of their authors too.
        """
        if len(push.changes) > REFS_LIMIT:
            report = Report(dict.fromkeys(change.ref for change in push.changes))
            return report.refuse(f"{len(push.changes):,} refs in one push: push at most {REFS_LIMIT:,} at once")
        git = self._repositories.git(repository)
        refs = {change.ref: _refusal(actor, repository, git, change, require_write) for change in push.changes}
        return Report(all_or_none(refs) if "atomic" in push.capabilities else refs)

    def receive(
        self, actor: Actor, repository: Repository, push: Push, pack: IO[bytes], require_write: RequireWrite
    ) -> Report:
        """Take a push: all of its objects or none, then each ref that may move (all or none, if the client asks so).

        Args:
            pack: a file at the beginning of the pack; empty when nothing but removals is asked for.
            require_write: see `judge`; what it says is asked again, the pack may have taken an hour to come.

        Raises:
            InsufficientStorage: the disk is full; nothing was changed.
        """
        git = self._repositories.git(repository)
        report = self.judge(actor, repository, push, require_write)
        if not report.is_refused:
            with storage_errors(), quarantine(git.path) as incoming, git.naming_objects():
                self._take(actor, repository, git, push, pack, incoming, report)
        for change in push.changes:
            if report.refs[change.ref] is None:
                self._commits.moved(actor, repository, change.ref, change.before, change.after)
        return report

    def _take(
        self,
        actor: Actor,
        repository: Repository,
        git: GitRepository,
        push: Push,
        pack: IO[bytes],
        incoming: Path,
        report: Report,
    ) -> None:
        wanted = [change for change in push.changes if report.refs[change.ref] is None]
        if any(change.after is not None for change in wanted):
            size = os.fstat(pack.fileno()).st_size
            try:
                self._accounts.require_room(repository.account_id, size)
                if size > EMPTY_PACK:
                    _unpack(git.path, incoming, pack)
                self._check(actor, repository, git.path, incoming, wanted)
            except (BadRequest, Forbidden) as error:
                report.refuse(error.message)
                return
        report.refs |= git.move_refs(wanted, incoming / "pack", atomic="atomic" in push.capabilities)

    def _check(
        self, actor: Actor, repository: Repository, path: Path, incoming: Path, wanted: Sequence[RefChange]
    ) -> None:
        """Look at every object that is new in the repository.

        Raises:
            BadRequest: one is missing, too large, or named as no file may be; or a large file was not uploaded.
        """
        handle = pygit2.Repository(path)
        handle.odb.add_disk_alternate(str(incoming))
        pointers: list[AddLfs] = []
        tips = {change.ref: change.after for change in wanted if change.after is not None}
        for oid, where in _new_objects(path, incoming, tips.values()):
            kind, size = handle.odb.read_header(oid)
            if kind == pygit2.enums.ObjectType.TREE:
                _check_names(records(handle, pygit2.Oid(hex=oid)), where)
            elif kind == pygit2.enums.ObjectType.BLOB and size > REGULAR_LIMIT:
                raise BadRequest(
                    "{where} has {size:,} bytes: files of more than {limit:,} must go through git-lfs. "
                    "Run `git lfs migrate import --include='{where}'` and push again",
                    where=_show(where),
                    size=size,
                    limit=REGULAR_LIMIT,
                )
            elif kind == pygit2.enums.ObjectType.BLOB and size in POINTER_SIZES:
                pointer = parse_pointer(handle.odb.read(oid)[1])
                if pointer is not None:
                    pointers.append(AddLfs(_show(where), pointer.sha256, pointer.size))
        for ref, oid in tips.items():
            if not ref.startswith(TAGS) and handle.odb.read_header(oid)[0] != pygit2.enums.ObjectType.COMMIT:
                raise BadRequest("{ref} can only be at a commit, and {oid} is none", ref=ref, oid=oid)
        try:
            self._commits.prove(actor, repository, pointers)
        except BadRequest as error:
            raise BadRequest(
                "{reason}: run `git lfs push --all origin` and push again", reason=error.message
            ) from error


def parse(sent: bytes | bytearray) -> tuple[Push, int] | None:
    """The commands that a push begins with, and how many bytes they are; None while they are not all there.

    Raises:
        BadRequest: these are no commands.
    """
    changes: list[RefChange] = []
    capabilities: frozenset[str] = frozenset()
    at = 0
    while True:
        if len(sent) < at + 4:
            return None
        try:
            length = int(sent[at : at + 4], 16)
        except ValueError as error:
            raise BadRequest("The push does not begin with pkt-lines") from error
        if length == 0:
            break
        if length < 4:
            raise BadRequest("A pkt-line cannot have {length} bytes", length=length)
        if len(sent) < at + length:
            return None
        line, at = sent[at + 4 : at + length], at + length
        if line.startswith(b"shallow "):
            continue  # whether all objects are here is asked of the repository itself
        command, _, asked = line.rstrip(b"\n").partition(b"\0")
        capabilities |= frozenset(asked.decode(errors="replace").split())
        match = re.fullmatch(rb"([0-9a-f]{40}) ([0-9a-f]{40}) (\S+)", command)
        if match is None:
            raise BadRequest("Not a command of a push: {command!a}", command=command[:120])
        before, after = (None if oid == ZERO else oid for oid in (match[1].decode(), match[2].decode()))
        changes.append(RefChange(match[3].decode(errors="replace"), before, after))
    if len({change.ref for change in changes}) < len(changes):
        raise BadRequest("A push may name each ref once")
    return Push(tuple(changes), capabilities), at + 4


def whole_packets(sent: bytes) -> int:
    """How many bytes at the beginning of `sent` are pkt-lines that are all there.

    Raises:
        BadRequest: what follows is none.
    """
    at = 0
    while len(sent) >= at + 4:
        try:
            length = max(int(sent[at : at + 4], 16), 4)  # shorter ones are marks: gitprotocol-common(5)
        except ValueError as error:
            raise BadRequest("The request is not made of pkt-lines") from error
        if len(sent) < at + length:
            break
        at += length
    return at


def packet(line: bytes) -> bytes:
    """A pkt-line: its length, itself included, in four hexadecimal digits, then the bytes."""
    return b"%04x%s" % (len(line) + 4, line)


def advertisement(git: GitRepository) -> bytes:
    """What a client must know to push: every ref, and what is understood here."""
    refs = git.all_refs() or {"capabilities^{}": ZERO}
    lines = [f"{oid} {ref}" for ref, oid in refs.items()]
    lines[0] += f"\0{CAPABILITIES}"
    return b"".join(packet(f"{line}\n".encode()) for line in lines) + b"0000"


def answer(push: Push, report: Report) -> bytes:
    """The report in the client's terms; messages are shown to its user as `remote: …`."""
    lines = ["unpack ok"]
    lines += [f"ok {ref}" if why is None else f"ng {ref} {why}" for ref, why in report.refs.items()]
    status = b"".join(packet(f"{line}\n".encode()) for line in lines) + b"0000"
    if "report-status" not in push.capabilities:
        status = b""
    if "side-band-64k" not in push.capabilities:
        return status
    told = "".join(f"{message}\n" for message in report.messages).encode()
    bands = [packet(b"\2" + part) for part in _parts(told)] + [packet(b"\1" + part) for part in _parts(status)]
    return b"".join(bands) + b"0000"


@contextmanager
def quarantine(repository: Path) -> Iterator[Path]:
    """A directory for objects that may be refused; what killed pushes left is cleared, live ones hold a lock."""
    objects = repository / "objects"
    with ExitStack() as held:
        with _locked(objects):  # so that nobody finds it before it is locked
            for other in objects.glob(f"{QUARANTINE}*"):
                with suppress(OSError), _locked(other, fcntl.LOCK_NB):
                    shutil.rmtree(other, ignore_errors=True)
            incoming = Path(tempfile.mkdtemp(prefix=QUARANTINE, dir=objects))
            held.enter_context(_locked(incoming))
        held.callback(shutil.rmtree, incoming, ignore_errors=True)
        (incoming / "pack").mkdir()
        (incoming / "info").mkdir()
        (incoming / "info" / "alternates").write_text(f"{objects.absolute()}\n")
        yield incoming


@contextmanager
def _locked(directory: Path, how: int = 0) -> Iterator[None]:
    """Hold a directory; the kernel lets it go when this process dies."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(handle)


def _refusal(
    actor: Actor, repository: Repository, git: GitRepository, change: RefChange, require_write: RequireWrite
) -> str | None:
    """Why a ref may not change so, whatever is in the objects; None when it may."""
    try:
        if change.ref.startswith(PULL_REQUESTS):
            if change.before is None or change.after is None:
                return "pull requests are opened and closed on the hub, not by a push"
            require_write(actor, repository, change.ref)
            return None
        if not change.ref.startswith((BRANCHES, TAGS)):
            return "only branches, tags and open pull requests (refs/pr/NUMBER) take pushes"
        require(actor, Action.WRITE, repository)
        if change.after is None and change.ref in (BRANCHES + DEFAULT_BRANCH, BRANCHES + git.default_branch):
            return "the default branch cannot be deleted"
        check_ref_name(change.ref)
    except HubError as error:
        return error.message
    return None


def _unpack(repository: Path, incoming: Path, pack: IO[bytes]) -> None:
    """Check a pack and index it in the quarantine.

    Raises:
        BadRequest: it is damaged, or objects in it are not as git's should be.
    """
    # A large file is hashed as it comes, without being held in memory; its size is judged after that.
    command = ["git", f"--git-dir={repository}", "-c", f"core.bigFileThreshold={REGULAR_LIMIT}", "-c", "pack.threads=1"]
    os.lseek(pack.fileno(), 0, os.SEEK_SET)
    try:
        done = subprocess.run(
            [*command, "index-pack", "--stdin", "--fix-thin", "--strict"],
            stdin=pack,
            capture_output=True,
            env=_environment(incoming),
            timeout=UNPACK_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadRequest(
            "the pack took more than {limit} s to unpack: push less at once", limit=UNPACK_LIMIT
        ) from error
    if done.returncode == 0:
        return
    said = done.stderr.decode(errors="replace").strip()
    if os.strerror(errno.ENOSPC) in said:
        raise OSError(errno.ENOSPC, said)
    lines = [re.sub("^(error|fatal): ", "", line) for line in said.splitlines()]
    raise BadRequest("; ".join(lines[-2:]) or "git cannot read the pack")


def _new_objects(repository: Path, incoming: Path, tips: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Ids and paths of all objects that the tips lead to and no ref of the repository does.

    Raises:
        BadRequest: one of them is missing.
    """
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as said:
        asked.write("".join(f"{tip}\n" for tip in tips).encode())
        asked.seek(0)
        process = subprocess.Popen(
            ["git", f"--git-dir={repository}", "rev-list", "--objects", "--stdin", "--not", *VISIBLE],
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=said,
            env=_environment(incoming),
        )
        with process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    oid, _, path = line.rstrip(b"\n").partition(b" ")
                    yield oid.decode(), path
            finally:
                process.stdout.close()
        if process.returncode:
            raise BadRequest(
                "objects are missing: if your clone is shallow, run `git fetch --unshallow` and push again"
            )


def _environment(incoming: Path) -> dict[str, str]:
    return git_environment() | {"GIT_OBJECT_DIRECTORY": str(incoming)}


def _check_names(tree: list[Record], where: bytes) -> None:
    """Raise BadRequest when a name in a folder, at `where`, is one that a commit to the hub could not have."""
    for _, name, _ in tree:
        path = where + b"/" + name if where else name
        if len(path) >= PATH_LIMIT:
            raise BadRequest("path {path}…: at most {limit} bytes", path=_show(path)[:80], limit=PATH_LIMIT)
        if name != b".gitmodules":  # which git has just looked into: gitmodules* in git-fsck(1)
            try:
                check_name(name.decode(), _show(path))
            except UnicodeDecodeError as error:
                raise BadRequest("path {path}: not valid UTF-8; rename the file", path=_show(path)) from error


def _show(path: bytes) -> str:
    return path.decode(errors="backslashreplace")


def _parts(data: bytes) -> Iterator[bytes]:
    return (data[start : start + SIDEBAND] for start in range(0, len(data), SIDEBAND))
