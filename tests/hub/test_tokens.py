"""Tokens: what each kind does, when it ends, what the operator sees of it."""

import json
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess, lmc_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from lmcommons.hub.accounts import tokens
from lmcommons.hub.accounts.permissions import Action
from lmcommons.hub.database.tables import Role, TokenRole
from lmcommons.hub.errors import BadRequest, NotFound, Unauthorized
from lmcommons.hub.rooms import Hub
from lmcommons.hub.settings import Settings


@pytest.fixture
def rooms(tmp_path: Path) -> Hub:
    opened = Hub(Settings.make(tmp_path / "hub"))
    opened.accounts.add_user("ada")
    return opened


def test_a_fine_grained_token_works_where_its_scopes_say(hub: HubProcess):
    owner = HfApi(hub.endpoint, token=hub.add_user("scoped"))
    for name in ("mine", "other"):
        owner.create_repo(f"scoped/{name}", private=True)
    owner.create_repo("scoped/data", repo_type="dataset", private=True)
    text = hub.command(
        "token", "add", "scoped", "--name", "ci", "--repository", "scoped/mine:write", "--repository",
        "datasets/scoped/data:read",
    ).strip()  # fmt: skip
    fine = HfApi(hub.endpoint, token=text)
    fine.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="scoped/mine")
    assert fine.dataset_info("scoped/data").private
    assert [model.id for model in fine.list_models(author="scoped")] == ["scoped/mine"]
    with pytest.raises(RepositoryNotFoundError):
        fine.model_info("scoped/other")
    for attempt in (
        lambda: fine.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="scoped/data", repo_type="dataset"),
        lambda: fine.delete_repo("scoped/mine"),
        lambda: fine.create_repo("scoped/third"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            attempt()
        assert refused.value.response.status_code == 403
        assert "fine-grained" in refused.value.response.headers["x-error-message"]
    access = fine.whoami()["auth"]["accessToken"]
    assert (access["displayName"], access["role"]) == ("ci", "fineGrained")
    scoped = {scope["entity"]["name"]: scope["permissions"] for scope in access["fineGrained"]["scoped"]}
    assert scoped == {
        "scoped/mine": ["discussion.write", "repo.content.read", "repo.write"],
        "scoped/data": ["repo.content.read"],
    }


def test_a_token_for_a_namespace_makes_repositories_there_and_nowhere_else(hub: HubProcess):
    hub.add_user("finemaker")
    hub.add_organisation("finemaker-org", "--member", "finemaker:write")
    fine = HfApi(
        hub.endpoint, token=hub.command("token", "add", "finemaker", "--repository", "finemaker-org:write").strip()
    )
    fine.create_repo("finemaker-org/new")
    with pytest.raises(HfHubHTTPError):
        fine.create_repo("finemaker/new")


def test_a_token_ends_when_it_expires_or_is_revoked(rooms: Hub, monkeypatch: pytest.MonkeyPatch):
    short = rooms.tokens.add("ada", "short", TokenRole.WRITE, life=timedelta(days=1))
    assert rooms.tokens.actor(short).name == "ada"
    start = tokens.now()
    monkeypatch.setattr(tokens, "now", lambda: start + timedelta(days=1))
    with pytest.raises(Unauthorized, match="Invalid credentials"):
        rooms.tokens.actor(short)
    other = rooms.tokens.add("ada", "other", TokenRole.READ)
    rooms.tokens.revoke("ada", rooms.tokens.of("ada")[-1].id)
    with pytest.raises(Unauthorized, match="Invalid credentials"):
        rooms.tokens.actor(other)


def test_the_last_use_is_noted_to_the_hour(rooms: Hub, monkeypatch: pytest.MonkeyPatch):
    text = rooms.tokens.add("ada", "used", TokenRole.READ)
    assert rooms.tokens.of("ada")[-1].last_used_at is None
    rooms.tokens.actor(text)
    first = rooms.tokens.of("ada")[-1].last_used_at
    assert first is not None
    monkeypatch.setattr(tokens, "now", lambda: first + timedelta(minutes=59))
    rooms.tokens.actor(text)
    assert rooms.tokens.of("ada")[-1].last_used_at == first
    monkeypatch.setattr(tokens, "now", lambda: first + timedelta(minutes=61))
    rooms.tokens.actor(text)
    assert rooms.tokens.of("ada")[-1].last_used_at == first + timedelta(minutes=61)


def test_scopes_that_cannot_be_are_refused_and_tell_nothing_of_what_is_hidden(hub: HubProcess, rooms: Hub):
    rooms.accounts.add_user("bob")
    rooms.organisations.add("team", members=[("bob", Role.ADMIN)])
    for scopes, error in (
        ({}, BadRequest),
        ({"nobody": Action.READ}, NotFound),
        ({"ada/absent": Action.READ}, NotFound),
        ({"datasets/ada": Action.READ}, NotFound),
        ({"a/b/c/d": Action.READ}, NotFound),
        ({"ada": Action.SEE}, BadRequest),
        ({f"x{number}": Action.READ for number in range(101)}, BadRequest),
    ):
        with pytest.raises(error):
            rooms.tokens.add("ada", "t", TokenRole.FINE_GRAINED, scopes=scopes)
    with pytest.raises(BadRequest):
        rooms.tokens.add("ada", "t", TokenRole.WRITE, scopes={"ada": Action.READ})
    api = HfApi(hub.endpoint, token=hub.add_user("hider"))
    api.create_repo("hider/secret", private=True)
    hub.add_user("seeker")
    texts = []
    for name in ("secret", "absent"):
        with pytest.raises(RuntimeError) as refused:
            hub.command("token", "add", "seeker", "--repository", f"hider/{name}:read")
        texts.append(str(refused.value).replace(name, "X"))
    assert texts[0] == texts[1]


def test_the_operator_lists_and_revokes_tokens_without_seeing_them(tmp_path: Path):
    data = tmp_path / "hub"
    text = lmc_hub("user", "add", "ada", "--data", data).stdout.strip()
    lmc_hub("token", "add", "ada", "--name", "ci", "--role", "read", "--expires", "30", "--data", data)
    listed = lmc_hub("token", "list", "ada", "--json", "--data", data).stdout
    rows = json.loads(listed)
    assert [(row["name"], row["role"]) for row in rows] == [("default", "write"), ("ci", "read")]
    assert rows[1]["expires"] > rows[1]["created"]
    assert text not in listed
    assert lmc_hub("token", "revoke", "ada", rows[0]["id"], "--data", data).returncode == 0
    assert [row["name"] for row in json.loads(lmc_hub("token", "list", "ada", "--json", "--data", data).stdout)] == [
        "ci"
    ]
    for wrong in (
        ("token", "revoke", "ada", rows[0]["id"]),
        ("token", "list", "bob"),
        ("token", "add", "ada", "--role", "king"),
        ("token", "add", "ada", "--role", "fineGrained"),
        ("token", "add", "ada", "--role", "write", "--repository", "ada:read"),
        ("token", "add", "ada", "--repository", "ada:king"),
        ("token", "add", "ada", "--expires", "0"),
        ("token", "add", "ada", "--name", ""),
    ):
        done = lmc_hub(*wrong, "--data", data)
        assert (done.returncode, done.stdout) == (2, ""), wrong


def test_the_operator_manages_users_and_organisations(tmp_path: Path):
    data = tmp_path / "hub"

    def rows(what: str) -> list[dict[str, object]]:
        return json.loads(lmc_hub(what, "list", "--json", "--data", data).stdout)

    for name in ("ada", "bob"):
        lmc_hub("user", "add", name, "--data", data)
    lmc_hub("org", "add", "team", "--member", "ada:read", "--data", data)
    for command in (
        ("user", "admin", "ada"),
        ("user", "disable", "bob"),
        ("org", "member", "add", "team", "ada:admin"),
        ("org", "member", "add", "team", "bob:contributor"),
        ("org", "quota", "team", "1000"),
    ):
        assert lmc_hub(*command, "--data", data).returncode == 0
    assert [(row["name"], row["admin"], row["disabled"]) for row in rows("user")] == [
        ("ada", True, False),
        ("bob", False, True),
    ]
    assert rows("org")[0]["members"] == ["ada:admin", "bob:contributor"]
    assert rows("org")[0]["quota"] == 1000
    lmc_hub("org", "member", "remove", "team", "bob", "--data", data)
    assert rows("org")[0]["members"] == ["ada:admin"]
    for wrong in (
        ("org", "member", "remove", "team", "bob"),
        ("org", "member", "add", "team", "eve:read"),
        ("org", "member", "add", "ada", "bob:read"),
        ("org", "member", "add", "team", "bob:king"),
        ("user", "disable", "team"),
        ("user", "admin", "eve"),
        ("org", "quota", "eve", "1"),
    ):
        done = lmc_hub(*wrong, "--data", data)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), wrong
    assert "ada\tada\t" in lmc_hub("user", "list", "--data", data).stdout


def test_a_wrong_token_opens_nothing_not_even_what_is_public(hub: HubProcess, api: HfApi, new_repository):
    public = new_repository()
    for header in ("Bearer hf_wrong", f"Bearer {api.token}x", "Bearer", "Basic eDp5", "Basic \xff", "Bearer \xff"):
        answer = httpx.get(f"{hub.endpoint}/api/models/{public}", headers={"Authorization": header.encode("latin-1")})
        assert (answer.status_code, answer.headers["x-error-message"]) == (
            401,
            "Invalid credentials in Authorization header",
        )
