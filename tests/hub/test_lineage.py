"""What repositories were made from and what was made from them, in the rooms of a hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from open_rooms import open_rooms

from lmcommons.hub.accounts.permissions import ANONYMOUS, Actor
from lmcommons.hub.database.tables import Relation, Repository, RepositoryType
from lmcommons.hub.repos import lineage
from lmcommons.hub.repos.git import AddFile
from lmcommons.hub.repos.lineage import Walk
from lmcommons.hub.rooms import Hub

MODEL, DATASET = RepositoryType.MODEL, RepositoryType.DATASET
COMMIT = "69a3b4575dce197f627d02076b4621451fba3e43"


class Commons:
    """The rooms of a hub, and two people in it."""

    def __init__(self, rooms: Hub) -> None:
        self.rooms = rooms
        self.ann = rooms.tokens.actor(rooms.accounts.add_user("ann"))
        self.ben = rooms.tokens.actor(rooms.accounts.add_user("ben"))

    def make(self, name: str, type_: RepositoryType = MODEL, *, private: bool = False, **card: object) -> Repository:
        self.rooms.commits.create_repository(self.ann, type_, None, name, private=private)
        return self.write(name, type_, **{"README.md": f"---\n{yaml.safe_dump(card)}---\n"})

    def write(self, name: str, type_: RepositoryType = MODEL, **files: str) -> Repository:
        repository = self.rooms.repositories.find(self.ann, type_, f"ann/{name}")
        operations = [AddFile(path, text.encode()) for path, text in files.items()]
        self.rooms.commits.commit(self.ann, repository, "main", operations, message="files")
        return self.rooms.repositories.find(self.ann, type_, f"ann/{name}")

    def walk(self, repository: Repository, actor: Actor = ANONYMOUS) -> Walk:
        return self.rooms.lineage.of(actor, repository)


@pytest.fixture
def commons(tmp_path: Path) -> Iterator[Commons]:
    rooms = open_rooms(tmp_path / "hub")
    yield Commons(rooms)
    rooms.close()


def hops(walk: Walk) -> dict[str, int]:
    return {node.name: node.hop for node in walk.nodes.values()}


def test_cards_lead_both_ways_over_several_hops(commons: Commons):
    raw = commons.make("raw", DATASET, source_datasets=["original", "extended|far/away"])
    commons.make("clean", DATASET, source_datasets="ann/raw")
    commons.make("base", datasets=["Ann/Clean"])
    small = commons.make("small", base_model="ann/base", base_model_relation="quantized")
    assert hops(commons.walk(small)) == {"ann/small": 0, "ann/base": -1, "ann/clean": -2, "ann/raw": -3, "far/away": -4}
    assert hops(commons.walk(raw)) == {"ann/raw": 0, "far/away": -1, "ann/clean": 1, "ann/base": 2, "ann/small": 3}
    edge = commons.walk(small).edges[(MODEL, "ann/base"), (MODEL, "ann/small")]
    assert (edge.relation, edge.revision, edge.stated_in) == (Relation.QUANTIZED, None, "README.md")


def test_names_of_other_hubs_are_ends(commons: Commons):
    model = commons.make("m", base_model=["gpt2", "far/away"], datasets="not a name")
    nodes = commons.walk(model).nodes
    assert {node.name: node.repository is None for node in nodes.values()} == {
        "ann/m": False,
        "gpt2": True,
        "far/away": True,
    }


def test_recipes_name_revisions_and_go_before_cards(commons: Commons):
    model = commons.make("m", datasets=["ann/data", "ann/more"])
    recipe = {
        "data": {"sources": [{"type": "hub", "repository": "ann/unread", "revision": COMMIT}]},
        "provenance": {"dataset": f"ann/data@{COMMIT}"},
    }
    model = commons.write("m", **{"recipe.yaml": yaml.safe_dump(recipe)})
    edges = {edge.source[1]: edge for edge in commons.walk(model).edges.values()}
    assert (edges["ann/data"].revision, edges["ann/data"].stated_in) == (COMMIT, "recipe.yaml")
    assert (edges["ann/more"].revision, edges["ann/more"].stated_in) == (None, "README.md")
    assert edges.keys() == {"ann/data", "ann/more"}


def test_recipes_of_datasets_and_of_finetuning_name_their_inputs(commons: Commons):
    sources = [{"type": "hub", "repository": "ann/raw", "revision": COMMIT}, {"type": "text", "paths": ["x/y"]}]
    commons.make("clean", DATASET)
    clean = commons.write("clean", DATASET, **{"recipe.yaml": yaml.safe_dump({"data": {"sources": sources}})})
    [edge] = commons.walk(clean).edges.values()
    assert (edge.source, edge.relation, edge.revision) == ((DATASET, "ann/raw"), Relation.SOURCE, COMMIT)
    tuned = {"finetuning": {"model": f"ann/base@{COMMIT}", "data": {"path": f"ann/rows@{COMMIT}"}}}
    commons.make("tuned")
    model = commons.write("tuned", **{"recipe.yaml": yaml.safe_dump(tuned)})
    found = {edge.source: (edge.relation, edge.revision) for edge in commons.walk(model).edges.values()}
    assert found == {
        (MODEL, "ann/base"): (Relation.FINETUNE, COMMIT),
        (DATASET, "ann/rows"): (Relation.TRAINED_ON, COMMIT),
    }


@pytest.mark.parametrize("folder", ["runs/model", "../base", "./base", "/data/base", "~/base", "model@2", "a/b/c@2"])
def test_a_folder_that_a_recipe_names_is_no_repository(commons: Commons, folder: str):
    commons.make("tuned")
    local = {"finetuning": {"model": folder, "initial_weights": "pretrained", "data": {"path": folder}}}
    assert commons.walk(commons.write("tuned", **{"recipe.yaml": yaml.safe_dump(local)})).edges == {}


def test_what_a_commit_no_longer_says_is_gone(commons: Commons):
    base = commons.make("base")
    commons.make("m", base_model="ann/base")
    assert "ann/m" in hops(commons.walk(base))
    commons.write("m", **{"README.md": "no metadata\n"})
    assert hops(commons.walk(base)) == {"ann/base": 0}


def test_a_repository_that_may_not_be_seen_is_absent(commons: Commons):
    secret = commons.make("secret", private=True)
    commons.make("child", base_model="ann/secret")
    grandchild = commons.make("grandchild", base_model="ann/child")
    for actor, hidden in ((ANONYMOUS, True), (commons.ben, True), (commons.ann, False)):
        node = commons.walk(grandchild, actor).nodes[MODEL, "ann/secret"]
        assert (node.repository is None) == hidden
    base = commons.make("base")
    commons.make("quiet", private=True, base_model="ann/base")
    assert hops(commons.walk(base, commons.ben)) == {"ann/base": 0}
    assert hops(commons.walk(base, commons.ann)) == {"ann/base": 0, "ann/quiet": 1}
    assert hops(commons.walk(secret, commons.ann)) == {"ann/secret": 0, "ann/child": 1, "ann/grandchild": 2}


def test_circles_end(commons: Commons):
    commons.make("a", base_model=["ann/b", "ann/a"])
    b = commons.make("b", base_model="ann/a")
    walk = commons.walk(b)
    assert hops(walk) == {"ann/b": 0, "ann/a": -1}
    assert set(walk.edges) == {((MODEL, "ann/a"), (MODEL, "ann/b")), ((MODEL, "ann/b"), (MODEL, "ann/a"))}
    assert not walk.cut


def test_a_walk_that_is_cut_says_so(commons: Commons, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lineage, "HOPS", 2)
    last = commons.make("m0")
    for number in range(1, 4):
        last = commons.make(f"m{number}", base_model=f"ann/m{number - 1}")
    walk = commons.walk(last)
    assert (hops(walk), walk.cut) == ({"ann/m3": 0, "ann/m2": -1, "ann/m1": -2}, True)
    monkeypatch.setattr(lineage, "HOPS", 3)
    assert not commons.walk(last).cut
    monkeypatch.setattr(lineage, "NODES_LIMIT", 3)
    walk = commons.walk(last)
    assert (len(walk.nodes), walk.cut) == (3, True)


def test_a_former_name_leads_to_the_repository(commons: Commons):
    commons.make("base")
    child = commons.make("child", base_model="ann/base")
    commons.rooms.repositories.move(commons.ann, MODEL, "ann/base", "ann/renamed")
    assert hops(commons.walk(child)) == {"ann/child": 0, "ann/renamed": -1}
    renamed = commons.rooms.repositories.find(commons.ann, MODEL, "ann/renamed")
    assert hops(commons.walk(renamed)) == {"ann/renamed": 0, "ann/child": 1}


@pytest.mark.parametrize(
    "recipe", ["[", "- a", "data: 5", "data: {sources: [5, {type: hub}]}", "finetuning: {model: 5}"]
)
def test_a_recipe_that_cannot_be_read_says_nothing(commons: Commons, recipe: str):
    commons.make("m", datasets="ann/data")
    assert hops(commons.walk(commons.write("m", **{"recipe.yaml": recipe}))) == {"ann/m": 0, "ann/data": -1}
