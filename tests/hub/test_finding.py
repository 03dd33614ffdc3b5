"""Search in discussions: what finds them, and what no longer does once it was changed or hidden."""

import secrets
from collections.abc import Iterator

import pytest
from open_rooms import open_rooms
from sqlalchemy import delete

from lmcommons.hub.accounts.permissions import Actor
from lmcommons.hub.community.discussions import Listing
from lmcommons.hub.database.tables import DiscussionTerms, Repository, RepositoryType
from lmcommons.hub.rooms import Hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    opened = open_rooms(tmp_path_factory.mktemp("finding") / "hub")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ann(hub: Hub) -> Actor:
    return hub.tokens.actor(hub.accounts.add_user("ann"))


@pytest.fixture(scope="module")
def operator(hub: Hub) -> Actor:
    return hub.tokens.actor(hub.accounts.add_user("olga", admin=True))


@pytest.fixture
def repository(hub: Hub, ann: Actor) -> Repository:
    return hub.repositories.create(ann, RepositoryType.MODEL, None, f"r{secrets.token_hex(4)}")


def found(hub: Hub, repository: Repository, search: str, status: str = "all") -> list[int]:
    """The numbers of the discussions that a search finds."""
    discussions, counts = hub.discussions.listing(repository, Listing(search=search, status=status))
    assert counts[status] == len(discussions)
    return [discussion.number for discussion in discussions]


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("ОШИБКА", "Где ошибка?"),
        ("ΛΌΓΟΣ", "Ο λόγος είναι"),
        ("λογος", "Ο ΛΌΓΟΣ"),
        ("istanbul", "İSTANBUL'da"),
        ("KIZ", "kız"),
        ("kız", "KIZ"),
        ("سلام", "سَلَامٌ عليكم"),
        ("سلام", "ســلام"),
        ("שלום", "שָׁלוֹם"),
        ("机器翻译", "这个机器翻译模型"),
        ("译", "机器翻译"),
        ("STRASSE", "Straße"),
        ("naïve café", "A NAIVE approach, said in a cafe"),
        ("loss 3.14", "the loss is 3.14 again"),
        ("learn & rate", "learning-rate"),
        ("torch_dtype", "set `torch_dtype=bfloat16`"),
    ],
)
def test_case_accents_and_script_do_not_matter(hub: Hub, ann: Actor, repository: Repository, search: str, said: str):
    hub.discussions.open(ann, repository, "Something else", said)
    hub.discussions.open(ann, repository, said, "Something else")
    hub.discussions.open(ann, repository, "Something else", "Something else")
    assert found(hub, repository, search) == [2, 1]


def test_words_may_stand_in_different_comments_and_each_must_be_there(hub: Hub, ann: Actor, repository: Repository):
    hub.discussions.open(ann, repository, "Tokens", "speed")
    hub.discussions.comment(ann, repository, 1, "memory 机器")
    hub.discussions.comment(ann, repository, 1, "翻译")
    assert found(hub, repository, "memory tok speed") == [1]
    assert found(hub, repository, "memory absent") == []
    assert found(hub, repository, "机器 翻译") == [1]
    assert found(hub, repository, "机器翻译") == [], "the characters of one word stand together"
    assert found(hub, repository, "%") == found(hub, repository, '"*') == []
    assert found(hub, repository, "") == found(hub, repository, " ") == [1]
    assert found(hub, repository, "speed" + " " * 195 + "absent") == [1], "what is past the limit is not looked at"


def test_the_end_of_a_long_comment_finds_it(hub: Hub, ann: Actor, repository: Repository):
    hub.discussions.open(ann, repository, "Log", "step loss\n" * 6_000 + "quagga")
    assert found(hub, repository, "quagga") == [1]


def test_a_changed_text_is_found_by_what_it_says_now(hub: Hub, ann: Actor, repository: Repository):
    hub.discussions.open(ann, repository, "former title", "first")
    comment = hub.discussions.comment(ann, repository, 1, "former words")
    hub.discussions.edit(ann, repository, 1, comment.id, "in between")
    hub.discussions.edit(ann, repository, 1, comment.id, "present words")
    hub.discussions.rename(ann, repository, 1, "present title")
    assert found(hub, repository, "present words title first") == [1]
    assert found(hub, repository, "former") == found(hub, repository, "between") == []


def test_what_was_hidden_finds_nothing_and_what_is_restored_does_again(
    hub: Hub, ann: Actor, operator: Actor, repository: Repository
):
    hub.discussions.open(ann, repository, "title", "stays")
    own = hub.discussions.comment(ann, repository, 1, "regretted")
    bad = hub.discussions.comment(ann, repository, 1, "insulting")
    case = hub.reports.report(ann, repository, "abuse", number=1, comment=bad.id)
    whole = hub.reports.report(ann, repository, "abuse", number=1)
    hub.discussions.hide(ann, repository, 1, own.id)
    hub.moderation.decide(operator, case.id, hide=True, note="bad")
    assert found(hub, repository, "regretted") == found(hub, repository, "insulting") == []
    assert found(hub, repository, "stays") == [1]
    hub.moderation.decide(operator, whole.id, hide=True, note="bad")
    assert found(hub, repository, "stays") == []
    hub.moderation.restore(operator, whole.id, note="")
    hub.moderation.restore(operator, case.id, note="")
    assert found(hub, repository, "stays insulting") == [1]
    assert found(hub, repository, "regretted") == []


def test_a_search_stays_in_its_repository(hub: Hub, ann: Actor, repository: Repository):
    other = hub.repositories.create(ann, RepositoryType.DATASET, None, repository.name)
    for place in (repository, other):
        hub.discussions.open(ann, place, "the same", "words")
    hub.discussions.open(ann, other, "the same", f"words {repository.id}")
    assert found(hub, repository, "same words") == [1]
    hub.repositories.delete(ann, RepositoryType.DATASET, other.full_name)
    assert found(hub, repository, "same words") == [1]


def test_discussions_from_before_there_was_an_index_get_one(
    hub: Hub, ann: Actor, operator: Actor, repository: Repository
):
    hub.discussions.open(ann, repository, "first title", "said first")
    comment = hub.discussions.comment(ann, repository, 1, "former")
    bad = hub.discussions.comment(ann, repository, 1, "insulting")
    hub.discussions.edit(ann, repository, 1, comment.id, "present")
    case = hub.reports.report(ann, repository, "abuse", number=1, comment=bad.id)
    hub.moderation.decide(operator, case.id, hide=True, note="bad")
    with hub.database.write() as session:
        session.execute(delete(DiscussionTerms))
    hub.discussions.rename(ann, repository, 1, "second title")
    hub.discussions.comment(ann, repository, 1, "meanwhile")
    hub.index()
    assert found(hub, repository, "second said present meanwhile") == [1]
    assert found(hub, repository, "former") == found(hub, repository, "insulting") == []
    hub.moderation.restore(operator, case.id, note="")
    assert found(hub, repository, "insulting") == [1]
