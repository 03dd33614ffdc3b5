"""Gated repositories: everybody sees them, and asks for their files."""

import secrets
from pathlib import Path

import httpx
import pytest
from browser import Browser
from hub_process import HubProcess
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
from sqlalchemy import select

from lmcommons.hub.database.tables import Event

PASSWORD = "correct horse battery"
CARD = """---
extra_gated_prompt: Say <b>why</b>
extra_gated_fields:
  Affiliation: text
  I agree: checkbox
---
# A card that everybody reads
"""


@pytest.fixture
def asker(hub: HubProcess) -> HfApi:
    name = f"asker{secrets.token_hex(4)}"
    return HfApi(hub.endpoint, token=hub.add_user(name, "--email", f"{name}@example.org"))


@pytest.fixture
def gated(api: HfApi, new_repository) -> str:
    repository = new_repository()
    api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id=repository)
    api.upload_file(path_or_fileobj=b"w" * 2000, path_in_repo="w.bin", repo_id=repository)
    api.update_repo_settings(repository, gated="manual")
    return repository


def ask(api: HfApi, repository: str, **fields: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {api.token}"}
    return httpx.post(f"{api.endpoint}/{repository}/ask-access", json=fields, headers=headers)


def name_of(api: HfApi) -> str:
    return str(api.whoami()["name"])


def status(refused: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return refused.value.response.status_code


def test_everybody_sees_a_gated_repository_and_nobody_else_gets_its_files(hub: HubProcess, asker, gated):
    for stranger, expected in ((asker, 403), (HfApi(hub.endpoint, token=False), 401)):
        info = stranger.model_info(gated, files_metadata=True)
        assert info.gated == "manual"
        assert {sibling.rfilename for sibling in info.siblings} == {".gitattributes", "README.md", "w.bin"}
        assert [commit.title for commit in stranger.list_repo_commits(gated)]
        assert stranger.list_repo_refs(gated).branches[0].name == "main"
        assert list(stranger.list_repo_tree(gated))
        assert gated in [model.id for model in stranger.list_models(author="ann", search=gated.partition("/")[2])]
        with pytest.raises(GatedRepoError) as gate:
            stranger.hf_hub_download(gated, "w.bin")
        assert status(gate) == expected
        with pytest.raises(GatedRepoError, match="restricted"):
            stranger.auth_check(gated)


def test_other_doors_to_the_files_are_closed_too(hub: HubProcess, asker, gated):
    headers = {"Authorization": f"Bearer {asker.token}"}
    git = httpx.get(f"{hub.endpoint}/{gated}.git/info/refs?service=git-upload-pack", headers=headers)
    batch = {"operation": "download", "objects": [{"oid": "0" * 64, "size": 2000}]}
    lfs = httpx.post(f"{hub.endpoint}/{gated}.git/info/lfs/objects/batch", json=batch, headers=headers)
    raw = httpx.get(f"{hub.endpoint}/{gated}/raw/main/README.md", headers=headers)
    assert {git.status_code, lfs.status_code, raw.status_code} == {403}
    page = {"Accept": "text/html"}
    assert httpx.get(f"{hub.endpoint}/{gated}/blob/main/w.bin", headers=page).status_code == 401
    commit = asker.model_info(gated).sha
    assert httpx.get(f"{hub.endpoint}/{gated}/commit/{commit}", headers=page).status_code == 401
    assert "A card that everybody reads" in httpx.get(f"{hub.endpoint}/{gated}", headers=page).text


def test_a_request_waits_until_an_owner_accepts_it(api, asker, gated, tmp_path: Path):
    assert ask(asker, gated, why="research").json() == {"status": "pending"}
    assert ask(asker, gated, why="again").json() == {"status": "pending"}
    [request] = api.list_pending_access_requests(gated)
    assert (request.username, request.fields) == (name_of(asker), {"why": "research"})
    assert request.email == f"{name_of(asker)}@example.org"
    with pytest.raises(GatedRepoError):
        asker.auth_check(gated)
    api.accept_access_request(gated, request_id=request.request_id)
    asker.auth_check(gated)
    assert Path(asker.hf_hub_download(gated, "w.bin", cache_dir=tmp_path)).read_bytes() == b"w" * 2000
    with pytest.raises(HfHubHTTPError):
        asker.auth_check(gated, write=True)
    api.reject_access_request(gated, name_of(asker), rejection_reason="not this time")
    with pytest.raises(GatedRepoError):
        asker.auth_check(gated)


def test_where_the_gate_is_automatic_asking_is_enough(api, asker, gated):
    api.update_repo_settings(gated, gated="auto")
    assert ask(asker, gated).json() == {"status": "accepted"}
    asker.auth_check(gated)
    api.update_repo_settings(gated, gated=False)
    HfApi(api.endpoint, token=False).auth_check(gated)


def test_access_that_was_granted_unasked_shows_no_address(api, asker, gated):
    api.grant_access(gated, name_of(asker))
    [request] = api.list_accepted_access_requests(gated)
    assert (request.username, request.email) == (name_of(asker), None)
    with pytest.raises(HfHubHTTPError) as twice:
        api.grant_access(gated, name_of(asker))
    assert status(twice) == 400


def test_what_cannot_be_is_refused_as_the_protocol_says(api, asker, gated, new_repository):
    for attempt, expected in (
        (lambda: api.accept_access_request(gated, "nobody-at-all"), 404),
        (lambda: api.accept_access_request(gated, name_of(asker)), 404),
        (lambda: api.accept_access_request(gated, request_id="f" * 24), 404),
        (lambda: api.accept_access_request(gated, request_id="no id"), 404),
        (lambda: api.grant_access(gated, "nobody-at-all"), 404),
        (lambda: list(api.list_pending_access_requests(new_repository())), 400),
        (lambda: api.grant_access(new_repository(), name_of(asker)), 400),
        (lambda: list(asker.list_pending_access_requests(gated)), 403),
        (lambda: asker.grant_access(gated, name_of(asker)), 403),
        (lambda: asker.accept_access_request(gated, name_of(asker)), 403),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            attempt()
        assert status(refused) == expected
    ask(asker, gated)
    with pytest.raises(HfHubHTTPError) as long:
        api.reject_access_request(gated, name_of(asker), rejection_reason="x" * 201)
    assert status(long) == 400
    assert ask(asker, gated.replace("ann/", "ann/no-")).status_code == 404
    assert ask(asker, new_repository()).status_code == 400
    assert httpx.post(f"{api.endpoint}/{gated}/ask-access").status_code == 401
    for body in ({"gated": "maybe"}, {"gated": 1}, {"gated": ["auto"]}):
        answer = httpx.put(
            f"{api.endpoint}/api/models/{gated}/settings", json=body, headers={"Authorization": f"Bearer {api.token}"}
        )
        assert answer.status_code == 400


def test_answers_that_are_too_long_are_refused(hub: HubProcess, api, gated, asker):
    assert ask(asker, gated, why="x" * 20_000).status_code == 400
    assert list(api.list_pending_access_requests(gated)) == []


@pytest.mark.parametrize("answers", [rb'{"why": "\ud800"}', b'{"why": NaN}'])
def test_answers_that_no_list_could_show_are_refused(api, gated, asker, answers: bytes):
    headers = {**asker._build_hf_headers(), "content-type": "application/json"}
    sent = httpx.post(f"{asker.endpoint}/{gated}/ask-access", headers=headers, content=answers)
    assert (sent.status_code, "not valid JSON" in sent.json()["error"]) == (400, True)
    assert list(api.list_pending_access_requests(gated)) == []


def test_in_the_browser_one_asks_on_the_card(hub: HubProcess, api, gated):
    name = f"reader{secrets.token_hex(4)}"
    hub.add_user(name)
    hub.command("user", "password", name, typed=f"{PASSWORD}\n")
    browser = Browser(hub)
    card = browser.get(f"/{gated}")
    assert "Sign in to ask for access" in card.text
    browser.sign_in(name, PASSWORD)
    card = browser.get(f"/{gated}")
    assert "Say &lt;b&gt;why&lt;/b&gt;" in card.text
    asked = browser.submit(
        card, f"/{gated}/request-access", **{"answer Affiliation": "A lab", "answer I agree": "yes", "answer x": "y"}
    )
    assert "an owner has not answered yet" in asked.text
    [request] = api.list_pending_access_requests(gated)
    assert request.fields == {"Affiliation": "A lab", "I agree": "yes"}
    api.accept_access_request(gated, name)
    assert browser.get(f"/{gated}/blob/main/w.bin").status_code == 200
    assert "Ask for access" not in browser.get(f"/{gated}").text


def test_every_decision_is_in_the_event_log(hub: HubProcess, api, asker, gated):
    ask(asker, gated)
    api.accept_access_request(gated, name_of(asker))
    asked = select(Event).where(Event.kind == "access.request").order_by(Event.id.desc()).limit(2)
    with hub.rooms() as rooms, rooms.database.read() as session:
        events = [(event.actor, event.data["status"]) for event in session.scalars(asked)]
    assert events == [("ann", "accepted"), (name_of(asker), "pending")]
