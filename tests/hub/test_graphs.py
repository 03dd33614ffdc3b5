"""Where the boxes of a lineage lie."""

import random
import re

from lmcommons.hub.database.tables import Relation, RepositoryType
from lmcommons.hub.repos.lineage import Edge, Node, Walk
from lmcommons.hub.web.graphs import COLUMN, DOWN, HEIGHT, WIDTH, Graph, graph

MODEL = RepositoryType.MODEL


def drawn(hops: dict[str, int], *edges: tuple[str, str]) -> Graph:
    nodes = [Node(MODEL, name, hop, None) for name, hop in hops.items()]
    found = [Edge((MODEL, source), (MODEL, target), Relation.FINETUNE, None, "README.md") for source, target in edges]
    return graph(Walk({node.key: node for node in nodes}, {(edge.source, edge.target): edge for edge in found}))


def across(found: Graph) -> dict[str, int]:
    return {box.node.name: box.x for box in found.boxes}


def test_arrows_lead_from_left_to_right_past_what_lies_between():
    edges = [("data", "base"), ("base", "first"), ("data", "first"), ("first", "a"), ("a", "b"), ("first", "b")]
    found = drawn({"first": 0, "base": -1, "data": -1, "a": 1, "b": 1}, *edges)
    x = across(found)
    assert all(x[source] + WIDTH < x[target] for source, target in edges)
    assert len(found.arrows) == len(edges)


def test_a_circle_is_drawn_and_ends():
    found = drawn({"first": 0, "a": -1, "b": -2}, ("a", "first"), ("b", "a"), ("a", "b"), ("first", "a"))
    assert len(found.arrows) == 4
    assert len(set(across(found).values())) == 3


def test_an_arrow_that_leads_back_runs_below_the_boxes_and_within_the_drawing():
    found = drawn({"first": 0, "a": -1}, ("a", "first"), ("first", "a"))
    [back] = [arrow.path for arrow in found.arrows if arrow.edge.source[1] == "first"]
    numbers = [int(number) for number in re.findall(r"\d+", back)]
    assert all(HEIGHT < y <= found.height for y in numbers[1::2])
    assert drawn({"first": 0, "a": -1}, ("a", "first")).height < found.height


def test_boxes_never_overlap_and_lie_inside():
    names = [f"n{number}" for number in range(60)]
    pick = random.Random(0)
    hops = {"first": 0} | {name: pick.choice([-2, -1, 1, 2]) for name in names}
    found = drawn(hops, *((pick.choice(names), pick.choice(names)) for _ in range(200)))
    places = [(box.x, box.y) for box in found.boxes]
    assert len(set(places)) == len(places)
    for x, y in places:
        assert 0 <= x <= found.width - WIDTH
        assert 0 <= y <= found.height - HEIGHT
        assert not any(x == other and 0 < abs(y - down) < HEIGHT + DOWN for other, down in places)
    assert found.hidden == 61 - len(places)


def test_what_finds_no_place_in_a_column_is_counted():
    found = drawn({"first": 0} | {f"n{number}": 1 for number in range(20)})
    assert (len(found.boxes), found.hidden) == (1 + COLUMN, 20 - COLUMN)


def test_long_names_are_cut():
    [box] = drawn({"namespace/" + "n" * 96: 0}).boxes
    assert (box.namespace, len(box.name), box.name[-1]) == ("namespace/", 26, "…")
