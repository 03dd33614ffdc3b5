"""Likes and follows: counted once each, listed page by page, and of private repositories told to nobody else."""

import secrets
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess, start_hub
from huggingface_hub import HfApi
from open_rooms import open_rooms

from lmcommons.hub.database.tables import Account, AccountKind, Like, RepositoryType


@pytest.fixture
def fan(hub: HubProcess) -> HfApi:
    return HfApi(hub.endpoint, token=hub.add_user(f"fan{secrets.token_hex(4)}"))


@pytest.fixture
def repo(new_repository: Callable[..., str]) -> str:
    return new_repository()


def send(api: HfApi, method: str, path: str) -> int:
    headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    return httpx.request(method, f"{api.endpoint}/api/{path}", headers=headers).status_code


def name_of(api: HfApi) -> str:
    return str(api.whoami()["name"])


def test_a_like_counts_once_until_it_is_taken_back(api: HfApi, fan: HfApi, repo: str):
    assert [send(fan, "POST", f"models/{repo}/like") for _ in range(2)] == [200, 200]
    assert send(api, "POST", f"models/{repo}/like") == 200
    info = api.model_info(repo)
    assert info.likes == 2
    assert info.trending_score == 20
    assert [user.username for user in api.list_repo_likers(repo)] == [name_of(fan), "ann"]
    liked = api.list_liked_repos(name_of(fan))
    assert (liked.models, liked.datasets, liked.total) == ([repo], [], 1)
    assert api.get_user_overview(name_of(fan)).num_likes == 1
    fan.unlike(repo)
    fan.unlike(repo)
    info = api.model_info(repo)
    assert (info.likes, info.trending_score) == (1, 10)


def test_private_repositories_are_liked_by_members_and_listed_to_them(api: HfApi, fan: HfApi, new_repository):
    def hidden() -> int:
        """How many of ann's likes the fan does not see."""
        mine, theirs = (each.get_user_overview("ann").num_likes for each in (api, fan))
        return mine - theirs

    private, before = new_repository(private=True), hidden()
    assert send(fan, "POST", f"models/{private}/like") == 404
    assert send(api, "POST", f"models/{private}/like") == 200
    assert private in api.list_liked_repos("ann").models
    assert private not in fan.list_liked_repos("ann").models
    assert hidden() == before + 1
    assert send(fan, "GET", f"models/{private}/likers") == 404


def test_who_is_not_signed_in_to_write_likes_and_follows_nothing(hub: HubProcess, repo: str):
    reader = HfApi(hub.endpoint, token=hub.add_token("ann", "read"))
    nobody = HfApi(hub.endpoint, token=False)
    hub.add_organisation(f"org{secrets.token_hex(4)}")
    for path in (f"models/{repo}/like", "users/ann/follow"):
        for method in ("POST", "DELETE"):
            assert send(nobody, method, path) == 401
    assert send(reader, "POST", f"models/{repo}/like") == 403
    assert send(reader, "POST", "users/ann/follow") == 403


def test_users_and_organisations_are_followed(hub: HubProcess, api: HfApi, fan: HfApi):
    organisation = f"org{secrets.token_hex(4)}"
    hub.add_organisation(organisation)
    assert [send(fan, "POST", "users/ann/follow") for _ in range(2)] == [200, 200]
    assert send(fan, "POST", f"organizations/{organisation}/follow") == 200
    assert name_of(fan) in [user.username for user in api.list_user_followers("ann")]
    assert [user.username for user in api.list_user_following(name_of(fan))] == ["ann"]
    assert [user.username for user in api.list_organization_followers(organisation)] == [name_of(fan)]
    seen = fan.get_organization_overview(organisation)
    assert (seen.num_followers, seen.is_following) == (1, True)
    assert api.get_user_overview(name_of(fan)).num_following == 2
    assert send(fan, "DELETE", "users/ann/follow") == 200
    assert list(api.list_user_following(name_of(fan))) == []
    assert send(fan, "POST", f"users/{name_of(fan)}/follow") == 400
    assert send(fan, "POST", "users/nobody-of-that-name/follow") == 404
    assert send(fan, "POST", "users/a%00b/follow") in (400, 404)
    assert send(fan, "POST", f"users/{organisation}/follow") == 404


def test_likers_come_in_pages(tmp_path: Path):
    hub = open_rooms(tmp_path)
    ann, bob = (hub.tokens.actor(hub.accounts.add_user(name)) for name in ("ann", "bob"))
    repository = hub.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    names = [f"u{number}" for number in range(101)]
    with hub.database.write() as session:
        users = [Account(kind=AccountKind.USER, name=name, name_key=name, fullname=name) for name in names]
        session.add_all(users)
        session.flush()
        session.add_all(Like(repository_id=repository.id, account_id=user.id) for user in users)
    hub.likes.like(ann, repository)
    hub.follows.follow(bob, "ann", AccountKind.USER)
    assert hub.follows.numbers(hub.accounts.find("ann")) == (1, 0)
    hub.close()
    with start_hub(tmp_path) as running:
        api = HfApi(running.endpoint, token=False)
        assert [user.username for user in api.list_repo_likers("ann/m")] == [*names, "ann"]
        assert api.model_info("ann/m").likes == 102
