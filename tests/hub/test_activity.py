"""The feed of a hub's first page: what was done where the reader may look, and which discussions wait."""

from collections.abc import Iterator

import pytest
from open_rooms import open_rooms

from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.community.activity import Act
from lmcommons.hub.database.tables import Repository, RepositoryType, Role, TokenRole
from lmcommons.hub.repos.git import AddFile
from lmcommons.hub.rooms import Hub


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    rooms = open_rooms(tmp_path_factory.mktemp("activity") / "hub")
    yield rooms
    rooms.close()


@pytest.fixture
def ada(hub: Hub) -> Actor:
    return user(hub, "ada")


@pytest.fixture
def ben(hub: Hub) -> Actor:
    return user(hub, "ben")


@pytest.fixture
def model(hub: Hub, ada: Actor) -> Repository:
    return hub.commits.create_repository(ada, RepositoryType.MODEL, "ada", "tales")


def user(hub: Hub, name: str) -> Actor:
    return hub.tokens.actor(hub.accounts.add_user(name))


def write(hub: Hub, actor: Actor, repository: Repository, text: str) -> None:
    hub.commits.commit(actor, repository, "main", [AddFile("notes.txt", text.encode())], message=text)


def told(acts: list[Act]) -> list[tuple[str, str | None, str, int]]:
    return [(act.kind, act.actor and act.actor.name, act.repository.full_name, act.times) for act in acts]


def waiting(hub: Hub, actor: Actor = ANONYMOUS) -> list[str]:
    return [each.discussion.title for each in hub.activity.waiting(actor)]


def test_a_new_hub_has_no_activity(hub: Hub):
    assert hub.activity.latest(ANONYMOUS) == []
    assert hub.activity.waiting(ANONYMOUS) == []


def test_the_last_act_comes_first_and_equal_ones_in_a_row_are_one(hub: Hub, ada: Actor, ben: Actor, model: Repository):
    write(hub, ada, model, "one")
    write(hub, ada, model, "two")
    hub.likes.like(ben, model)
    write(hub, ada, model, "three")
    assert told(hub.activity.latest(ANONYMOUS)) == [
        ("branch.moved", "ada", "ada/tales", 1),
        ("repository.liked", "ben", "ada/tales", 1),
        ("branch.moved", "ada", "ada/tales", 2),
        ("repository.created", "ada", "ada/tales", 1),
    ]
    assert hub.activity.latest(ANONYMOUS)[0].ref == "main"
    assert len(hub.activity.latest(ANONYMOUS, limit=2)) == 2
    assert told(hub.activity.latest(ANONYMOUS, by="ben")) == [("repository.liked", "ben", "ada/tales", 1)]


def test_discussions_are_told_with_their_present_title_and_what_they_became(
    hub: Hub, ada: Actor, ben: Actor, model: Repository
):
    hub.discussions.open(ben, model, "Which bees?", "Honey or mason?")
    hub.discussions.rename(ben, model, 1, "Which wasps?")
    hub.discussions.set_status(ada, model, 1, "closed")
    closed, opened = hub.activity.latest(ANONYMOUS)[:2]
    assert (closed.kind, closed.number, closed.title, closed.status) == (
        "discussion.status",
        1,
        "Which wasps?",
        "closed",
    )
    assert (opened.kind, opened.title, opened.status) == ("discussion.created", "Which wasps?", None)


def test_what_the_reader_may_not_see_is_not_told(hub: Hub, ada: Actor, ben: Actor):
    hidden = hub.commits.create_repository(ada, RepositoryType.MODEL, "ada", "hidden", private=True)
    hub.discussions.open(ada, hidden, "Between us", "Hush")
    assert hub.activity.latest(ben) == []
    assert [act.kind for act in hub.activity.latest(ada)] == ["discussion.created", "repository.created"]


def test_a_repository_that_became_private_or_was_deleted_leaves_the_feed(hub: Hub, ada: Actor, ben: Actor, model):
    hub.discussions.open(ben, model, "Which bees?", "Honey or mason?")
    hub.repositories.change(ada, RepositoryType.MODEL, "ada/tales", private=True)
    assert hub.activity.latest(ben) == []
    assert waiting(hub, ben) == []
    hub.repositories.change(ada, RepositoryType.MODEL, "ada/tales", private=False)
    assert waiting(hub, ben) == ["Which bees?"]
    hub.repositories.delete(ada, RepositoryType.MODEL, "ada/tales")
    assert hub.activity.latest(ada) == []
    assert waiting(hub, ada) == []


def test_a_discussion_waits_until_the_owner_answers_and_again_after_that(
    hub: Hub, ada: Actor, ben: Actor, model: Repository
):
    hub.discussions.open(ben, model, "Which bees?", "Honey or mason?")
    hub.discussions.open(ada, model, "Plans", "What comes next")
    assert waiting(hub) == ["Which bees?"]
    hub.discussions.comment(ada, model, 1, "Both")
    assert waiting(hub) == []
    said = hub.discussions.comment(ben, model, 1, "And wasps?")
    assert waiting(hub) == ["Which bees?"]
    hub.discussions.hide(ben, model, 1, said.id)
    assert waiting(hub) == []
    hub.discussions.comment(ben, model, 1, "Sorry: and wasps?")
    hub.discussions.set_status(ada, model, 1, "closed")
    assert waiting(hub) == []


def test_any_member_of_an_organisation_answers_for_it(hub: Hub, ada: Actor, ben: Actor):
    eve = user(hub, "eve")
    hub.organisations.add("lab", members=[("ada", Role.ADMIN), ("eve", Role.READ)])
    admin = hub.tokens.actor(hub.tokens.add("ada", "again", TokenRole.WRITE))
    shared = hub.commits.create_repository(admin, RepositoryType.DATASET, "lab", "stories")
    hub.discussions.open(ben, shared, "Where from?", "I wonder")
    assert waiting(hub) == ["Where from?"]
    hub.discussions.comment(eve, shared, 1, "From the library")
    assert waiting(hub) == []
