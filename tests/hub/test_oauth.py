"""`hf auth login`: a program signs in by a code that its user approves in a browser."""

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from browser import Browser
from hub_process import PATIENCE, HubProcess

from lmcommons.hub.accounts import devices, tokens
from lmcommons.hub.accounts.issuing import TokenPair
from lmcommons.hub.accounts.permissions import ANONYMOUS
from lmcommons.hub.database.tables import TokenRole
from lmcommons.hub.errors import NotFound, Unauthorized
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings

PASSWORD = "correct horse battery"
HF = [sys.executable, "-c", "from huggingface_hub.cli.hf import main; main()"]


def signed_in(hub: HubProcess, name: str) -> Browser:
    hub.add_user(name)
    hub.command("user", "password", name, typed=f"{PASSWORD}\n")
    browser = Browser(hub)
    browser.sign_in(name, PASSWORD)
    return browser


def environment(hub: HubProcess, home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_TOKEN_PATH")}
    return kept | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def test_hf_auth_login_signs_in_after_the_user_approved_and_renews_its_token(hub: HubProcess, tmp_path: Path):
    browser = signed_in(hub, "device-user")
    login = subprocess.Popen(
        [*HF, "auth", "login"],
        env=environment(hub, tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert login.stdout is not None
    said = ""
    while "user_code=" not in said or not said.endswith("\n"):
        line = login.stdout.readline()
        assert line, said
        said += line
    address = re.search(rf"{re.escape(hub.endpoint)}(/oauth/device\?user_code=\S+)", said)
    assert address, said
    page = browser.get(address[1].rstrip("."))
    code = re.search(r'name="user_code"[^>]*value="([^"]+)"', page.text)
    assert code
    done = browser.submit(page, "/oauth/device/answer", user_code=code[1].lower().replace("-", " "), answer="approve")
    assert "The program is signed in" in done.text
    rest, _ = login.communicate(timeout=PATIENCE)
    assert login.returncode == 0, said + rest
    who = subprocess.run(
        [*HF, "auth", "whoami"],
        env=environment(hub, tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "device-user" in who.stdout, who.stderr
    assert "device login" in browser.get("/settings/tokens").text
    renew = (
        "from huggingface_hub.utils._oauth_device import refresh_access_token as r;"
        "import sys;"
        "print(r(sys.argv[1])['access_token'])"
    )
    stored = (tmp_path / "stored_tokens").read_text()
    secret = re.search(r"refresh_token = (\S+)", stored)
    assert secret, stored
    renewed = subprocess.run(
        [sys.executable, "-c", renew, secret[1]],
        env=environment(hub, tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    token = renewed.stdout.strip()
    assert httpx.get(f"{hub.endpoint}/api/whoami-v2", headers={"Authorization": f"Bearer {token}"}).is_success
    again = httpx.post(f"{hub.endpoint}/oauth/token", data={"grant_type": "refresh_token", "refresh_token": secret[1]})
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


def test_a_login_that_its_user_refuses_ends(hub: HubProcess):
    browser = signed_in(hub, "device-refuser")
    codes = httpx.post(f"{hub.endpoint}/oauth/device", data={"client_id": "any"}).json()
    ask = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": codes["device_code"]}
    address = f"{hub.endpoint}/oauth/token"
    assert httpx.post(address, data=ask).json()["error"] == "authorization_pending"
    page = browser.get("/oauth/device")
    assert browser.submit(page, "/oauth/device/answer", user_code="WRONG-CODE", answer="approve").status_code == 404
    browser.submit(page, "/oauth/device/answer", user_code=codes["user_code"], answer="deny")
    answer = httpx.post(address, data=ask)
    assert (answer.status_code, answer.json()["error"]) == (400, "access_denied")
    assert answer.headers["cache-control"] == "no-store"
    assert httpx.post(address, data=ask).json()["error"] == "expired_token"
    assert (
        browser.submit(page, "/oauth/device/answer", user_code=codes["user_code"], answer="approve").status_code == 404
    )


def test_other_grants_and_broken_forms_are_refused(hub: HubProcess):
    address = f"{hub.endpoint}/oauth/token"
    assert httpx.post(address, data={"grant_type": "password"}).json()["error"] == "unsupported_grant_type"
    assert httpx.post(address, json={"grant_type": "x"}).json()["error"] == "unsupported_grant_type"
    assert httpx.post(address, data={"grant_type": "refresh_token"}).json()["error"] == "invalid_grant"
    assert httpx.post(address, content=b"\xff=1").status_code == 400
    assert httpx.post(address, content=b"x" * 20_000).status_code == 413


@pytest.fixture
def rooms(tmp_path: Path) -> Hub:
    opened = Hub(Settings.make(tmp_path))
    opened.accounts.add_user("ada")
    return opened


def approved(rooms: Hub) -> TokenPair:
    codes = rooms.device_logins.begin()
    actor = rooms.tokens.actor(rooms.tokens.add("ada", "t", TokenRole.WRITE))
    rooms.device_logins.answer(actor, codes.user, approve=True)
    pair = rooms.device_logins.redeem(codes.device)
    assert isinstance(pair, TokenPair)
    assert rooms.device_logins.redeem(codes.device) == "expired_token"
    return pair


def test_who_asks_again_too_soon_is_told_to_slow_down(rooms: Hub, monkeypatch: pytest.MonkeyPatch):
    codes, asked = rooms.device_logins.begin(), devices.now()
    told = []
    for later in (0, 4, 9):
        monkeypatch.setattr(devices, "now", lambda later=later: asked + timedelta(seconds=later))
        told.append(rooms.device_logins.redeem(codes.device))
    assert told == ["authorization_pending", "slow_down", "authorization_pending"]


def test_codes_and_tokens_end_in_time(rooms: Hub, monkeypatch: pytest.MonkeyPatch):
    codes = rooms.device_logins.begin()
    pair = approved(rooms)
    later = devices.now() + devices.LIFE
    monkeypatch.setattr(devices, "now", lambda: later)
    assert rooms.device_logins.redeem(codes.device) == "expired_token"
    actor = rooms.tokens.actor(pair.access)
    with pytest.raises(NotFound):
        rooms.device_logins.answer(actor, codes.user, approve=True)
    with pytest.raises(Unauthorized):
        rooms.device_logins.answer(ANONYMOUS, codes.user, approve=True)


def test_a_token_that_ended_can_be_renewed_for_a_time_and_not_by_one_who_was_shut_out(
    rooms: Hub, monkeypatch: pytest.MonkeyPatch
):
    pair = approved(rooms)
    start = tokens.now()
    monkeypatch.setattr(tokens, "now", lambda: start + tokens.RENEWAL_LIFE)
    with pytest.raises(Unauthorized):
        rooms.tokens.actor(pair.access)
    renewed = rooms.tokens.renew(pair.refresh)
    assert renewed is not None
    rooms.accounts.change_user("ada", disabled=True)
    assert rooms.tokens.renew(renewed.refresh) is None
    rooms.accounts.change_user("ada", disabled=False)
    monkeypatch.setattr(tokens, "now", lambda: start + 2 * tokens.RENEWAL_LIFE)
    assert rooms.tokens.renew(renewed.refresh) is None
