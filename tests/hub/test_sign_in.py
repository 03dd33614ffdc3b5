"""Pages for one's own account, as a browser without JavaScript uses them."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browser import Browser
from hub_process import HubProcess, lmc_hub, start_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from lmcommons.hub.accounts.limits import SIGN_IN_BY_NAME

PASSWORD = "correct horse battery"


def set_password(hub: HubProcess, name: str, password: str = PASSWORD) -> None:
    hub.command("user", "password", name, typed=f"{password}\n")


def newcomer(hub: HubProcess, name: str) -> tuple[Browser, str]:
    """The browser of a new user who is signed in, and the user's token."""
    token = hub.add_user(name)
    set_password(hub, name)
    browser = Browser(hub)
    assert browser.sign_in(name, PASSWORD).status_code == 200
    return browser, token


def test_signing_in_shows_what_is_private_and_signing_out_hides_it(hub: HubProcess):
    browser, token = newcomer(hub, "sign-in-1")
    HfApi(hub.endpoint, token=token).create_repo("sign-in-1/secret", private=True)
    assert "sign-in-1/secret" in browser.get("/sign-in-1").text
    page = browser.get("/sign-in-1/secret")
    assert page.status_code == 200
    assert browser.get("/sign-in-1/secret/resolve/main/.gitattributes").status_code == 200
    assert browser.submit(page, "/logout").url.path == "/"
    assert browser.get("/sign-in-1/secret").status_code == 404
    assert "secret" not in browser.get("/sign-in-1").text


def test_the_token_of_a_new_user_signs_in_until_there_is_a_password(hub: HubProcess):
    token = hub.add_user("sign-in-token")
    reading = HfApi(hub.endpoint, token=token)
    browser = Browser(hub)
    page = browser.sign_in("sign-in-token", token)
    assert (page.status_code, page.url.path) == (200, "/settings/password")
    wrong = {"present": "hf_another", "wanted": PASSWORD, "again": PASSWORD}
    assert "The present password is wrong" in browser.submit(page, "/settings/password", **wrong).text
    page = browser.submit(page, "/settings/password", present=token, wanted=PASSWORD, again=PASSWORD)
    assert page.status_code == 200
    assert "You have no password yet" not in browser.get("/settings/password").text
    assert Browser(hub).sign_in("sign-in-token", token).status_code == 401
    assert Browser(hub).sign_in("sign-in-token", PASSWORD).status_code == 200
    assert reading.whoami()["name"] == "sign-in-token"  # the token itself goes on working


def test_a_token_that_only_reads_and_that_of_somebody_else_sign_nobody_in(hub: HubProcess):
    hub.add_user("sign-in-reader")
    others = hub.add_user("sign-in-other")
    reads = hub.command("token", "add", "sign-in-reader", "--role", "read").strip()
    for token in (reads, others):
        assert Browser(hub).sign_in("sign-in-reader", token).status_code == 401


def test_a_wrong_name_and_a_wrong_password_are_answered_alike(hub: HubProcess):
    newcomer(hub, "sign-in-2")
    hub.add_user("no-password")
    answers = [
        Browser(hub).sign_in(name, password)
        for name, password in (
            ("sign-in-2", "wrong password"),
            ("nobody-at-all", "wrong password"),
            ("no-password", "wrong password"),
            ("sign-in-2", ""),
            ("sign-in-2", "x" * 5000),
        )
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert (
        len(
            {
                answer.text.replace("nobody-at-all", "sign-in-2").replace("no-password", "sign-in-2")
                for answer in answers
            }
        )
        == 1
    )
    assert "The name or the password is wrong" in answers[0].text


def test_the_cookie_cannot_be_read_by_scripts_changes_at_each_sign_in_and_is_stored_hashed(hub: HubProcess):
    hub.add_user("sign-in-3")
    set_password(hub, "sign-in-3")
    form = {"name": "sign-in-3", "password": PASSWORD}
    first = httpx.post(f"{hub.endpoint}/login", data=form)
    assert "HttpOnly" in first.headers["set-cookie"]
    assert "SameSite=lax" in first.headers["set-cookie"]
    assert "Secure" not in first.headers["set-cookie"]  # the tests' hub is plain HTTP
    second = httpx.post(f"{hub.endpoint}/login", data=form, cookies=dict(first.cookies))
    assert first.cookies["lmc_session"] != second.cookies["lmc_session"]
    stored = hub.stored()
    assert second.cookies["lmc_session"] not in stored
    assert PASSWORD not in stored
    assert "$argon2id$" in stored
    ended = httpx.get(f"{hub.endpoint}/settings/tokens", cookies=dict(first.cookies))
    assert ended.headers["location"].startswith("/login?next=")


def test_where_the_hub_is_reached_by_https_the_cookie_is_sent_only_so(tmp_path: Path):
    with start_hub(tmp_path / "hub", "--public-url", "https://hub.example.org") as hub:
        hub.add_user("ada")
        set_password(hub, "ada")
        answer = httpx.post(f"{hub.endpoint}/login", data={"name": "ada", "password": PASSWORD})
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("wanted", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_after_signing_in_nobody_is_sent_to_another_site(hub: HubProcess, wanted: str):
    hub.add_user("sign-in-4") if not httpx.get(f"{hub.endpoint}/sign-in-4").is_success else None
    set_password(hub, "sign-in-4")
    form = {"name": "sign-in-4", "password": PASSWORD, "next": wanted}
    assert httpx.post(f"{hub.endpoint}/login", data=form).headers["location"] == "/"


def test_forms_of_other_sites_and_other_sessions_do_nothing(hub: HubProcess):
    browser, _ = newcomer(hub, "sign-in-5")
    before = browser.get("/settings/tokens")
    fields = {"name": "stolen", "role": "write"}
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    other, _ = newcomer(hub, "sign-in-6")
    stranger = other.get("/settings/tokens").text.split('name="form" value="')[1].split('"')[0]
    own = before.text.split('name="form" value="')[1].split('"')[0]
    for data, headers in (
        (fields, {}),
        ({**fields, "form": "guess"}, {}),
        ({**fields, "form": stranger}, {}),
        ({**fields, "form": own}, foreign),
        ({**fields, "form": own}, {"Origin": "null"}),
    ):
        assert browser.client.post("/settings/tokens", data=data, headers=headers).status_code == 403
    assert browser.client.post("/login", data={"name": "x", "password": "y"}, headers=foreign).status_code == 403
    assert "stolen" not in browser.get("/settings/tokens").text


def test_a_cookie_alone_changes_nothing_over_the_api(hub: HubProcess):
    browser, _ = newcomer(hub, "sign-in-7")
    assert browser.client.get("/api/whoami-v2").json()["name"] == "sign-in-7"
    refused = browser.client.post("/api/repos/create", json={"name": "m"})
    assert refused.status_code == 401
    assert browser.get("/sign-in-7/m").status_code == 404


def test_tokens_are_made_shown_once_and_revoked_in_the_browser(hub: HubProcess):
    browser, token = newcomer(hub, "sign-in-8")
    HfApi(hub.endpoint, token=token).create_repo("sign-in-8/m")
    page = browser.get("/settings/tokens")
    made = browser.submit(
        page, "/settings/tokens", name="laptop", role="fineGrained", scopes="sign-in-8/m:write", expires="30"
    )
    text = made.text.split("<pre><code>")[1].split("<")[0]
    assert made.headers["cache-control"] == "no-store"
    assert HfApi(hub.endpoint, token=text).whoami()["auth"]["accessToken"]["displayName"] == "laptop"
    again = browser.get("/settings/tokens")
    assert "laptop" in again.text
    assert '<small class="mono">sign-in-8/m:write</small>' in again.text
    assert text not in again.text
    revoke = again.text.split("laptop</th>")[1].split('action="')[1].split('"')[0]
    assert "laptop" not in browser.submit(again, revoke).text
    with pytest.raises(HfHubHTTPError):
        HfApi(hub.endpoint, token=text).whoami()
    for wrong in ({"role": "king"}, {"role": "fineGrained"}, {"role": "write", "expires": "1000"}, {"name": ""}):
        refused = browser.submit(again, "/settings/tokens", **{"name": "x", "role": "write", **wrong})
        assert refused.status_code == 400


def test_nobody_revokes_the_tokens_of_others(hub: HubProcess):
    browser, _ = newcomer(hub, "sign-in-9")
    mine = browser.get("/settings/tokens")
    secret = mine.text.split('name="form" value="')[1].split('"')[0]
    assert browser.client.post("/settings/tokens/1/revoke", data={"form": secret}).status_code == 404


def test_a_new_password_ends_the_other_sessions_and_the_old_password(hub: HubProcess):
    browser, _ = newcomer(hub, "sign-in-10")
    elsewhere = Browser(hub)
    elsewhere.sign_in("sign-in-10", PASSWORD)
    fields = {"present": PASSWORD, "wanted": "another good one", "again": "another good one"}
    page = browser.get("/settings/password")
    assert browser.submit(page, "/settings/password", **{**fields, "present": "wrong"}).status_code == 401
    assert browser.submit(page, "/settings/password", **{**fields, "again": "typo"}).status_code == 400
    assert (
        browser.submit(page, "/settings/password", **{**fields, "wanted": "short", "again": "short"}).status_code == 400
    )
    assert browser.submit(page, "/settings/password", **fields).url.path == "/settings/tokens"
    assert elsewhere.get("/settings/tokens").url.path == "/login"
    assert Browser(hub).sign_in("sign-in-10", PASSWORD).status_code == 401
    assert Browser(hub).sign_in("sign-in-10", "another good one").status_code == 200


def test_a_user_who_is_shut_out_has_no_token_no_session_and_no_password(hub: HubProcess):
    browser, token = newcomer(hub, "sign-in-11")
    hub.command("user", "disable", "sign-in-11")
    assert httpx.get(f"{hub.endpoint}/api/whoami-v2", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert browser.get("/settings/tokens").url.path == "/login"
    assert Browser(hub).sign_in("sign-in-11", PASSWORD).status_code == 401
    hub.command("user", "enable", "sign-in-11")
    assert HfApi(hub.endpoint, token=token).whoami()["name"] == "sign-in-11"


def test_pages_for_ones_own_account_send_others_to_sign_in_and_back(hub: HubProcess):
    hub.add_user("sign-in-12")
    set_password(hub, "sign-in-12")
    browser = Browser(hub)
    page = browser.get("/oauth/device?user_code=BCDF-GHJK")
    assert page.url.path == "/login"
    wrong = browser.submit(page, "/login", name="sign-in-12", password="mistyped")
    landed = browser.submit(wrong, "/login", name="sign-in-12", password=PASSWORD)
    assert (landed.url.path, landed.url.query) == ("/oauth/device", b"user_code=BCDF-GHJK")


@pytest.fixture(scope="module")
def inviting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("inviting") / "hub", "--sign-up", "invite") as running:
        yield running


def join(browser: Browser, address: str, name: str, **fields: str) -> httpx.Response:
    return browser.submit(browser.get(address), "/join", **{"name": name, "password": PASSWORD, **fields})


def test_an_invitation_makes_as_many_accounts_as_it_says(inviting: HubProcess):
    address = inviting.command("invite", "add", "--uses", "2").strip().partition("7860")[2]
    for name in ("first", "second"):
        browser = Browser(inviting)
        joined = join(browser, address, name, fullname=f"The {name}", email=f"{name}@example.org", code=address[11:])
        assert joined.url.path == "/settings/tokens"
        assert f"The {name}" in browser.get(f"/{name}").text
    assert join(Browser(inviting), address, "third", code=address[11:]).status_code == 403
    assert join(Browser(inviting), "/join", "third", code="guess").status_code == 403
    assert httpx.get(f"{inviting.endpoint}/third").status_code == 404
    assert address[11:] not in inviting.stored()


def test_a_failed_attempt_to_join_uses_up_no_invitation(inviting: HubProcess):
    inviting.add_user("taken")
    address = inviting.command("invite", "add").strip().partition("7860")[2]
    for fields, status in (
        ({"name": "taken"}, 409),
        ({"name": "..", "code": address[11:]}, 400),
        ({"name": "fine", "password": "short"}, 400),
        ({"name": "fine", "email": "no address"}, 400),
        ({"name": "datasets"}, 400),
    ):
        refused = join(Browser(inviting), address, **{"code": address[11:], **fields})
        assert refused.status_code == status
        assert 'role="alert"' in refused.text
    assert join(Browser(inviting), address, "fine", code=address[11:]).status_code == 200


def test_everybody_joins_an_open_hub_and_nobody_a_closed_one(hub: HubProcess, tmp_path: Path):
    with start_hub(tmp_path / "hub", "--sign-up", "open") as running:
        assert join(Browser(running), "/join", "walker").status_code == 200
    assert "<form" not in Browser(hub).get("/join").text.partition("<main")[2]
    assert httpx.post(f"{hub.endpoint}/join", data={"name": "walker", "password": PASSWORD}).status_code == 403


def test_guessing_a_password_is_slowed_down(tmp_path: Path):
    with start_hub(tmp_path / "hub", "--rate-limit", "0", "--workers", "1") as running:
        running.add_user("ada")
        form, guesses = {"name": "ada", "password": "guess"}, 0
        while (answer := httpx.post(f"{running.endpoint}/login", data=form)).status_code == 401:
            guesses += 1
            assert guesses <= 2 * SIGN_IN_BY_NAME
    assert guesses >= SIGN_IN_BY_NAME  # more where a window of the limits ends meanwhile
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


def test_forms_that_cannot_be_read_are_refused(hub: HubProcess):
    for body, status in ((b"name=\xff", 400), (b"&".join(b"a=b" for _ in range(200)), 400), (b"x" * 70_000, 413)):
        assert httpx.post(f"{hub.endpoint}/login", content=body).status_code == status


def test_the_log_holds_no_password_and_no_token(hub: HubProcess):
    browser, token = newcomer(hub, "sign-in-13")
    browser.get("/settings/tokens")
    log = hub.log.read_text()
    assert PASSWORD not in log
    assert token not in log
    assert browser.client.cookies["lmc_session"] not in log


def test_a_password_comes_from_standard_input(tmp_path: Path):
    data = tmp_path / "hub"
    lmc_hub("user", "add", "ada", "--data", data)
    assert lmc_hub("user", "password", "ada", "--data", data, typed="short\n").returncode == 2
    assert lmc_hub("user", "password", "bob", "--data", data, typed=f"{PASSWORD}\n").returncode == 2
    assert lmc_hub("user", "password", "ada", "--data", data, typed=f"{PASSWORD}\n").returncode == 0
