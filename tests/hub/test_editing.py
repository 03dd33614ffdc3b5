"""Files written in a browser: line ends and modes are kept, names are free, and nobody writes over another unseen."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from open_rooms import open_rooms

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest, Conflict, EntryNotFound
from lmcommons.hub.repos.editing import EDIT_LIMIT, Edit, EditConflict
from lmcommons.hub.repos.git import AddFile, GitRepository
from lmcommons.hub.rooms import Hub

POEM = "\n".join(["one", "two", "three", "four", "five", ""])


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Hub]:
    rooms = open_rooms(tmp_path / "hub")
    yield rooms
    rooms.close()


@pytest.fixture
def ann(rooms: Hub) -> Actor:
    return rooms.tokens.actor(rooms.accounts.add_user("ann"))


@pytest.fixture
def repository(rooms: Hub, ann: Actor) -> Repository:
    made = rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "m", card="# M\n")
    files = {"poem.txt": POEM.encode(), "windows.txt": b"a\r\nb\r\n", "bytes.txt": b"\xff\0", "d/x.txt": b"x"}
    rooms.commits.commit(ann, made, "main", [AddFile(*file) for file in files.items()], message="files")
    return made


@pytest.fixture
def git(rooms: Hub, repository: Repository) -> GitRepository:
    return rooms.repositories.git(repository)


def text(git: GitRepository, path: str) -> str:
    return git.read(git.entry("main", path).oid).decode()


def save(rooms: Hub, ann: Actor, repository: Repository, edit: Edit) -> str:
    return rooms.editing.save(ann, repository, "main", edit, message="edit")


def test_a_new_repository_has_the_card_it_was_made_with(git: GitRepository):
    assert text(git, "README.md") == "# M\n"


def test_what_a_browser_sends_keeps_the_line_ends_of_the_file(rooms, ann, repository, git):
    start = git.branch("main")
    save(rooms, ann, repository, Edit("poem.txt", "poem.txt", start, "eins\r\nzwei\r\n"))
    save(rooms, ann, repository, Edit("windows.txt", "windows.txt", start, "a\r\nb\r\nc\r\n"))
    save(rooms, ann, repository, Edit("new.txt", None, start, "新\r\n"))
    assert [text(git, name) for name in ("poem.txt", "windows.txt", "new.txt")] == [
        "eins\nzwei\n",
        "a\r\nb\r\nc\r\n",
        "新\n",
    ]


def test_an_unchanged_text_makes_no_commit(rooms, ann, repository, git):
    start = git.branch("main")
    opened = rooms.editing.text(repository, start, "windows.txt")
    assert save(rooms, ann, repository, Edit("windows.txt", "windows.txt", start, opened)) == start


def test_other_files_may_change_meanwhile(rooms, ann, repository, git):
    start = git.branch("main")
    rooms.commits.commit(ann, repository, "main", [AddFile("d/x.txt", b"y")], message="other")
    save(rooms, ann, repository, Edit("poem.txt", "poem.txt", start, "mine\n"))
    assert (text(git, "poem.txt"), text(git, "d/x.txt")) == ("mine\n", "y")


@pytest.mark.parametrize(
    ("theirs", "clean", "merged"),
    [
        (POEM.replace("five", "FIVE"), True, POEM.replace("one", "ONE").replace("five", "FIVE")),
        (
            POEM.replace("one", "1"),
            False,
            POEM.replace("one", "<<<<<<< yours\nONE\n=======\n1\n>>>>>>> theirs"),
        ),
    ],
)
def test_who_comes_second_is_shown_both_and_what_git_makes_of_them(
    rooms, ann, repository, git, theirs: str, clean: bool, merged: str
):
    start = git.branch("main")
    mine = Edit("poem.txt", "poem.txt", start, POEM.replace("one", "ONE").replace("\n", "\r\n"))
    head = save(rooms, ann, repository, Edit("poem.txt", "poem.txt", start, theirs))
    with pytest.raises(EditConflict) as found:
        save(rooms, ann, repository, mine)
    conflict = found.value
    assert conflict.merged is not None
    assert (conflict.head, conflict.theirs) == (head, theirs)
    assert (conflict.merged.clean, conflict.merged.text) == (clean, merged)
    assert text(git, "poem.txt") == theirs
    save(rooms, ann, repository, Edit("poem.txt", "poem.txt", conflict.head, conflict.merged.text))
    assert text(git, "poem.txt") == merged


def test_the_same_text_saved_twice_is_one_commit_and_no_conflict(rooms, ann, repository, git):
    start = git.branch("main")
    edit = Edit("poem.txt", "poem.txt", start, POEM.replace("one", "ONE").replace("\n", "\r\n"))
    head = save(rooms, ann, repository, edit)
    assert save(rooms, ann, repository, edit) == head
    assert git.branch("main") == head


def test_a_file_that_is_gone_or_no_text_any_more_is_told(rooms, ann, repository, git):
    start = git.branch("main")
    rooms.editing.remove(ann, repository, "main", "d/x.txt", parent=start, message="remove")
    rooms.commits.commit(ann, repository, "main", [AddFile("poem.txt", b"\0")], message="other")
    for path in ("d/x.txt", "poem.txt"):
        with pytest.raises(EditConflict) as found:
            save(rooms, ann, repository, Edit(path, path, start, "mine"))
        assert (found.value.theirs, found.value.merged) == (None, None)


def test_a_file_gets_another_name_with_what_it_is(rooms, ann, repository, git):
    start = git.branch("main")
    save(rooms, ann, repository, Edit("e/bytes", "bytes.txt", start, None))
    save(rooms, ann, repository, Edit("song.txt", "poem.txt", start, "la\n"))
    names = [entry.path for entry in git.entries("main", recursive=True) if entry.type == "file"]
    assert sorted(names) == [".gitattributes", "README.md", "d/x.txt", "e/bytes", "song.txt", "windows.txt"]
    assert (git.read(git.entry("main", "e/bytes").oid), text(git, "song.txt")) == (b"\xff\0", "la\n")


def test_a_name_that_is_taken_is_refused(rooms, ann, repository, git):
    start = git.branch("main")
    for edit in (
        Edit("poem.txt", None, start, "x"),
        Edit("poem.txt", "d/x.txt", start, None),
        Edit("d", None, start, "x"),
    ):
        with pytest.raises(Conflict, match="is there already"):
            save(rooms, ann, repository, edit)
    assert git.branch("main") == start


def test_a_file_that_was_changed_since_is_not_deleted(rooms, ann, repository, git):
    start = git.branch("main")
    head = save(rooms, ann, repository, Edit("poem.txt", "poem.txt", start, "mine\n"))
    with pytest.raises(Conflict, match="look again"):
        rooms.editing.remove(ann, repository, "main", "poem.txt", parent=start, message="remove")
    rooms.editing.remove(ann, repository, "main", "poem.txt", parent=head, message="remove")
    with pytest.raises(EntryNotFound):
        git.entry("main", "poem.txt")


def test_only_text_of_a_bearable_length_is_edited(rooms, ann, repository, git):
    start = git.branch("main")
    with pytest.raises(BadRequest, match="not a text"):
        rooms.editing.text(repository, start, "bytes.txt")
    with pytest.raises(EntryNotFound, match="folder"):
        rooms.editing.text(repository, start, "d")
    with pytest.raises(BadRequest, match="at most"):
        save(rooms, ann, repository, Edit("poem.txt", "poem.txt", start, "x" * (EDIT_LIMIT + 1)))
    with pytest.raises(BadRequest, match="relative"):
        save(rooms, ann, repository, Edit("../x", None, start, "x"))
