"""What a commit does to a tree: add, delete and copy files, on git's own terms.

A tree has no empty folders, a name is either a file or a folder, and an untouched folder keeps its object id.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pygit2

from lmcommons.hub.errors import BadRequest, EntryNotFound, InvalidPath
from lmcommons.hub.repos.pack import PackWriter
from lmcommons.hub.repos.pointers import format_pointer
from lmcommons.hub.words import Words

FOLDER_MODE = 0o040000
FILE_MODE = 0o100644
EXECUTABLE_MODE = 0o100755

PATH_LIMIT = 1024  # bytes
NAME_LIMIT = 255  # bytes; what file systems hold

# The last two ranges reorder the text after them, so that a name is shown as another one.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
# A backslash is an ordinary character, as on the hub that clients know, but no path may begin outside its folder as
# Windows reads it. Git and the current client refuse all such names there.
_WINDOWS_OUTSIDE = re.compile(r"\.{0,2}\\|[A-Za-z]:\\")
# Names that a file system may take for `.git` or that would configure the reader's git: letters that HFS+ ignores,
# NTFS's short name and its trailing dots, spaces and streams.
_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_RESERVED = re.compile(r"(\.git|git~\d+)[. ]*(:.*)?|\.gitmodules[. ]*(:.*)?", re.IGNORECASE)


@dataclass(frozen=True)
class AddFile:
    """Put `content` at `path`."""

    path: str
    content: bytes


@dataclass(frozen=True)
class AddLfs:
    """Put a pointer to the stored object `sha256` of `size` bytes at `path`."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class DeleteFile:
    """Remove the file at `path`."""

    path: str


@dataclass(frozen=True)
class DeleteFolder:
    """Remove the folder at `path` and all that is in it."""

    path: str


@dataclass(frozen=True)
class CopyFile:
    """Put the file that is at `source_path` in `source_revision` of the same repository at `path`."""

    path: str
    source_path: str
    source_revision: str


Operation = AddFile | AddLfs | DeleteFile | DeleteFolder | CopyFile
Leaf = tuple[int, bytes]  # mode and object id of anything that no operation goes into


def path_names(path: str) -> list[bytes]:
    """The names on the way to `path`, checked so that any git on any system can hold them.

    Raises:
        InvalidPath: the path is empty, absolute, too long, leaves the repository, or has a name that git reserves.
    """
    try:
        names = [name.encode() for name in path.split("/")]
    except UnicodeEncodeError as error:
        raise InvalidPath("path {path!a}: not valid Unicode", path=path) from error
    if sum(map(len, names)) + len(names) > PATH_LIMIT:
        raise InvalidPath("path {path!r}…: at most {limit} bytes", path=path[:80], limit=PATH_LIMIT)
    for name in path.split("/"):
        check_name(name, path)
    return names


def check_name(name: str, path: str) -> None:
    """Check one name on the way to `path`, which is only shown.

    Raises:
        InvalidPath: no file or folder may be called so.
    """
    if name in ("", ".", ".."):
        raise InvalidPath("path {path!r}: must be relative, without empty, '.' or '..' parts", path=path)
    if _CONTROL.search(name):
        raise InvalidPath("path {path!a}: control characters are not allowed", path=path)
    if _WINDOWS_OUTSIDE.match(path):
        raise InvalidPath("path {path!r}: begins outside the repository on Windows; use '/' between folders", path=path)
    if len(name.encode()) > NAME_LIMIT:
        raise InvalidPath("path {path!r}…: at most {limit} bytes a name", path=path[:80], limit=NAME_LIMIT)
    if any(_RESERVED.fullmatch(part) for part in _HFS_IGNORED.sub("", name).split("\\")):
        raise InvalidPath("path {path!r}: the name {name!r} is reserved by git", path=path, name=name)


def apply(
    operations: Iterable[Operation],
    tree: pygit2.Tree | None,
    *,
    repository: pygit2.Repository,
    find: Callable[[str, str], Leaf],
    writer: PackWriter,
) -> bytes:
    """Write the tree that results from `operations`, in order, on `tree`; returns its object id, 20 bytes.

    Args:
        tree: the tree to begin with; None for a repository's first commit.
        find: the file at (revision, path), for copies.

    Raises:
        BadRequest: a path is not allowed, or needs a file to be a folder or a folder to be a file.
        EntryNotFound: a file or folder to delete or to copy is absent.
    """
    root = _Folder.read(tree) if tree is not None else _Folder()
    for operation in operations:
        names = path_names(operation.path)
        match operation:
            case AddFile(content=content):
                root.put(repository, names, writer.add("blob", content))
            case AddLfs(sha256=sha256, size=size):
                root.put(repository, names, writer.add("blob", format_pointer(sha256, size)))
            case CopyFile(source_path=source_path, source_revision=source_revision):
                mode, oid = find(source_revision, source_path)
                root.put(repository, names, oid, mode)
            case DeleteFile():
                root.remove(repository, names, folder=False)
            case DeleteFolder():
                root.remove(repository, names, folder=True)
    return root.write(writer) or writer.add("tree", b"")


@dataclass
class _Folder:
    """A folder that operations go into; the entries they do not reach stay leaves."""

    entries: "dict[bytes, Leaf | _Folder]" = field(default_factory=dict)

    @classmethod
    def read(cls, tree: pygit2.Tree) -> "_Folder":
        return cls({entry.raw_name or b"": (int(entry.filemode), entry.id.raw) for entry in tree})

    def child(self, repository: pygit2.Repository, name: bytes) -> "Leaf | _Folder | None":
        """The entry `name`, opened when it is a folder."""
        found = self.entries.get(name)
        if isinstance(found, tuple) and found[0] == FOLDER_MODE:
            tree = repository[pygit2.Oid(raw=found[1])]
            assert isinstance(tree, pygit2.Tree)
            found = self.entries[name] = _Folder.read(tree)
        return found

    def put(self, repository: pygit2.Repository, names: list[bytes], oid: bytes, mode: int | None = None) -> None:
        folder = self
        for position, name in enumerate(names[:-1]):
            below = folder.child(repository, name)
            if below is None:
                below = folder.entries[name] = _Folder()
            if not isinstance(below, _Folder):
                raise BadRequest(
                    "path {path}: {file} is a file, not a folder",
                    path=_show(names),
                    file=_show(names[: position + 1]),
                )
            folder = below
        present = folder.child(repository, names[-1])
        if isinstance(present, _Folder) and present.has_files():
            raise BadRequest("path {path}: is a folder; delete it first or choose another name", path=_show(names))
        if mode is None:
            mode = EXECUTABLE_MODE if isinstance(present, tuple) and present[0] == EXECUTABLE_MODE else FILE_MODE
        folder.entries[names[-1]] = (mode, oid)

    def remove(self, repository: pygit2.Repository, names: list[bytes], *, folder: bool) -> None:
        parent: Leaf | _Folder | None = self
        for name in names[:-1]:
            parent = parent.child(repository, name) if isinstance(parent, _Folder) else None
        found = parent.child(repository, names[-1]) if isinstance(parent, _Folder) else None
        if (
            not isinstance(parent, _Folder)
            or found is None
            or isinstance(found, _Folder) != folder
            or (isinstance(found, _Folder) and not found.has_files())
        ):
            raise EntryNotFound(
                "{path}: no such {kind} to delete", path=_show(names), kind=Words("folder" if folder else "file")
            )
        del parent.entries[names[-1]]

    def has_files(self) -> bool:
        """Whether anything is left here; git has no empty folders, so a leaf that is a folder counts."""
        for entry in self.entries.values():  # noqa: SIM110 - `any` takes two frames a level, and paths go 500 deep
            if not isinstance(entry, _Folder) or entry.has_files():
                return True
        return False

    def write(self, writer: PackWriter) -> bytes | None:
        """Write this folder and those below; returns its object id, or None when it is empty."""
        records: list[tuple[bytes, bytes]] = []
        for name, entry in self.entries.items():
            if isinstance(entry, _Folder):
                oid = entry.write(writer)
                if oid is None:
                    continue
                entry = (FOLDER_MODE, oid)
            mode, oid = entry
            # Git compares a folder's name as if it ended with a slash.
            order = name + b"/" if mode == FOLDER_MODE else name
            records.append((order, b"%o %s\0%s" % (mode, name, oid)))
        if not records:
            return None
        return writer.add("tree", b"".join(record for _, record in sorted(records)))


def _show(names: list[bytes]) -> str:
    return repr(b"/".join(names).decode())
