"""Following repositories: a button, a list, and news of what is opened."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from browser import Browser
from hub_process import HubProcess
from huggingface_hub import HfApi
from open_rooms import open_rooms

from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.database.tables import RepositoryType
from lmcommons.hub.errors import Unauthorized
from lmcommons.hub.rooms import Hub

PASSWORD = "correct horse battery"


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Hub]:
    with closing(open_rooms(tmp_path / "hub")) as hub:
        yield hub


def user(hub: Hub, name: str) -> Actor:
    return hub.tokens.actor(hub.accounts.add_user(name))


def test_a_follower_is_told_of_what_is_opened_and_of_nothing_else(rooms: Hub):
    ann, ben, eve = (user(rooms, name) for name in ("ann", "ben", "eve"))
    repository = rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    rooms.follows.follow_repository(ben, repository)
    rooms.follows.follow_repository(ben, repository)
    assert rooms.follows.of_repository(ben, repository) == (1, True)
    assert rooms.follows.of_repository(eve, repository) == (1, False)
    assert [account.name for account in rooms.follows.repository_followers(repository)] == ["ben"]
    opened = rooms.discussions.open(eve, repository, title="Which data?", text="Tell us.")
    assert rooms.notifications.unread(ben) == 1
    rooms.discussions.comment(eve, repository, opened.number, "Nobody?")
    assert rooms.notifications.unread(ben) == 1
    rooms.follows.unfollow_repository(ben, repository)
    rooms.discussions.open(eve, repository, title="And now?", text="Hm.")
    assert rooms.notifications.unread(ben) == 1
    assert rooms.follows.of_repository(ben, repository) == (0, False)


def test_who_may_no_longer_see_a_repository_is_told_nothing(rooms: Hub):
    ann, ben = user(rooms, "ann"), user(rooms, "ben")
    repository = rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    rooms.follows.follow_repository(ben, repository)
    rooms.repositories.change(ann, RepositoryType.MODEL, "ann/m", private=True)
    repository = rooms.repositories.find(ann, RepositoryType.MODEL, "ann/m")
    rooms.discussions.open(ann, repository, title="Among us", text="Quiet.")
    assert rooms.notifications.unread(ben) == 0


def test_nobody_follows_without_an_account(rooms: Hub):
    repository = rooms.commits.create_repository(user(rooms, "ann"), RepositoryType.MODEL, None, "m")
    with pytest.raises(Unauthorized):
        rooms.follows.follow_repository(ANONYMOUS, repository)


def test_followers_go_with_the_repository(rooms: Hub):
    ann, ben = user(rooms, "ann"), user(rooms, "ben")
    repository = rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    rooms.follows.follow_repository(ben, repository)
    rooms.repositories.delete(ann, RepositoryType.MODEL, "ann/m")
    again = rooms.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    assert rooms.follows.of_repository(ben, again) == (0, False)


def test_the_button_follows_and_the_list_shows_who_does(hub: HubProcess):
    owner = HfApi(hub.endpoint, token=hub.add_user("followed-1"))
    owner.create_repo("followed-1/m")
    hub.add_user("follower-1")
    hub.command("user", "password", "follower-1", typed=f"{PASSWORD}\n")
    browser = Browser(hub)
    browser.sign_in("follower-1", PASSWORD)
    page = browser.get("/followed-1/m")
    page = browser.submit(page, "/followed-1/m/followers", follow="yes")
    assert "1 follower" in page.text
    assert ">Unfollow<" in page.text
    assert 'href="/follower-1"' in Browser(hub).get("/followed-1/m/followers").text
    page = browser.submit(page, "/followed-1/m/followers", follow="no")
    assert "1 follower" not in page.text
    assert "Nobody yet." in Browser(hub).get("/followed-1/m/followers").text
