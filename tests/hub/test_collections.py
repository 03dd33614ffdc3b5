"""Collections: kept by their owners, found by any words before the same id, telling nobody of what is private."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_process import HubProcess, start_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from open_rooms import open_rooms


@pytest.fixture
def other(hub: HubProcess) -> HfApi:
    return HfApi(hub.endpoint, token=hub.add_user(f"collector{secrets.token_hex(4)}"))


@pytest.fixture
def title() -> str:
    return f"Models of {secrets.token_hex(6)}"


@contextmanager
def refused(status: int, match: str | None = None) -> Iterator[None]:
    with pytest.raises(HfHubHTTPError, match=match) as error:
        yield
    assert error.value.response.status_code == status


def test_a_title_is_used_once_by_an_owner(api: HfApi, title: str):
    first = api.create_collection(title, description="Mine")
    assert first.slug == f"ann/{title.lower().replace(' ', '-')}-{first.slug.rsplit('-')[-1]}"
    with refused(409, "has a collection called"):
        api.create_collection(title.upper())
    again = api.create_collection(title, description="other", exists_ok=True)
    assert (again.slug, again.description) == (first.slug, "Mine")


def test_a_title_without_latin_letters_has_a_slug_of_its_id(api: HfApi):
    collection = api.create_collection(f"语言模型{secrets.token_hex(2)}语言")
    assert api.get_collection(collection.slug).title == collection.title


def test_a_private_collection_is_not_known_to_exist(api: HfApi, other: HfApi, title: str):
    slug = api.create_collection(title, private=True).slug
    absent = f"ann/x-{'0' * 20}ffff"
    for act in (other.get_collection, other.delete_collection):
        for which in (slug, absent):
            with refused(404, "No such collection"):
                act(which)
    assert slug not in [found.slug for found in other.list_collections(owner="ann")]
    assert slug in [found.slug for found in api.list_collections(owner="ann")]


def test_only_its_owner_changes_a_collection(api: HfApi, other: HfApi, title: str, new_repository: Callable[..., str]):
    slug = api.create_collection(title).slug
    repo = new_repository()
    assert api.add_collection_item(slug, repo, "model").items[0].item_id == repo
    item = api.get_collection(slug).items[0].item_object_id
    for act in (
        lambda: other.update_collection_metadata(slug, title="x"),
        lambda: other.add_collection_item(slug, repo, "model"),
        lambda: other.update_collection_item(slug, item, note="x"),
        lambda: other.delete_collection_item(slug, item),
        lambda: other.delete_collection(slug),
        lambda: other.create_collection("x", namespace="ann"),
    ):
        with refused(403):
            act()
    nobody = HfApi(api.endpoint, token=False)
    with refused(401):
        nobody.delete_collection(slug)
    assert nobody.get_collection(slug).title == title


def test_members_keep_an_organisations_collections(hub: HubProcess, api: HfApi, other: HfApi, title: str):
    organisation = f"keepers{secrets.token_hex(4)}"
    hub.add_organisation(organisation, "--member", "ann:contributor", "--member", f"{other.whoami()['name']}:write")
    slug = api.create_collection(title, namespace=organisation, private=True).slug
    assert api.update_collection_metadata(slug, theme="blue").theme == "blue"
    assert other.update_collection_metadata(slug, description="ours").description == "ours"
    theirs = other.create_collection(f"{title} too", namespace=organisation).slug
    with refused(403):
        api.delete_collection(theirs)


def test_items_that_a_reader_may_not_see_are_left_out(
    api: HfApi, other: HfApi, title: str, new_repository: Callable[..., str]
):
    slug = api.create_collection(title).slug
    private, public = new_repository(private=True), new_repository("dataset")
    hidden = api.create_collection(f"{title} hidden", private=True).slug
    for name, kind in ((private, "model"), (hidden, "collection"), (public, "dataset")):
        api.add_collection_item(slug, name, kind)
    assert len(api.get_collection(slug).items) == 3
    assert [item.item_id for item in other.get_collection(slug).items] == [public]
    found = next(each for each in other.list_collections(owner="ann") if each.slug == slug)
    assert [item.item_id for item in found.items] == [public]
    mine = other.create_collection(title).slug
    within = api.add_collection_item(api.create_collection(f"{title} around").slug, slug, "collection").slug
    address = f"{api.endpoint}/api/collections/{within}"
    counts = [
        httpx.get(address, headers=each._build_hf_headers()).json()["items"][0]["numberItems"] for each in (api, other)
    ]
    assert counts == [3, 1]
    with refused(404):
        other.add_collection_item(mine, private, "model")
    assert list(other.list_collections(item=f"models/{private}")) == []
    assert [each.slug for each in other.list_collections(item=f"datasets/{public}")] == [slug]
    api.delete_repo(public, repo_type="dataset")
    assert other.get_collection(slug).items == []


def test_items_and_collections_are_moved_to_their_place(api: HfApi, title: str, new_repository: Callable[..., str]):
    slug = api.create_collection(title).slug
    names = [new_repository() for _ in range(4)]
    for name in names:
        api.add_collection_item(slug, name, "model")
    items = api.get_collection(slug).items
    api.update_collection_item(slug, items[3].item_object_id, position=1, note="first of the last")
    assert [item.item_id for item in api.get_collection(slug).items] == [names[0], names[3], names[1], names[2]]
    api.delete_collection_item(slug, items[0].item_object_id)
    assert [(item.item_id, item.position) for item in api.get_collection(slug).items] == [
        *((names[3], 0), (names[1], 1), (names[2], 2)),
    ]
    api.create_collection(f"{title} too")
    assert api.update_collection_metadata(slug, position=0).position == 0
    assert api.update_collection_metadata(slug, position=2**70).position > 0
    api.update_collection_item(slug, items[3].item_object_id, position=-(2**70))
    assert api.get_collection(slug).items[0].item_id == names[3]


def test_lists_are_sorted_searched_and_in_pages(tmp_path: Path):
    hub = open_rooms(tmp_path)
    ann, bob = (hub.tokens.actor(hub.accounts.add_user(name)) for name in ("ann", "bob"))
    slugs = [hub.collections.create(ann, "ann", f"Number {number}").full_name for number in range(7)]
    hub.collections.vote(bob, slugs[2], up=True)
    hub.collections.vote(bob, slugs[2], up=True)
    hub.collections.vote(ann, slugs[2], up=True)
    hub.collections.vote(ann, slugs[4], up=True)
    hub.close()
    with start_hub(tmp_path) as running:
        api = HfApi(running.endpoint, token=False)
        assert [found.slug for found in api.list_collections()] == slugs[::-1]
        assert [found.slug for found in api.list_collections(sort="upvotes", limit=2)] == [slugs[2], slugs[4]]
        assert next(iter(api.list_collections(sort="trending"))).upvotes == 2
        assert list(api.list_collections(owner=["nobody", "x"])) == []
        address: str | None = f"{running.endpoint}/api/collections?limit=3"
        pages = []
        while address:
            answer = httpx.get(address)
            pages.append(len(answer.json()))
            address = answer.links.get("next", {}).get("url")
        assert pages == [3, 3, 1]
        found = httpx.get(f"{running.endpoint}/api/collections?q=NUMBER+5").json()
        assert [each["slug"] for each in found] == [slugs[5]]
        assert httpx.get(f"{running.endpoint}/api/collections?sort=age").status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("POST", "", {"namespace": "ann", "title": " "}, 400, "needs a title"),
        ("POST", "", {"namespace": "ann", "title": "t" * 101}, 400, "title has at most 100"),
        ("POST", "", {"namespace": "ann", "title": "t", "description": "d" * 151}, 400, "description has at most 150"),
        ("POST", "", {"namespace": "nobody-here", "title": "t"}, 404, "No such user or organisation"),
        ("POST", "/SLUG/resource-group", {"resourceGroupId": None}, 400, "no resource groups"),
        ("PATCH", "/SLUG", {"theme": "plaid"}, 400, "Unknown theme 'plaid'"),
        ("POST", "/SLUG/items", {"item": {"id": "a/b", "type": "paper"}}, 400, "not 'paper'"),
        ("POST", "/SLUG/items", {"item": {"id": "a/b", "type": "bucket"}}, 404, "No such bucket"),
        ("POST", "/SLUG/items", {"item": {"id": "a/b", "type": "model"}}, 404, "not found"),
        ("PATCH", "/SLUG/items/xyz", {"note": "n"}, 404, "No such id"),
        ("GET", "?" + "item=models/a/b&" * 200, None, 400, "at most 100"),
        ("GET", "/ann/no-id-at-all", None, 404, "No such collection"),
        ("GET", f"/ann/x-{'f' * 24}", None, 404, "No such collection"),
    ],
)
def test_what_cannot_be_is_refused(api: HfApi, method: str, path: str, body: Any, status: int, reason: str):
    slug = api.create_collection("refusals", exists_ok=True).slug
    answer = httpx.request(
        method,
        f"{api.endpoint}/api/collections{path.replace('SLUG', slug)}",
        json=body,
        headers={"Authorization": f"Bearer {api.token}"},
    )
    assert answer.status_code == status, answer.text
    assert reason in answer.json()["error"]
