"""Charts: where their lines and bars lie, at any values."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcommons.hub.web.charts import BOX, MARK, histogram, intervals, label, line_chart

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (point.split(",") for point in text.split())]


def test_a_line_goes_from_corner_to_corner_with_round_labels() -> None:
    chart = line_chart({"loss": ([0, 500, 1000], [0.0, 1.0, 2.0])})
    assert points(chart.lines[0].points) == [(0, BOX), (BOX / 2, BOX / 2), (BOX, 0)]
    assert [(tick.at, tick.label) for tick in chart.x_ticks] == [
        (0, "0"), (20, "200"), (40, "400"), (60, "600"), (80, "800"), (100, "1000")
    ]  # fmt: skip
    assert [(tick.at, tick.label) for tick in chart.y_ticks] == [
        (100, "0"),
        (75, "0.5"),
        (50, "1"),
        (25, "1.5"),
        (0, "2"),
    ]


def test_lines_share_their_axes() -> None:
    chart = line_chart({"a": ([0, 10], [0.0, 1.0]), "b": ([5], [0.5])})
    assert points(chart.lines[1].points) == [(BOX / 2 - MARK, BOX / 2), (BOX / 2 + MARK, BOX / 2)]


def test_a_first_step_far_above_the_others_does_not_flatten_them() -> None:
    chart = line_chart({"loss": (list(range(1_000)), [1e6, *(1 - step / 2000 for step in range(999))])})
    heights = [y for _, y in points(chart.lines[0].points)]
    assert heights[0] == 0
    assert max(heights) - min(heights[1:]) > BOX / 2


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_any_line_stays_inside_its_box(values: list[tuple[float, float]]) -> None:
    chart = line_chart({"a": ([x for x, _ in values], [y for _, y in values])})
    for x, y in points(chart.lines[0].points):
        assert 0 <= x <= BOX
        assert 0 <= y <= BOX
    for tick in (*chart.x_ticks, *chart.y_ticks):
        assert -0.01 <= tick.at <= 100.01
    assert len(chart.x_ticks) <= 7


def test_bars_rise_by_their_counts() -> None:
    bars = histogram([0.0, 1.0, 2.0], [1, 4])
    assert bars.path == "M0,1000V750H500V0H1000V1000Z"
    assert bars.y_ticks[-1].label == "4"


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50), NUMBERS, st.floats(1e-300, 1e300))
def test_any_histogram_stays_inside_its_box(counts: list[int], low: float, width: float) -> None:
    edges = [low + number * width for number in range(len(counts) + 1)]
    if all(map(math.isfinite, edges)):
        assert all(0 <= float(number) <= BOX for number in re.findall(r"[\d.]+", histogram(edges, counts).path))


def test_intervals_share_an_axis() -> None:
    places = intervals([(0.5, 0.4, 0.6), (0.9, None, None), (0.4, 0.4, 0.4)])
    assert [(place.at, place.low, place.high) for place in places] == [
        (21.2, 2.0, 40.4),
        (98.0, None, None),
        (2.0, 2.0, 2.0),
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0001, "0.0001"), (1e-9, "1e-09"), (5000, "5000"), (12_345, "12.3k"), (-3.25, "-3.25")]
)
def test_labels_have_four_digits(value: float, text: str) -> None:
    assert label(value) == text
