"""Addresses, forgotten passwords, invitations and the language of mail, as a browser without JavaScript uses them."""

import re
import secrets
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest
from browser import Browser
from hub_process import PATIENCE, HubProcess, start_hub
from open_rooms import open_rooms
from receiver import Receiver
from web_page import Page

from lmcommons.hub.accounts.limits import MAILS

PASSWORD, OTHER = "correct horse battery", "another good one"


class Post:
    """A hub, and the server that takes its mail."""

    def __init__(self, hub: HubProcess, receiver: Receiver) -> None:
        self.hub, self.receiver = hub, receiver

    def to(self, address: str, number: int = 1) -> EmailMessage:
        """The mail with this number to an address, security notices apart."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            mail = [message for to, message in self.receiver.mail if to == [address]]
            found = [each for each in mail if not each["Message-ID"].startswith("<notice-")]
            if len(found) >= number:
                return found[number - 1]
            self.send()
        raise AssertionError(f"no mail to {address}")

    def send(self) -> None:
        """Send what is due, without the pause that the hub makes."""
        rooms = open_rooms(
            self.hub.data, smtp=self.receiver.url, mail_from="hub@example.org", public_url=self.hub.endpoint
        )
        rooms.mail.send_due()
        rooms.close()

    def link(self, address: str, number: int = 1) -> str:
        """Where the link in a mail leads."""
        found = re.search(r"http://\S+\?code=\S+", self.to(address, number).get_content())
        assert found is not None
        parts = urlsplit(found[0])
        return f"{parts.path}?{parts.query}"

    def member(self, *, verified: bool = True) -> tuple[str, str, Browser]:
        """The name, the address and the browser of a new user."""
        name = f"u{secrets.token_hex(4)}"
        address = f"{name}@example.org"
        self.hub.add_user(name, *(["--email", address] if verified else []))
        self.hub.command("user", "password", name, typed=f"{PASSWORD}\n")
        browser = Browser(self.hub)
        assert browser.sign_in(name, PASSWORD).status_code == 200
        return name, address, browser


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    receiver = Receiver()
    options = ("--smtp", receiver.url, "--mail-from", "hub@example.org", "--sign-up", "open", "--member-organisations")
    with start_hub(tmp_path_factory.mktemp("post") / "hub", *options) as hub:
        yield Post(hub, receiver)
    receiver.controller.stop()


def sound(page: httpx.Response, status: int = 200) -> Page:
    """The page, which is well formed and has one main heading."""
    parsed = Page(page.text)
    assert page.status_code == status, parsed.text[:500]
    assert parsed.problems == []
    assert len(parsed.all("h1")) == 1
    return parsed


# ---------------------------------------------------------------- addresses


def test_who_joins_verifies_the_address_in_the_language_of_the_page(post: Post):
    name = f"u{secrets.token_hex(4)}"
    address = f"{name}@example.org"
    browser = Browser(post.hub)
    browser.client.headers["Accept-Language"] = "zh-CN"
    joined = browser.submit(browser.get("/join"), "/join", name=name, password=PASSWORD, email=address)
    assert joined.status_code == 200
    shown = browser.client.get("/api/whoami-v2").json()
    assert (shown["email"], shown["emailVerified"]) == (None, False)
    assert f"验证链接已发送到 {address}" in sound(browser.get("/settings/email")).text
    assert post.to(address)["Subject"] == "请验证你的邮箱地址"
    link = post.link(address)
    stranger = Browser(post.hub)  # as the programs that look into mail, and another browser than the one that joined
    opened = stranger.get(link)
    assert f"Is {address} the address of {name}?" in sound(opened).text
    assert browser.client.get("/api/whoami-v2").json()["email"] is None
    assert f"{address} is now the address of {name}." in sound(stranger.submit(opened, "/settings/email/confirm")).text
    shown = browser.client.get("/api/whoami-v2").json()
    assert (shown["email"], shown["emailVerified"]) == (address, True)
    assert "此链接无效、已使用或已过期" in sound(browser.get(link), 404).text
    sound(stranger.submit(opened, "/settings/email/confirm"), 404)


def test_a_new_address_needs_the_password_and_is_mailed_again_a_few_times(post: Post):
    name, address, browser = post.member()
    page = browser.get("/settings/email")
    assert address in sound(page).text
    wanted = f"new-{address}"
    sound(browser.submit(page, "/settings/email", email=wanted, present="wrong"), 401)
    sound(browser.submit(page, "/settings/email", email="no address", present=PASSWORD), 400)
    waiting = browser.submit(page, "/settings/email", email=wanted, present=PASSWORD)
    assert f"A link was sent to {wanted}" in sound(waiting).text
    assert f"Your address is {address}." in sound(waiting).text
    links = [post.link(wanted)]
    answer = browser.submit(waiting, "/settings/email/again")
    while answer.status_code == 200:  # once more, or more often where a window of the limits ends meanwhile
        links.append(post.link(wanted, len(links) + 1))
        assert 1 < len(links) <= 2 * MAILS
        answer = browser.submit(answer, "/settings/email/again")
    assert "mail" in sound(answer, 429).text
    assert int(answer.headers["Retry-After"]) > 0
    sound(browser.get(links[-2]), 404)
    browser.submit(browser.get(links[-1]), "/settings/email/confirm")
    page = browser.get("/settings/email")
    assert f"Your address is {wanted}." in sound(page).text
    assert "/settings/email/again" not in page.text
    assert name in Browser(post.hub).get(f"/{name}").text
    assert wanted not in Browser(post.hub).get(f"/{name}").text


def let_in(send: Callable[[], httpx.Response]) -> int:
    """How often a form is taken before it is refused for a time."""
    number = 0
    while (answer := send()).status_code == 200:
        number += 1
        assert number <= 2 * MAILS
    assert answer.status_code == 429
    return number


def test_nobody_is_sent_mail_by_many_who_name_the_same_address(post: Post):
    victim = f"v{secrets.token_hex(4)}@example.org"

    def name_the_victim() -> httpx.Response:
        _, _, browser = post.member(verified=False)
        return browser.submit(browser.get("/settings/email"), "/settings/email", email=victim, present=PASSWORD)

    assert let_in(name_the_victim) >= MAILS  # more where a window of the limits ends meanwhile


def test_without_a_mail_server_pages_say_so(hub: HubProcess):
    name = f"u{secrets.token_hex(4)}"
    hub.add_user(name)
    hub.command("user", "password", name, typed=f"{PASSWORD}\n")
    browser = Browser(hub)
    browser.sign_in(name, PASSWORD)
    page = browser.get("/settings/email")
    assert "nobody checks that the address is yours" in sound(page).text
    fields = {"email": "ada@example.org", "present": PASSWORD}
    assert "Your address is ada@example.org." in sound(browser.submit(page, "/settings/email", **fields)).text
    shown = browser.client.get("/api/whoami-v2").json()
    assert (shown["email"], shown["emailVerified"]) == ("ada@example.org", False)
    forgotten = Browser(hub).get("/login/forgotten")
    assert "whoever runs it can give you a new password" in sound(forgotten).text
    assert 'name="named"' not in forgotten.text


# ---------------------------------------------------------------- forgotten passwords


def test_a_forgotten_password_is_replaced_and_all_sessions_end(post: Post):
    name, address, browser = post.member()
    lost = Browser(post.hub)
    assert "/login/forgotten" in Page(lost.get("/login").text).attributes("href")
    asked = lost.get("/login/forgotten")
    sent = lost.submit(asked, "/login/forgotten", named=address.upper())
    assert "a link is on its way" in sound(sent).text
    link = post.link(address)
    form = lost.get(link)
    assert form.headers["Cache-Control"] == "no-store"
    refused = lost.submit(form, "/login/new-password", wanted=OTHER, again="typo")
    assert "differ" in sound(refused, 400).text
    sound(lost.submit(refused, "/login/new-password", wanted="short", again="short"), 400)
    done = lost.submit(refused, "/login/new-password", wanted=OTHER, again=OTHER)
    assert "Your password was changed" in sound(done).text
    assert browser.get("/settings/email").url.path == "/login"
    assert lost.submit(done, "/login", name=name, password=OTHER).url.path == "/"
    assert Browser(post.hub).sign_in(name, PASSWORD).status_code == 401
    sound(lost.get(link), 404)
    log = post.hub.log.read_text()
    assert link.partition("code=")[2] not in log
    assert OTHER not in log


def test_the_answer_is_the_same_whoever_is_named(post: Post):
    name, address, _ = post.member()
    nomail, _, _ = post.member(verified=False)
    answers = []
    for named in (name, address, nomail, "nobody-at-all", "nobody@example.org"):
        lost = Browser(post.hub)
        answer = lost.submit(lost.get("/login/forgotten"), "/login/forgotten", named=named)
        answers.append((answer.status_code, str(answer.url), answer.text))
    assert len(set(answers)) == 1


def test_asking_for_links_is_slowed_down_for_whoever_is_named(post: Post):
    for named in (post.member()[0], f"nobody-{secrets.token_hex(4)}"):
        lost = Browser(post.hub)
        form = lost.get("/login/forgotten")
        assert let_in(partial(lost.submit, form, "/login/forgotten", named=named)) >= MAILS


# ---------------------------------------------------------------- invitations


def decline(browser: Browser, team: str) -> httpx.Response:
    return browser.submit(browser.get("/notifications"), f"/organizations/{team}/invitations/answer", answer="decline")


def test_an_invitation_comes_by_mail_and_is_declined_or_taken_back(post: Post):
    admin, _, admins_browser = post.member()
    name, address, browser = post.member()
    team = f"t{secrets.token_hex(4)}"
    made = admins_browser.submit(admins_browser.get("/organizations/new"), "/organizations/new", name=team)
    invitations, members = f"/organizations/{team}/invitations", f"/organizations/{team}/members"
    asked = admins_browser.submit(made, invitations, user=name, role="read")
    assert f"Take back the invitation of {name}" in asked.text
    assert f"{admin} invites you to {team}" in post.to(address)["Subject"]
    assert "1" in next(each.text for each in Page(browser.get("/").text).all("a") if each.text.startswith("Notif"))
    again = admins_browser.submit(asked, invitations, user=admin, role="king")
    sound(again, 400)
    for wrong, status in (("nobody-at-all", 404), (admin, 409)):
        sound(admins_browser.submit(again, invitations, user=wrong, role="read"), status)
    opened = browser.get("/notifications")
    taken_back = admins_browser.submit(asked, f"{invitations}/withdraw", user=name)
    changes = f"/organizations/{team}/changes"
    assert f"{admin} took back the invitation of {name}" in sound(admins_browser.get(changes)).text
    late = browser.submit(opened, f"{invitations}/answer", answer="accept")
    assert "may have been taken back" in sound(late, 404).text
    admins_browser.submit(taken_back, invitations, user=name, role="read")
    assert "invites you" not in sound(decline(browser, team)).text
    assert f"{name} declined" in sound(admins_browser.get(changes)).text
    refused = admins_browser.submit(admins_browser.get(members), invitations, user=name, role="read")
    assert f"{name} declined an invitation to {team}, and can be invited again after" in sound(refused, 409).text
    assert admin in sound(browser.get(f"/{team}?tab=members")).text


def test_in_a_browser_nobody_becomes_a_member_unasked(post: Post):
    _, _, admins_browser = post.member()
    name, _, browser = post.member()
    team = f"t{secrets.token_hex(4)}"
    made = admins_browser.submit(admins_browser.get("/organizations/new"), "/organizations/new", name=team)
    members = f"/organizations/{team}/members"
    refused = admins_browser.submit(made, members, user=name, role="write")
    assert f"{name} is no member of {team}" in sound(refused, 404).text
    forged = {"form": re.search(r'name="form" value="([^"]+)"', browser.get("/notifications").text)[1]}
    for step, fields in (("", {"user": name, "role": "admin"}), ("/withdraw", {"user": name})):
        answer = browser.client.post(f"/organizations/{team}/invitations{step}", data={**forged, **fields})
        assert answer.status_code == 403
    answer = browser.client.post(f"/organizations/{team}/invitations/answer", data={**forged, "answer": "accept"})
    assert answer.status_code == 404


# ---------------------------------------------------------------- language


def test_a_language_that_is_chosen_while_signed_in_is_the_accounts(post: Post):
    name, _, browser = post.member()
    assert 'lang="en"' in browser.get("/").text
    browser.client.get("/language/zh?next=/", headers={"Sec-Fetch-Site": "cross-site"})
    browser.client.cookies.delete("lmc_language")
    browser.client.get("/language/zh", headers={"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image"})
    assert 'lang="en"' in browser.get("/").text
    browser.get("/language/zh?next=/")
    elsewhere = Browser(post.hub)
    elsewhere.client.headers["Accept-Language"] = "en"
    assert 'lang="zh-Hans"' in elsewhere.sign_in(name, PASSWORD).text
    elsewhere.get("/language/en?next=/")
    assert 'lang="en"' in elsewhere.get("/").text
    assert 'lang="zh-Hans"' in browser.get("/").text  # as was chosen in this browser
