"""Whoever's sign-in changes is told so by mail, at the address of before the change."""

import re
import secrets
from collections.abc import Callable, Iterator

import asyncssh
import pyotp
import pytest
from posting import PASSWORD, URL, Posting
from receiver import Receiver

from lmcommons.hub.accounts.notices import KINDS, RESET
from lmcommons.hub.accounts.permissions import Action, Actor
from lmcommons.hub.accounts.two_factor import TwoFactors
from lmcommons.hub.community.mail import LEASE
from lmcommons.hub.database.tables import TokenRole, now

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
OTHER = "another good one"
MINUTE = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"


class Member:
    """A user with an address, and what the user changes."""

    def __init__(self, posting: Posting) -> None:
        self.posting, self.hub, self.time = posting, posting.hub, 1_800_000_000.0
        self.name = f"u{secrets.token_hex(4)}"
        self.address = f"{self.name}@example.org"
        self.actor: Actor = self.hub.tokens.actor(self.hub.accounts.add_user(self.name, email=self.address))
        self.factors = TwoFactors(self.hub.database, self.hub.secret, lambda: self.time)

    def told(self) -> list[tuple[str, str]]:
        """The notices about the user that arrive now: to whom, and what they say."""
        arrived = self.posting.delivered(notices=True)
        return [(to, message.get_content()) for to, message in arrived if self.name in message["Subject"]]

    def code(self) -> str:
        """The next code of the authenticator."""
        self.time += 30
        return self.authenticator.at(self.time)

    def turn_on(self) -> None:
        self.authenticator = pyotp.TOTP(self.factors.begin(self.actor).secret)
        self.factors.confirm(self.actor, self.code())

    def turn_off(self) -> None:
        self.factors.turn_off(self.actor, self.code())

    def reset(self) -> None:
        self.turn_on()
        self.factors.reset(self.name)

    def add_key(self) -> str:
        key = asyncssh.generate_private_key("ssh-ed25519", comment="laptop")
        return self.hub.keys.add(self.name, "", key.export_public_key().decode()).fingerprint

    def let_in(self) -> None:
        codes = self.hub.device_logins.begin()
        self.hub.device_logins.answer(self.actor, codes.user, approve=True)


@pytest.fixture(scope="module")
def posting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Posting]:
    receiver = Receiver()
    opened = Posting(tmp_path_factory.mktemp("notices") / "hub", receiver)
    yield opened
    opened.hub.close()
    receiver.controller.stop()


@pytest.fixture
def ada(posting: Posting) -> Member:
    return Member(posting)


def test_every_change_is_told_once(posting: Posting, ada: Member):
    assert ada.told() == []  # of the token that came with the account
    told: dict[str, tuple[Callable[[], object], str]] = {
        "user.password": (lambda: ada.hub.sign_in.set_password(ada.name, PASSWORD), "was changed by an administrator"),
        "two_factor.on": (ada.turn_on, "two-factor sign-in was turned on"),
        "two_factor.off": (ada.turn_off, "two-factor sign-in was turned off"),
        RESET: (ada.reset, "two-factor sign-in was turned off by an administrator"),
        "key.added": (ada.add_key, "the SSH key SHA256:"),
        "token.created": (lambda: ada.hub.tokens.add(ada.name, "ci", TokenRole.WRITE), "the token “ci” was made by an"),
        "device.approved": (ada.let_in, "a program was let in"),
        "account.email": (lambda: ada.hub.mail_links.change_email(ada.actor, ""), "address was changed or removed"),
    }
    assert told.keys() == {*KINDS, RESET}
    for happen, said in told.values():
        happen()
        [(to, text)] = ada.told()
        assert to == ada.address
        assert re.search(rf"{MINUTE}: .*{said}", text)
        assert ada.told() == []
    ada.add_key()  # whom no address is known of is told nothing
    assert ada.told() == []


def test_tokens_that_only_read_are_not_told(posting: Posting, ada: Member):
    ada.hub.tokens.add(ada.name, "reads", TokenRole.READ)
    ada.hub.tokens.add(ada.name, "reads mine", TokenRole.FINE_GRAINED, scopes={ada.name: Action.READ})
    assert ada.told() == []
    ada.hub.tokens.add(ada.name, "writes mine", TokenRole.FINE_GRAINED, scopes={ada.name: Action.WRITE})
    [(_, text)] = ada.told()
    assert "the token “writes mine” was made" in text
    assert "reads" not in text


def test_a_password_that_a_link_replaced_is_told_with_where_one_is_signed_in(posting: Posting, ada: Member):
    ada.hub.mail_links.forgotten(ada.name)
    ada.hub.sign_in.reset_password(posting.code(), OTHER)
    [(_, text)] = ada.told()
    assert "the password was changed" in text
    assert "Nobody is signed in by a browser now." in text
    assert f"{URL}/login/forgotten" in text
    ada.hub.sign_in.change_password(ada.actor, OTHER, PASSWORD, agent=FIREFOX)
    [(_, text)] = ada.told()
    assert re.search(f"Signed in now: Firefox · Linux, last used {MINUTE}", text)


def test_the_former_address_is_told_of_the_new_one(posting: Posting, ada: Member):
    ada.hub.mail_links.change_email(ada.actor, f"new-{ada.address}")
    code = posting.code()
    assert ada.told() == []  # nothing was changed yet
    ada.hub.mail_links.confirm(code)
    [(to, text)] = ada.told()
    assert to == ada.address
    assert "This is not the address of the account any more." in text
    assert f"new-{ada.address}" not in text
    assert f"{URL}/settings/password" in text
    ada.add_key()
    assert [to for to, _ in ada.told()] == [f"new-{ada.address}"]


def test_what_changes_before_the_mail_goes_out_is_told_to_the_first_address(posting: Posting, ada: Member):
    ada.hub.mail_links.change_email(ada.actor, "thief@example.org")
    code = posting.code()
    posting.receiver.refusals = ["451 later"]
    fingerprint = ada.add_key()
    assert ada.told() == []
    ada.hub.mail_links.confirm(code)
    [(to, text)] = ada.told()
    assert to == ada.address
    assert text.index(fingerprint) < text.index("address was changed")


def test_a_change_while_a_notice_is_being_sent_is_told_too(posting: Posting, ada: Member):
    posting.receiver.meanwhile = lambda: ada.hub.sign_in.set_password(ada.name, PASSWORD)
    ada.add_key()
    [(_, first)] = ada.told()
    assert "password was changed" not in first
    [(_, second)] = ada.told()
    assert "password was changed" in second
    posting.hub.mail.send_due(now() + 2 * LEASE)
    assert len(posting.receiver.mail) == 1


def test_who_wants_no_mail_is_told_all_the_same_and_in_chinese(posting: Posting, ada: Member):
    ada.hub.profiles.choose_language(ada.actor, "zh")
    ada.hub.notifications.choose_mail(ada.actor, wanted=False)
    ada.add_key()
    [(_, message)] = posting.delivered(notices=True)
    assert (message["Subject"], message["Content-Language"]) == (f"{ada.name} 的登录方式有变更", "zh")
    assert "已添加 SSH 密钥 SHA256:" in message.get_content()


def test_others_are_told_nothing(posting: Posting, ada: Member):
    posting.hub.accounts.add_user("eve", email="eve@example.org", admin=True)
    eve = posting.hub.tokens.actor(posting.hub.tokens.add("eve", ada.name, TokenRole.WRITE))
    posting.delivered()
    ada.turn_on()
    ada.factors.reset(ada.name, by=eve)
    [(to, text)] = ada.told()
    assert to == ada.address
    assert "turned off by an administrator" in text
    assert f"“{ada.name}”" not in text  # the token of eve that has this name
    ada.add_key()
    posting.hub.accounts.change_user(ada.name, disabled=True)
    assert ada.told() == []
