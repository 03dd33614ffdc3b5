"""Organisations by HTTP: who makes them, who belongs to them, and who decides that."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess, lmc_hub, start_hub
from huggingface_hub import HfApi
from sqlalchemy import select

from lmcommons.hub.database.tables import Event


class Caller:
    """A user of the hub, with the requests that the client has no function for."""

    def __init__(self, hub: HubProcess, name: str, token: str) -> None:
        self.name, self._hub, self._headers = name, hub, {"Authorization": f"Bearer {token}"}

    def send(self, method: str, path: str, **body: object) -> httpx.Response:
        return httpx.request(method, f"{self._hub.endpoint}/api/{path}", json=body or None, headers=self._headers)

    def set_role(self, organisation: str, user: str, role: str) -> httpx.Response:
        return self.send("PUT", f"organizations/{organisation}/members/{user}/role", role=role)

    def remove(self, organisation: str, user: str) -> httpx.Response:
        return self.send("DELETE", f"organizations/{organisation}/members/{user}")


@pytest.fixture
def people(hub: HubProcess) -> tuple[Caller, Caller, Caller]:
    """Three users with new names."""
    made = [f"{name}{secrets.token_hex(4)}" for name in ("ada", "bob", "eve")]
    ada, bob, eve = (Caller(hub, name, hub.add_user(name)) for name in made)
    return ada, bob, eve


@pytest.fixture
def team(hub: HubProcess, people: tuple[Caller, Caller, Caller]) -> str:
    """An organisation that the first of `people` administers."""
    name = f"team{secrets.token_hex(4)}"
    hub.add_organisation(name, "--member", f"{people[0].name}:admin")
    return name


def roles(hub: HubProcess, team: str) -> dict[str, str]:
    listed = httpx.get(f"{hub.endpoint}/api/organizations/{team}/members").json()
    return {member["user"]: member["role"] for member in listed}


def test_an_admin_adds_members_changes_roles_and_removes(hub: HubProcess, people, team: str):
    ada, bob, eve = people
    answer = ada.set_role(team, bob.name, "write")
    assert (answer.status_code, answer.json()["user"], answer.json()["role"]) == (200, bob.name, "write")
    assert ada.set_role(team, eve.name, "read").is_success
    assert roles(hub, team) == {ada.name: "admin", bob.name: "write", eve.name: "read"}
    assert [user.username for user in HfApi(hub.endpoint, token=False).list_organization_members(team)] == [
        ada.name,
        bob.name,
        eve.name,
    ]
    assert ada.set_role(team, bob.name, "contributor").is_success
    assert ada.remove(team, eve.name).status_code == 204
    assert roles(hub, team) == {ada.name: "admin", bob.name: "contributor"}
    assert ada.remove(team, eve.name).status_code == 404


def test_a_membership_gives_its_rights_at_once_and_takes_them_at_once(people, team: str):
    ada, bob, _ = people
    made = {"name": "m", "organization": team}
    assert bob.send("POST", "repos/create", **made).status_code == 403
    ada.set_role(team, bob.name, "write")
    assert bob.send("POST", "repos/create", **made).is_success
    ada.remove(team, bob.name)
    assert bob.send("DELETE", "repos/delete", **made).status_code == 403


def test_only_admins_decide_and_everybody_may_leave(hub: HubProcess, people, team: str):
    ada, bob, eve = people
    ada.set_role(team, bob.name, "write")
    ada.set_role(team, eve.name, "read")
    refused = bob.set_role(team, bob.name, "admin")
    assert (refused.status_code, "ask an owner for the role 'admin'" in refused.json()["error"]) == (403, True)
    assert bob.remove(team, eve.name).status_code == 403
    assert eve.remove(team, eve.name).status_code == 204
    assert roles(hub, team) == {ada.name: "admin", bob.name: "write"}


def test_the_last_admin_can_neither_leave_nor_step_down(hub: HubProcess, people, team: str):
    ada, bob, _ = people
    for refused in (ada.remove(team, ada.name), ada.set_role(team, ada.name, "write")):
        assert (refused.status_code, "is the last admin of" in refused.json()["error"]) == (409, True)
    ada.set_role(team, bob.name, "admin")
    hub.command("user", "disable", bob.name)
    assert ada.remove(team, ada.name).status_code == 409  # nobody who can sign in would be left
    hub.command("user", "enable", bob.name)
    assert ada.remove(team, ada.name).status_code == 204
    assert roles(hub, team) == {bob.name: "admin"}
    refused = lmc_hub("org", "member", "remove", team, bob.name, "--data", hub.data)
    assert (refused.returncode, "last admin" in refused.stderr, refused.stderr.count("\n")) == (2, True, 1)


def test_a_token_with_narrower_scopes_does_not_administer(hub: HubProcess, people, team: str):
    ada, bob, _ = people
    narrow = Caller(hub, ada.name, hub.command("token", "add", ada.name, "--repository", f"{team}:manage").strip())
    refused = narrow.set_role(team, bob.name, "read")
    assert (refused.status_code, "has no scope to administer" in refused.json()["error"]) == (403, True)
    wide = Caller(hub, ada.name, hub.command("token", "add", ada.name, "--repository", f"{team}:administer").strip())
    assert wide.set_role(team, bob.name, "read").is_success
    permissions = wide.send("GET", "whoami-v2").json()["auth"]["accessToken"]["fineGrained"]["scoped"][0]["permissions"]
    assert "org.write" in permissions


def test_every_change_of_a_member_is_an_event_and_what_changes_nothing_is_none(hub: HubProcess, people, team: str):
    ada, bob, _ = people
    for role in ("read", "read", "write"):
        ada.set_role(team, bob.name, role)
    bob.remove(team, bob.name)
    with hub.rooms() as rooms, rooms.database.read() as session:
        events = session.scalars(select(Event).where(Event.kind == "organisation.member").order_by(Event.id))
        told = [
            (event.actor, event.data["former"], event.data["role"]) for event in events if event.data["name"] == team
        ]
    assert told == [(ada.name, None, "read"), (ada.name, "read", "write"), (bob.name, "write", None)]


@pytest.mark.parametrize(
    ("user", "body", "status", "reason"),
    [
        ("nobody-at-all", {"role": "read"}, 404, "No such user: nobody-at-all"),
        (None, {"role": "king"}, 400, "role is one of read, contributor, write, admin, not 'king'"),
        (None, {"role": 1}, 400, "'role' must be a string"),
        (None, {}, 400, "'role' must be a string"),
        (None, {"role": "read", "resourceGroups": [{"id": "x"}]}, 400, "no resource groups"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(people, team: str, user, body, status, reason):
    ada, bob, _ = people
    answer = ada.send("PUT", f"organizations/{team}/members/{user or bob.name}/role", **body)
    assert (answer.status_code, reason in answer.json()["error"]) == (status, True), answer.text
    assert ada.set_role(bob.name, ada.name, "read").status_code == 404  # a user is no organisation


# ------------------------------------------------------------ making organisations


@pytest.fixture(scope="module")
def founding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub whose members make organisations."""
    with start_hub(tmp_path_factory.mktemp("founding") / "hub", "--member-organisations") as running:
        yield running


def test_members_make_organisations_where_the_operator_allows_it(founding: HubProcess):
    ada = Caller(founding, "ada", founding.add_user("ada"))
    answer = ada.send("POST", "x/organizations", name="lab", fullname="The Lab", privateByDefault=True)
    assert answer.status_code == 201
    assert answer.json()["url"] == f"{founding.endpoint}/lab"
    assert roles(founding, "lab") == {"ada": "admin"}
    assert ada.send("POST", "repos/create", name="m", organization="lab").is_success
    assert ada.send("GET", "models/lab/m").json()["private"] is True
    for name, status in (("Lab", 409), ("ada", 409), ("a..b", 400), ("datasets", 400), ("x" * 97, 400), (1, 400)):
        assert ada.send("POST", "x/organizations", name=name).status_code == status, name
    reader = Caller(founding, "ada", founding.add_token("ada", "read"))
    assert reader.send("POST", "x/organizations", name="other").status_code == 403


def test_elsewhere_only_administrators_of_the_hub_do(hub: HubProcess, people):
    refused = people[0].send("POST", "x/organizations", name="mine")
    assert (refused.status_code, "only the operator makes organisations" in refused.json()["error"]) == (403, True)
    name = f"org{secrets.token_hex(4)}"
    operator = Caller(hub, "", hub.add_user(f"admin-{name}", "--admin"))
    assert operator.send("POST", "x/organizations", name=name).status_code == 201


# ------------------------------------------------------------ the operator's commands


def test_the_operator_lists_and_changes_members(tmp_path: Path):
    data = tmp_path / "hub"
    for name in ("ada", "bob"):
        lmc_hub("user", "add", name, "--data", data)
    lmc_hub("org", "add", "lab", "--member", "ada:admin", "--data", data)
    assert lmc_hub("org", "member", "add", "lab", "bob:read", "--data", data).returncode == 0
    assert lmc_hub("org", "member", "list", "lab", "--data", data).stdout == "ada\tadmin\nbob\tread\n"
    assert lmc_hub("org", "member", "remove", "lab", "bob", "--data", data).returncode == 0
    listed = lmc_hub("org", "member", "list", "lab", "--json", "--data", data).stdout
    assert listed == '[{"name": "ada", "role": "admin"}]\n'
    for wrong, reason in (
        (("remove", "lab", "bob"), "bob is no member of lab"),
        (("list", "ada"), "No such organisation: ada"),
        (("add", "lab", "bob"), "write USER:ROLE"),
    ):
        done = lmc_hub("org", "member", *wrong, "--data", data)
        assert (done.returncode, reason in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr
