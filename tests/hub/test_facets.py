"""What a list can be narrowed to: values and numbers under the present filters, of what the actor may see."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import stack
from open_rooms import open_rooms
from sqlalchemy import func, select, text, update
from weights import safetensors

from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.database.tables import Repository, RepositoryType
from lmcommons.hub.errors import BadRequest
from lmcommons.hub.repos import facets, keeping
from lmcommons.hub.repos.facets import FILTERS, SIZES, Facets
from lmcommons.hub.repos.git import AddFile
from lmcommons.hub.repos.search import Listing, matching
from lmcommons.hub.rooms import Hub

MODELS = {
    "tales": ("license: mit\nlanguage: [en, zh]\ntags: [fiction]", "LlamaForCausalLM", 1_000),
    "故事": ("license: apache-2.0\nlanguage: zh\ntags: [fiction, small]", "GPT2LMHeadModel", 10_000_000),
    "moods": ("license: mit\nlanguage: en", "BertForSequenceClassification", 9_999_999),
    "secret": ("license: mit\nlanguage: fr", "BertForMaskedLM", 1_000),
}
DATASETS = {
    "news": ("language: en\nsize_categories: 1K<n<10K\ntask_categories: [translation]", "train.parquet"),
    "poems": ("language: zh\nlicense: cc0-1.0", "train.jsonl"),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    rooms = open_rooms(tmp_path_factory.mktemp("facets") / "hub")
    ada = rooms.tokens.actor(rooms.accounts.add_user("ada"))
    for name, (card, architecture, parameters) in MODELS.items():
        config = json.dumps({"model_type": "x", "architectures": [architecture]})
        header = safetensors(a=[parameters])[: -4 * parameters]  # only the header is read
        add(rooms, ada, RepositoryType.MODEL, name, card, {"config.json": config.encode(), "model.safetensors": header})
    for name, (card, path) in DATASETS.items():
        add(rooms, ada, RepositoryType.DATASET, name, card, {path: b"{}"})
    yield rooms
    rooms.close()


def add(hub: Hub, actor: Actor, kind: RepositoryType, name: str, card: str, files: dict[str, bytes]) -> None:
    slug = "gushi" if not name.isascii() else name
    made = hub.commits.create_repository(actor, kind, "ada", slug, private=name == "secret")
    files |= {"README.md": f"---\n{card}\n---\n# {name}\n".encode()}
    operations = [AddFile(path, content) for path, content in files.items()]
    hub.commits.commit(actor, made, "main", operations, message="files")


def choices(hub: Hub, kind: RepositoryType = RepositoryType.MODEL, **query: Any) -> dict[str, dict[str, int]]:
    found = hub.facets.of(ANONYMOUS, kind, Listing(**query))
    return {name: {choice.label: choice.count for choice in values} for name, values in found.filters.items()}


def test_each_filter_of_models_has_its_values_the_most_frequent_first(hub: Hub):
    found = choices(hub)
    assert found == {
        "task": {"text-generation": 2, "text-classification": 1},
        "library": {"safetensors": 3, "transformers": 3},
        "language": {"en": 2, "zh": 2},
        "license": {"mit": 2, "apache-2.0": 1},
        "size": {"<10M": 2, "10M-100M": 1},
        "tag": {"x": 3, "fiction": 2, "small": 1},
    }
    assert list(found["task"]) == ["text-generation", "text-classification"]


def test_datasets_have_filters_of_their_own(hub: Hub):
    assert choices(hub, RepositoryType.DATASET) == {
        "task": {"translation": 1},
        "size": {"1K<n<10K": 1},
        "format": {"json": 1, "parquet": 1},
        "language": {"en": 1, "zh": 1},
        "license": {"cc0-1.0": 1},
    }


def test_numbers_are_of_what_would_be_left_beside_the_other_filters_and_the_search(hub: Hub):
    assert choices(hub, tags=("zh",))["license"] == {"apache-2.0": 1, "mit": 1}
    assert choices(hub, tags=("zh", "small"))["license"] == {"apache-2.0": 1}
    assert choices(hub, parameters=SIZES["10M-100M"])["tag"] == {"fiction": 1, "small": 1, "x": 1}
    assert choices(hub, search="故事")["language"] == {"zh": 1}
    assert choices(hub, search="nothing like it") == {}


def test_each_value_filters_to_as_many_repositories_as_it_says(hub: Hub):
    base = Listing(tags=("fiction",))
    for name, values in hub.facets.of(ANONYMOUS, RepositoryType.MODEL, base).filters.items():
        for choice in values:
            narrowed = replace(base, tags=("fiction", choice.value))
            if name == "size":
                narrowed = replace(base, parameters=SIZES[choice.value])
            assert hub.search.count(ANONYMOUS, RepositoryType.MODEL, narrowed) == choice.count, choice


def test_among_many_repositories_the_same_is_found(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    few = [hub.facets.of(ANONYMOUS, kind, Listing()) for kind in FILTERS]
    monkeypatch.setattr(facets, "FEW", 0)
    assert [hub.facets.of(ANONYMOUS, kind, Listing()) for kind in FILTERS] == few
    assert [found.total for found in few] == [3, 2]


def test_counts_of_long_lists_are_kept_for_a_minute(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    def totals(**asked: Any) -> tuple[int, int]:
        query = Listing(**asked)
        found = hub.facets.of(ANONYMOUS, RepositoryType.MODEL, query)
        return found.total, hub.search.count(ANONYMOUS, RepositoryType.MODEL, query)

    def hide(*, hidden: bool) -> None:
        with hub.database.write() as session:
            session.execute(update(Repository).values(hidden=hidden))

    monkeypatch.setattr(keeping, "LONG", 2)
    assert totals() == (3, 3)
    assert totals(tags=("zh",)) == (2, 2)
    monkeypatch.setattr(keeping, "SECONDS", 0)
    assert totals(tags=("x",)) == (3, 3)
    hide(hidden=True)
    assert totals() == totals(sort="likes", offset=1) == (3, 3)
    assert totals(tags=("zh",)) == (0, 0)
    assert totals(tags=("x",)) == (0, 0)
    hide(hidden=False)


def test_private_repositories_count_for_those_who_may_see_them(hub: Hub):
    ada = hub.accounts.find("ada")
    owner = Actor(account_id=ada.id, name="ada")
    assert "fr" not in choices(hub)["language"]
    seen = hub.facets.of(owner, RepositoryType.MODEL, Listing())
    assert ("fr", 1) in [(choice.label, choice.count) for choice in seen.filters["language"]]


def test_no_more_values_than_asked_for(hub: Hub):
    found = Facets(hub.database).of(ANONYMOUS, RepositoryType.MODEL, Listing(), limit=1)
    assert {name: len(values) for name, values in found.filters.items() if name != "size"} == dict.fromkeys(
        ("task", "library", "language", "license", "tag"), 1
    )


def test_too_many_tags_are_refused(hub: Hub):
    with pytest.raises(BadRequest, match="at most 100"):
        choices(hub, tags=("a",) * 101)


@pytest.mark.skipif(stack.is_cluster(), reason="PostgreSQL plans by what the tables hold")
def test_what_is_counted_is_read_from_an_index_alone(hub: Hub):
    with hub.database.read() as session:
        counted = matching(session, select(func.count(Repository.id)), ANONYMOUS, RepositoryType.MODEL, Listing())
        statement = counted.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        plan = [row[-1] for row in session.execute(text(f"EXPLAIN QUERY PLAN {statement}"))]
    assert plan == ["SEARCH repositories USING COVERING INDEX ix_repositories_counted (type=?)"]
