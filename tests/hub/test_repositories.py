"""Repositories through the API, with the real client: make, see, list, rename, delete."""

import json
import struct
from pathlib import Path

import httpx
import pytest
from hub_process import HubProcess
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from sqlalchemy import select

from lmcommons.hub.database.tables import Event
from lmcommons.hub.repos import cards

CARD = """---
license: apache-2.0
language: [en, zh]
library_name: transformers
pipeline_tag: text-generation
tags: [commons]
datasets: [data/one]
base_model: base/model
---
# Zephyrine

A small *model* of [Python's](https://python.org) documentation.
"""


@pytest.fixture(scope="module")
def token(hub: HubProcess) -> str:
    return hub.add_user("maker")


@pytest.fixture(scope="module")
def api(hub: HubProcess, token: str) -> HfApi:
    return HfApi(hub.endpoint, token=token)


def safetensors(**shapes: list[int]) -> bytes:
    tensors, offset = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        tensors[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + bytes(offset)


@pytest.fixture(scope="module")
def model(api: HfApi) -> str:
    """A model with a card, weights and results."""
    api.create_repo("maker/zephyrine")
    results = "- dataset: {id: data/one, task_id: bpb}\n  value: 1.9\n  date: 2026-01-31\n"
    for path, content in {
        "README.md": CARD.encode(),
        "config.json": json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "x": 1}).encode(),
        "model.safetensors": safetensors(embed=[10, 4], norm=[4]),
        ".eval_results/bpb.yaml": results.encode(),
        ".eval_results/broken.yaml": b"- {value: ]",
    }.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id="maker/zephyrine")
    return "maker/zephyrine"


def test_a_new_repository_has_an_address_and_a_first_commit(hub: HubProcess, api: HfApi):
    url = api.create_repo("maker/first", repo_type="dataset")
    assert str(url) == f"{hub.endpoint}/datasets/maker/first"
    assert (url.repo_id, url.repo_type) == ("maker/first", "dataset")
    assert [commit.title for commit in api.list_repo_commits("maker/first", repo_type="dataset")] == ["initial commit"]
    assert api.list_repo_files("maker/first", repo_type="dataset") == [".gitattributes"]


def test_making_it_again_is_a_conflict_unless_that_is_fine(hub: HubProcess, api: HfApi):
    api.create_repo("maker/again")
    with pytest.raises(HfHubHTTPError) as conflict:
        api.create_repo("Maker/AGAIN")
    assert conflict.value.response.status_code == 409
    assert conflict.value.response.json()["url"] == f"{hub.endpoint}/maker/again"
    assert api.create_repo("maker/again", exist_ok=True).repo_id == "maker/again"
    api.create_repo("maker/again", repo_type="dataset")


@pytest.mark.parametrize("name", ["a..b", "a--b", "x" * 97, "é", "-a", "a/b/c", "a.git", ".", "", " ", "名前", "a\nb"])
def test_names_that_are_not_allowed_are_one_line_400s(hub: HubProcess, token: str, name: str):
    answer = httpx.post(
        f"{hub.endpoint}/api/repos/create", json={"name": name}, headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code in ((400, 404) if "/" in name else (400,))
    assert "\n" not in answer.json()["error"]


def test_only_members_create_in_a_namespace(hub: HubProcess, api: HfApi):
    hub.add_user("neighbour")
    hub.add_organisation("readers", "--member", "maker:read")
    for name, status in (("neighbour/m", 403), ("readers/m", 403), ("nobody-here/m", 404)):
        with pytest.raises(HfHubHTTPError) as refused:
            api.create_repo(name)
        assert refused.value.response.status_code == status
    with pytest.raises(HfHubHTTPError) as anonymous:
        HfApi(hub.endpoint, token=False).create_repo("maker/m")
    assert anonymous.value.response.status_code == 401


def test_a_space_keeps_its_files_and_runs_nothing(api: HfApi):
    url = api.create_repo("maker/space", repo_type="space", space_sdk="static")
    assert str(url).endswith("/spaces/maker/space")
    api.upload_file(path_or_fileobj=b"<p>hello", path_in_repo="index.html", repo_id="maker/space", repo_type="space")
    info = api.space_info("maker/space")
    assert (info.id, info.sdk, info.card_data.sdk) == ("maker/space", "static", "static")
    assert [found.id for found in api.list_spaces(author="maker")] == ["maker/space"]
    content = Path(api.hf_hub_download("maker/space", "index.html", repo_type="space")).read_bytes()
    assert content == b"<p>hello"
    with pytest.raises(BadRequestError, match="runs none"):
        api.get_space_runtime("maker/space")


def test_a_space_is_made_for_something(api: HfApi, token: str, hub: HubProcess):
    body = {"name": "strange", "type": "space", "sdk": "cobol"}
    answer = httpx.post(f"{hub.endpoint}/api/repos/create", json=body, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, "one of gradio" in answer.json()["error"]) == (400, True)


def test_a_duplicate_has_the_history_and_the_files_and_goes_its_own_way(api: HfApi, tmp_path: Path):
    source = api.create_repo("maker/source").repo_id
    operations = [CommitOperationAdd("w.bin", b"weights" * 1000), CommitOperationAdd("a.txt", b"a")]
    api.create_commit(source, operations, commit_message="files")
    api.create_branch(source, branch="dev")
    api.create_tag(source, tag="v1")
    url = api.duplicate_repo(source, "maker/copy")
    assert str(url).endswith("/maker/copy")
    assert not url.files_copy_pending
    refs = api.list_repo_refs("maker/copy")
    assert refs.branches == api.list_repo_refs(source).branches
    assert [tag.name for tag in refs.tags] == ["v1"]
    api.delete_repo(source)
    assert Path(api.hf_hub_download("maker/copy", "w.bin", cache_dir=tmp_path)).read_bytes() == b"weights" * 1000
    api.upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id="maker/copy")
    assert len(api.list_repo_commits("maker/copy")) == 3
    with pytest.raises(HfHubHTTPError) as error:
        api.duplicate_repo("maker/copy", "maker/copy")
    assert error.value.response.status_code == 409
    assert str(api.duplicate_repo("maker/copy", "maker/copy", exist_ok=True)).endswith("/maker/copy")


def test_a_private_repository_is_duplicated_by_its_readers_only(hub: HubProcess, api: HfApi):
    secret = api.create_repo("maker/secret-source", private=True).repo_id
    other = HfApi(endpoint=hub.endpoint, token=hub.add_user("copycat"))
    with pytest.raises(RepositoryNotFoundError):
        other.duplicate_repo(secret)
    api.duplicate_repo(secret, "maker/secret-copy")
    assert api.model_info("maker/secret-copy").private


def test_the_default_branch_is_what_clones_lists_and_pages_show(hub: HubProcess, api: HfApi, token: str):
    repo_id = api.create_repo("maker/branched").repo_id
    api.create_branch(repo_id, branch="next")
    card = b"---\nlicense: mit\n---\n"
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo_id, revision="next")
    assert api.model_info(repo_id).card_data is None

    def choose(branch: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        address = f"{hub.endpoint}/api/models/{repo_id}/settings"
        return httpx.put(address, json={"defaultBranch": branch}, headers=headers)

    assert choose("absent").status_code == 404
    assert choose("next").status_code == 200
    assert api.model_info(repo_id).card_data.license == "mit"
    with pytest.raises(HfHubHTTPError):
        api.delete_branch(repo_id, branch="next")
    choose("main")
    api.delete_branch(repo_id, branch="next")
    assert api.model_info(repo_id).card_data is None


def test_info_tells_what_the_files_say(api: HfApi, model: str):
    info = api.model_info(model, files_metadata=True)
    assert (info.id, info.author, info.private, info.gated, info.disabled) == (model, "maker", False, False, False)
    assert (info.pipeline_tag, info.library_name) == ("text-generation", "transformers")
    assert info.config == {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    assert info.safetensors.total == 44
    assert info.safetensors.parameters == {"F32": 44}
    assert info.card_data.license == "apache-2.0"
    assert {"transformers", "safetensors", "llama", "commons", "zh", "license:apache-2.0", "dataset:data/one"} <= set(
        info.tags
    )
    files = {file.rfilename: file for file in info.siblings}
    weights = files["model.safetensors"]
    assert weights.size == weights.lfs.size == len(safetensors(embed=[10, 4], norm=[4]))
    assert files["README.md"].lfs is None
    assert files["README.md"].size == len(CARD)
    assert info.used_storage == sum(file.size for file in info.siblings)
    assert info.created_at <= info.last_modified


def test_info_of_an_older_revision_is_of_that_commit(api: HfApi, model: str):
    first = api.list_repo_commits(model)[-1].commit_id
    info = api.model_info(model, revision=first)
    assert info.sha == first
    assert [file.rfilename for file in info.siblings] == [".gitattributes"]
    assert info.card_data is None
    with pytest.raises(RevisionNotFoundError):
        api.model_info(model, revision="nowhere")


def test_expand_gives_what_it_names_and_refuses_what_it_does_not_know(hub: HubProcess, api: HfApi, model: str):
    answer = httpx.get(f"{hub.endpoint}/api/models/{model}", params={"expand": ["sha", "likes"]}).json()
    assert answer.keys() == {"_id", "id", "modelId", "sha", "likes"}
    with pytest.raises(BadRequestError, match="nonsense"):
        api.model_info(model, expand=["nonsense"])
    api.create_repo("maker/expanded", repo_type="dataset")
    with pytest.raises(BadRequestError, match="safetensors"):
        api.dataset_info("maker/expanded", expand=["safetensors"])


def test_evaluation_results_are_read_and_broken_files_are_named(hub: HubProcess, api: HfApi, model: str):
    results = api.model_info(model, expand=["evalResults"]).eval_results
    assert [(entry.dataset_id, entry.task_id, entry.value, entry.date) for entry in results] == [
        ("data/one", "bpb", 1.9, "2026-01-31")
    ]
    raw = httpx.get(f"{hub.endpoint}/api/models/{model}?expand=evalResults").json()["evalResults"]
    assert [entry["filename"] for entry in raw if "error" in entry] == [".eval_results/broken.yaml"]


def test_lists_search_filter_and_sort(hub: HubProcess, api: HfApi, model: str):
    for name in ("listed-b", "listed-a"):
        api.create_repo(f"maker/{name}", exist_ok=True)
    assert [found.id for found in api.list_models(search="zephyrine documentation")] == [model]
    assert [found.id for found in api.list_models(search="100%", author="maker")] == []
    assert model in [found.id for found in api.list_models(filter=["license:apache-2.0", "zh"])]
    assert [found.id for found in api.list_models(filter="license:none")] == []
    assert [found.id for found in api.list_models(pipeline_tag="text-generation", author="MAKER")] == [model]
    newest = [found.id for found in api.list_models(author="maker", search="listed", sort="created_at")]
    assert newest == ["maker/listed-a", "maker/listed-b"]
    with_card = next(iter(api.list_models(search="zephyrine", cardData=True, full=True)))
    assert with_card.card_data.license == "apache-2.0"
    assert "config.json" in [file.rfilename for file in with_card.siblings]
    with pytest.raises(BadRequestError, match="Unknown sort"):
        list(api.list_models(sort="colour"))


def test_long_lists_are_paged_by_links(hub: HubProcess, api: HfApi):
    for number in range(5):
        api.create_repo(f"maker/page-{number}", repo_type="dataset")
    url, seen = f"{hub.endpoint}/api/datasets?search=page&limit=2&sort=createdAt", []
    while url:
        page = httpx.get(url).raise_for_status()
        assert len(page.json()) <= 2
        seen += [found["id"] for found in page.json()]
        url = page.links.get("next", {}).get("url")
    assert seen == [f"maker/page-{number}" for number in (4, 3, 2, 1, 0)]
    assert len(list(api.list_datasets(search="page", limit=3))) == 3


def test_a_moved_repository_is_found_under_both_names(hub: HubProcess, api: HfApi, token: str):
    hub.add_organisation("movers", "--member", "maker:write")
    api.create_repo("maker/before")
    api.upload_file(path_or_fileobj=b"text", path_in_repo="a.txt", repo_id="maker/before")
    api.move_repo("maker/before", "movers/after")
    assert api.model_info("movers/after").id == "movers/after"
    assert api.model_info("maker/before").id == "movers/after"
    answer = httpx.get(f"{hub.endpoint}/api/models/maker/before/revision/main?blobs=true")
    assert answer.status_code == 307
    assert answer.headers["location"] == "/api/models/movers/after/revision/main?blobs=true"
    assert [found.id for found in api.list_models(search="movers")] == ["movers/after"]
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("maker/before")
    # The former name is free again, and means the new repository then.
    api.create_repo("maker/before")
    assert api.model_info("maker/before").id == "maker/before"


def test_moves_that_cannot_be_are_refused(hub: HubProcess, api: HfApi):
    hub.add_user("settled")
    api.create_repo("maker/here")
    api.create_repo("maker/there")
    for target, status in (("maker/there", 409), ("maker/a..b", 400), ("settled/x", 403), ("nobody-here/x", 404)):
        answer = httpx.post(
            f"{hub.endpoint}/api/repos/move",
            json={"fromRepo": "maker/here", "toRepo": target, "type": "model"},
            headers={"Authorization": f"Bearer {api.token}"},
        )
        assert answer.status_code == status, answer.text
    assert api.model_info("maker/here").id == "maker/here"


def test_a_former_name_does_not_reveal_a_private_repository(hub: HubProcess, api: HfApi):
    api.create_repo("maker/old-secret", private=True)
    api.move_repo("maker/old-secret", "maker/new-secret")
    answer = httpx.get(f"{hub.endpoint}/api/models/maker/old-secret")
    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RepoNotFound")
    assert "location" not in answer.headers


def test_settings_change_what_they_name(hub: HubProcess, api: HfApi):
    api.create_repo("maker/settings")
    anonymous = HfApi(hub.endpoint, token=False)
    api.update_repo_settings("maker/settings", private=True)
    assert anonymous.repo_exists("maker/settings") is False
    api.update_repo_settings("maker/settings", gated=False)
    assert api.model_info("maker/settings").private is True
    api.update_repo_settings("maker/settings", visibility="public", gated=False)
    assert anonymous.model_info("maker/settings").gated is False


def test_a_deleted_repository_is_gone_and_its_name_is_free(api: HfApi):
    api.create_repo("maker/doomed")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="maker/doomed")
    api.delete_repo("maker/doomed")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("maker/doomed")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("maker/doomed")
    api.create_repo("maker/doomed")
    assert api.list_repo_files("maker/doomed") == [".gitattributes"]


def test_what_happened_is_in_the_event_log(hub: HubProcess, api: HfApi):
    api.create_repo("maker/logged")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="maker/logged")
    api.delete_repo("maker/logged")
    with hub.rooms() as rooms, rooms.database.read() as session:
        events = session.scalars(select(Event).order_by(Event.id)).all()
    kinds = [(event.kind, event.actor) for event in events if event.data.get("name") == "maker/logged"]
    assert kinds == [(what, "maker") for what in ("repository.created", "branch.moved", "repository.deleted")]


def test_tags_by_type_lists_public_tags(api: HfApi, model: str):
    tags = api.get_model_tags()
    assert {"id": "license:apache-2.0", "label": "apache-2.0", "type": "license"} in tags["license"]


def test_cards_are_checked_before_they_are_committed(api: HfApi):
    api.create_repo("maker/carded")
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(path_or_fileobj=b"---\ntags: {a: b}\n---\n", path_in_repo="README.md", repo_id="maker/carded")
    with pytest.warns(UserWarning, match="missing YAML metadata"):
        api.upload_file(path_or_fileobj=b"# Hello", path_in_repo="README.md", repo_id="maker/carded")
    assert ModelCard(CARD).data.license == cards.split(CARD)[0]["license"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/models/maker/absent", 404, "RepoNotFound"),
        ("/api/models/bert", 404, "RepoNotFound"),
        ("/api/models/bert/revision/main", 404, "RepoNotFound"),
        ("/api/models/bert/commits/main", 404, "RepoNotFound"),
        ("/api/nothing/here", 404, None),
        ("/api/models/maker/absent/tree-of-life/main", 404, None),
        ("/api/spaces/maker/x", 404, "RepoNotFound"),
        ("/api/models?limit=many", 400, None),
        ("/api/models?limit=0", 400, None),
        ("/api/users/absent-user/overview", 404, None),
        ("/api/organizations/maker/overview", 404, None),
    ],
)
def test_errors_have_a_status_a_code_one_line_and_an_id(hub: HubProcess, token: str, path, status, code):
    answer = httpx.get(hub.endpoint + path)
    assert answer.status_code == status
    assert answer.headers.get("x-error-code") == code
    assert answer.json()["error"] == answer.headers["x-error-message"]
    assert "\n" not in answer.json()["error"]
    assert len(answer.headers["x-request-id"]) == 16


@pytest.mark.parametrize(("sent", "kept"), [("my-id-1", True), ("x" * 65, False), ("a b", False)])
def test_a_client_keeps_its_own_request_id_when_it_is_a_plain_one(hub: HubProcess, sent: str, kept: bool):
    answer = httpx.get(f"{hub.endpoint}/api/models", headers={"X-Request-Id": sent})
    assert (answer.headers["x-request-id"] == sent) is kept


@pytest.mark.parametrize("path", ["/api/whoami-v2", "/api/models", "/api/models/maker/absent", "/settings/tokens", "/"])
def test_no_cache_that_others_use_keeps_what_a_member_sees(hub: HubProcess, token: str, path: str):
    answer = httpx.get(hub.endpoint + path, headers={"Authorization": f"Bearer {token}"})
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "must be a JSON object"),
        (b"{}", "'name' must be a string"),
        (b'{"name": 1}', "'name' must be a string"),
        (b'{"name": "x", "type": "poem"}', "poem"),
        (b'{"name": "x", "visibility": "secret"}', "visibility"),
        (b'{"name": "x", "organization": "\\ud800"}', "not valid Unicode"),
        (b"[" * 100_000, "not JSON"),
        (b'{"name": "' + b"x" * (5 << 20) + b'"}', "larger than"),
    ],
)
def test_bodies_that_make_no_sense_are_refused(hub: HubProcess, token: str, body: bytes, reason: str):
    answer = httpx.post(f"{hub.endpoint}/api/repos/create", content=body, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code in (400, 404, 413)
    assert reason in answer.json()["error"]


def test_telemetry_is_answered_and_not_kept(hub: HubProcess):
    assert httpx.head(f"{hub.endpoint}/api/telemetry/transformers/x").status_code == 204


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        ("---\na: 1\n---\nbody", {"a": 1}),
        ("\ufeff---\r\na: 1\r\n---\r\nbody", {"a": 1}),
        ("---\n---\nbody", {}),
        ("---\nwhen: 2026-01-31\nsize: .nan\n1: x\n---\n", {"when": "2026-01-31", "size": "nan", "1": "x"}),
        ("no metadata", {}),
        ("---\na: [\n---\nbody", {}),
        ("---\n- a\n---\nbody", {}),
        ("---\na: !!python/object:os.system {}\n---\n", {}),
        ("--- \n a: 1\n", {}),
    ],
)
def test_card_metadata_is_json_or_nothing(text: str, metadata: dict):
    found, body = cards.split(text)
    assert found == metadata
    json.dumps(found, allow_nan=False)
    if text.endswith("body"):
        assert body == "body"


def test_yaml_that_explodes_is_refused():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ValueError, match="more than 20,000 values"):
        cards.parse_metadata("\n".join(levels))
    with pytest.raises(ValueError, match="metadata"):
        cards.parse_metadata("[" * 5_000)
