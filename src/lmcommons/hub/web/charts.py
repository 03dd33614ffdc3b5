"""Charts as numbers: where lines, bars and ticks lie, in percent or thousandths of the plot.

`templates/charts.html` draws them as SVG, with classes that the style sheet colours, so that text keeps its size at any
width and nothing needs a script.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmcommons.hub.web.formatting import count

BOX = 1000  # units of the plot's inside, across and down
MARK = 15  # units to either side of the only point of a curve
OUTLIERS = 0.01  # of the values at each end that do not stretch the axis when they lie far from the others
STRETCH = 1.5  # times the range of the others
TICKS = 5  # at most, across or up


@dataclass(frozen=True)
class Tick:
    """A label of an axis, `at` so many percent from its left or top end."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A named line: `points` as an SVG polyline has them, and `number`, from 1, by which it is drawn in its own way."""

    name: str
    points: str
    number: int


@dataclass(frozen=True)
class LineChart:
    """Lines over one axis."""

    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


@dataclass(frozen=True)
class Bars:
    """A histogram: the outline of its bars as an SVG path has it."""

    path: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]


@dataclass(frozen=True)
class Interval:
    """A value and its interval on a shared axis, all in percent; without an interval, `low` and `high` are None."""

    at: float
    low: float | None
    high: float | None


def line_chart(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, names: Sequence[str] = ()
) -> LineChart:
    """Curves by name, each the places across and the values of its points; there must be a point.

    A curve of one point is drawn as a short line. `names` number the lines, alike in all charts that get the same ones;
    without them each chart counts its own.
    """
    numbers = {name: number for number, name in enumerate(names or curves, 1)}
    across = [x for xs, _ in curves.values() for x in xs]
    left, right = min(across), max(across)
    low, high = _reach(sorted(y for _, ys in curves.values() for y in ys))
    lines = []
    for name, (xs, ys) in curves.items():
        points = [
            (_part(x, left, right) * BOX, BOX - _part(min(max(y, low), high), low, high) * BOX)
            for x, y in zip(xs, ys, strict=True)
        ]
        if len(points) == 1:
            [(x, y)] = points
            points = [(max(x - MARK, 0), y), (min(x + MARK, BOX), y)]
        lines.append(Line(name, " ".join(f"{x:.0f},{y:.0f}" for x, y in points), numbers[name]))
    return LineChart(lines, _ticks(left, right), _ticks(low, high, down=True))


def histogram(edges: Sequence[float], counts: Sequence[int]) -> Bars:
    """Counts between edges, of which there is one more."""
    top = max(counts) or 1
    path = [f"M0,{BOX}"]
    for edge, number in zip(edges[1:], counts, strict=True):
        path.append(f"V{BOX - number / top * BOX:.0f}H{_part(edge, edges[0], edges[-1]) * BOX:.0f}")
    return Bars("".join([*path, f"V{BOX}Z"]), _ticks(edges[0], edges[-1]), _ticks(0, top, down=True))


def intervals(values: Sequence[tuple[float, float | None, float | None]]) -> list[Interval]:
    """Values with the ends of their intervals, on one axis that holds them all."""
    ends = [end for value in values for end in value if end is not None]
    low, high = min(ends, default=0.0), max(ends, default=1.0)

    def place(value: float) -> float:
        return round(2 + 96 * _part(value, low, high), 1)

    return [
        Interval(
            place(value),
            place(start) if start is not None else None,
            place(stop) if stop is not None else None,
        )
        for value, start, stop in values
    ]


def label(value: float) -> str:
    """A number of an axis or a table of curves, in four digits."""
    return count(round(value)) if abs(value) >= 10_000 else f"{value:.4g}"


def _part(value: float, low: float, high: float) -> float:
    """How far a value lies between two others, from 0 to 1; in the middle where they are the same."""
    spread = high / 2 - low / 2  # halves: the whole may be more than a float holds
    return (value / 2 - low / 2) / spread if spread > 0 else 0.5


def _reach(values: list[float]) -> tuple[float, float]:
    """The ends of the axis for sorted values: a first step far above all others would flatten what matters."""
    outside = int(OUTLIERS * len(values))
    low, high = values[outside], values[-1 - outside]
    margin = (STRETCH - 1) * (high - low)
    return max(values[0], low - margin), min(values[-1], high + margin)


def _ticks(low: float, high: float, *, down: bool = False) -> list[Tick]:
    """Labels at round values, from the left, or from the top where the axis goes up."""
    spread = high - low
    if not 0 < spread < math.inf or low + spread / 1000 == low or high - spread / 1000 == high:
        return [Tick(50, label(low))]
    step = 10.0 ** math.floor(math.log10(spread / TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if spread / (step * factor) <= TICKS)
    first, last = math.ceil(low / step), math.floor(high / step)
    places = [(number * step, _part(number * step, low, high)) for number in range(first, last + 1)]
    return [Tick(round(100 * (1 - part if down else part), 2), label(value)) for value, part in places]
