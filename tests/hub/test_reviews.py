"""Reviews, comments on lines and reactions: who may, what stands, what a merge asks for."""

import secrets
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess
from huggingface_hub import HfApi
from hypothesis import assume, given
from hypothesis import strategies as st
from open_rooms import open_rooms
from sqlalchemy import select

from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.database.tables import (
    AccessStatus,
    Discussion,
    DiscussionEventKind,
    Emoji,
    Event,
    Gate,
    Repository,
    RepositoryType,
)
from lmcommons.hub.errors import BadRequest, Conflict, Forbidden, GatedRepository, NotFound, Unauthorized
from lmcommons.hub.repos import patches
from lmcommons.hub.repos.git import AddFile, DeleteFile
from lmcommons.hub.rooms import Hub

TEXT = b"".join(b"line %d\n" % number for number in range(1, 21))


class World:
    """A hub, ann's repository in it, bo's pull request that changes line 10 of a file, and cleo, who looks at it."""

    def __init__(self, data: Path) -> None:
        self.hub: Hub = open_rooms(data)
        self.ann, self.bo, self.cleo = (self.user(name) for name in ("ann", "bo", "cleo"))
        self.repository: Repository = self.hub.commits.create_repository(self.ann, RepositoryType.MODEL, None, "m")
        self.commit("main", TEXT)
        self.number = self.propose(TEXT.replace(b"line 10\n", b"better\n"))

    def user(self, name: str) -> Actor:
        return self.hub.tokens.actor(self.hub.accounts.add_user(name))

    def commit(self, revision: str, content: bytes, actor: Actor | None = None) -> str:
        files = [AddFile("a.txt", content)]
        return self.hub.commits.write(actor or self.ann, self.repository, revision, files, message="change")

    def propose(self, content: bytes) -> int:
        files = [AddFile("a.txt", content)]
        proposed, _ = self.hub.pull_requests.propose(self.bo, self.repository, "main", files, title="Better")
        return proposed.number

    @property
    def discussion(self) -> Discussion:
        return self.hub.discussions.find(self.repository, self.number)

    def review(self, actor: Actor, verdict: str, text: str = "") -> None:
        self.hub.reviews.review(actor, self.repository, self.number, verdict, text)

    def standings(self) -> dict[str, str]:
        return {each.reviewer.name: each.verdict for each in self.hub.reviews.standings(self.discussion)}

    def comment(self, line: int, side: str = "new", *, commit: str | None = None) -> int:
        room = self.hub.line_comments
        return room.comment(self.cleo, self.repository, self.number, "a.txt", side, line, "Why?", commit=commit).id

    def threads(self, actor: Actor) -> list[tuple[int, bool, list[str], list[str]]]:
        """Of each thread the line, whether it is outdated, the excerpt and the texts."""
        room, discussion = self.hub.line_comments, self.discussion
        said = self.hub.discussions.events(discussion, kind=DiscussionEventKind.LINE)
        threads = room.threads(self.repository, discussion, said)
        return [
            (
                thread.place.line,
                thread.outdated,
                list(room.excerpt(actor, self.repository, thread.place)),
                [comment.versions[-1].text for comment in thread.comments],
            )
            for thread in threads.values()
        ]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_reviewer_has_one_verdict_the_last(world: World):
    world.review(world.cleo, "request-changes", "No.")
    world.review(world.ann, "approve")
    world.review(world.cleo, "comment", "Still thinking.")
    assert world.standings() == {"cleo": "request-changes", "ann": "approve"}
    world.review(world.cleo, "approve")
    assert world.standings() == {"ann": "approve", "cleo": "approve"}
    events = world.hub.discussions.events(world.discussion)
    assert [event.kind for event in events] == ["comment", "commit", *["review"] * 4]
    assert [bool(event.versions) for event in events[2:]] == [True, False, True, False]
    assert world.discussion.comments == 3
    with world.hub.database.read() as session:
        told = list(session.scalars(select(Event).where(Event.kind == "discussion.reviewed").order_by(Event.id)))
    assert [(event.actor, event.data["verdict"]) for event in told] == [
        *(("cleo", "request-changes"), ("ann", "approve"), ("cleo", "comment"), ("cleo", "approve")),
    ]


def test_a_merge_against_a_reviewer_must_be_meant(world: World):
    world.review(world.cleo, "request-changes", "No.")
    with pytest.raises(Conflict, match="cleo asked for changes to ann/m#1") as refused:
        world.hub.pull_requests.merge(world.ann, world.repository, 1)
    assert refused.value.fields == {"changesRequestedBy": ["cleo"]}
    assert world.discussion.status == "open"
    world.hub.pull_requests.merge(world.ann, world.repository, 1, despite_reviews=True)
    assert world.discussion.status == "merged"


def test_a_reviewer_who_approves_later_no_longer_waits(world: World):
    world.review(world.cleo, "request-changes", "No.")
    world.review(world.cleo, "approve", "Now yes.")
    world.hub.pull_requests.merge(world.ann, world.repository, 1)
    with pytest.raises(Conflict, match="is merged: reviews are for open pull requests"):
        world.review(world.cleo, "approve")


def test_what_is_no_review_is_refused(world: World):
    with pytest.raises(Forbidden, match="Nobody approves their own"):
        world.review(world.bo, "approve")
    world.review(world.bo, "comment", "To those who read this: see the first line.")
    with pytest.raises(BadRequest, match="must not be empty"):
        world.review(world.cleo, "request-changes", " ")
    with pytest.raises(BadRequest, match="one of approve, request-changes, comment"):
        world.review(world.cleo, "yes")
    with pytest.raises(Unauthorized):
        world.review(ANONYMOUS, "approve")
    other = world.hub.discussions.open(world.ann, world.repository, "t", "t")
    with pytest.raises(BadRequest, match="is a discussion, not a pull request"):
        world.hub.reviews.review(world.cleo, world.repository, other.number, "approve")


def test_who_was_asked_for_a_review_is_waited_for_until_it_comes(world: World):
    room = world.hub.reviews
    dan = world.user("dan")
    room.ask(world.bo, world.repository, 1, "CLEO")
    room.ask(world.ann, world.repository, 1, "dan")
    assert [account.name for account in room.asked(world.discussion)] == ["cleo", "dan"]
    world.review(world.cleo, "comment", "So so.")
    room.ask_no_more(world.ann, world.repository, 1, "dan")
    assert room.asked(world.discussion) == []
    with pytest.raises(Forbidden):
        room.ask(dan, world.repository, 1, "cleo")
    with pytest.raises(BadRequest, match="bo opened this pull request"):
        room.ask(world.ann, world.repository, 1, "bo")
    with pytest.raises(NotFound):
        room.ask(world.ann, world.repository, 1, "nobody")
    world.hub.repositories.change(world.ann, RepositoryType.MODEL, "ann/m", private=True)
    private = world.hub.repositories.find(world.ann, RepositoryType.MODEL, "ann/m")
    with pytest.raises(BadRequest, match="cleo may not take part in ann/m"):
        room.ask(world.ann, private, 1, "cleo")


def test_a_comment_on_a_line_shows_the_line_until_the_file_changes(world: World):
    first = world.comment(10)
    world.hub.line_comments.reply(world.bo, world.repository, 1, first, "Because.")
    excerpt = ["line 7", "line 8", "line 9", "better"]
    assert world.threads(world.ann) == [(10, False, excerpt, ["Why?", "Because."])]
    world.hub.commits.write(world.bo, world.repository, "refs/pr/1", [AddFile("other.txt", b"x")], message="elsewhere")
    assert world.threads(world.ann)[0][1] is False
    world.commit("refs/pr/1", TEXT.replace(b"line 10\n", b"best\n"), world.bo)
    assert world.threads(world.ann) == [(10, True, excerpt, ["Why?", "Because."])]
    world.hub.line_comments.reply(world.cleo, world.repository, 1, first, "I see.")
    assert world.threads(world.ann)[0][3] == ["Why?", "Because.", "I see."]


def test_a_comment_follows_its_line_when_others_come_and_go(world: World):
    world.comment(10)
    world.comment(10, "old")
    longer = b"first\nsecond\n" + TEXT.replace(b"line 10\n", b"better\n").replace(b"line 4\n", b"")
    world.commit("refs/pr/1", longer, world.bo)
    said = world.hub.discussions.events(world.discussion, kind=DiscussionEventKind.LINE)

    def present() -> list[int | None]:
        threads = world.hub.line_comments.threads(world.repository, world.discussion, said)
        return [thread.present.line if thread.present is not None else None for thread in threads.values()]

    assert present() == [11, 10]
    world.commit("refs/pr/1", TEXT.replace(b"line 1\n", b"one\n"), world.bo)
    assert present() == [None, None]  # the change was taken back: the difference is elsewhere


def test_comments_on_lines_follow_a_file_that_is_renamed(world: World):
    room, repository = world.hub.line_comments, world.repository
    world.comment(10)
    world.comment(10, "old")
    content = b"first\n" + TEXT.replace(b"line 10\n", b"better\n")
    files = [DeleteFile("a.txt"), AddFile("docs/b.txt", content)]
    world.hub.commits.write(world.bo, repository, "refs/pr/1", files, message="move")
    for path, side, line in (("docs/b.txt", "new", 12), ("a.txt", "old", 11)):
        room.comment(world.cleo, repository, 1, path, side, line, "And here?")
    with pytest.raises(BadRequest, match="shows no line 10 on the old side"):
        room.comment(world.cleo, repository, 1, "docs/b.txt", "old", 10, "Why?")

    def present() -> list[tuple[str, str, int]]:
        said = world.hub.discussions.events(world.discussion, kind=DiscussionEventKind.LINE)
        threads = room.threads(repository, world.discussion, said).values()
        return [(now.path, now.side, now.line) for thread in threads if (now := thread.present) is not None]

    assert present() == [
        ("docs/b.txt", "new", 11),
        ("a.txt", "old", 10),
        ("docs/b.txt", "new", 12),
        ("a.txt", "old", 11),
    ]
    world.hub.commits.write(
        world.bo, repository, "refs/pr/1", [DeleteFile("docs/b.txt"), AddFile("c.txt", content)], message="again"
    )
    assert [place[0] for place in present()] == ["c.txt", "a.txt", "c.txt", "a.txt"]


def test_both_sides_of_the_difference_take_comments(world: World):
    world.comment(10, "old")
    world.comment(10, "new")
    assert [thread[2][-1] for thread in world.threads(world.ann)] == ["line 10", "better"]


def test_only_lines_that_are_shown_take_comments(world: World):
    for line in (0, 6, 14, 21, -1):  # the difference shows three lines around the tenth
        with pytest.raises(BadRequest, match=f"shows no line {line} on the new side"):
            world.comment(line)
    with pytest.raises(BadRequest, match="one of old, new"):
        world.comment(10, "left")
    with pytest.raises(BadRequest, match=r"b\.txt: ann/m#1 shows no line 1"):
        world.hub.line_comments.comment(world.cleo, world.repository, 1, "b.txt", "new", 1, "Why?")


def test_a_line_seen_before_the_file_changed_is_not_commented_on(world: World):
    git = world.hub.repositories.git(world.repository)
    seen = git.resolve("refs/pr/1")
    world.commit("refs/pr/1", TEXT.replace(b"line 10\n", b"best\n"), world.bo)
    with pytest.raises(Conflict, match="load the page again"):
        world.comment(10, commit=seen)
    world.comment(10, commit=git.resolve("refs/pr/1"))


def test_the_lines_of_a_gated_repository_are_for_its_readers(world: World):
    world.comment(10)
    world.hub.repositories.change(world.ann, RepositoryType.MODEL, "ann/m", gated=Gate.MANUAL)
    world.repository = world.hub.repositories.find(world.ann, RepositoryType.MODEL, "ann/m")
    assert world.threads(world.cleo) == [(10, False, [], ["Why?"])]
    with pytest.raises(GatedRepository):
        world.comment(10)
    world.hub.access.grant(world.ann, world.repository, "cleo")
    world.cleo = world.hub.tokens.actor(world.hub.tokens.add("cleo", "t", world.cleo.token_role))
    assert world.hub.access.of(world.cleo, world.repository).status is AccessStatus.ACCEPTED  # type: ignore[union-attr]
    assert world.threads(world.cleo)[0][2][-1] == "better"


def test_threads_stay_when_the_file_or_the_branch_is_gone(world: World):
    world.comment(10)
    world.hub.commits.write(world.bo, world.repository, "refs/pr/1", [DeleteFile("a.txt")], message="delete")
    assert [thread[:2] for thread in world.threads(world.ann)] == [(10, True)]
    world.hub.repositories.git(world.repository).create_branch("side", "main")
    files = [AddFile("b.txt", b"b\n")]
    other, _ = world.hub.pull_requests.propose(world.bo, world.repository, "side", files, title="Side")
    world.number = other.number
    world.hub.line_comments.comment(world.ann, world.repository, other.number, "b.txt", "new", 1, "Why?")
    world.hub.repositories.git(world.repository).delete_branch("side")
    assert world.threads(world.ann) == [(1, True, ["b"], ["Why?"])]


def test_a_review_is_edited_and_hidden_like_a_comment(world: World):
    world.review(world.cleo, "approve", "Godo")
    event = world.hub.discussions.events(world.discussion)[-1].id
    world.hub.discussions.edit(world.cleo, world.repository, 1, event, "Good")
    hidden = world.hub.discussions.hide(world.ann, world.repository, 1, event, "off-topic")
    assert hidden.versions == []
    assert {**hidden.data, "commit": ""} == {
        "verdict": "approve",
        "commit": "",
        "hiddenBy": "writer",
        "reason": "off-topic",
    }
    assert world.standings() == {"cleo": "approve"}
    with pytest.raises(BadRequest, match="one of off-topic, outdated"):
        world.hub.discussions.hide(world.ann, world.repository, 1, event, "I do not like it")


def test_reactions_are_counted_once_a_user_and_taken_back(world: World):
    room = world.hub.reactions
    comment = world.hub.discussions.events(world.discussion)[0].id
    for actor, emoji in ((world.ann, "heart"), (world.cleo, "heart"), (world.cleo, "heart"), (world.cleo, "+1")):
        room.set(actor, world.repository, 1, comment, emoji, given=True)
    assert room.of(world.discussion) == {comment: {Emoji.PLUS_ONE: ["cleo"], Emoji.HEART: ["ann", "cleo"]}}
    room.set(world.ann, world.repository, 1, comment, "heart", given=False)
    assert room.set(world.ann, world.repository, 1, comment, "heart", given=False) == {
        Emoji.PLUS_ONE: ["cleo"],
        Emoji.HEART: ["cleo"],
    }
    with pytest.raises(BadRequest, match=r"one of \+1, -1"):
        room.set(world.ann, world.repository, 1, comment, "poop", given=True)
    commit = world.hub.discussions.events(world.discussion)[1].id
    with pytest.raises(NotFound):
        room.set(world.ann, world.repository, 1, commit, "heart", given=True)
    world.hub.discussions.hide(world.bo, world.repository, 1, comment)
    with pytest.raises(Conflict):
        room.set(world.ann, world.repository, 1, comment, "eyes", given=True)


@given(st.lists(st.sampled_from("abcde"), max_size=30), st.lists(st.sampled_from("abcde"), max_size=30))
def test_a_line_that_is_followed_through_a_patch_is_the_same_line(before: list[str], after: list[str]):
    patch = patches.lines("\n" + "\n".join([*unified_diff(before, after, lineterm="")][2:]))
    assume(patch)
    found = [patches.follow(patch, number) for number in range(1, len(before) + 1)]
    kept = [(line, place) for line, place in zip(before, found, strict=True) if place is not None]
    assert [line for line, _ in kept] == [after[place - 1] for _, place in kept]
    assert len(before) - len(kept) == sum(line.kind == "removed" for line in patch)


def test_the_lines_of_a_patch_have_their_numbers():
    patch = (
        "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
        "@@ -9 +9,2 @@ def f():\n--- d\n+++ e\n+\n\\ No newline at end of file\n"
    )
    assert [(line.old, line.new, line.text, line.kind) for line in patches.lines(patch)] == [
        (None, None, "@@ -1,2 +1,2 @@", "hunk"),
        (1, 1, "a", "same"),
        (2, None, "b", "removed"),
        (None, 2, "c", "added"),
        (None, None, "@@ -9 +9,2 @@ def f():", "hunk"),
        (9, None, "-- d", "removed"),
        (None, 9, "++ e", "added"),
        (None, 10, "", "added"),
    ]
    assert patches.lines("") == []


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        (
            ["bits per byte: 1.93"],
            ["bits per byte: 1.81"],
            [("bits per byte: 1.", "93", ""), ("bits per byte: 1.", "81", "")],
        ),
        (["讲故事的模型"], ["讲新故事的模型"], [("讲", "", "故事的模型"), ("讲", "新", "故事的模型")]),
        (["aab"], ["aaab"], [("aa", "", "b"), ("aa", "a", "b")]),
        (["one", "same"], ["two", "same!"], [("", "", "one"), ("same", "", ""), ("", "", "two"), ("same", "!", "")]),
        (["alike"], ["alike", "more"], [("", "", "alike"), ("", "", "alike"), ("", "", "more")]),
    ],
)
def test_lines_that_stand_against_each_other_say_what_changed_in_them(
    old: list[str], new: list[str], parts: list[tuple[str, str, str]]
):
    lines = [patches.Line(text, old=1) for text in old] + [patches.Line(text, new=1) for text in new]
    assert [line.parts for line in patches.marked(lines)] == parts


def test_the_client_reads_a_thread_with_reviews_and_the_api_gives_them(
    hub: HubProcess, api: HfApi, new_repository: Callable[..., str]
):
    repo = new_repository()
    reviewer = HfApi(hub.endpoint, token=hub.add_user(f"reviewer{secrets.token_hex(4)}"))
    api.upload_file(path_or_fileobj=b"a\n", path_in_repo="a.txt", repo_id=repo, create_pr=True)
    base = f"{hub.endpoint}/api/x/models/{repo}/discussions/1"
    mine, theirs = ({"Authorization": f"Bearer {each.token}"} for each in (api, reviewer))
    name = httpx.get(f"{hub.endpoint}/api/whoami-v2", headers=theirs).json()["name"]
    assert httpx.post(f"{base}/reviewers/{name}", headers=mine).status_code == 200
    assert [account["name"] for account in httpx.get(f"{base}/reviews").json()["asked"]] == [name]
    line = {"path": "a.txt", "side": "new", "line": 1, "comment": "**Why?**"}
    said = httpx.post(f"{base}/lines", json=line, headers=theirs).json()["newMessage"]
    assert (said["type"], said["data"]["line"]) == ("line-comment", 1)
    assert said["data"]["latest"]["html"] == "<p><strong>Why?</strong></p>\n"
    httpx.post(f"{base}/lines", json={"replyTo": said["id"], "comment": "So."}, headers=mine)
    assert [len(thread["comments"]) for thread in httpx.get(f"{base}/lines").json()] == [2]
    body = {"verdict": "request-changes", "comment": "Please."}
    assert httpx.post(f"{base}/reviews", json=body, headers=theirs).json()["newReview"]["type"] == "review"
    assert httpx.post(f"{base}/comment/{said['id']}/reactions/heart", headers=mine).json() == {
        "reactions": {"heart": ["ann"]}
    }
    assert httpx.get(f"{base}/reactions").json() == {said["id"]: {"heart": ["ann"]}}
    told = api.get_discussion_details(repo, 1)
    assert [event.type for event in told.events] == [
        *("comment", "commit", "line-comment", "line-comment", "review"),
    ]
    refused = httpx.post(base.replace("/x/", "/") + "/merge", json={}, headers=mine)
    assert (refused.status_code, refused.json()["changesRequestedBy"]) == (409, [name])
    merged = httpx.post(base.replace("/x/", "/") + "/merge", json={"despiteReviews": True}, headers=mine)
    assert merged.status_code == 200
    assert httpx.delete(f"{base}/reviewers/{name}", headers=mine).status_code == 409
