"""Discussions through the client: what is said, by whom, and what is left of it when it is hidden."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_process import HubProcess, start_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from open_rooms import open_rooms

from lmcommons.hub.database.tables import DiscussionEvent, DiscussionEventKind, RepositoryType
from lmcommons.hub.errors import BadRequest, Forbidden
from lmcommons.hub.repos.git import AddFile

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def stranger(hub: HubProcess) -> HfApi:
    return HfApi(hub.endpoint, token=hub.add_user(f"stranger{secrets.token_hex(4)}"))


@pytest.fixture
def repo(new_repository: Callable[..., str]) -> str:
    return new_repository()


def post(api: HfApi, repo: str, path: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    return httpx.post(f"{api.endpoint}/api/models/{repo}/discussions{path}", json=body, headers=headers)


def status(refused: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return refused.value.response.status_code


def test_a_discussion_tells_what_was_said_and_done_in_order(api: HfApi, repo: str):
    opened = api.create_discussion(repo, "  A   question ", description="Why?")
    assert (opened.num, opened.title, opened.status, opened.author) == (1, "A question", "open", "ann")
    api.comment_discussion(repo, 1, "Because.")
    api.rename_discussion(repo, 1, "An answer")
    api.change_discussion_status(repo, 1, "closed", comment="Done")
    api.change_discussion_status(repo, 1, "open")
    told = api.get_discussion_details(repo, 1)
    assert [event.type for event in told.events] == [
        *("comment", "comment", "title-change", "comment", "status-change", "status-change"),
    ]
    assert [event.content for event in told.events if event.type == "comment"] == ["Why?", "Because.", "Done"]
    assert (told.events[2].old_title, told.events[2].new_title) == ("A question", "An answer")
    assert (told.title, told.status, told.diff, told.conflicting_files) == ("An answer", "open", None, None)
    assert api.get_discussion_details(repo, 1) == told


def test_an_edited_comment_shows_what_it_said_before(api: HfApi, repo: str):
    comment = api.create_discussion(repo, "t", description="first").events[0]
    api.edit_discussion_comment(repo, 1, comment.id, "second")
    edited = api.edit_discussion_comment(repo, 1, comment.id, "*third*")
    assert (edited.content, edited.edited, edited.number_of_edits, edited.last_edited_by) == ("*third*", True, 2, "ann")
    assert [version["raw"] for version in edited.edit_history] == ["first", "second"]
    assert "<em>third</em>" in edited.rendered
    assert edited.last_edited_at >= comment.created_at


@pytest.mark.filterwarnings("ignore:Hidden comments")
def test_of_a_hidden_comment_nothing_is_left_but_its_line(api: HfApi, repo: str):
    secret, earlier = secrets.token_hex(8), secrets.token_hex(8)
    comment = api.create_discussion(repo, "t", description=earlier).events[0]
    api.edit_discussion_comment(repo, 1, comment.id, secret)
    assert api.hide_discussion_comment(repo, 1, comment.id).hidden
    said = httpx.get(f"{api.endpoint}/api/models/{repo}/discussions/1").text
    assert comment.id in said
    assert secret not in said
    assert earlier not in said
    assert post(api, repo, f"/1/comment/{comment.id}/edit", content="again").status_code == 409
    assert post(api, repo, f"/1/comment/{comment.id}/hide").status_code == 200


def test_strangers_talk_and_keep_to_their_own_words(api: HfApi, stranger: HfApi, repo: str):
    first = api.create_discussion(repo, "t", description="mine").events[0]
    own = stranger.comment_discussion(repo, 1, "theirs")
    assert stranger.edit_discussion_comment(repo, 1, own.id, "still theirs").edited
    for path, body in (
        (f"/1/comment/{first.id}/edit", {"content": "x"}),
        (f"/1/comment/{first.id}/hide", {}),
        ("/1/title", {"title": "x"}),
        ("/1/status", {"status": "closed"}),
    ):
        assert post(stranger, repo, path, **body).status_code == 403, path
    assert post(api, repo, f"/1/comment/{own.id}/edit", content="x").status_code == 403, "not even an owner's"
    assert post(api, repo, f"/1/comment/{own.id}/hide").status_code == 200
    stranger.create_discussion(repo, "their own")
    assert stranger.change_discussion_status(repo, 2, "closed").new_status == "closed"
    assert stranger.rename_discussion(repo, 2, "renamed").new_title == "renamed"


def test_who_is_not_signed_in_to_write_only_reads(hub: HubProcess, api: HfApi, repo: str):
    api.create_discussion(repo, "t")
    reader = HfApi(hub.endpoint, token=hub.add_token("ann", "read"))
    nobody = HfApi(hub.endpoint, token=False)
    for path, body in (
        ("", {"title": "t", "description": "d"}),
        ("/1/comment", {"comment": "c"}),
        ("/1/status", {"status": "closed"}),
    ):
        assert post(reader, repo, path, **body).status_code == 403
        assert post(nobody, repo, path, **body).status_code == 401
    assert [found.num for found in nobody.get_repo_discussions(repo)] == [1]


def test_discussions_of_private_repositories_are_not_known_to_exist(api: HfApi, stranger: HfApi, new_repository):
    private = new_repository(private=True)
    api.create_discussion(private, "secret plans")
    for who in (stranger, HfApi(api.endpoint, token=False)):
        with pytest.raises(RepositoryNotFoundError):
            list(who.get_repo_discussions(private))
        with pytest.raises(RepositoryNotFoundError):
            who.get_discussion_details(private, 1)
    absent = post(stranger, "ann/absent", "/1/comment", comment="x")
    present = post(stranger, private, "/1/comment", comment="x")
    assert (absent.status_code, absent.json()) == (present.status_code, present.json())


@pytest.mark.parametrize(
    ("path", "body", "code", "reason"),
    [
        ("", {"title": "  ", "description": "d"}, 400, "title has 1 to 200 characters"),
        ("", {"title": "t" * 201, "description": "d"}, 400, "this one has 201"),
        ("", {"title": "t", "description": " "}, 400, "must not be empty"),
        ("", {"title": "t", "description": "d" * 65_537}, 413, "at most 65,536 characters"),
        ("", {"title": "t", "description": "a\0b"}, 400, "NUL"),
        ("", {"title": "a\0b", "description": "d"}, 400, "none of them NUL"),
        ("", {"title": 1, "description": "d"}, 400, "'title' must be a string"),
        ("/1/comment", {"comment": ""}, 400, "must not be empty"),
        ("/1/status", {"status": "merged"}, 400, "one of open, closed"),
        ("/1/status", {"status": "open"}, 409, "is open already"),
        ("/1/merge", {}, 400, "not a pull request"),
        ("/2/comment", {"comment": "c"}, 404, "no discussion or pull request 2"),
        ("/99999999999/comment", {"comment": "c"}, 404, "Nothing at"),
        ("/1/comment/zz/edit", {"content": "c"}, 404, "No such id"),
        (f"/1/comment/{'f' * 24}/edit", {"content": "c"}, 404, "No such id"),
        (f"/1/comment/{'0' * 23}9/edit", {"content": "c"}, 404, "no such comment"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(api: HfApi, path: str, body: dict[str, Any], code: int, reason: str):
    api.create_repo("ann/refusals", exist_ok=True)
    if not list(api.get_repo_discussions("ann/refusals")):
        api.create_discussion("ann/refusals", "t")
    answer = post(api, "ann/refusals", path, **body)
    assert answer.status_code == code
    assert reason in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert [found.num for found in api.get_repo_discussions("ann/refusals")] == [1]


def test_a_comment_is_found_in_its_own_discussion_only(api: HfApi, repo: str):
    comment = api.create_discussion(repo, "one").events[0]
    api.create_discussion(repo, "two")
    assert post(api, repo, f"/2/comment/{comment.id}/edit", content="x").status_code == 404


def test_html_is_kept_as_it_was_sent_and_shown_without_what_runs(api: HfApi, repo: str):
    opened = api.create_discussion(repo, SCRIPT, description=SCRIPT)
    assert opened.title == SCRIPT
    assert opened.events[0].content == SCRIPT
    assert "<script" not in opened.events[0].rendered
    assert "onerror" not in opened.events[0].rendered


def test_a_discussion_has_an_end(tmp_path: Path):
    hub = open_rooms(tmp_path)
    ann, bob = (hub.tokens.actor(hub.accounts.add_user(name)) for name in ("ann", "bob"))
    repository = hub.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    long = hub.discussions.open(bob, repository, "long", "*d*\n\n" * 12_000)
    for _ in range(33):
        hub.discussions.comment(bob, repository, long.number, "*c*\n\n" * 12_000)
    with pytest.raises(BadRequest, match="no room for more"):
        hub.discussions.comment(bob, repository, long.number, "c" * 60_000)
    proposed, _ = hub.pull_requests.propose(bob, repository, "main", [AddFile("a", b"a")], title="long too")
    for _ in range(34):
        hub.discussions.comment(bob, repository, proposed.number, "*c*\n\n" * 12_000)
    with pytest.raises(BadRequest, match="no room for more"):
        hub.pull_requests.merge(ann, repository, proposed.number, "c" * 60_000)
    assert "a" not in [entry.path for entry in hub.repositories.git(repository).entries("main")]
    many = hub.discussions.open(bob, repository, "many", "d")
    with hub.database.write() as session:
        kind, data = DiscussionEventKind.STATUS, {"status": "open"}
        session.add_all(DiscussionEvent(discussion_id=many.id, kind=kind, data=data) for _ in range(1_999))
    with pytest.raises(BadRequest, match="no room for more"):
        hub.discussions.comment(ann, repository, many.number, "c")
    with pytest.raises(Forbidden):
        hub.discussions.set_status(bob, repository, many.number, "closed")
    assert hub.discussions.set_status(ann, repository, many.number, "closed")
    hub.close()
    with start_hub(tmp_path) as running:
        told = HfApi(running.endpoint, token=False).get_discussion_details("ann/m", long.number)
        assert "<em>d</em>" in told.events[0].rendered
        assert told.events[-1].rendered.startswith("<pre>*c*")


def test_lists_are_filtered_and_in_pages(tmp_path: Path):
    hub = open_rooms(tmp_path)
    ann, bob = (hub.tokens.actor(hub.accounts.add_user(name)) for name in ("ann", "bob"))
    repository = hub.commits.create_repository(ann, RepositoryType.MODEL, None, "m")
    for number in range(52):
        hub.discussions.open(bob if number % 10 == 0 else ann, repository, f"t{number}", "d")
    hub.close()
    with start_hub(tmp_path) as running:
        api = HfApi(running.endpoint, token=False)
        assert [found.num for found in api.get_repo_discussions("ann/m")] == list(range(52, 0, -1))
        assert [found.num for found in api.get_repo_discussions("ann/m", author="BOB")] == [51, 41, 31, 21, 11, 1]
        assert list(api.get_repo_discussions("ann/m", discussion_status="closed")) == []
        refused = httpx.get(f"{running.endpoint}/api/models/ann/m/discussions?status=lost")
        assert refused.status_code == 400
        assert "Unknown status 'lost'" in refused.json()["error"]


def test_numbers_are_given_once_however_many_open_at_once(tmp_path: Path):
    hub = open_rooms(tmp_path)
    ann = hub.tokens.actor(hub.accounts.add_user("ann"))
    repository = hub.commits.create_repository(ann, RepositoryType.MODEL, None, "m")

    def open_one(number: int) -> int:
        room = hub.pull_requests if number % 2 else hub.discussions
        return room.open(ann, repository, f"t{number}", "d").number

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(open_one, range(40)))
    assert sorted(numbers) == list(range(1, 41))
    requests = {int(ref.name) for ref in hub.repositories.git(repository).refs().pull_requests}
    assert requests == {number for order, number in enumerate(numbers) if order % 2}
    hub.close()
