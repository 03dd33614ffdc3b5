"""Users who leave for good: what they own goes to an heir, what is only theirs goes, the log forgets their name."""

import secrets
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pyotp
import pytest
from browser import Browser
from hub_process import HubProcess, lmc_hub
from huggingface_hub import HfApi
from sqlalchemy import func, select

from lmcommons.hub.database.tables import Event

PASSWORD = "correct horse battery"


@dataclass
class Person:
    """A user with a name that occurs nowhere else."""

    hub: HubProcess
    name: str
    api: HfApi

    def post(self, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.api.token}"}
        return httpx.post(f"{self.hub.endpoint}/api/{path}", json=body, headers=headers).raise_for_status().json()


@pytest.fixture
def leaver(hub: HubProcess) -> Person:
    return _person(hub)


@pytest.fixture
def heir(hub: HubProcess) -> Person:
    return _person(hub)


def _person(hub: HubProcess) -> Person:
    name = f"zoe{secrets.token_hex(5)}"
    return Person(hub, name, HfApi(hub.endpoint, token=hub.add_user(name, "--email", f"{name}@example.org")))


def refusal(hub: HubProcess, *arguments: str) -> str:
    """The one line with which a deletion is refused."""
    done = lmc_hub("user", "delete", *arguments, "--data", hub.data)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


def test_a_user_who_owns_something_is_not_deleted(hub: HubProcess, leaver: Person):
    leaver.api.create_repo(f"{leaver.name}/m")
    leaver.api.create_repo(f"{leaver.name}/d", repo_type="dataset")
    leaver.post(f"buckets/{leaver.name}/b")
    leaver.api.create_collection("list", namespace=leaver.name)
    said = refusal(hub, leaver.name)
    for part in (f"model {leaver.name}/m", f"dataset {leaver.name}/d", f"bucket {leaver.name}/b", "and 1 more"):
        assert part in said
    assert "--transfer-to" in said
    assert leaver.api.whoami()["name"] == leaver.name


def test_what_the_user_owns_goes_to_the_heir_and_the_old_addresses_lead_there(
    hub: HubProcess, leaver: Person, heir: Person
):
    leaver.api.create_repo(f"{leaver.name}/m", private=True)
    leaver.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=f"{leaver.name}/m")
    leaver.post(f"buckets/{leaver.name}/b")
    collection = leaver.api.create_collection("list", namespace=leaver.name)
    hub.command("user", "delete", leaver.name, "--transfer-to", heir.name)
    assert heir.api.model_info(f"{heir.name}/m").private is True
    assert heir.api.hf_hub_download(f"{leaver.name}/m", "x.txt")  # as programs still call it
    assert heir.api.bucket_info(f"{heir.name}/b").id == f"{heir.name}/b"
    assert heir.api.get_collection(collection.slug.replace(leaver.name, heir.name)).owner["name"] == heir.name


def test_nothing_moves_where_the_heir_has_the_same_names_or_no_room(hub: HubProcess, leaver: Person, heir: Person):
    for person in (leaver, heir):
        person.api.create_repo(f"{person.name}/same")
    leaver.api.create_repo(f"{leaver.name}/other")
    leaver.api.upload_file(path_or_fileobj=b"x" * 5000, path_in_repo="x.bin", repo_id=f"{leaver.name}/other")
    assert f"{heir.name} has model {leaver.name}/same too" in refusal(hub, leaver.name, "--transfer-to", heir.name)
    heir.api.delete_repo(f"{heir.name}/same")
    hub.command("user", "quota", heir.name, "1000")
    assert "quota" in refusal(hub, leaver.name, "--transfer-to", heir.name)
    assert {model.id for model in leaver.api.list_models(author=leaver.name)} == {
        f"{leaver.name}/{name}" for name in ("same", "other")
    }


def test_comments_stay_without_an_author_and_counts_are_right(hub: HubProcess, leaver: Person, heir: Person):
    repo_id = heir.api.create_repo(f"{heir.name}/m").repo_id
    discussion = leaver.api.create_discussion(repo_id, "a question", description="which bees?")
    leaver.post(f"models/{repo_id}/like")
    heir.post(f"models/{repo_id}/like")
    collection = heir.api.create_collection("list", namespace=heir.name)
    leaver.post(f"collections/{collection.slug}/upvote")
    hub.command("user", "delete", leaver.name)
    details = heir.api.get_discussion_details(repo_id, discussion.num)
    assert (details.author, details.events[0].content) == ("deleted", "which bees?")
    assert heir.api.model_info(repo_id).likes == 1
    assert [user.username for user in heir.api.list_repo_likers(repo_id)] == [heir.name]
    assert heir.api.get_collection(collection.slug).upvotes == 0


def test_nothing_in_the_database_says_who_it_was_but_the_name_that_is_kept_from_others(
    hub: HubProcess, leaver: Person, heir: Person
):
    hub.add_organisation(f"org-{heir.name}", "--member", f"{heir.name}:admin", "--member", f"{leaver.name}:read")
    mine = leaver.api.create_repo(f"{leaver.name}/m").repo_id
    leaver.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=mine)
    theirs = heir.api.create_repo(f"{heir.name}/m").repo_id
    leaver.api.create_discussion(theirs, "a question", description="which bees?")
    leaver.post(f"models/{theirs}/like")
    leaver.api.delete_collection(leaver.api.create_collection("list", namespace=leaver.name).slug)
    heir.post(f"users/{leaver.name}/follow")
    leaver.api.delete_repo(mine)
    with hub.rooms() as rooms, rooms.database.read() as session:
        count, last = session.execute(select(func.count(Event.id), func.max(Event.id))).one()
    hub.command("user", "delete", leaver.name)
    with hub.rooms() as rooms, rooms.database.read() as session:
        assert session.scalar(select(func.count(Event.id)).where(Event.id <= last)) == count  # no line is gone
    assert hub.stored().count(leaver.name) == 1


def test_the_account_is_gone_and_its_name_is_given_to_nobody_else(hub: HubProcess, leaver: Person):
    hub.command("user", "password", leaver.name, typed="correct horse battery\n")
    hub.command("user", "delete", leaver.name)
    headers = {"Authorization": f"Bearer {leaver.api.token}"}
    assert httpx.get(f"{hub.endpoint}/api/whoami-v2", headers=headers).status_code == 401
    assert httpx.get(f"{hub.endpoint}/api/users/{leaver.name}/overview").status_code == 404
    form = {"name": leaver.name, "password": "correct horse battery"}
    assert httpx.post(f"{hub.endpoint}/login", data=form).status_code == 401
    assert leaver.name not in hub.command("user", "list")
    for command in (("user", "add"), ("org", "add")):
        done = lmc_hub(*command, leaver.name.upper(), "--data", hub.data)
        assert (done.returncode, "is taken" in done.stderr) == (2, True)
    assert "No such user" in refusal(hub, leaver.name)


def test_the_last_admin_of_an_organisation_first_names_another(hub: HubProcess, leaver: Person, heir: Person):
    team = f"team{leaver.name}"
    hub.add_organisation(team, "--member", f"{leaver.name}:admin", "--member", f"{heir.name}:read")
    leaver.api.create_repo(f"{leaver.name}/m")
    assert f"last admin of {team}" in refusal(hub, leaver.name, "--transfer-to", heir.name)
    assert leaver.api.model_info(f"{leaver.name}/m")  # nothing has moved
    hub.command("org", "member", "add", team, f"{heir.name}:admin")
    hub.command("user", "delete", leaver.name, "--transfer-to", team)
    assert heir.api.model_info(f"{team}/m").id == f"{team}/m"


def test_one_deletes_the_own_account_with_the_password_and_a_code(hub: HubProcess, leaver: Person):
    hub.command("user", "password", leaver.name, typed=f"{PASSWORD}\n")
    with hub.rooms() as rooms:
        actor = rooms.tokens.actor(leaver.api.token)
        authenticator = pyotp.TOTP(rooms.two_factors.begin(actor).secret)
        recovery_code, *_ = rooms.two_factors.confirm(actor, authenticator.now())
    browser = Browser(hub)
    browser.submit(browser.sign_in(leaver.name, PASSWORD), "/login/code", code=recovery_code)
    leaver.api.create_repo(f"{leaver.name}/m")
    page = browser.get("/settings/delete")
    assert f"{leaver.name} owns model {leaver.name}/m" in page.text
    assert 'name="typed"' not in page.text
    leaver.api.delete_repo(f"{leaver.name}/m")
    page = browser.get("/settings/delete")
    right = {"typed": leaver.name, "present": PASSWORD, "code": authenticator.at(time.time() + 30)}
    for wrong in ({"typed": ""}, {"present": "another"}, {"code": recovery_code}):
        refused = browser.submit(page, "/settings/delete", **{**right, **wrong})
        assert refused.status_code in (400, 401)
        assert leaver.api.whoami()["name"] == leaver.name
    gone = browser.submit(page, "/settings/delete", **right)
    assert "Your account was deleted." in gone.text
    assert browser.get("/settings/profile").url.path == "/login"
    assert hub.stored().count(leaver.name) == 1  # so that nobody else gets it
    with hub.rooms() as rooms, rooms.database.read() as session:
        last = session.scalars(select(Event).where(Event.kind == "user.deleted").order_by(Event.id.desc())).first()
        assert last is not None
        assert last.actor == last.data["name"]


def test_an_heir_that_cannot_be_is_refused(hub: HubProcess, leaver: Person):
    leaver.api.create_repo(f"{leaver.name}/m")
    assert "No such user or organisation: nobody-at-all" in refusal(hub, leaver.name, "--transfer-to", "nobody-at-all")
    assert "cannot inherit" in refusal(hub, leaver.name, "--transfer-to", leaver.name)
