"""Profiles, organisations, two-factor sign-in, sessions and reports, as a browser without JavaScript uses them."""

import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pyotp
import pytest
from browser import Browser
from hub_process import HubProcess, start_hub
from huggingface_hub import HfApi
from web_page import Page

from lmcommons.hub.accounts.accounts import new_user
from lmcommons.hub.database.tables import Membership, Role

PASSWORD = "correct horse battery"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def club(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub on which every member makes organisations."""
    with start_hub(tmp_path_factory.mktemp("club") / "hub", "--member-organisations") as running:
        yield running


def member(hub: HubProcess, *options: str) -> tuple[str, Browser, HfApi]:
    """A new user: the name, a browser that is signed in, and the client."""
    name = f"u{secrets.token_hex(4)}"
    token = hub.add_user(name, *options)
    hub.command("user", "password", name, typed=f"{PASSWORD}\n")
    browser = Browser(hub)
    assert browser.sign_in(name, PASSWORD).status_code == 200
    return name, browser, HfApi(hub.endpoint, token=token)


def sound(page: httpx.Response, status: int = 200) -> Page:
    """The page, which is well formed and has one main heading."""
    parsed = Page(page.text)
    assert page.status_code == status, parsed.text[:500]
    assert parsed.problems == []
    assert len(parsed.all("h1")) == 1
    return parsed


def alert(page: httpx.Response) -> str:
    return next(each.text for each in Page(page.text).all("p") if each.attributes.get("role") == "alert")


def shown_role(page: httpx.Response, user: str) -> str:
    """The role that the form of a member offers first."""
    form = next(part for part in page.text.split("<form")[1:] if f'value="{user}"' in part)
    return re.findall(r'value="([a-z]+)" selected', form)[0]


# ---------------------------------------------------------------- profiles


def test_a_profile_shows_what_its_owner_says_and_shares(club: HubProcess):
    name, browser, api = member(club)
    api.create_repo(f"{name}/open")
    api.create_repo(f"{name}/data", repo_type="dataset")
    api.create_repo(f"{name}/secret", private=True)
    fields = {"fullname": "Ada Lovelace", "bio": f"First.\n{SCRIPT}", "website": "https://example.org/ada"}
    landed = browser.submit(browser.get("/settings/profile"), "/settings/profile", **fields)
    assert landed.url.path == f"/{name}"
    page = sound(landed)
    assert "Ada Lovelace" in page.text
    assert SCRIPT in page.text  # as text
    assert page.foreign_scripts() == []
    assert [each.text for each in page.all("text")] == ["AL"]
    assert "https://example.org/ada" in page.attributes("href")
    assert f"{name}/secret" in page.text
    seen = sound(Browser(club).get(f"/{name}"))
    assert f"{name}/open" in seen.text
    assert f"{name}/data" in seen.text
    assert f"{name}/secret" not in seen.text


@pytest.mark.parametrize(
    "fields",
    [{"website": "javascript:alert(1)"}, {"website": "https://a b"}, {"bio": "x" * 600}, {"fullname": "x" * 300}],
)
def test_a_profile_that_cannot_be_is_refused_and_nothing_written_is_lost(club: HubProcess, fields: dict[str, str]):
    _, browser, _ = member(club)
    page = browser.get("/settings/profile")
    refused = browser.submit(page, "/settings/profile", **{"bio": "My words", **fields})
    sound(refused, 400)
    assert alert(refused)
    assert fields.get("bio", "My words") in refused.text


def test_a_text_is_as_long_as_the_browser_counts_it_and_its_lines_end_as_they_were_typed(club: HubProcess):
    name, browser, _ = member(club)
    typed = "\n".join(["x"] * 250)  # 499 characters; a browser sends 748
    sent = browser.submit(browser.get("/settings/profile"), "/settings/profile", bio=typed.replace("\n", "\r\n"))
    assert sent.url.path == f"/{name}"
    with club.rooms() as rooms:
        assert rooms.accounts.find(name).bio == typed


def test_an_empty_profile_tells_its_owner_what_to_type(club: HubProcess):
    name, browser, _ = member(club)
    _, others_browser, _ = member(club)
    for tab in ("", "?tab=models", "?tab=datasets"):
        own, seen = (sound(who.get(f"/{name}{tab}")) for who in (browser, others_browser))
        typed = [each.text for each in own.all("code") if f"hf upload {name}/my-" in each.text]
        assert len(typed) == (1 if tab else 2)
        assert "hf upload" not in seen.text
    beginning = next(each for each in sound(browser.get(f"/{name}?tab=datasets")).attributes("href") if "owner" in each)
    form = browser.get(beginning).text
    assert re.search(r'value="dataset"[^>]* checked', form)
    assert re.search(rf"<option[^>]*>{name}<", form)


def test_likes_activity_and_followers_have_pages(club: HubProcess):
    name, browser, api = member(club)
    fan, fans_browser, _ = member(club)
    api.create_repo(f"{name}/m")
    api.create_repo(f"{name}/secret", private=True)
    for who, liked in ((fans_browser, f"/{name}/m"), (browser, f"/{name}/secret")):
        who.submit(who.get(liked), f"{liked}/likes", like="yes")
    fans_browser.submit(fans_browser.get(f"/{name}"), f"/{name}/follow", follow="yes")
    assert f"{name}/m" in sound(browser.get(f"/{fan}?tab=likes")).text
    assert f"{fan} likes {name}/m" in sound(browser.get(f"/{fan}?tab=activity")).text
    assert f"{name}/secret" in sound(browser.get(f"/{name}?tab=likes")).text
    assert f"{name}/secret" not in sound(fans_browser.get(f"/{name}?tab=likes")).text
    assert f"{name}/secret" not in sound(fans_browser.get(f"/{name}?tab=activity")).text
    assert fan in sound(browser.get(f"/{name}?tab=followers")).text
    assert name in sound(browser.get(f"/{fan}?tab=following")).text
    for tab in ("models", "datasets"):
        sound(browser.get(f"/{name}?tab={tab}"))
    assert browser.get(f"/{name}?tab=nothing").status_code == 404
    assert browser.get(f"/{name}?page=0").status_code == 400


def test_an_address_is_changed_with_the_password_and_shown_to_nobody_else(club: HubProcess):
    name, browser, _ = member(club)
    page = browser.get("/settings/email")
    for fields, status in (
        ({"email": "ada@example.org", "present": "wrong password"}, 401),
        ({"email": "no address", "present": PASSWORD}, 400),
    ):
        assert browser.submit(page, "/settings/email", **fields).status_code == status
    changed = browser.submit(page, "/settings/email", email="ada@example.org", present=PASSWORD)
    assert "ada@example.org" in sound(changed).text
    assert "ada@example.org" not in Browser(club).get(f"/{name}").text


# ---------------------------------------------------------------- organisations


def test_a_member_makes_an_organisation_and_decides_who_belongs_to_it(club: HubProcess):
    name, browser, _ = member(club)
    other, others_browser, _ = member(club)
    team = f"t{secrets.token_hex(4)}"
    made = browser.submit(browser.get("/organizations/new"), "/organizations/new", name=team, fullname="The team")
    base = f"/organizations/{team}/members"
    assert made.url.path == base
    invitations = f"/organizations/{team}/invitations"
    asked = browser.submit(made, invitations, user=other, role="write")
    assert any(other in row.text and "writer" in row.text for row in sound(asked).all("tr"))
    waiting = others_browser.get("/notifications")
    assert f"{name} invites you to {team} as writer" in sound(waiting).text
    assert others_browser.submit(waiting, f"{invitations}/answer", answer="accept").url.path == f"/{team}"
    rows = [each.text for each in sound(browser.get(base)).all("tr")]
    assert any(other in row for row in rows)
    sound(browser.get(f"/{team}?tab=members"))
    # A member sees the others, and no forms but to leave.
    seen = sound(others_browser.get(base))
    assert [each.attributes["action"] for each in seen.all("form") if base in each.attributes.get("action", "")] == [
        f"{base}/remove"
    ]
    assert others_browser.get(f"/organizations/{team}/settings").status_code == 403
    form = {"form": re.search(r'name="form" value="([^"]+)"', others_browser.get(base).text)[1]}
    assert others_browser.client.post(base, data={**form, "user": other, "role": "admin"}).status_code == 403
    left = others_browser.submit(others_browser.get(base), f"{base}/remove", user=other)
    assert left.url.path == f"/{team}"
    changes = f"/organizations/{team}/changes"
    assert [each.text.partition(" ·")[0] for each in sound(browser.get(changes)).all("li") if " · " in each.text] == [
        f"{other} left",
        f"{other} joined as writer",
        f"{name} invited {other} as writer",
        f"{name} made the organisation",
    ]
    assert others_browser.get(changes).status_code == 403


def test_the_last_admin_stays_and_wrong_members_are_one_line(club: HubProcess):
    name, browser, _ = member(club)
    team = f"t{secrets.token_hex(4)}"
    browser.submit(browser.get("/organizations/new"), "/organizations/new", name=team)
    base = f"/organizations/{team}/members"
    page = browser.get(base)
    refused = browser.submit(page, f"{base}/remove", user=name)
    assert refused.status_code == 409
    assert "last admin" in alert(refused)
    for fields, status in (({"user": "nobody-at-all", "role": "read"}, 404), ({"user": name, "role": "king"}, 400)):
        assert browser.submit(page, base, **fields).status_code == status
    assert browser.submit(browser.get("/organizations/new"), "/organizations/new", name=team).status_code == 409


def test_a_stranger_cannot_use_up_the_mail_that_somebody_may_be_sent(club: HubProcess):
    _, browser, _ = member(club)
    _, strangers_browser, _ = member(club)
    victim, _, _ = member(club)
    team = f"t{secrets.token_hex(4)}"
    page = browser.submit(browser.get("/organizations/new"), "/organizations/new", name=team)
    invitations = f"/organizations/{team}/invitations"
    form = re.search(r'name="form" value="([^"]+)"', strangers_browser.get("/settings/profile").text)
    assert form
    asked = {"form": form[1], "user": victim, "role": "read"}
    assert {strangers_browser.client.post(invitations, data=asked).status_code for _ in range(4)} == {403}
    asked = sound(browser.submit(page, invitations, user=victim, role="read"))
    assert any(victim in row.text for row in asked.all("tr"))


def test_many_members_are_read_page_by_page_and_found_by_name(club: HubProcess):
    name, browser, _ = member(club)
    team = f"t{secrets.token_hex(4)}"
    browser.submit(browser.get("/organizations/new"), "/organizations/new", name=team)
    base = f"/organizations/{team}/members"
    assert "find" not in sound(browser.get(base)).attributes("class")  # one member is found without a search
    with club.rooms() as rooms:
        users = [new_user(f"{team}-{number:02}", f"Wang {number:02}", None) for number in range(70)]
        with rooms.database.write() as session:
            session.add_all(users)
            session.flush()
            organisation_id = rooms.organisations.find(team).id
            session.add_all(
                Membership(organisation_id=organisation_id, user_id=each.id, role=Role.READ) for each in users
            )
    first = browser.get(base)
    assert "71 members" in sound(first).text
    second = browser.get(f"{base}?page=2")
    shown = [{cell.text for cell in sound(page).all("th") if "Wang" in cell.text} for page in (first, second)]
    assert [len(each) for each in shown] == [30, 30]
    assert not shown[0] & shown[1]
    # A change leaves its maker where the form was.
    changed = browser.submit(second, f"{base}?page=2", user=f"{team}-40", role="write")
    assert (changed.url.path, changed.url.query) == (base, b"page=2")
    assert shown_role(changed, f"{team}-40") == "write"
    found = browser.get(f"{base}?search=WANG+05")
    assert "1 member" in sound(found).text
    assert shown_role(found, f"{team}-05") == "read"
    removed = browser.submit(found, f"{base}/remove?search=WANG+05", user=f"{team}-05")
    assert "No member has “WANG 05” in the name." in sound(removed).text
    assert "Wang 69" in sound(browser.get(f"/{team}?tab=members&page=3")).text
    overview = sound(browser.get(f"/{team}"))
    assert "Wang 01" in overview.text
    assert "Wang 20" not in overview.text
    # So are the organisations of somebody.
    with club.rooms() as rooms:
        for number in range(32):
            rooms.organisations.add(f"{team}-o{number:02}", members=[(name, Role.READ)])
    overview = sound(browser.get(f"/{name}"))
    assert "All organisations" in overview.text
    assert f"{team}-o31" not in overview.text
    assert f"{team}-o31" in sound(browser.get(f"/{name}?tab=organisations&page=2")).text


def test_settings_of_an_organisation_are_its_admins(club: HubProcess):
    _, browser, api = member(club)
    team = f"t{secrets.token_hex(4)}"
    browser.submit(browser.get("/organizations/new"), "/organizations/new", name=team)
    address = f"/organizations/{team}/settings"
    fields = {"fullname": "Our team", "bio": "We build.", "website": "", "private": "on"}
    landed = browser.submit(browser.get(address), address, **fields)
    assert "We build." in sound(landed).text
    assert "checked" in next(tag for tag in re.findall("<input[^>]*>", browser.get(address).text) if "private" in tag)
    assert api.model_info(api.create_repo(f"{team}/m").repo_id).private


def test_where_only_the_operator_makes_organisations_the_page_says_so(hub: HubProcess):
    name, browser, _ = member(hub)
    page = sound(browser.get("/organizations/new"))
    assert f"--member {name}:admin" in page.text
    assert "/organizations/new" not in page.attributes("action")


# ---------------------------------------------------------------- two-factor sign-in, sessions


def key_of(page: httpx.Response) -> str:
    codes = [each.text.strip() for each in Page(page.text).all("code")]
    return next(code for code in codes if re.fullmatch("([A-Z2-7]{4} ?)+", code)).replace(" ", "")


def test_who_sits_at_an_open_browser_sets_up_no_second_factor(club: HubProcess):
    _, browser, _ = member(club)
    page = browser.get("/settings/two-factor")
    begin = "/settings/two-factor/begin"
    assert "password is wrong" in alert(browser.submit(page, begin, present="wrong password"))
    first, second = (browser.submit(page, begin, present=PASSWORD) for _ in range(2))
    seen, given = pyotp.TOTP(key_of(first)), pyotp.TOTP(key_of(second))
    assert browser.submit(second, "/settings/two-factor/confirm", code=seen.now()).status_code == 401
    assert browser.submit(second, "/settings/two-factor/confirm", code=given.now()).status_code == 200


def test_two_factor_sign_in_from_setting_up_to_turning_off(club: HubProcess):
    name, browser, api = member(club)
    begun = browser.submit(browser.get("/settings/two-factor"), "/settings/two-factor/begin", present=PASSWORD)
    page = sound(begun)
    assert page.all("svg")
    assert begun.headers["cache-control"] == "no-store"
    authenticator = pyotp.TOTP(key_of(begun))
    wrong = browser.submit(begun, "/settings/two-factor/confirm", code="000000")
    assert wrong.status_code == 401
    assert key_of(wrong) == authenticator.secret  # what was scanned stays right
    on = browser.submit(wrong, "/settings/two-factor/confirm", code=authenticator.now())
    codes = re.findall(r"\b(?:[a-z2-7]{4}-){3}[a-z2-7]{4}\b", sound(on).text)
    assert len(codes) == 10
    assert codes[0] not in browser.get("/settings/two-factor").text
    assert api.whoami()["name"] == name  # tokens go on

    fresh = Browser(club)
    asked = fresh.submit(fresh.get("/login?next=/settings/tokens"), "/login", name=name, password=PASSWORD)
    sound(asked)
    assert fresh.get("/settings/tokens").url.path == "/login"
    mistyped = fresh.submit(asked, "/login/code", code="123456")
    assert mistyped.status_code == 401
    code = authenticator.at(time.time() + 30)  # a step that was not used
    landed = fresh.submit(mistyped, "/login/code", code=code)
    assert landed.url.path == "/settings/tokens"
    again = Browser(club)
    asked = again.sign_in(name, PASSWORD)
    assert again.submit(asked, "/login/code", code=code).status_code == 401  # used
    assert again.submit(asked, "/login/code", code=codes[0]).status_code == 200
    assert again.get("/settings/tokens").url.path == "/settings/tokens"
    forged = again.client.post("/login/code", data={"ticket": "1.9999999999." + "0" * 64, "code": codes[1]})
    assert forged.status_code == 401
    assert "begin again" in forged.text

    page = browser.get("/settings/two-factor")
    off = {"present": "wrong password", "code": codes[1]}
    assert browser.submit(page, "/settings/two-factor/off", **off).status_code == 401
    renewed = browser.submit(page, "/settings/two-factor/recovery-codes", code=codes[1])
    fresh_codes = re.findall(r"\b(?:[a-z2-7]{4}-){3}[a-z2-7]{4}\b", sound(renewed).text)
    assert set(fresh_codes).isdisjoint(codes)
    done = browser.submit(page, "/settings/two-factor/off", present=PASSWORD, code=fresh_codes[0])
    assert "Set up two-factor sign-in" in sound(done).text
    assert Browser(club).sign_in(name, PASSWORD).url.path == "/"


def test_the_operator_resets_the_second_factor_of_somebody_who_lost_it(club: HubProcess):
    name, browser, _ = member(club)
    begun = browser.submit(browser.get("/settings/two-factor"), "/settings/two-factor/begin", present=PASSWORD)
    browser.submit(begun, "/settings/two-factor/confirm", code=pyotp.TOTP(key_of(begun)).now())
    assert "ticket" in Browser(club).sign_in(name, PASSWORD).text
    club.command("user", "reset-two-factor", name)
    assert Browser(club).sign_in(name, PASSWORD).url.path == "/"


def test_sessions_are_shown_and_ended(club: HubProcess):
    name, browser, _ = member(club)
    phone, laptop = Browser(club), Browser(club)
    phone.client.headers["User-Agent"] = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1) Version/18.1 Mobile Safari/604.1"
    for other in (phone, laptop):
        other.sign_in(name, PASSWORD)
    page = browser.get("/settings/sessions")
    rows = [each.text for each in sound(page).all("tr")[1:]]
    assert len(rows) == 3
    assert sum("this one" in row for row in rows) == 1
    form = next(each for each in page.text.split("<tr>") if "Safari · iPhone" in each)
    action = unescape(re.search(r'action="([^"]+)"', form)[1])
    assert len(sound(browser.submit(page, action)).all("tr")) == 3
    assert phone.get("/settings/sessions").url.path == "/login"
    browser.submit(browser.get("/settings/sessions"), "/settings/sessions/end-others")
    assert laptop.get("/settings/sessions").url.path == "/login"
    assert browser.get("/settings/sessions").status_code == 200


# ---------------------------------------------------------------- reports


def test_a_report_reaches_the_operators_and_its_decision_the_author_who_appeals(club: HubProcess, tmp_path: Path):
    author, authors_browser, api = member(club)
    _, reporter, _ = member(club)
    (first, first_operator, _), (_, second_operator, _) = member(club, "--admin"), member(club, "--admin")
    api.create_repo(f"{author}/virus")
    api.upload_file(path_or_fileobj=b"malware", path_in_repo="virus.bin", repo_id=f"{author}/virus")
    form = reporter.get(f"/reports/new?repository={author}/virus")
    sound(form)
    thanks = sound(reporter.submit(form, "/reports", reason=f"virus.bin is malware {SCRIPT}"))
    assert "Thank you" in thanks.text
    assert reporter.submit(form, "/reports", reason="again").status_code == 409

    assert re.search(r"[1-9]\d* reports?", sound(first_operator.get("/")).text)
    assert not re.search(r"[1-9]\d* reports?", sound(reporter.get("/")).text)
    queue = sound(first_operator.get("/operator"))
    case = next(each for each in queue.attributes("href") if re.fullmatch(r"/operator/reports/\d+", each))
    opened = first_operator.get(case)
    assert SCRIPT in sound(opened).text
    assert first_operator.submit(opened, case, act="hide", note="").status_code == 400
    hidden = first_operator.submit(opened, case, act="hide", note="It is malware.")
    assert "hidden" in sound(hidden).text

    # It is absent for everybody else: on pages, for programs, for git.
    page = f"/{author}/virus"
    for stranger in (Browser(club), reporter):
        for address in (page, f"{page}/tree/main", f"{page}/resolve/main/virus.bin", f"/api/models{page}"):
            assert stranger.get(address).status_code in (401, 404), address
        assert f"{author}/virus" not in stranger.get(f"/{author}").text
    clone = ["git", "clone", "-q", f"{club.endpoint}{page}", str(tmp_path / "clone")]
    quiet = {"GIT_TERMINAL_PROMPT": "0", "PATH": "/usr/bin:/bin"}
    assert subprocess.run(clone, capture_output=True, env=quiet).returncode

    # Its author sees it, why, and can appeal once.
    seen = authors_browser.get(page)
    assert "hidden" in sound(seen).text
    link = next(each for each in Page(seen.text).attributes("href") if each.startswith("/reports/hiding"))
    told = authors_browser.get(link)
    assert "It is malware." in sound(told).text
    assert "virus" in sound(authors_browser.get("/settings/decisions")).text
    mine = told.url.path
    assert reporter.get(mine).status_code == 404
    appealed = authors_browser.submit(told, f"{mine}/appeal", text="It is a test file.")
    assert "waits for another administrator" in sound(appealed).text
    refused = first_operator.get(case)
    assert "another administrator decides" in sound(refused).text
    assert case not in Page(refused.text).attributes("action")
    decided = second_operator.submit(second_operator.get(case), case, act="grant", note="It is harmless.")
    assert first in sound(decided).text
    assert "It is harmless." in sound(authors_browser.get(mine)).text
    assert Browser(club).get(page).status_code == 200


def test_comments_discussions_and_people_are_reported_too(club: HubProcess):
    author, _, api = member(club)
    _, reporter, reporters_api = member(club)
    _, operator, _ = member(club, "--admin")
    api.create_repo(f"{author}/m")
    thread = reporters_api.create_discussion(f"{author}/m", title="A thread", description="A bad word")
    comment = int(thread.events[0].id, 16)
    for query, name in (
        (f"repository={author}/m&discussion=1", f"{author}/m#1"),
        (f"repository={author}/m&discussion=1&comment={comment}", f"{author}/m#1"),
        (f"account={author}", author),
    ):
        form = reporter.get(f"/reports/new?{query}")
        assert f"Report {name}" in sound(form).text
        sound(reporter.submit(form, "/reports", reason="bad"))
    cases = [each for each in Page(operator.get("/operator").text).attributes("href") if "/reports/" in each]
    shown = [operator.get(each) for each in cases]
    of_comment = next(each for each in shown if "A bad word" in each.text)
    operator.submit(of_comment, of_comment.url.path, act="hide", note="Be kind.")
    details = reporters_api.get_discussion_details(f"{author}/m", 1)
    assert details.events[0].hidden
    for query in ("repository=nobody/nothing", f"repository={author}/m&discussion=x", "account=nobody-at-all"):
        assert reporter.get(f"/reports/new?{query}").status_code in (400, 404)
    assert Browser(club).get(f"/reports/new?account={author}").url.path == "/login"
