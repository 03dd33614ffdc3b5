"""SSH keys: which are taken, whom they speak for, and the page on which members keep theirs."""

import base64
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh
import httpx
import pytest
from browser import Browser
from hub_process import HubProcess, free_port, start_hub
from huggingface_hub import HfApi
from sqlalchemy import select
from web_page import Page

from lmcommons.hub.accounts.accounts import Accounts
from lmcommons.hub.accounts.keys import KEYS_LIMIT, Keys, parse_key
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.sessions import Database
from lmcommons.hub.database.tables import Event, TokenRole
from lmcommons.hub.errors import BadRequest, Conflict, NotFound, Unauthorized

PASSWORD = "correct horse battery"
SECRET = bytes(32)


def public(kind: str = "ssh-ed25519", comment: str = "ann@laptop", **more: int) -> str:
    return asyncssh.generate_private_key(kind, comment=comment, **more).export_public_key().decode()


def sk_key() -> str:
    """The public half of a key that a security token holds; source: OpenSSH's PROTOCOL.u2f."""
    parts = (b"sk-ssh-ed25519@openssh.com", os.urandom(32), b"ssh:")
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return f"sk-ssh-ed25519@openssh.com {base64.b64encode(blob).decode()} token"


@pytest.fixture(scope="module")
def keys(database: Database) -> Keys:
    return Keys(database, SECRET)


@pytest.fixture(scope="module")
def join(database: Database) -> Callable[[], str]:
    names = (f"keeper{number}" for number in range(100))

    def make() -> str:
        name = next(names)
        Accounts(database).add_user(name)
        return name

    return make


# ---------------------------------------------------------------- the room


@pytest.mark.parametrize(
    "text",
    [
        public(),
        f"  {public()}\n",
        public(comment="安的电脑"),
        public("ecdsa-sha2-nistp256"),
        public("ecdsa-sha2-nistp384"),
        public("ssh-rsa", key_size=3072),
        sk_key(),
    ],
    ids=["ed25519", "spaces", "chinese", "p256", "p384", "rsa", "sk"],
)
def test_a_key_is_taken_and_named_by_its_comment(keys: Keys, join: Callable[[], str], text: str):
    name = join()
    added = keys.add(name, "", text)
    assert added.name == text.split()[2]
    assert added.public_key == " ".join(text.split()[:2])
    assert [key.fingerprint for key in keys.of(name)] == [asyncssh.import_public_key(text.encode()).get_fingerprint()]
    actor = keys.actor(added.fingerprint)
    assert (actor.name, actor.token_role) == (name, TokenRole.WRITE)


PRIVATE = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "no SSH key"),
        ("hello", "no SSH key"),
        ("ssh-ed25519 AAAA", "no SSH key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==", "no SSH key"),
        ("ssh-rsa " + "A" * 10_000, "Paste one key"),
        (f"{public()}{public()}", "Paste one key"),
        ("\x00\ud800" + public(), "no SSH key"),
        (PRIVATE, "private key"),
        (public("ssh-rsa", key_size=2048), "3072 to 8192 bits; this one has 2048"),
        (public("ecdsa-sha2-nistp521"), "ecdsa-sha2-nistp521 are not taken"),
        (public("ssh-dss"), "ssh-dss are not taken"),
    ],
    ids=lambda value: str(value)[:12] if len(str(value)) < 30 else "key",
)
def test_what_is_no_key_or_too_weak_is_refused_in_one_line(text: str, line: str):
    with pytest.raises(BadRequest, match=line) as refused:
        parse_key(text)
    assert "\n" not in str(refused.value)


def test_a_key_is_one_accounts_alone_and_may_move_when_it_was_removed(keys: Keys, join: Callable[[], str]):
    first, second, text = join(), join(), public()
    added = keys.add(first, "x", text)
    for name in (first, second):
        with pytest.raises(Conflict, match="in use"):
            keys.add(name, "y", text)
    with pytest.raises(NotFound):
        keys.remove(second, added.id)
    keys.remove(first, added.id)
    with pytest.raises(Unauthorized):
        keys.actor(added.fingerprint)
    keys.add(second, "y", text)
    assert keys.actor(added.fingerprint).name == second


def test_an_account_has_so_many_keys_and_names_that_can_be_shown(keys: Keys, join: Callable[[], str]):
    name = join()
    for wrong in ("x" * 97, "a\nb"):
        with pytest.raises(BadRequest, match="1 to 96"):
            keys.add(name, wrong, public())
    with pytest.raises(BadRequest, match="1 to 96"):
        keys.add(name, "", public(comment=""))
    for number in range(KEYS_LIMIT):
        keys.add(name, str(number), public())
    with pytest.raises(BadRequest, match="remove one"):
        keys.add(name, "one more", public())


def test_keys_are_in_the_log_without_their_names(keys: Keys, join: Callable[[], str], database: Database):
    name = join()
    added = keys.add(name, "secret place", public())
    keys.remove(name, added.id)
    with database.read() as session:
        events = list(session.scalars(select(Event).where(Event.actor == name, Event.kind.startswith("key."))))
    assert [(event.kind, event.data) for event in events] == [
        ("key.added", {"fingerprint": added.fingerprint}),
        ("key.removed", {"fingerprint": added.fingerprint}),
    ]


def test_a_ticket_gives_a_right_to_one_repository_until_it_expires(
    keys: Keys, join: Callable[[], str], monkeypatch: pytest.MonkeyPatch
):
    name = join()
    added = keys.add(name, "x", public())
    ticket = keys.ticket(added.fingerprint, 7, Action.READ)
    actor = keys.actor_of(ticket)
    assert actor is not None
    assert (actor.name, actor.token_role) == (name, TokenRole.FINE_GRAINED)
    assert actor.scopes.repositories == {7: Action.READ}
    assert keys.actor_of("hf_abc") is None
    for forged in (
        ticket.replace(".7.", ".8."),
        ticket.replace("read", "write"),
        f"{ticket[:-1]}{int(ticket[-1] == '0')}",
    ):
        with pytest.raises(Unauthorized):
            keys.actor_of(forged)
    monkeypatch.setattr("lmcommons.hub.accounts.keys.TICKET_LIFE", -1)
    with pytest.raises(Unauthorized):
        keys.actor_of(keys.ticket(added.fingerprint, 7, Action.READ))


def test_a_ticket_of_a_removed_key_does_not_speak_for_whoever_gets_its_number(keys: Keys, join: Callable[[], str]):
    first, second = join(), join()
    added = keys.add(first, "x", public())
    ticket = keys.ticket(added.fingerprint, 7, Action.WRITE)
    keys.remove(first, added.id)
    keys.add(second, "y", public())  # SQLite gives it the id of the one that was removed
    with pytest.raises(Unauthorized):
        keys.actor_of(ticket)


def test_a_disabled_account_has_no_key(keys: Keys, join: Callable[[], str], database: Database):
    name = join()
    added = keys.add(name, "x", public())
    ticket = keys.ticket(added.fingerprint, 7, Action.READ)
    Accounts(database).change_user(name, disabled=True)
    with pytest.raises(Unauthorized):
        keys.actor(added.fingerprint)
    with pytest.raises(Unauthorized):
        keys.actor_of(ticket)


def test_the_host_key_follows_from_the_hubs_secret(database: Database):
    first, again, other = (Keys(database, secret).host_key for secret in (SECRET, SECRET, b"x" * 32))
    assert first.get_algorithm() == "ssh-ed25519"
    assert first.get_fingerprint() == again.get_fingerprint() != other.get_fingerprint()


# ---------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("keys") / "hub", "--ssh-port", str(free_port())) as running:
        yield running


def member(hub: HubProcess, name: str) -> Browser:
    hub.add_user(name)
    hub.command("user", "password", name, typed=f"{PASSWORD}\n")
    browser = Browser(hub)
    assert browser.sign_in(name, PASSWORD).status_code == 200
    return browser


def remove(browser: Browser, key_id: int) -> httpx.Response:
    """Ask for a key to be removed, with the hidden fields of a form that the browser's person has."""
    page = browser.get("/settings/keys").text
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
    return browser.client.post(f"/settings/keys/{key_id}/remove", data=hidden)


def alert(page: Page) -> str:
    return next(each.text for each in page.all("p") if each.attributes.get("role") == "alert")


def test_members_add_and_remove_keys_on_a_page_that_teaches(hub: HubProcess):
    browser = member(hub, "ada")
    page = Page(browser.get("/settings/keys").text)
    assert page.problems == []
    assert "ssh-keygen -t ed25519" in page.text
    with hub.rooms() as rooms:
        assert rooms.keys.host_key.get_fingerprint() in page.text
    refused = browser.submit(browser.get("/settings/keys"), "/settings/keys", key=PRIVATE, name="mine")
    assert refused.status_code == 400
    assert "private key" in alert(Page(refused.text))
    assert 'value="mine"' in refused.text
    browser.submit(refused, "/settings/keys", key=public(comment="<b>laptop</b>"), name="")
    answer = browser.get("/settings/keys")
    listed = Page(answer.text)
    assert "<b>laptop</b>" in listed.text
    assert "ssh-keygen" not in listed.text
    with hub.rooms() as rooms:
        (key,) = rooms.keys.of("ada")
    assert "ssh-keygen" in browser.submit(answer, f"/settings/keys/{key.id}/remove").text
    assert remove(browser, key.id).status_code == 404


def test_nobody_removes_a_key_of_somebody_else(hub: HubProcess):
    member(hub, "bea")
    with hub.rooms() as rooms:
        key = rooms.keys.add("bea", "hers", public())
    assert remove(member(hub, "eve"), key.id).status_code == 404
    assert remove(Browser(hub), key.id).status_code == 403
    with hub.rooms() as rooms:
        assert [each.id for each in rooms.keys.of("bea")] == [key.id]


def test_the_page_is_in_chinese_too(hub: HubProcess):
    browser = member(hub, "cai")
    browser.client.headers["Accept-Language"] = "zh-CN"
    page = browser.get("/settings/keys")
    assert "使用密钥后，git 不再询问密码" in page.text
    refused = browser.submit(page, "/settings/keys", key=PRIVATE, name="")
    assert "这是私钥" in alert(Page(refused.text))


def test_pages_of_repositories_show_the_address_for_ssh(hub: HubProcess):
    browser = member(hub, "dan")
    api = HfApi(hub.endpoint, token=hub.add_token("dan", "write"))
    api.create_repo("dan/m")
    address = f"ssh://git@127.0.0.1:{hub.options[1]}/dan/m"
    assert address in Page(browser.get("/dan/m").text).text  # how to begin
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id="dan/m")
    text = Page(browser.get("/dan/m").text).text
    assert f"git clone {address}" in text
    with hub.rooms() as rooms:
        assert rooms.keys.host_key.get_fingerprint() in text


def test_without_ssh_there_is_no_page_and_no_tab(tmp_path: Path):
    with start_hub(tmp_path / "hub") as plain:
        browser = member(plain, "ada")
        assert browser.get("/settings/keys").status_code == 404
        assert "/settings/keys" not in browser.get("/settings/tokens").text
