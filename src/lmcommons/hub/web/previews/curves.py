"""The curves of a run as charts, and their last values as a table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lmcommons.hub.repos.curves import Series
from lmcommons.hub.web.charts import LineChart, line_chart

CHARTS = 8  # of a page; the others are a link each
LINES = 4  # of a chart
MEASURES = ("loss", "perplexity", "accuracy")  # of which training and validation are drawn together


@dataclass(frozen=True)
class Plot:
    """A chart of some tags, over tokens or over steps."""

    tags: list[str]
    chart: LineChart
    over_tokens: bool


@dataclass(frozen=True)
class Curves:
    """Charts, and all series of the file; `tag` is the one that was asked for."""

    plots: list[Plot]
    series: Mapping[str, Series]
    tag: str | None


def draw(series: Mapping[str, Series], tag: str | None) -> Curves:
    """The charts of a file's first curves, or that of one tag."""
    if tag is not None and tag in series:
        return Curves([_plot({tag: series[tag]})], series, tag)
    groups: dict[str, list[str]] = {}
    for name in series:
        last = re.split(r"[/_]", name)[-1]
        groups.setdefault(f"all {last}" if last in MEASURES else name, []).append(name)
    parts = [names[start : start + LINES] for names in groups.values() for start in range(0, len(names), LINES)]
    return Curves([_plot({name: series[name] for name in part}) for part in parts[:CHARTS]], series, None)


def _plot(group: Mapping[str, Series]) -> Plot:
    over_tokens = all(one.tokens is not None for one in group.values())
    lines = {name: ((one.tokens if over_tokens else None) or one.steps, one.values) for name, one in group.items()}
    return Plot(list(group), line_chart(lines), over_tokens)
