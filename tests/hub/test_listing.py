"""Lists and search through the real client and over plain HTTP, on a hub whose repositories are known."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import pytest
from hub_process import PATIENCE, HubProcess, start_hub
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import BadRequestError, RepositoryNotFoundError
from huggingface_hub.hf_api import (
    ExpandDatasetProperty_T,
    ExpandModelProperty_T,
    ExpandSpaceProperty_T,
)
from sqlalchemy import delete, update
from weights import safetensors

from lmcommons.hub.database.tables import Repository, RepositoryTerms

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8}
BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}

# Name, card, configuration, elements of its weights.
MODELS: list[tuple[str, str, dict[str, Any] | None, int]] = [
    ("ada/bert", "license: mit\nlanguage: en", BERT, 10),
    ("ada/bert-large", "license: apache-2.0\nlanguage: [en, zh]", BERT, 2_000),
    ("ada/DistilBert-v2", "language: fr\nbase_model: ada/bert\ntags: [distilled]", BERT, 30),
    ("ada/llama3-chat", "license: mit\ndatasets: [ada/news]\npipeline_tag: text-generation", LLAMA, 5_000),
    ("ben/translator", "pipeline_tag: translation\nlanguage: zh", None, 0),
    ("ben/card-only", "tags: [bert]\nlibrary_name: keras", None, 0),
    ("ben/secret-bert", "license: mit\ndatasets: [ada/news]\nbase_model: ada/bert", BERT, 10),
]
TEXTS = {
    "ben/translator": "# 翻译\n\n一个机器翻译模型，社区训练。\n\nSee https://arxiv.org/abs/1706.03762 for more.",
    "ben/card-only": "# Title\n\nTrained on the Café corpus, with PyTorch and GPT2 tokens. 100% open.",
}
DATASETS = [
    ("ada/news", "language: en\nsize_categories: 1K<n<10K\ntask_categories: [translation]\npretty_name: Zeitung",
     "train.parquet"),
    ("ada/news-zh", "language: zh\ntask_ids: language-modeling\nlicense: cc0-1.0", "train.jsonl"),
    ("ben/exam", "multilinguality: monolingual\nlanguage_creators: [found]\nlicense: mit", "eval.yaml"),
]  # fmt: skip
SPACES = [
    ("ada/demo", "sdk: static\nmodels: [ada/bert]\ndatasets: [ada/news]"),
    ("ada/plain", "sdk: gradio\ntitle: Plain"),
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with start_hub(tmp_path_factory.mktemp("listing")) as running:
        yield running


@pytest.fixture(scope="module")
def apis(hub: HubProcess) -> dict[str, HfApi]:
    """The client in the name of each user."""
    tokens = {name: hub.add_user(name) for name in ("ada", "ben", "eve")}
    return {name: HfApi(hub.endpoint, token=token) for name, token in tokens.items()}


@pytest.fixture(scope="module")
def filled(hub: HubProcess, apis: dict[str, HfApi]) -> None:
    """The repositories above, made in their order."""
    for name, card, config, elements in MODELS:
        files = {"README.md": f"---\n{card}\n---\n{TEXTS.get(name, '')}".encode()}
        if config:
            files |= {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(a=[elements])}
        write(apis, name, "model", files, private="secret" in name)
    for name, card, path in DATASETS:
        files = {"README.md": f"---\n{card}\n---\n".encode(), path: b"tasks: [{id: all}]"}
        write(apis, name, "dataset", files)
    for name, card in SPACES:
        write(apis, name, "space", {"README.md": f"---\n{card}\n---\n".encode()}, space_sdk="static")


@pytest.fixture(scope="module")
def api(hub: HubProcess, filled: None) -> HfApi:
    """The client of nobody."""
    return HfApi(hub.endpoint, token=False)


def write(apis: dict[str, HfApi], name: str, repo_type: str, files: dict[str, bytes], **settings: Any) -> None:
    api = apis[name.partition("/")[0]]
    api.create_repo(name, repo_type=repo_type, **settings)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(name, operations, commit_message="files", repo_type=repo_type)


def get(hub: HubProcess, path: str, **parameters: Any) -> httpx.Response:
    return httpx.get(hub.endpoint + path, params=parameters)


def names(found: Any) -> set[str]:
    return {repository.id for repository in found}


def ids(hub: HubProcess, kind: str = "models", **parameters: Any) -> list[str]:
    return [found["id"] for found in get(hub, f"/api/{kind}", **parameters).raise_for_status().json()]


PUBLIC = {name for name, *_ in MODELS if "secret" not in name}


# ------------------------------------------------------------ search


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("bert", ["ada/bert", "ada/bert-large", "ada/DistilBert-v2", "ben/card-only"]),
        ("BERT", ["ada/bert", "ada/bert-large", "ada/DistilBert-v2", "ben/card-only"]),
        ("ada/bert", ["ada/bert", "ada/bert-large", "ada/DistilBert-v2"]),
        ("ber", ["ada/bert", "ada/bert-large", "ada/DistilBert-v2", "ben/card-only"]),
        ("stilb", ["ada/DistilBert-v2"]),
        ("distil-bert", ["ada/DistilBert-v2"]),
        ("bert large", ["ada/bert-large"]),
        ("large bert", ["ada/bert-large"]),
        ("llama3", ["ada/llama3-chat"]),
        ("llama 3", ["ada/llama3-chat"]),
        ("v2", ["ada/DistilBert-v2"]),
        ("ben/trans", ["ben/translator"]),
        ("机器翻译", ["ben/translator"]),
        ("翻译", ["ben/translator"]),
        ("译", ["ben/translator"]),
        ("社区训练", ["ben/translator"]),
        ("翻机", []),
        ("cafe", ["ben/card-only"]),
        ("CAFÉ corp", ["ben/card-only"]),
        ("pytorch", ["ben/card-only"]),
        ("torch", ["ben/card-only"]),
        ("gpt2", ["ben/card-only"]),
        ("GPT", ["ben/card-only"]),
        ("apache-2.0", ["ada/bert-large"]),
        ("zephyr", []),
        ("!!!", []),
        ("*", []),
        ('" OR "bert', []),
        ("' & | ! : <-> \\", []),
        ("bert') --", ["ada/bert", "ada/bert-large", "ada/DistilBert-v2", "ben/card-only"]),
    ],
)
def test_search_finds(hub: HubProcess, filled: None, search: str, found: list[str]):
    answer = ids(hub, search=search)
    assert sorted(answer) == sorted(found)
    if search.lower() in (
        "bert",
        "ada/bert",
    ):  # the name itself, then its beginning, then within a name, then elsewhere
        assert answer == found
    assert "ben/card-only" not in answer[:-1]  # names come before texts


def test_search_through_the_client(api: HfApi):
    assert names(api.list_models(search="bert", author="ada")) == {"ada/bert", "ada/bert-large", "ada/DistilBert-v2"}
    assert names(api.list_datasets(search="Zeitung")) == {"ada/news"}
    assert names(api.list_datasets(dataset_name="news", search="zh")) == {"ada/news-zh"}
    assert names(api.list_spaces(search="pla")) == {"ada/plain"}


def test_a_sort_that_is_asked_for_orders_a_search(hub: HubProcess, filled: None):
    oldest = ids(hub, search="bert", sort="createdAt", direction="1")
    assert oldest == ["ada/bert", "ada/bert-large", "ada/DistilBert-v2", "ben/card-only"]
    assert ids(hub, search="bert", sort="createdAt") == oldest[::-1]


def test_search_that_is_long_or_strange_is_answered(hub: HubProcess, filled: None):
    assert ids(hub, search="bert " * 500)
    assert ids(hub, search="\ufeff\x01\u202e") == []
    assert ids(hub, search="x" * 5_000) == []


def test_private_repositories_are_found_by_those_who_may_see_them(hub: HubProcess, apis: dict[str, HfApi], api: HfApi):
    for reader, seen in ((api, False), (apis["eve"], False), (apis["ben"], True)):
        assert ("ben/secret-bert" in names(reader.list_models(search="secret"))) is seen
        assert ("ben/secret-bert" in names(reader.list_models())) is seen
        assert ("ben/secret-bert" in names(reader.list_models(filter="license:mit"))) is seen
        assert ("ben/secret-bert" in names(reader.list_models(author="ben"))) is seen
        info = reader.model_info("ada/bert", expand=["childrenModelCount"])
        assert info.children_model_count == (2 if seen else 1)


def test_private_repositories_do_not_count(hub: HubProcess, api: HfApi):
    tags = {tag["id"] for group in api.get_model_tags().values() for tag in group}
    assert "license:mit" in tags
    page = get(hub, "/api/models", search="secret", limit=1)
    assert page.json() == []
    assert "next" not in page.links


def test_a_moved_repository_is_found_under_its_new_name_only(hub: HubProcess, apis: dict[str, HfApi]):
    write(apis, "eve/before-move", "model", {"README.md": b"---\ntags: [x]\n---\nQuicksilver text"})
    apis["eve"].move_repo("eve/before-move", "eve/afterwards")
    assert ids(hub, search="before") == []
    assert ids(hub, search="afterw") == ids(hub, search="quicksilver") == ["eve/afterwards"]
    apis["eve"].delete_repo("eve/afterwards")
    assert ids(hub, search="quicksilver") == []


def test_a_changed_card_changes_what_is_found(hub: HubProcess, apis: dict[str, HfApi]):
    write(apis, "eve/changing", "model", {"README.md": b"---\ntags: [first]\n---\nAardvark"})
    assert ids(hub, search="aardvark") == ids(hub, filter="first") == ["eve/changing"]
    apis["eve"].upload_file(
        path_or_fileobj=b"---\ntags: [second]\n---\nBuzzard", path_in_repo="README.md", repo_id="eve/changing"
    )
    assert ids(hub, search="aardvark") == ids(hub, filter="first") == []
    assert ids(hub, search="buzzard") == ids(hub, filter="second") == ["eve/changing"]
    apis["eve"].delete_repo("eve/changing")


# ------------------------------------------------------------ filters


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"filter": "license:mit"}, {"ada/bert", "ada/llama3-chat"}),
        ({"filter": ["en", "license:apache-2.0"]}, {"ada/bert-large"}),
        ({"filter": "zh"}, {"ada/bert-large", "ben/translator"}),
        ({"filter": "fill-mask"}, {"ada/bert", "ada/bert-large", "ada/DistilBert-v2"}),
        ({"filter": "transformers"}, {"ada/bert", "ada/bert-large", "ada/DistilBert-v2", "ada/llama3-chat"}),
        ({"filter": "keras"}, {"ben/card-only"}),
        ({"filter": "safetensors"}, {"ada/bert", "ada/bert-large", "ada/DistilBert-v2", "ada/llama3-chat"}),
        ({"filter": "llama"}, {"ada/llama3-chat"}),
        ({"filter": "base_model:ada/bert"}, {"ada/DistilBert-v2"}),
        ({"filter": "base_model:finetune:ada/bert"}, {"ada/DistilBert-v2"}),
        ({"filter": "arxiv:1706.03762"}, {"ben/translator"}),
        ({"filter": "nothing"}, set()),
        ({"trained_dataset": "ada/news"}, {"ada/llama3-chat"}),
        ({"trained_dataset": ["dataset:ada/news"]}, {"ada/llama3-chat"}),
        ({"pipeline_tag": "text-generation"}, {"ada/llama3-chat"}),
        ({"pipeline_tag": "translation"}, {"ben/translator"}),
        ({"author": "ADA", "filter": "zh"}, {"ada/bert-large"}),
        ({"author": "nobody"}, set()),
        ({"num_parameters": "min:1K"}, {"ada/bert-large", "ada/llama3-chat"}),
        ({"num_parameters": "max:0.02k"}, {"ada/bert"}),
        ({"num_parameters": "min:11,max:2K"}, {"ada/DistilBert-v2", "ada/bert-large"}),
        ({"apps": "vllm"}, {"ada/bert", "ada/bert-large", "ada/DistilBert-v2", "ada/llama3-chat"}),
        ({"apps": ["ollama", "vllm"]}, set()),
        ({"gated": False, "author": "ben"}, {"ben/translator", "ben/card-only"}),
        ({"gated": True}, set()),
        ({"inference": "warm"}, set()),
        ({"inference_provider": "all"}, set()),
    ],
)
def test_models_are_filtered_by(api: HfApi, parameters: dict[str, Any], found: set[str]):
    assert names(api.list_models(**parameters)) == found


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"language": "en"}, {"ada/news"}),
        ({"language": ["zh"]}, {"ada/news-zh"}),
        ({"size_categories": "1K<n<10K"}, {"ada/news"}),
        ({"task_categories": "translation"}, {"ada/news"}),
        ({"task_ids": ["language-modeling"]}, {"ada/news-zh"}),
        ({"multilinguality": "monolingual"}, {"ben/exam"}),
        ({"language_creators": "found"}, {"ben/exam"}),
        ({"benchmark": True}, {"ben/exam"}),
        ({"benchmark": "official"}, {"ben/exam"}),
        ({"filter": "format:parquet"}, {"ada/news"}),
        ({"filter": "format:json"}, {"ada/news-zh"}),
        ({"filter": ["license:cc0-1.0", "language:zh"]}, {"ada/news-zh"}),
        ({"gated": False}, {"ada/news", "ada/news-zh", "ben/exam"}),
        ({"author": "ben"}, {"ben/exam"}),
    ],
)
def test_datasets_are_filtered_by(api: HfApi, parameters: dict[str, Any], found: set[str]):
    assert names(api.list_datasets(**parameters)) == found


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({}, {"ada/demo", "ada/plain"}),
        ({"filter": "static"}, {"ada/demo"}),
        ({"models": "ada/bert"}, {"ada/demo"}),
        ({"models": ["ada/bert", "ada/other"]}, {"ada/demo"}),
        ({"datasets": "ada/news"}, {"ada/demo"}),
        ({"datasets": "ada/absent"}, set()),
        ({"linked": True}, {"ada/demo"}),
    ],
)
def test_spaces_are_filtered_by(api: HfApi, parameters: dict[str, Any], found: set[str]):
    assert names(api.list_spaces(**parameters)) == found


def test_gated_repositories_are_told_apart(apis: dict[str, HfApi], api: HfApi):
    apis["ben"].update_repo_settings("ben/translator", gated="manual")
    assert names(api.list_models(gated=True)) == {"ben/translator"}
    assert next(iter(api.list_models(gated=True))).gated == "manual"
    assert names(api.list_models(gated=False, author="ben")) == {"ben/card-only"}
    apis["ben"].update_repo_settings("ben/translator", gated=False)
    assert names(api.list_models(gated=True)) == set()


# ------------------------------------------------------------ order and pages


def test_lists_are_sorted_both_ways(hub: HubProcess, filled: None):
    made = [name for name, *_ in MODELS if "secret" not in name]
    for sort in ("createdAt", "created_at", "lastModified", "last_modified"):
        assert ids(hub, sort=sort, direction="1") == made
        assert ids(hub, sort=sort) == ids(hub, sort=sort, direction="-1") == made[::-1]


def test_likes_and_downloads_sort(hub: HubProcess, apis: dict[str, HfApi], api: HfApi):
    for user, models in (("ada", ["ben/translator", "ada/bert"]), ("eve", ["ben/translator"])):
        for name in models:
            like = f"{hub.endpoint}/api/models/{name}/like"
            httpx.post(like, headers={"Authorization": f"Bearer {apis[user].token}"}).raise_for_status()
    for _ in range(3):
        get(hub, "/ada/llama3-chat/resolve/main/config.json").raise_for_status()
    liked = [(found.id, found.likes) for found in api.list_models(sort="likes", limit=2)]
    assert liked == [("ben/translator", 2), ("ada/bert", 1)]
    used = next(iter(api.list_models(sort="downloads", limit=1)))
    assert (used.id, used.downloads) == ("ada/llama3-chat", 3)
    info = api.model_info("ada/llama3-chat", expand=["downloads", "downloadsAllTime", "trendingScore"])
    assert (info.downloads, info.downloads_all_time, info.trending_score) == (3, 3, 3)
    trending = [(found.id, found.trending_score) for found in api.list_models(sort="trending_score", limit=3)]
    assert trending == [("ben/translator", 20), ("ada/bert", 10), ("ada/llama3-chat", 3)]
    assert [found.id for found in api.list_models(limit=2)] == ["ben/translator", "ada/bert"]
    assert ids(hub, sort="downloads", direction="-1", limit=1) == ["ada/llama3-chat"]


def test_pages_are_linked_until_all_were_seen(hub: HubProcess, filled: None):
    for parameters in (
        {"sort": "createdAt"},
        {"sort": "likes"},
        {},
        {"search": "bert"},
        {"search": "e", "direction": "1"},
    ):
        url, seen = f"{hub.endpoint}/api/models?{httpx.QueryParams({'limit': 2} | parameters)}", []
        while url:
            page = httpx.get(url).raise_for_status()
            assert 1 <= len(page.json()) <= 2
            seen += [found["id"] for found in page.json()]
            url = page.links.get("next", {}).get("url")
        assert seen == ids(hub, **parameters)
        assert len(set(seen)) == len(seen)


def test_a_page_follows_the_one_before_although_repositories_come_and_go(hub: HubProcess, apis: dict[str, HfApi]):
    order = ids(hub, sort="createdAt", author="ada")
    first = get(hub, "/api/models", sort="createdAt", author="ada", limit=2)
    apis["ada"].create_repo("ada/inserted")
    second = httpx.get(first.links["next"]["url"])
    apis["ada"].delete_repo("ada/inserted")
    assert [found["id"] for page in (first, second) for found in page.json()] == order[:4]


def test_the_client_stops_at_its_limit(api: HfApi):
    assert len(list(api.list_models(limit=3))) == 3
    assert len(list(api.list_datasets(limit=1))) == 1
    assert len(list(api.list_models(limit=5_000))) == len(PUBLIC)


@pytest.mark.parametrize("change", [lambda c: c[:-1] + "x", lambda c: "x" + c, lambda c: c.partition(".")[0],
                                    lambda c: "", lambda c: "5", lambda c: "é.é", lambda c: "." + c])  # fmt: skip
def test_a_cursor_that_was_changed_is_refused(hub: HubProcess, filled: None, change: Any):
    link = httpx.URL(get(hub, "/api/models", limit=1).links["next"]["url"])
    answer = get(hub, "/api/models", limit=1, cursor=change(link.params["cursor"]))
    assert (answer.status_code, answer.json()["error"]) == (400, "The cursor is not one that this hub gave")


def test_a_cursor_of_another_order_is_refused(hub: HubProcess, filled: None):
    link = httpx.URL(get(hub, "/api/models", limit=1, sort="likes").links["next"]["url"])
    answer = get(hub, "/api/models", sort="downloads", cursor=link.params["cursor"])
    assert (answer.status_code, "another order" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"sort": "colour"}, "Unknown sort: colour; one of lastModified"),
        ({"direction": "2"}, "direction"),
        ({"limit": "many"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"full": "perhaps"}, "full"),
        ({"gated": "perhaps"}, "gated"),
        ({"expand": "colour"}, '"expand" must be one of'),
        ({"num_parameters": "6B"}, "not a range like"),
        ({"num_parameters": "min:6X"}, "not a range like"),
        ({"num_parameters": "min:" + "9" * 100}, "not a range like"),
        ({"apps": "solitaire"}, "Unknown app: solitaire"),
        ({"search": "a\0b"}, "NUL"),
        ({"filter": ["a", "\0"]}, "NUL"),
        ({"filter": ",".join(f"t{number}" for number in range(1_500))}, "at most 100"),
    ],
)
def test_parameters_that_make_no_sense_are_refused_in_one_line(
    hub: HubProcess, filled: None, parameters: dict[str, str], reason: str
):
    answer = get(hub, "/api/models", **parameters)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_parameters_of_others_are_ignored(hub: HubProcess, filled: None):
    assert set(ids(hub, colour="blue", withCount="true")) == PUBLIC


# ------------------------------------------------------------ what is said of each


def test_older_clients_parameters(hub: HubProcess, filled: None):
    found = get(hub, "/api/models", filter="en,fill-mask", sort="downloads", direction="-1", full="True", config="True",
                cardData="True", author="ada").raise_for_status().json()  # fmt: skip
    assert {model["id"] for model in found} == {"ada/bert", "ada/bert-large"}
    bert = next(model for model in found if model["id"] == "ada/bert")
    assert bert["modelId"] == "ada/bert"
    assert bert["cardData"] == {"license": "mit", "language": "en"}
    assert {file["rfilename"] for file in bert["siblings"]} >= {"README.md", "config.json"}
    assert bert["config"] == {"architectures": ["BertForMaskedLM"], "model_type": "bert"}


def test_a_list_says_little_unless_it_is_asked(hub: HubProcess, filled: None):
    brief = get(hub, "/api/models", search="ada/bert", limit=1).json()[0]
    assert not brief.keys() & {"cardData", "siblings", "config"}
    assert {
        "id",
        "author",
        "tags",
        "likes",
        "downloads",
        "pipeline_tag",
        "library_name",
        "lastModified",
    } <= brief.keys()
    dataset = get(hub, "/api/datasets", limit=1).json()[0]
    assert not dataset.keys() & {"cardData", "siblings"}
    full = get(hub, "/api/datasets", limit=1, full=True).json()[0]
    assert {"cardData", "siblings"} <= full.keys()


@pytest.mark.parametrize("name", get_args(ExpandModelProperty_T))
def test_every_property_of_models_can_be_asked_for(hub: HubProcess, filled: None, name: str):
    for path, parameters in (("/api/models/ada/bert", {}), ("/api/models", {"author": "ada", "search": "ada/bert"})):
        answer = get(hub, path, expand=name, **parameters).raise_for_status().json()
        first = answer if isinstance(answer, dict) else answer[0]
        assert first["id"] == "ada/bert"
        assert first.keys() <= {"_id", "id", "modelId", name}


@pytest.mark.parametrize("name", get_args(ExpandDatasetProperty_T))
def test_every_property_of_datasets_can_be_asked_for(hub: HubProcess, filled: None, name: str):
    answer = get(hub, "/api/datasets/ada/news", expand=name).raise_for_status().json()
    assert answer.keys() <= {"_id", "id", name}
    assert get(hub, "/api/datasets", expand=name).status_code == 200


@pytest.mark.parametrize("name", get_args(ExpandSpaceProperty_T))
def test_every_property_of_spaces_can_be_asked_for(hub: HubProcess, filled: None, name: str):
    answer = get(hub, "/api/spaces/ada/demo", expand=name).raise_for_status().json()
    assert answer.keys() <= {"_id", "id", name}
    assert get(hub, "/api/spaces", expand=name).status_code == 200


def test_a_property_of_another_type_is_refused(hub: HubProcess, filled: None):
    assert get(hub, "/api/datasets", expand="pipeline_tag").status_code == 400
    assert get(hub, "/api/models/ada/bert", expand="sdk").status_code == 400
    with pytest.raises(BadRequestError):
        HfApi(hub.endpoint, token=False).dataset_info("ada/news", expand=["gguf"])


def test_expanded_properties_have_the_types_that_the_client_reads(api: HfApi):
    model = api.model_info("ada/llama3-chat", expand=list(get_args(ExpandModelProperty_T)))
    assert model.author == "ada"
    assert model.transformers_info is not None
    assert model.transformers_info.auto_model == "AutoModelForCausalLM"
    assert model.safetensors is not None
    assert (model.safetensors.total, model.safetensors.parameters) == (5_000, {"F32": 5_000})
    assert (model.library_name, model.pipeline_tag, model.private) == ("transformers", "text-generation", False)
    assert model.inference_provider_mapping == []
    space = api.space_info("ada/demo", expand=list(get_args(ExpandSpaceProperty_T)))
    assert (space.models, space.datasets, space.sdk) == (["ada/bert"], ["ada/news"], "static")
    assert api.model_info("ada/bert", expand=["spaces"]).spaces == ["ada/demo"]
    assert api.model_info("ada/DistilBert-v2", expand=["baseModels"]).base_models == {
        "relation": "finetune",
        "models": [{"id": "ada/bert"}],
    }


def test_an_old_revision_is_described_as_it_was(apis: dict[str, HfApi], api: HfApi):
    write(apis, "eve/history", "model", {"README.md": b"---\nlicense: mit\ntags: [old]\n---\n"})
    before = api.model_info("eve/history").sha
    apis["eve"].upload_file(
        path_or_fileobj=b"---\nlicense: gpl\ntags: [new]\n---\n", path_in_repo="README.md", repo_id="eve/history"
    )
    then, now = api.model_info("eve/history", revision=before), api.model_info("eve/history")
    assert (then.sha, then.tags, then.card_data.license) == (before, ["old", "license:mit"], "mit")
    assert (now.tags, now.card_data.license) == (["new", "license:gpl"], "gpl")
    apis["eve"].delete_repo("eve/history")


def test_a_repository_without_files_of_its_own_is_listed(apis: dict[str, HfApi], api: HfApi):
    apis["eve"].create_repo("eve/empty")
    found = next(iter(api.list_models(author="eve", full=True, cardData=True, fetch_config=True)))
    assert (found.id, found.tags, found.card_data) == ("eve/empty", [], None)
    apis["eve"].delete_repo("eve/empty")


def test_tags_are_grouped_by_what_they_tell(api: HfApi):
    groups = api.get_model_tags()
    of = {group: {tag["id"] for tag in tags} for group, tags in groups.items()}
    assert {"fill-mask", "text-generation", "translation"} <= of["pipeline_tag"]
    assert {"transformers", "safetensors", "keras"} <= of["library"]
    assert {"en", "zh", "fr"} <= of["language"]
    assert "license:mit" in of["license"]
    assert "dataset:ada/news" in of["dataset"]
    assert {"id": "license:mit", "label": "mit", "type": "license"} in groups["license"]
    of = {group: {tag["id"] for tag in tags} for group, tags in api.get_dataset_tags().items()}
    assert of["language"] == {"language:en", "language:zh"}
    assert of["benchmark"] == {"benchmark:official"}
    assert of["size_categories"] == {"size_categories:1K<n<10K"}


def test_the_command_line_lists_and_searches(hub: HubProcess, filled: None):
    command = [sys.executable, "-m", "huggingface_hub.cli.hf", "models", "ls", "--search", "bert", "--format", "json"]
    done = subprocess.run(command, env=os.environ | {"HF_ENDPOINT": hub.endpoint}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [found["id"] for found in json.loads(done.stdout)][:2] == ["ada/bert", "ada/bert-large"]


def test_absent_repositories_stay_absent(api: HfApi):
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("ben/secret-bert")
    assert re.fullmatch("[0-9a-f]{40}", api.model_info("ada/bert").sha)
    assert time.time() - api.model_info("ada/bert").created_at.timestamp() < 3600


def test_what_has_no_index_gets_one_when_the_hub_starts(tmp_path_factory: pytest.TempPathFactory):
    with start_hub(tmp_path_factory.mktemp("unindexed")) as hub:
        apis = {"ada": HfApi(hub.endpoint, token=hub.add_user("ada"))}
        write(apis, "ada/found-again", "model", {"README.md": b"---\nlicense: mit\n---\nZephyr"})
        before = apis["ada"].model_info("ada/found-again").last_modified
        hub.stop()
        with hub.rooms() as rooms, rooms.database.write() as session:
            session.execute(delete(RepositoryTerms))
            session.execute(update(Repository).values(head=None))
        hub.start()
        deadline = time.monotonic() + PATIENCE
        while not ids(hub, search="zephyr") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ids(hub, search="zephyr") == ["ada/found-again"]
        assert apis["ada"].model_info("ada/found-again").last_modified == before


def test_files_that_a_database_would_choke_on_are_indexed(hub: HubProcess, apis: dict[str, HfApi]):
    card = b'---\ntags: ["a\\0b", "fine"]\n"k\\0": "\\0"\n---\nText with \0 and \xff, okapi'
    config = {"model_type": "\0\ud800", "architectures": ["\udfffForCausalLM"]}
    result = b'- dataset: {id: "ada/\\0", task_id: "\\0"}\n  value: 1\n  notes: "\\0"'
    huge = {"a": {"dtype": "\0\ud800", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 0]}}
    header = json.dumps(huge).encode()
    files = {
        "config.json": json.dumps(config).encode(),
        ".eval_results/a.yaml": result,
        "model.safetensors": len(header).to_bytes(8, "little") + header,
    }
    write(apis, "eve/hostile", "model", files)
    commit = [{"key": "header", "value": {"summary": "card"}}]
    encoded = {"path": "README.md", "content": base64.b64encode(card).decode(), "encoding": "base64"}
    commit.append({"key": "file", "value": encoded})
    answer = httpx.post(
        f"{hub.endpoint}/api/models/eve/hostile/commit/main",
        content="\n".join(map(json.dumps, commit)),
        headers={"Authorization": f"Bearer {apis['eve'].token}", "Content-Type": "application/x-ndjson"},
    )
    assert answer.status_code == 200, answer.text
    assert ids(hub, search="okapi") == ids(hub, filter="fine") == ["eve/hostile"]
    info = get(hub, "/api/models/eve/hostile").raise_for_status().json()
    assert {"a\ufffdb", "text-generation"} <= set(info["tags"])
    assert info["safetensors"]["total"] == 1 << 124
    assert ids(hub, num_parameters="min:9T") == ["eve/hostile"]
    apis["eve"].delete_repo("eve/hostile")
