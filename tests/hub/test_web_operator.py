"""The operator's pages: absent for others; users, quotas, storage, invitations, the log, health."""

import json
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyotp
import pytest
from browser import Browser
from hub_process import HubProcess, start_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from open_rooms import open_rooms
from starlette.testclient import TestClient
from web_page import Page

from lmcommons import hub
from lmcommons.hub.app import create_app
from lmcommons.hub.background import Background
from lmcommons.hub.database.tables import Account, OrganisationInvitation, RepositoryType, Role, now
from lmcommons.hub.settings import Settings
from lmcommons.hub.web.views.operator import TOPICS

PASSWORD = "correct horse battery"
PAGES = ("", "/users", "/organisations", "/storage", "/invitations", "/log", "/health", "/reports")


@pytest.fixture(scope="module")
def inviting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that takes in whoever is invited."""
    with start_hub(tmp_path_factory.mktemp("inviting") / "hub", "--sign-up", "invite") as running:
        yield running


def member(hub: HubProcess, *options: str) -> tuple[str, Browser, HfApi]:
    """A new user: the name, a browser that is signed in, and the client."""
    name = f"u{secrets.token_hex(4)}"
    token = hub.add_user(name, *options)
    hub.command("user", "password", name, typed=f"{PASSWORD}\n")
    browser = Browser(hub)
    assert browser.sign_in(name, PASSWORD).status_code == 200
    return name, browser, HfApi(hub.endpoint, token=token)


@pytest.fixture(scope="module")
def operator(inviting: HubProcess) -> Browser:
    """An administrator's."""
    return member(inviting, "--admin")[1]


def sound(page: httpx.Response, status: int = 200) -> Page:
    parsed = Page(page.text)
    assert page.status_code == status, parsed.text[:500]
    assert parsed.problems == []
    assert len(parsed.all("h1")) == 1
    return parsed


def change(operator: Browser, name: str, act: str, **fields: str) -> httpx.Response:
    """Send the form that changes an account."""
    page = operator.get(f"/operator/users?search={name}")
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    assert form
    return operator.client.post(f"/operator/accounts/{name}", data={"form": form[1], "act": act, **fields})


def test_the_pages_are_there_for_administrators_alone(inviting: HubProcess, operator: Browser):
    _, stranger, _ = member(inviting)
    for page in PAGES:
        sound(operator.get(f"/operator{page}"))
        assert stranger.get(f"/operator{page}").status_code == 404
        assert Browser(inviting).get(f"/operator{page}").url.path == "/login"
    form = {"form": re.search(r'name="form" value="([^"]+)"', stranger.get("/settings/tokens").text)[1]}
    for address in ("accounts/ann", "invitations", "invitations/x/end", "reports/1"):
        assert stranger.client.post(f"/operator/{address}", data={**form, "act": "enable"}).status_code == 404
    assert "/operator" not in Page(stranger.get("/").text).attributes("href")
    assert "/operator" in Page(operator.get("/").text).attributes("href")


def test_users_are_searched_shut_out_and_let_in(inviting: HubProcess, operator: Browser):
    name, browser, api = member(inviting)
    found = sound(operator.get(f"/operator/users?search={name[:6]}"))
    assert name in found.text
    assert "1 user" in found.text
    assert "Nobody has" in sound(operator.get("/operator/users?search=%3Cscript%3E")).text
    assert "shut out" in sound(change(operator, name, "disable")).text
    assert browser.get("/settings/tokens").url.path == "/login"
    with pytest.raises(HfHubHTTPError):
        api.whoami()
    change(operator, name, "enable")
    assert api.whoami()["name"] == name
    assert "administrator" in sound(change(operator, name, "promote")).text
    assert browser.get("/operator/users").status_code == 200
    change(operator, name, "demote")
    assert browser.get("/operator/users").status_code == 404
    assert change(operator, name, "dance").status_code == 400
    assert change(operator, "nobody-at-all", "enable").status_code == 404


def test_nobody_changes_their_own_standing(inviting: HubProcess):
    name, browser, _ = member(inviting, "--admin")
    for act in ("disable", "demote"):
        assert change(browser, name, act).status_code == 409
    assert browser.get("/operator/users").status_code == 200


def test_a_quota_is_set_in_words_and_holds(inviting: HubProcess, operator: Browser):
    name, _, api = member(inviting)
    api.create_repo(f"{name}/m")
    assert "1 kB" in change(operator, name, "quota", quota="1 kB").text
    with pytest.raises(HfHubHTTPError, match="quota"):
        api.upload_file(path_or_fileobj=b"x" * 2000, path_in_repo="x.bin", repo_id=f"{name}/m")
    assert name in sound(operator.get("/operator/storage")).text
    for wrong in ("much", "-1", "1 QB", "nan", "inf"):
        assert change(operator, name, "quota", quota=wrong).status_code == 400
    change(operator, name, "quota", quota="")
    api.upload_file(path_or_fileobj=b"x" * 2000, path_in_repo="x.bin", repo_id=f"{name}/m")


@pytest.mark.parametrize("number", [0, 999, 1_234_567_891, 50 * 10**9, 3 * 10**15])
def test_a_quota_that_is_shown_and_set_again_stays_what_it_was(inviting: HubProcess, operator: Browser, number: int):
    name = f"q{secrets.token_hex(4)}"
    inviting.add_user(name)
    with inviting.rooms() as rooms:
        rooms.accounts.set_quota(name, number)
        page = operator.get(f"/operator/users?search={name}")
        shown = next(
            each.attributes["value"] for each in sound(page).all("input") if each.attributes["name"] == "quota"
        )
        assert change(operator, name, "quota", quota=shown).status_code == 200
        assert rooms.accounts.find(name).quota == number


def test_storage_names_what_is_largest(inviting: HubProcess, operator: Browser):
    name, _, api = member(inviting)
    api.create_repo(f"{name}/large", repo_type="dataset")
    large = secrets.token_bytes(5_000_000)
    api.upload_file(path_or_fileobj=large, path_in_repo="x.bin", repo_id=f"{name}/large", repo_type="dataset")
    rows = [each.text for each in sound(operator.get("/operator/storage")).all("tr")]
    assert any(f"datasets/{name}/large" in row and "5 MB" in row for row in rows)


def test_a_second_factor_is_reset(inviting: HubProcess, operator: Browser):
    name, _, api = member(inviting)
    with inviting.rooms() as rooms:
        actor = rooms.tokens.actor(api.token)
        rooms.two_factors.confirm(actor, pyotp.TOTP(rooms.two_factors.begin(actor).secret).now())
    assert "two-factor" in operator.get(f"/operator/users?search={name}").text
    change(operator, name, "reset-two-factor")
    assert Browser(inviting).sign_in(name, PASSWORD).url.path == "/"
    assert change(operator, name, "reset-two-factor").status_code == 409


def test_an_invitation_is_shown_once_used_and_ended(inviting: HubProcess, operator: Browser):
    page = operator.get("/operator/invitations")
    made = operator.submit(page, "/operator/invitations", uses="2", days="3")
    address = next(each.text for each in sound(made).all("code") if "/join?code=" in each.text)
    assert address.split("code=")[1] not in operator.get("/operator/invitations").text
    newcomer = Browser(inviting)
    form = newcomer.get(address.removeprefix(inviting.endpoint))
    name = f"u{secrets.token_hex(4)}"
    code = address.split("code=")[1]
    assert newcomer.submit(form, "/join", name=name, password=PASSWORD, code=code).status_code == 200
    listed = operator.get("/operator/invitations")
    ends = [each for each in sound(listed).attributes("action") if each.endswith("/end")]
    operator.submit(listed, ends[0])
    assert Browser(inviting).submit(form, "/join", name=f"{name}2", password=PASSWORD, code=code).status_code == 403
    for wrong in ({"uses": "0", "days": "1"}, {"uses": "1", "days": "many"}, {"uses": "1" * 30, "days": "1"}):
        assert operator.submit(listed, "/operator/invitations", **wrong).status_code == 400


def test_the_log_is_filtered_and_read_page_by_page(inviting: HubProcess, operator: Browser):
    name, _, api = member(inviting)
    for number in range(3):
        api.create_repo(f"{name}/m{number}")
    rows = sound(operator.get(f"/operator/log?kind=repository.&by={name}")).all("tr")[1:]
    assert [row.text.count("repository.created") for row in rows] == [1, 1, 1]
    about = sound(operator.get(f"/operator/log?about={name.upper()}/m1")).all("tr")[1:]
    assert [f"name={name}/m1" in row.text for row in about] == [True]
    by = [sound(operator.get(f"/operator/log?by={each}")).all("tr")[1:] for each in (name, name.upper())]
    first, second = ([re.sub("^.+? ago ", "", row.text) for row in rows] for rows in by)  # the age may be another
    assert first == second != []
    with inviting.rooms() as rooms:
        for number in range(60):
            rooms.accounts.set_quota(name, number)
    first = operator.get("/operator/log?kind=account.")
    older = next(each for each in Page(first.text).attributes("href") if "before=" in each)
    second = operator.get(f"/operator/log{older}")
    bytes_ = [re.findall(r"bytes=(\d+)", each.text) for each in (first, second)]
    assert bytes_[0] == [str(number) for number in range(59, 9, -1)]
    assert bytes_[1][:10] == [str(number) for number in range(9, -1, -1)]
    assert "No event matches" in sound(operator.get("/operator/log?by=nobody-at-all")).text
    assert operator.get("/operator/log?before=x").status_code == 400


def test_every_kind_of_event_is_among_the_topics_and_nobody_is_taken_for_the_operator(
    inviting: HubProcess, operator: Browser
):
    written = re.compile(r"""(?:Event\(kind=f?|record\(\s*session,\s*)"([a-z_]+)\.""")
    sources = "".join(path.read_text() for path in Path(hub.__file__).parent.rglob("*.py"))
    assert set(written.findall(sources)) - set(TOPICS) == set()
    name, _, _ = member(inviting, "--email", "ann@example.org")
    mailing = open_rooms(inviting.data, smtp="smtp://127.0.0.1:9", mail_from="hub@example.org")
    mailing.mail_links.forgotten(name)
    mailing.close()
    at_the_command_line = "the operator, at the command line"
    for kind, by in (
        ("user.created", at_the_command_line),
        ("user.password", at_the_command_line),
        ("user.forgot_password", "somebody not signed in"),
    ):
        rows = sound(operator.get(f"/operator/log?kind={kind}&about={name}")).all("tr")[1:]
        assert [by in row.text for row in rows] == [True]
    inviting.command("token", "add", name, "--name", f"of {name}")
    token_id = json.loads(inviting.command("token", "list", name, "--json"))[-1]["id"]
    inviting.command("token", "revoke", name, str(token_id))
    rows = sound(operator.get(f"/operator/log?kind=token.&about=of+{name}")).all("tr")[1:]
    assert [at_the_command_line in row.text and f"user={name}" in row.text for row in rows] == [True, True]


def test_health_says_that_all_is_well_and_what_runs(operator: Browser):
    page = sound(operator.get("/operator/health"))
    assert "The hub is well" in page.text
    assert " free of " in page.text
    assert "Webhooks, Statistics of datasets, E-mail, Imports" in page.text


class Broken(Background):
    """Work that fails each time."""

    def work(self) -> int:
        """Fail."""
        raise RuntimeError("the disk's serial number")


def test_health_says_what_fails_in_the_background(tmp_path: Path):
    app = create_app(Settings.make(tmp_path / "hub"))
    with TestClient(app, headers={"Accept": "text/html"}) as client:
        rooms = app.state.hub
        rooms.accounts.add_user("ann", admin=True)
        rooms.sign_in.set_password("ann", PASSWORD)
        client.post("/login", data={"name": "ann", "password": PASSWORD})
        assert "The hub is well" in client.get("/operator/health").text
        broken = Broken("webhooks", pause=0.01)
        app.state.background = (broken, Broken("mail", pause=0.01))
        broken.start()
        while broken.failing_since is None:
            time.sleep(0.01)
        with rooms.database.write() as session:
            user = session.get(Account, rooms.accounts.find("ann").id)
            user.email = "ann@example.org"
            invited = {"organisation_id": user.id, "user_id": user.id, "inviter_id": user.id}
            session.add(OrganisationInvitation(**invited, role=Role.READ, mail_at=now(), mail_attempts=1))
        page = sound(client.get("/operator/health"))
        broken.stop()
    alerts = [each.text for each in page.all("p") if each.attributes.get("role") == "alert"]
    assert len(alerts) == 3
    assert "Webhooks: failed" in alerts[0]
    assert "E-mail: has ended" in alerts[1]
    assert "1 letter could not be sent" in alerts[2]
    assert ("The hub is well" in page.text, "serial" in page.text) == (False, False)


def test_what_the_hub_noticed_by_itself_is_not_said_by_somebody(inviting: HubProcess, operator: Browser):
    name, _, api = member(inviting)
    with inviting.rooms() as rooms:
        administrator = rooms.tokens.actor(inviting.add_user(f"u{secrets.token_hex(4)}", "--admin"))
        for repo in ("first", "second"):
            api.create_repo(f"{name}/{repo}")
            api.upload_file(path_or_fileobj=b"the same", path_in_repo="a.txt", repo_id=f"{name}/{repo}")
            if repo == "first":
                repository = rooms.repositories.find(administrator, RepositoryType.MODEL, f"{name}/{repo}")
                case = rooms.reports.report(administrator, repository, "Spam.")
                rooms.moderation.decide(administrator, case.id, hide=True, note="Spam.")
    page = sound(operator.get("/operator/reports"))
    link = next(each for each in page.attributes("href") if re.fullmatch(r"/operator/reports/\d+", each))
    case_page = sound(operator.get(link))
    assert "The hub itself" in case_page.text
    assert f"It has the files of {name}/first, which is hidden." in case_page.text
    assert "Somebody who left" not in case_page.text
