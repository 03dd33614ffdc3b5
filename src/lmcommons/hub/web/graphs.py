"""Where the boxes and arrows of a lineage lie: in columns, so that arrows lead from left to right."""

from collections import defaultdict
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from lmcommons.hub.repos.lineage import Edge, Key, Node, Walk

WIDTH, HEIGHT = 200, 46  # of a box, in pixels
ACROSS, DOWN, MARGIN = 70, 16, 8  # between boxes, and around all
BELOW = 40  # under boxes, towards which an arrow that leads back bends
COLUMN = 12  # boxes of a column that are drawn
LETTERS = 26  # of a name, on a line of a box


@dataclass(frozen=True)
class Box:
    """A repository: its top left corner, and its name in two lines that fit."""

    node: Node
    x: int
    y: int
    namespace: str
    name: str


@dataclass(frozen=True)
class Arrow:
    """From the right side of a box to the left side of another one, as an SVG path has it."""

    edge: Edge
    path: str


@dataclass(frozen=True)
class Graph:
    """A drawing and its size in pixels; `hidden` are the repositories that found no place in it."""

    boxes: list[Box]
    arrows: list[Arrow]
    width: int
    height: int
    hidden: int


def graph(walk: Walk) -> Graph:
    """The drawing of a walk."""
    place_of = _places(walk)
    columns: dict[int, list[Node]] = {}
    for node in walk.nodes.values():
        columns.setdefault(place_of[node.key], []).append(node)
    tallest = min(COLUMN, max(map(len, columns.values())))
    height = 2 * MARGIN + tallest * (HEIGHT + DOWN) - DOWN
    boxes: dict[Key, Box] = {}
    for place, column in enumerate(sorted(columns)):
        shown = columns[column][:COLUMN]
        top = (height - len(shown) * (HEIGHT + DOWN) + DOWN) // 2
        for row, node in enumerate(shown):
            x, y = MARGIN + place * (WIDTH + ACROSS), top + row * (HEIGHT + DOWN)
            boxes[node.key] = Box(node, x, y, *_lines(node.name))
    edges = [edge for edge in walk.edges.values() if edge.source in boxes and edge.target in boxes]
    if any(boxes[edge.target].x <= boxes[edge.source].x for edge in edges):
        height += BELOW - MARGIN
    return Graph(
        list(boxes.values()),
        [Arrow(edge, _path(boxes[edge.source], boxes[edge.target])) for edge in edges],
        2 * MARGIN + len(columns) * (WIDTH + ACROSS) - ACROSS,
        height,
        len(walk.nodes) - len(boxes),
    )


def _places(walk: Walk) -> dict[Key, int]:
    """The column of each node: one further than all that lie between it and the first, which has column 0."""
    targets, sources = defaultdict(list), defaultdict(list)
    for source, target in _without_circles(list(walk.edges)):
        targets[source].append(target)
        sources[target].append(source)
    order = list(TopologicalSorter({node: sources[node] for node in walk.nodes}).static_order())
    places = {node.key: node.hop for node in walk.nodes.values()}
    for key in reversed(order):
        if places[key] < 0:
            places[key] = min((places[other] for other in targets[key] if places[other] <= 0), default=0) - 1
    for key in order:
        if places[key] > 0:
            places[key] = max((places[other] for other in sources[key] if places[other] >= 0), default=0) + 1
    return places


def _without_circles(edges: list[tuple[Key, Key]]) -> list[tuple[Key, Key]]:
    """The edges but one of each circle, which will lead back."""
    while True:
        before = defaultdict(list)
        for source, target in edges:
            before[target].append(source)
        try:
            TopologicalSorter(before).prepare()
        except CycleError as error:
            edges.remove((error.args[1][0], error.args[1][1]))
        else:
            return edges


def _lines(name: str) -> tuple[str, str]:
    namespace, slash, rest = name.rpartition("/")
    return _fitting(namespace + slash), _fitting(rest)


def _fitting(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def _path(source: Box, target: Box) -> str:
    """A curve that leaves to the right and arrives from the left; one that leads back goes from below to below."""
    if target.x <= source.x:
        x, to_x, low = source.x + WIDTH // 2, target.x + WIDTH // 2, max(source.y, target.y) + HEIGHT + BELOW
        return f"M{x},{source.y + HEIGHT}C{x},{low} {to_x},{low} {to_x},{target.y + HEIGHT + 2}"
    x, y = source.x + WIDTH, source.y + HEIGHT // 2
    to_x, to_y = target.x - 2, target.y + HEIGHT // 2
    bend = max(ACROSS // 2, (to_x - x) // 2)
    return f"M{x},{y}C{x + bend},{y} {to_x - bend},{to_y} {to_x},{to_y}"
