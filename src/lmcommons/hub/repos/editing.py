"""Text files that are written in a browser, from one commit to the next, by people who may do it at the same time.

What somebody wrote is never lost and never written over unseen: whoever comes second is told what the first did, and
what git makes of both.
"""

from contextlib import suppress
from dataclasses import dataclass

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import Repository
from lmcommons.hub.errors import BadRequest, Conflict, EntryNotFound, PreconditionFailed
from lmcommons.hub.repos.commits import Commits
from lmcommons.hub.repos.git import AddFile, CopyFile, DeleteFile, Entry, GitRepository, Operation
from lmcommons.hub.repos.merge import MergedText, merge_texts
from lmcommons.hub.repos.repositories import Repositories

EDIT_LIMIT = 512 << 10  # bytes of a file that can be edited
TRIES = 5  # at a branch that others move all the time


@dataclass(frozen=True)
class Edit:
    """What somebody made of a file: `former` is its path at the commit `parent`, where they began; None: it is new.

    `text` None leaves the content, of any kind, and only moves the file to `path`. Lines end with one line feed, or a
    carriage return before it, as browsers send them; the file keeps the ends that it had.
    """

    path: str
    former: str | None
    parent: str
    text: str | None


class EditConflict(Conflict):
    """Somebody else changed the file since; `theirs` is its text at `head`, None where it is gone or no text now.

    `merged` is what git makes of both changes, None where there is nothing to merge.
    """

    def __init__(self, path: str, head: str, theirs: str | None, merged: MergedText | None) -> None:
        super().__init__("{path} was changed by somebody else since you began; nothing was saved yet", path=path)
        self.head = head
        self.theirs = theirs
        self.merged = merged


class Editing:
    """The editor of a hub's text files."""

    def __init__(self, repositories: Repositories, commits: Commits) -> None:
        self._repositories = repositories
        self._commits = commits

    def text(self, repository: Repository, commit: str, path: str) -> str:
        """The text of a file, to be edited.

        Raises:
            EntryNotFound: there is none. BadRequest: it is too long, or no text in UTF-8.
        """
        git = self._repositories.git(repository)
        return _text(git, git.entry(commit, path))

    def save(self, actor: Actor, repository: Repository, branch: str, edit: Edit, *, message: str) -> str:
        """Commit an edit to a branch; returns the branch's commit. Other files may have changed meanwhile.

        Raises:
            EditConflict: somebody changed the same file. Conflict: the new path is taken.
            BadRequest: a path that is not allowed, or too much text. RevisionNotFound: no such branch.
        """
        for _ in range(TRIES - 1):
            with suppress(PreconditionFailed):  # the branch moved between looking at it and the commit
                return self._save(actor, repository, branch, edit, message)
        return self._save(actor, repository, branch, edit, message)

    def _save(self, actor: Actor, repository: Repository, branch: str, edit: Edit, message: str) -> str:
        git = self._repositories.git(repository)
        head = git.branch(branch)
        if edit.former is not None and edit.text is not None:
            try:
                _check_unchanged(git, edit.former, edit.parent, head, edit.text)
            except EditConflict as conflict:
                same = conflict.theirs is not None and _with_ends_of(conflict.theirs, edit.text) == conflict.theirs
                if same and edit.path == edit.former:
                    return head  # just this was saved meanwhile: perhaps by this very form, whose answer was lost
                raise
        operations = self.operations(repository, head, edit)
        return self._commits.commit(actor, repository, branch, operations, message=message, parent=head)

    def remove(self, actor: Actor, repository: Repository, branch: str, path: str, *, parent: str, message: str) -> str:
        """Commit the removal of a file that was seen at the commit `parent`; returns the branch's commit.

        Raises:
            Conflict: it was changed since. EntryNotFound: it is gone.
        """
        git = self._repositories.git(repository)
        head = git.branch(branch)
        if git.entry(head, path).oid != git.entry(parent, path).oid:
            raise Conflict("{path} was changed since you looked at it; look again before you delete it", path=path)
        return self._commits.commit(actor, repository, branch, [DeleteFile(path)], message=message, parent=head)

    def operations(self, repository: Repository, commit: str, edit: Edit) -> list[Operation]:
        """What an edit does to the files of a commit.

        Raises:
            BadRequest: too much text. Conflict: the new path is taken. EntryNotFound: there is nothing to move.
        """
        git = self._repositories.git(repository)
        if edit.path != edit.former and git.existing(commit, [edit.path]):
            raise Conflict("{path} is there already; choose another name, or edit that file", path=edit.path)
        operations: list[Operation] = []
        if edit.former not in (None, edit.path):  # a copy keeps what the file is besides its text: executable, large
            operations = [CopyFile(edit.path, str(edit.former), commit), DeleteFile(str(edit.former))]
        if edit.text is not None:
            former = _text(git, git.entry(commit, edit.former)) if edit.former is not None else ""
            content = _with_ends_of(former, edit.text).encode()
            if len(content) > EDIT_LIMIT:
                raise BadRequest(
                    "{path}: {count:,} bytes of text; at most {limit:,} can be edited here",
                    path=edit.path,
                    count=len(content),
                    limit=EDIT_LIMIT,
                )
            operations.append(AddFile(edit.path, content))
        return operations


def _check_unchanged(git: GitRepository, path: str, parent: str, head: str, text: str) -> None:
    """Return when the file is at `head` what it was at `parent`, from which somebody came to `text`.

    Raises:
        EditConflict: it is not.
    """
    before, now = git.entry(parent, path), next(iter(git.existing(head, [path])), None)
    if now is not None and now.oid == before.oid:
        return
    theirs, merged = None, None
    if now is not None:
        with suppress(BadRequest, EntryNotFound):  # it is no text any more
            theirs = _text(git, now)
            sides = [side.replace("\r\n", "\n") for side in (_text(git, before), text, theirs)]
            merged = merge_texts(*sides, names=("yours", "theirs"))
    raise EditConflict(path, head, theirs, merged)


def _text(git: GitRepository, entry: Entry) -> str:
    if entry.type == "directory":
        raise EntryNotFound("{path} is a folder, not a file", path=entry.path)
    if entry.lfs or entry.size > EDIT_LIMIT:
        raise BadRequest(
            "{path} cannot be edited here: it has more than {limit:,} bytes, or is a large file",
            path=entry.path,
            limit=EDIT_LIMIT,
        )
    content = git.read(entry.oid)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BadRequest("{path} cannot be edited here: it is not a text in UTF-8", path=entry.path)
    return text


def _with_ends_of(former: str, text: str) -> str:
    """The text with the line ends of `former`."""
    text = text.replace("\r\n", "\n")
    return text.replace("\n", "\r\n") if "\r\n" in former else text
