"""The training curve as an SVG file: training and validation loss over tokens, legible in light and dark."""

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 56, 44  # margins, pixels
KEY = 140  # pixels of a line's name and last value above the plot
POINTS = 400  # of a line; more would not be seen

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 14px; font-weight: 600 }
.grid { stroke: #d0d7de; stroke-width: 1 }
.training { stroke: #8c959f; fill: none; stroke-width: 1.25 }
.validation { stroke: #0969da; fill: none; stroke-width: 2 }
circle { stroke: none }
circle.training { fill: #8c959f }
circle.validation { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .grid { stroke: #30363d } .training { stroke: #8b949e }
  .validation { stroke: #58a6ff } circle.validation { fill: #58a6ff }
}
"""


def training_curve(metrics: Path, title: str) -> str:
    """An SVG of the losses (nats per token) in a `metrics.jsonl` over tokens read."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    train = [(row["tokens"], row["loss"]) for row in rows if row.get("loss") is not None]
    validation = [(row["tokens"], row["validation_loss"]) for row in rows if row.get("validation_loss") is not None]
    return draw(train, validation, title)


def draw(train: Sequence[tuple[float, float]], validation: Sequence[tuple[float, float]], title: str) -> str:
    """An SVG of two lines of (tokens, loss in nats per token)."""
    points = [*train, *validation] or [(1.0, 0.0)]
    most_tokens = max(x for x, _ in points)
    # The first steps fall from ln(vocabulary) and would flatten what matters: the axis ends at the 99th percentile.
    losses = sorted(y for _, y in points)
    step = _tick(losses[int(0.99 * (len(losses) - 1))] - losses[0])
    low, high = math.floor(losses[0] / step) * step, math.ceil(losses[int(0.99 * (len(losses) - 1))] / step) * step
    high = max(high, low + step)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / most_tokens * (WIDTH - LEFT - RIGHT)
        down = TOP + (high - min(y, high)) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(across, 1), round(down, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>',
    ]
    for tick in range(round((high - low) / step) + 1):
        value = low + tick * step
        _, y = place(0, value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.3g}</text>')
    step = _tick(most_tokens)
    for tick in range(int(most_tokens / step) + 1):
        x, _ = place(tick * step, low)
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_short(tick * step)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">training tokens</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 16}">nats per token</text>')
    for right, name, line in ((KEY, "training", train), (0, "validation", validation)):
        drawn = _thin(line)
        points = [place(*point) for point in drawn]
        parts.append(f'<polyline class="{name}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>')
        if drawn:
            x, y = points[-1]
            parts.append(f'<circle class="{name}" cx="{x}" cy="{y}" r="3"/>')
            x, y = WIDTH - RIGHT - right - KEY, TOP - 16
            parts.append(f'<circle class="{name}" cx="{x + 12}" cy="{y - 4}" r="4"/>')
            parts.append(f'<text x="{x + 22}" y="{y}">{name} {drawn[-1][1]:.3f}</text>')
    parts.append("</svg>\n")
    return "\n".join(parts)


def _thin(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most POINTS points, each the mean of its share, so that the line shows the level and not the noise."""
    size = max(1, math.ceil(len(line) / POINTS))
    groups = [line[start : start + size] for start in range(0, len(line), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _tick(span: float) -> float:
    """A round distance (1, 2 or 5 times a power of ten) that divides `span` into four to ten parts."""
    power = 10.0 ** math.floor(math.log10(span if span > 0 else 1.0))
    parts = span / power
    return power * (0.2 if parts < 2 else 0.5 if parts < 5 else 1.0)


def _short(number: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"
