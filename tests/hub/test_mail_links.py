"""Addresses are verified, forgotten passwords replaced, and all mail is in the language of its reader."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
from open_rooms import open_rooms
from posting import PASSWORD, Posting, code_in
from receiver import Receiver
from sqlalchemy import select

from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.accounts.sign_in import SecondStep
from lmcommons.hub.community.mail import LEASE
from lmcommons.hub.database.tables import Event, RepositoryType, Role, Table, now
from lmcommons.hub.errors import BadRequest, Forbidden, NotFound, Unauthorized

OTHER = "another good one"


@pytest.fixture
def posting(tmp_path: Path, receiver: Receiver) -> Posting:
    return Posting(tmp_path, receiver)


# ---------------------------------------------------------------- addresses


def test_a_new_address_is_nobodys_until_its_link_is_opened(posting: Posting):
    ada = posting.join("ada", email="ada@example.org")
    assert posting.address("ada") is None
    [(to, message)] = posting.delivered()
    assert (to, message["To"], message["Subject"]) == ("ada@example.org", "ada@example.org", "Is this your address?")
    assert "ada gave this as their e-mail address" in message.get_content()
    repository = posting.hub.commits.create_repository(ada, RepositoryType.MODEL, None, "m")
    posting.hub.discussions.open(posting.join("bo"), repository, "A question", "text")
    assert posting.delivered() == []
    assert posting.hub.mail_links.confirm(code_in(message)).name == "ada"
    assert posting.address("ada") == "ada@example.org"
    posting.hub.discussions.comment(posting.join("cleo"), repository, 1, "@ada, an answer")
    assert [to for to, _ in posting.delivered()] == ["ada@example.org"]


def test_a_link_works_once_and_ends_in_a_day(posting: Posting):
    ada = posting.join("ada", email="ada@example.org")
    waiting = posting.hub.mail_links.waiting(ada)
    assert waiting is not None
    assert waiting.expires_at - waiting.created_at == pytest.approx(timedelta(days=1), abs=timedelta(minutes=1))
    code = posting.code()
    for wrong in ("", "guess", code[:-1], f"{code}A"):
        with pytest.raises(NotFound):
            posting.hub.mail_links.confirm(wrong)
    posting.end()
    with pytest.raises(NotFound):
        posting.hub.mail_links.confirm(code)
    posting.hub.mail_links.send_again(ada)
    again = posting.code()
    assert again != code
    posting.hub.mail_links.confirm(again)
    with pytest.raises(NotFound):
        posting.hub.mail_links.confirm(again)
    with pytest.raises(NotFound, match="No address of yours waits"):
        posting.hub.mail_links.send_again(ada)


def test_the_former_address_stays_until_the_new_one_is_verified(posting: Posting):
    token = posting.hub.accounts.add_user("ada", email="old@example.org")  # as the operator knows it
    ada = posting.hub.tokens.actor(token)
    assert (posting.address("ada"), posting.delivered()) == ("old@example.org", [])
    posting.hub.mail_links.change_email(ada, " new@example.org ")
    posting.hub.mail_links.change_email(ada, "newer@example.org")
    [(to, message)] = posting.delivered()
    assert (to, posting.address("ada")) == ("newer@example.org", "old@example.org")
    posting.hub.mail_links.change_email(ada, "old@example.org")  # as it is
    assert posting.hub.mail_links.waiting(ada) is None
    with pytest.raises(NotFound):
        posting.hub.mail_links.confirm(code_in(message))
    posting.hub.mail_links.change_email(ada, "")
    assert (posting.address("ada"), posting.delivered()) == (None, [])
    with pytest.raises(BadRequest):
        posting.hub.mail_links.change_email(ada, "no address")
    with pytest.raises(Unauthorized):
        posting.hub.mail_links.change_email(ANONYMOUS, "x@example.org")
    with pytest.raises(Forbidden):
        posting.hub.mail_links.change_email(ada.reading, "x@example.org")


def test_without_a_mail_server_an_address_is_taken_as_it_is(tmp_path: Path):
    hub = open_rooms(tmp_path, sign_up="open")
    ada = hub.browser_sessions.actor(hub.joining.join("ada", PASSWORD, email="ada@example.org"))
    assert hub.accounts.find("ada").email == "ada@example.org"
    hub.mail_links.change_email(ada, "new@example.org")
    assert (hub.accounts.find("ada").email, hub.mail_links.waiting(ada)) == ("new@example.org", None)
    with pytest.raises(Forbidden, match="sends no mail"):
        hub.mail_links.forgotten("ada")


def test_the_database_holds_no_code(posting: Posting):
    posting.join("ada", email="ada@example.org")
    code = posting.code()
    with posting.hub.database.read() as session:
        stored = "\n".join(
            repr(tuple(row)) for table in Table.metadata.sorted_tables for row in session.execute(select(table))
        )
    assert "ada@example.org" in stored
    assert code not in stored


def test_a_link_that_is_asked_for_again_while_the_former_is_being_sent_goes_out_too(posting: Posting):
    ada = posting.join("ada", email="ada@example.org")
    posting.receiver.meanwhile = lambda: posting.hub.mail_links.send_again(ada)
    first = posting.code()
    second = posting.code()
    with pytest.raises(NotFound):
        posting.hub.mail_links.confirm(first)
    posting.hub.mail_links.confirm(second)
    posting.hub.mail.send_due(now() + 2 * LEASE)
    assert len(posting.receiver.mail) == 1


# ---------------------------------------------------------------- forgotten passwords


@pytest.mark.parametrize("named", ["ada", " ADA ", "Ada@Example.org"])
def test_a_forgotten_password_is_replaced_by_a_link_that_ends_all_sessions(posting: Posting, named: str):
    posting.hub.accounts.add_user("ada", email="ada@example.org")
    posting.hub.sign_in.set_password("ada", PASSWORD)
    session = posting.hub.sign_in.sign_in("ada", PASSWORD)
    posting.hub.mail_links.forgotten(named)
    [(to, message)] = posting.delivered()
    assert (to, message["Subject"]) == ("ada@example.org", "A new password for ada")
    code = code_in(message)
    with pytest.raises(BadRequest):
        posting.hub.sign_in.reset_password(code, "short")  # which leaves the link as it is
    posting.hub.sign_in.reset_password(code, OTHER)
    assert posting.hub.browser_sessions.actor(str(session)) == ANONYMOUS
    with pytest.raises(Unauthorized):
        posting.hub.sign_in.sign_in("ada", PASSWORD)
    assert isinstance(posting.hub.sign_in.sign_in("ada", OTHER), str)
    with pytest.raises(NotFound):
        posting.hub.sign_in.reset_password(code, PASSWORD)


def test_who_asks_learns_nothing_and_only_verified_addresses_of_users_who_may_sign_in_get_mail(posting: Posting):
    posting.hub.accounts.add_user("nomail")
    posting.hub.accounts.add_user("shut", email="shut@example.org")
    posting.hub.accounts.change_user("shut", disabled=True)
    posting.hub.organisations.add("team")
    posting.join("fresh", email="new@example.org")
    posting.delivered()
    asked = ["nomail", "shut", "shut@example.org", "team", "fresh", "new@example.org", "nobody", "%", ""]
    for named in asked:
        posting.hub.mail_links.forgotten(named)
    assert posting.delivered() == []
    with posting.hub.database.read() as session:
        told = session.scalars(select(Event.data).where(Event.kind == "user.forgot_password")).all()
    assert told == [{}] * len(asked)


def test_all_users_of_one_address_get_a_link_each(posting: Posting):
    for name in ("ada", "eve"):
        posting.hub.accounts.add_user(name, email="both@example.org")
    posting.hub.mail_links.forgotten("both@example.org")
    assert [message["Subject"] for _, message in posting.delivered()] == [
        *("A new password for ada", "A new password for eve")
    ]


def test_links_of_one_kind_are_of_no_use_for_the_other_and_end_with_the_password_and_the_half_hour(posting: Posting):
    token = posting.hub.accounts.add_user("ada", email="ada@example.org")
    posting.hub.mail_links.forgotten("ada")
    first = posting.code()
    with pytest.raises(NotFound):
        posting.hub.mail_links.confirm(first)
    posting.end()
    with pytest.raises(NotFound):
        posting.hub.sign_in.reset_password(first, PASSWORD)
    posting.hub.mail_links.change_email(posting.hub.tokens.actor(token), "thief@example.org")
    theft = posting.code()
    with pytest.raises(NotFound):
        posting.hub.sign_in.reset_password(theft, PASSWORD)
    posting.hub.mail_links.forgotten("ada")
    posting.hub.sign_in.reset_password(posting.code(), PASSWORD)
    with pytest.raises(NotFound):
        posting.hub.mail_links.confirm(theft)
    posting.hub.mail_links.forgotten("ada")
    second = posting.code()
    posting.hub.sign_in.set_password("ada", OTHER)
    with pytest.raises(NotFound):
        posting.hub.sign_in.reset_password(second, PASSWORD)


def test_a_link_of_somebody_who_was_shut_out_meanwhile_does_nothing(posting: Posting):
    posting.hub.accounts.add_user("ada", email="ada@example.org")
    posting.hub.mail_links.forgotten("ada")
    code = posting.code()
    posting.hub.accounts.change_user("ada", disabled=True)
    with pytest.raises(NotFound):
        posting.hub.sign_in.reset_password(code, PASSWORD)


def test_a_new_password_leaves_two_factor_sign_in_on(posting: Posting):
    actor = posting.hub.tokens.actor(posting.hub.accounts.add_user("ada", email="ada@example.org"))
    key = pyotp.parse_uri(posting.hub.two_factors.begin(actor).uri)
    assert isinstance(key, pyotp.TOTP)
    posting.hub.two_factors.confirm(actor, key.now())
    posting.hub.mail_links.forgotten("ada")
    posting.hub.sign_in.reset_password(posting.code(), OTHER)
    assert isinstance(posting.hub.sign_in.sign_in("ada", OTHER), SecondStep)


# ---------------------------------------------------------------- the reader's language


def notified(posting: Posting, reader: Actor) -> None:
    repository = posting.hub.commits.create_repository(reader, RepositoryType.MODEL, None, "m")
    posting.hub.discussions.open(posting.join("bo"), repository, "A question", "Is *this* right?")


def invited(posting: Posting, reader: Actor) -> None:
    bo = posting.join("bo")
    posting.hub.organisations.add("team", members=[("bo", Role.ADMIN)])
    bo = posting.hub.browser_sessions.actor(str(posting.hub.sign_in.sign_in("bo", PASSWORD)))
    posting.hub.organisation_invitations.invite(bo, "team", "ada", Role.WRITE)


def readdressed(posting: Posting, reader: Actor) -> None:
    posting.hub.mail_links.change_email(reader, "new@example.org")


def forgetting(posting: Posting, reader: Actor) -> None:
    posting.hub.mail_links.forgotten("ada")


@pytest.mark.parametrize(
    ("happen", "english", "chinese"),
    [
        (notified, ["bo opened this: [ada/m] A question (#1)"], ["bo 新建：[ada/m] A question (#1)", "要接收哪些通知"]),
        (invited, ["bo invites you to team", "role “writer”"], ["bo 邀请你加入 team", "角色为“读写成员”"]),
        (readdressed, ["Is this your address?", "ada gave this"], ["请验证你的邮箱地址", "用户 ada 填写了", "请忽略"]),
        (forgetting, ["A new password for ada", "half an hour"], ["为 ada 设置新密码", "半小时", "请忽略"]),
    ],
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_mail_is_in_the_language_that_its_reader_chose(
    posting: Posting,
    happen: Callable[[Posting, Actor], None],
    english: list[str],
    chinese: list[str],
    language: str,
):
    reader = posting.hub.tokens.actor(posting.hub.accounts.add_user("ada", email="ada@example.org"))
    posting.hub.profiles.choose_language(reader, language)
    happen(posting, reader)
    [(_, message)] = posting.delivered()
    text = f"{message['Subject']}\n{message.get_content()}"
    for said in english if language == "en" else chinese:
        assert said in text
    others = english if language == "zh" else chinese
    assert not any(said in text for said in others)
    assert message["Content-Language"] == language


def test_who_chose_no_language_is_written_to_in_english(posting: Posting):
    posting.join("ada", email="ada@example.org")
    [(_, message)] = posting.delivered()
    assert message["Content-Language"] == "en"
