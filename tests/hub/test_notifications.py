"""Notifications: who is told of what, what is read, what is never told, and what goes out by mail."""

import time
from collections.abc import Callable
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
from hub_process import PATIENCE, free_port, start_hub
from open_rooms import open_rooms
from receiver import Receiver

from lmcommons.errors import RequestError
from lmcommons.hub.accounts.permissions import ANONYMOUS, Action, Actor
from lmcommons.hub.community.mail import ATTEMPTS, STALE
from lmcommons.hub.community.mentions import mentioned
from lmcommons.hub.community.notifications import KEPT, MAIL_DELAY
from lmcommons.hub.database.tables import (
    AccessStatus,
    Discussion,
    Gate,
    Notification,
    Repository,
    RepositoryType,
    Role,
    now,
)
from lmcommons.hub.errors import Forbidden, Unauthorized
from lmcommons.hub.mail_server import MailServer
from lmcommons.hub.operating.departures import delete_user
from lmcommons.hub.repos.git import AddFile
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings


class World:
    """A hub, ann's repository in it, and bo and cleo, who discuss there."""

    def __init__(self, data: Path, **settings: Any) -> None:
        self.hub: Hub = open_rooms(data, **settings)
        self.ann, self.bo, self.cleo = (self.user(name, f"{name}@example.org") for name in ("ann", "bo", "cleo"))
        self.repository: Repository = self.hub.commits.create_repository(self.ann, RepositoryType.MODEL, None, "m")

    def user(self, name: str, address: str | None = None) -> Actor:
        return self.hub.tokens.actor(self.hub.accounts.add_user(name, email=address))

    def again(self, actor: Actor) -> Actor:
        """The actor with the roles that they have by now."""
        return self.hub.tokens.actor(self.hub.tokens.add(actor.name or "", "t", actor.token_role))

    def open(self, actor: Actor, text: str = "text") -> int:
        return self.hub.discussions.open(actor, self.repository, "A question", text).number

    def comment(self, actor: Actor, text: str = "text", number: int = 1) -> int:
        return self.hub.discussions.comment(actor, self.repository, number, text).id

    def set_private(self, private: bool) -> None:
        changed = self.hub.repositories.change(
            self.ann, RepositoryType.MODEL, self.repository.full_name, private=private
        )
        self.repository = changed

    def told(self, actor: Actor, *, unread: bool = False) -> list[tuple[str, int]]:
        """Of each thread, why the actor was told first what is not read yet, and how much is unread."""
        threads = self.hub.notifications.threads(actor, unread=unread)
        return [(thread.shown.reason, thread.unread) for thread in threads]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ---------------------------------------------------------------- who is told


def test_owners_are_told_of_new_discussions_and_participants_of_replies(world: World):
    world.open(world.bo)
    assert world.told(world.ann) == [("opened", 1)]
    assert world.told(world.bo) == []
    world.comment(world.ann)
    world.comment(world.cleo)
    assert world.told(world.bo) == [("reply", 2)]
    assert world.told(world.ann) == [("opened", 2)]
    assert world.told(world.cleo) == []
    world.hub.discussions.set_status(world.ann, world.repository, 1, "closed")
    assert world.told(world.cleo) == [("closed", 1)]
    world.hub.discussions.set_status(world.bo, world.repository, 1, "open")
    assert world.told(world.cleo) == [("closed", 2)]
    assert world.hub.notifications.unread(world.cleo) == 2
    assert world.hub.notifications.unread(ANONYMOUS) == 0


def test_an_organisations_writers_look_after_its_repositories(world: World):
    roles = {"wes": Role.WRITE, "ada": Role.ADMIN, "con": Role.CONTRIBUTOR, "rea": Role.READ}
    members = {name: world.user(name) for name in roles}
    world.hub.organisations.add("team", members=list(roles.items()))
    make = world.hub.commits.create_repository
    con = world.again(members["con"])
    world.repository = make(con, RepositoryType.MODEL, "team", "of-con")
    world.open(world.bo)
    assert {name for name, actor in members.items() if world.told(world.again(actor))} == {"wes", "ada", "con"}


def test_who_is_mentioned_is_told_so_once_and_nobody_by_code_or_an_address(world: World):
    world.open(world.ann, "Dear @BO and @bo, `@cleo`, x@cleo.org and @nobody-of-that-name, @ann")
    assert (world.told(world.bo), world.told(world.cleo), world.told(world.ann)) == ([("mention", 1)], [], [])
    comment = world.comment(world.ann, "@bo?")
    assert world.told(world.bo) == [("mention", 2)]
    world.hub.discussions.edit(world.ann, world.repository, 1, comment, "@bo? 谢谢@cleo！")
    assert (world.told(world.bo), world.told(world.cleo)) == ([("mention", 2)], [("mention", 1)])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("@a, (@b) @c.d. @E", ["a", "b", "c.d", "e"]),
        ("a@b @@c /@d @-e @", []),
        ("```\n@a\n```\n@b\n~~~ x\n@c", ["b"]),
        ("`` @a ` @b `` @c", ["c"]),
        ("@ada-lovelace's @ada_", ["ada-lovelace", "ada"]),
    ],
)
def test_mentions_are_names_outside_of_code_and_addresses(text: str, names: list[str]):
    assert mentioned(text) == names


def test_reviews_are_asked_given_and_merges_told(world: World):
    files = [AddFile("a.txt", b"new\n")]
    world.hub.pull_requests.propose(world.bo, world.repository, "main", files, title="t")
    world.hub.reviews.ask(world.bo, world.repository, 1, "cleo")
    assert world.told(world.cleo) == [("review-asked", 1)]
    world.hub.reviews.review(world.cleo, world.repository, 1, "approve")
    assert world.told(world.bo) == [("reviewed", 1)]
    world.hub.pull_requests.merge(world.ann, world.repository, 1)
    assert [world.hub.notifications.unread(actor) for actor in (world.ann, world.bo, world.cleo)] == [1, 2, 2]


def test_owners_are_told_of_a_draft_when_it_is_opened(world: World):
    world.hub.pull_requests.open(world.bo, world.repository, "Draft", "for @cleo")
    assert (world.told(world.ann), world.told(world.cleo)) == ([], [("mention", 1)])
    world.hub.discussions.set_status(world.bo, world.repository, 1, "open")
    assert world.told(world.ann) == [("opened", 1)]


def test_access_is_asked_and_answered(world: World):
    world.hub.repositories.change(world.ann, RepositoryType.MODEL, "ann/m", gated=Gate.MANUAL)
    repository = world.hub.repositories.find(world.bo, RepositoryType.MODEL, "ann/m", Action.SEE)
    world.hub.access.ask(world.bo, repository, {})
    assert world.told(world.ann) == [("access-asked", 1)]
    world.hub.access.handle(world.ann, repository, AccessStatus.REJECTED, user="bo")
    world.hub.access.handle(world.ann, repository, AccessStatus.PENDING, user="bo")
    world.hub.access.handle(world.ann, repository, AccessStatus.ACCEPTED, user="bo")
    assert world.told(world.bo) == [("access-rejected", 2)]
    assert world.told(world.ann) == [("access-asked", 1)]


def test_a_thread_is_watched_or_muted(world: World):
    number = world.open(world.ann)
    discussion = world.hub.discussions.find(world.repository, number)
    room = world.hub.notifications
    room.choose(world.cleo, world.repository, discussion, "watch")
    room.choose(world.ann, world.repository, discussion, "mute")
    assert [room.choice(actor, discussion) for actor in (world.ann, world.bo, world.cleo)] == [
        *("mute", "default", "watch"),
    ]
    world.comment(world.bo)
    assert (world.told(world.cleo), world.told(world.ann)) == ([("reply", 1)], [])
    world.comment(world.bo, "@ann")
    assert world.told(world.ann) == [("mention", 1)]
    room.choose(world.cleo, world.repository, discussion, "default")
    world.comment(world.bo)
    assert room.unread(world.cleo) == 2


# ---------------------------------------------------------------- what is never told


def test_who_may_not_see_a_repository_is_told_nothing_of_it_and_of_what_they_were_told_before(world: World):
    world.open(world.bo)
    world.comment(world.ann, "@cleo")
    world.set_private(True)
    world.comment(world.ann, "@bo @cleo, now we are alone")
    room = world.hub.notifications
    for actor in (world.bo, world.cleo):
        assert (world.told(actor), room.unread(actor)) == ([], 0)
    world.set_private(False)
    assert (world.told(world.bo), world.told(world.cleo)) == ([("reply", 1)], [("mention", 1)])


def test_what_moderators_withhold_is_told_no_more(world: World):
    number = world.open(world.bo)
    with world.hub.database.write() as session:
        session.get_one(Discussion, world.hub.discussions.find(world.repository, number).id).withheld = True
    assert (world.told(world.ann), world.hub.notifications.unread(world.ann)) == ([], 0)


def test_a_disabled_account_and_an_organisation_are_told_nothing(world: World):
    world.hub.organisations.add("team", members=[("bo", Role.READ)])
    world.hub.accounts.change_user("cleo", disabled=True)
    world.open(world.ann, "@team @cleo")
    assert (world.told(world.bo), world.told(world.cleo)) == ([], [])


# ---------------------------------------------------------------- what is read


def test_threads_are_read_one_by_one_and_all_at_once(world: World):
    for _ in range(3):
        world.open(world.bo)
    world.comment(world.bo, "@ann", number=1)
    room = world.hub.notifications
    threads = room.threads(world.ann)
    assert [thread.last.discussion.number for thread in threads if thread.last.discussion] == [1, 3, 2]
    assert [thread.unread for thread in threads] == [2, 1, 1]
    room.mark(world.bo, threads[0].last.id)  # somebody else's
    assert room.unread(world.ann) == 4
    room.mark(world.ann, threads[0].last.id)
    assert [thread.unread for thread in room.threads(world.ann)] == [0, 1, 1]
    assert len(room.threads(world.ann, unread=True)) == 2
    assert len(room.threads(world.ann, offset=1, limit=1)) == 1
    room.saw(world.ann, world.hub.discussions.find(world.repository, 2))
    room.mark(world.ann)
    assert (room.unread(world.ann), len(room.threads(world.ann))) == (0, 3)
    with pytest.raises(Unauthorized):
        room.threads(ANONYMOUS)
    with pytest.raises(Forbidden):
        room.mark(world.ann.reading)


def test_what_was_read_is_forgotten_in_time_and_what_was_not_is_kept(world: World):
    world.open(world.bo)
    room = world.hub.notifications
    room.forget(now() + KEPT)
    assert room.unread(world.ann) == 1
    room.mark(world.ann)
    room.forget(now() - KEPT)
    assert len(room.threads(world.ann)) == 1
    room.forget(now() + KEPT)
    assert room.threads(world.ann) == []


def test_a_deleted_user_leaves_no_notifications(world: World):
    world.open(world.bo, "@cleo")
    delete_user(world.hub, "cleo")
    delete_user(world.hub, "bo")
    with world.hub.database.read() as session:
        [left] = session.query(Notification).all()
    assert (left.account_id, left.actor_id) == (world.ann.account_id, None)


# ---------------------------------------------------------------- by mail


@pytest.fixture
def mailing(tmp_path: Path, receiver: Receiver) -> World:
    return World(tmp_path, smtp=receiver.url, mail_from="hub@example.org", public_url="https://hub.example.org")


def test_what_is_not_read_in_a_minute_is_sent_once(mailing: World, receiver: Receiver):
    mailing.open(mailing.bo, "Is *this* right, @cleo?")
    assert mailing.hub.mail.send_due() == 0
    later = now() + MAIL_DELAY
    mailing.hub.notifications.mark(mailing.cleo)
    assert mailing.hub.mail.send_due(later) == 2
    assert mailing.hub.mail.send_due(later + timedelta(hours=2)) == 0
    [(recipients, message)] = receiver.mail
    assert recipients == ["ann@example.org"]
    assert message["From"] == "LM Commons <hub@example.org>"
    assert message["To"] == "ann@example.org"
    assert message["Subject"] == "[ann/m] A question (#1)"
    text = message.get_content()
    assert text.startswith("bo opened this: [ann/m] A question (#1)")
    assert "Is *this* right, @cleo?" in text
    assert "https://hub.example.org/ann/m/discussions/1" in text
    assert "https://hub.example.org/notifications" in text
    assert "bo@example.org" not in message.as_string()


def test_mail_is_not_sent_of_what_was_hidden_or_may_not_be_seen_or_is_not_wanted(mailing: World, receiver: Receiver):
    mailing.open(mailing.bo, "the secret")
    discussion = mailing.hub.discussions.find(mailing.repository, 1)
    mailing.hub.discussions.hide(mailing.bo, mailing.repository, 1, mailing.hub.discussions.events(discussion)[0].id)
    mailing.comment(mailing.ann, "@cleo")
    mailing.hub.notifications.choose_mail(mailing.bo, wanted=False)
    assert not mailing.hub.notifications.wants_mail(mailing.bo)
    mailing.set_private(True)
    mailing.hub.mail.send_due(now() + MAIL_DELAY)
    [(recipients, message)] = receiver.mail
    assert recipients == ["ann@example.org"]
    assert "the secret" not in message.as_string()


def test_mail_that_fails_is_tried_again_later_each_time(mailing: World, receiver: Receiver):
    mailing.open(mailing.bo)
    receiver.refusals = ["451 try later"] * 2
    when = now() + MAIL_DELAY
    for minutes in (1, 4):
        assert mailing.hub.mail.send_due(when) == 1
        assert mailing.hub.mail.send_due(when + timedelta(minutes=minutes, seconds=-1)) == 0
        when += timedelta(minutes=minutes)
    assert (mailing.hub.mail.send_due(when), len(receiver.mail)) == (1, 1)


def test_mail_is_given_up_in_the_end(mailing: World, receiver: Receiver):
    receiver.refusals = ["451 never"] * ATTEMPTS
    mailing.open(mailing.bo)
    when = now() + MAIL_DELAY
    for _ in range(ATTEMPTS):
        assert mailing.hub.mail.send_due(when) == 1
        when += timedelta(hours=4.5)  # the longest wait
    assert mailing.hub.mail.send_due(when + timedelta(hours=9)) == 0
    assert receiver.mail == []


def test_an_address_that_is_refused_for_good_and_news_of_yesterday_are_not_tried_again(
    mailing: World, receiver: Receiver
):
    receiver.refusals = ["550 no such user"]
    mailing.open(mailing.bo)
    when = now() + MAIL_DELAY
    assert mailing.hub.mail.send_due(when) == 1
    assert mailing.hub.mail.send_due(when + timedelta(hours=2)) == 0
    mailing.open(mailing.bo)
    assert mailing.hub.mail.send_due(when + STALE) == 0
    assert receiver.mail == []


def test_a_mail_server_that_is_away_stops_nothing(tmp_path: Path):
    world = World(tmp_path, smtp=f"smtp://127.0.0.1:{free_port()}", mail_from="hub@example.org")
    world.open(world.bo)
    when = now() + MAIL_DELAY
    assert world.hub.mail.send_due(when) == 1
    assert world.hub.mail.send_due(when + timedelta(minutes=2)) == 1
    assert world.told(world.ann) == [("opened", 1)]


def test_two_addresses_in_one_field_reach_nobody(mailing: World, receiver: Receiver):
    for name, address in (("dan", "dan,victim@example.org"), ("eve", "eve<victim@example.org>")):
        mailing.user(name, address)
    mailing.open(mailing.ann, "@dan @eve")
    assert mailing.hub.mail.send_due(now() + MAIL_DELAY) == 2
    assert receiver.mail == []


def test_the_server_is_told_the_password(tmp_path: Path, receive: Callable[..., Receiver]):
    receiver = receive(password="s3cret")
    url = f"smtp://hub%40example.org@127.0.0.1:{receiver.port}"
    world = World(tmp_path, smtp=url, mail_from="hub@example.org", smtp_password="s3cret")
    world.open(world.bo)
    assert world.hub.mail.send_due(now() + MAIL_DELAY) == 1
    assert (receiver.logins, len(receiver.mail)) == ([b"hub@example.org"], 1)
    assert "s3cret" not in repr(world.hub.settings)


def test_a_password_is_not_sent_without_tls(receive: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch):
    receiver = receive(password="s3cret")
    monkeypatch.setattr("lmcommons.hub.mail_server.LOCAL", ())
    server = MailServer.parse(f"smtp://ann@127.0.0.1:{receiver.port}", "hub@example.org", "s3cret")
    with pytest.raises(OSError, match="offers no TLS"):
        server.send(EmailMessage(), "bo@example.org")
    assert receiver.logins == []


@pytest.mark.parametrize(
    ("url", "sender", "password", "said"),
    [
        ("mail.example.org", "a@b", None, "not an address like smtp://"),
        ("smtp://", "a@b", None, "not an address like smtp://"),
        ("http://mail", "a@b", None, "not an address like smtp://"),
        ("smtp://mail:x", "a@b", None, "not an address like smtp://"),
        ("smtp://ann:s3cret@mail", "a@b", None, "LMC_SMTP_PASSWORD"),
        ("smtp://ann@mail", "a@b", None, "put the password of ann"),
        ("smtp://mail", None, None, "--mail-from"),
        ("smtp://mail", "a", None, "--mail-from a: name the address"),
    ],
)
def test_a_mail_server_that_cannot_be_is_refused_in_one_line(
    url: str, sender: str | None, password: str | None, said: str
):
    with pytest.raises(RequestError, match=said) as refused:
        MailServer.parse(url, sender, password)
    assert "s3cret" not in str(refused.value)


def test_a_sender_without_a_server_is_refused(tmp_path: Path):
    with pytest.raises(RequestError, match="name the server that sends it too"):
        Settings.make(tmp_path, mail_from="hub@example.org")


def test_a_hub_that_serves_sends_mail_by_itself(tmp_path: Path, receiver: Receiver):
    with start_hub(tmp_path / "hub", "--smtp", receiver.url, "--mail-from", "hub@example.org") as hub:
        ann, bo = (hub.add_user(name, "--email", f"{name}@example.org") for name in ("ann", "bo"))
        mine, theirs = ({"Authorization": f"Bearer {token}"} for token in (ann, bo))
        post = f"{hub.endpoint}/api/models/ann/m/discussions"
        httpx.post(f"{hub.endpoint}/api/repos/create", json={"name": "m"}, headers=mine)
        httpx.post(post, json={"title": "t", "description": "d"}, headers=theirs)
        told = httpx.get(f"{hub.endpoint}/api/x/notifications", headers=mine).json()
        assert [(thread["reason"], thread["unread"], thread["actor"]["name"]) for thread in told] == [
            ("opened", 1, "bo")
        ]
        assert httpx.get(f"{hub.endpoint}/api/x/notifications").status_code == 401
        with hub.rooms() as rooms, rooms.database.write() as session:
            row = session.query(Notification).one()
            row.mail_at = now()
        deadline = time.monotonic() + PATIENCE
        while not receiver.mail and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [recipients for recipients, _ in receiver.mail] == [["ann@example.org"]]
        httpx.post(f"{hub.endpoint}/api/x/notifications/read", json={"id": told[0]["id"]}, headers=mine)
        assert httpx.get(f"{hub.endpoint}/api/x/notifications?unread=1", headers=mine).json() == []
