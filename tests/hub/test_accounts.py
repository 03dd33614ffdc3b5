"""Users, organisations and their tokens, as the client sees them."""

import hashlib

import httpx
import pytest
from hub_process import HubProcess
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.accounts.accounts import check_name
from lmcommons.hub.errors import BadRequest

NAMES = st.text(st.sampled_from("aZ09-_./é "), min_size=1, max_size=12) | st.sampled_from(["a" * 96, "a" * 97, "x.git"])


@given(NAMES)
def test_names_are_allowed_only_where_the_client_allows_them(name):
    try:
        validate_repo_id(name)
    except HFValidationError:
        with pytest.raises(BadRequest, match=r"\A[^\n]+\Z"):
            check_name(name, "Repository")
    else:
        if "/" not in name and name[-1].isalnum() and name[0].isalnum():
            assert check_name(name, "Repository") == name


def test_whoami_names_the_user_the_organisations_and_the_token(hub: HubProcess):
    token = hub.add_user("whoami-user", "--fullname", "Ada L", "--email", "ada@example.org")
    hub.add_organisation("whoami-org", "--fullname", "The Org", "--member", "whoami-user:contributor")
    answer = HfApi(hub.endpoint, token=token).whoami()
    assert (answer["name"], answer["fullname"], answer["email"], answer["type"]) == (
        "whoami-user",
        "Ada L",
        "ada@example.org",
        "user",
    )
    assert [(org["name"], org["fullname"], org["roleInOrg"]) for org in answer["orgs"]] == [
        ("whoami-org", "The Org", "contributor")
    ]
    assert answer["auth"]["accessToken"]["role"] == "write"
    read_token = hub.add_token("whoami-user", "read")
    assert HfApi(hub.endpoint, token=read_token).whoami()["auth"]["accessToken"]["role"] == "read"


def test_a_wrong_token_is_a_plain_401_and_git_style_credentials_are_read(hub: HubProcess):
    token = hub.add_user("basic-user")
    url = f"{hub.endpoint}/api/whoami-v2"
    wrong = httpx.get(url, headers={"Authorization": "Bearer hf_wrong"})
    assert wrong.status_code == 401
    assert wrong.headers["x-error-message"] == "Invalid credentials in Authorization header"
    assert httpx.get(url, auth=("basic-user", token)).json()["name"] == "basic-user"
    assert httpx.get(url, headers={"Authorization": "Basic ///"}).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Digest x"}).status_code == 401


def test_the_database_holds_no_token_but_its_hash(hub: HubProcess):
    token = hub.add_user("hashed-user")
    stored = hub.stored()
    assert hashlib.sha256(token.encode()).hexdigest() in stored
    assert token not in stored


def test_a_read_token_cannot_write_and_is_told_so(hub: HubProcess):
    writer = HfApi(hub.endpoint, token=hub.add_user("reader-user"))
    writer.create_repo("reader-user/m")
    reader = HfApi(hub.endpoint, token=hub.add_token("reader-user", "read"))
    assert reader.model_info("reader-user/m").id == "reader-user/m"
    for attempt in (
        lambda: reader.create_repo("reader-user/n"),
        lambda: reader.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="reader-user/m"),
        lambda: reader.delete_repo("reader-user/m"),
        lambda: reader.update_repo_settings("reader-user/m", private=True),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            attempt()
        assert refused.value.response.status_code == 403
        assert "can only read" in refused.value.response.headers["x-error-message"]


def test_private_repositories_are_seen_by_members_only(hub: HubProcess):
    insider, outsider = hub.add_user("insider"), hub.add_user("outsider")
    hub.add_organisation("closed-org", "--member", "insider:write", "--private-by-default")
    inside, outside = HfApi(hub.endpoint, token=insider), HfApi(hub.endpoint, token=outsider)
    inside.create_repo("closed-org/secret")
    assert inside.model_info("closed-org/secret").private is True
    for api in (outside, HfApi(hub.endpoint, token=False)):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("closed-org/secret")
        with pytest.raises(RepositoryNotFoundError):
            api.auth_check("closed-org/secret")
        with pytest.raises(RepositoryNotFoundError):
            api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="closed-org/secret")
        assert list(api.list_models(author="closed-org")) == []
    assert [model.id for model in inside.list_models(author="closed-org")] == ["closed-org/secret"]
    inside.auth_check("closed-org/secret", write=True)


def test_accounts_have_an_overview(hub: HubProcess):
    api = HfApi(hub.endpoint, token=hub.add_user("overview-user", "--fullname", "O U"))
    hub.add_organisation("overview-org", "--member", "overview-user:admin")
    api.create_repo("overview-user/a")
    api.create_repo("overview-user/b", repo_type="dataset", private=True)
    mine = api.get_user_overview("overview-user")
    assert (mine.fullname, mine.num_models, mine.num_datasets) == ("O U", 1, 1)
    assert HfApi(hub.endpoint, token=False).get_user_overview("overview-user").num_datasets == 0
    assert api.get_organization_overview("overview-org").num_users == 1
    assert [user.username for user in api.list_organization_members("overview-org")] == ["overview-user"]
    with pytest.raises(HfHubHTTPError) as absent:
        api.get_user_overview("overview-org")
    assert absent.value.response.status_code == 404
