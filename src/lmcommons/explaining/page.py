"""An explanation as one HTML file: no other files, no network, no scripts."""

import base64
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import torch
from torch import Tensor

from lmcommons.explaining.attention import Layer
from lmcommons.explaining.explanation import Explanation
from lmcommons.explaining.words import WORDS, Language
from lmcommons.files import write_text

BLUE = (38, 120, 230)  # seen on white and on black
CELL = 16  # pixels of a token in the labelled pictures
LABEL = 12  # characters of a token in the labelled pictures
CHARACTER = 7  # pixels, at most, of most characters
READ_MOST = 3  # tokens that a table names for each reader
SHOWN_FROM = 0.01  # of a reader's attention


def write_page(path: Path, explanation: Explanation, language: Language) -> None:
    """Write the page whole or not at all.

    Raises:
        CommandError: the disk is full or the place cannot be written.
    """
    write_text(path, render(explanation, language))


def render(explanation: Explanation, language: Language) -> str:
    """The page as text; everything that a user or a model wrote is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%"
    found = explanation.attributions
    most = max((abs(value) for values in found.values for value in values), default=0.0) or 1.0
    parts = [
        [(token, value, value / most) for token, value in zip(part.shown, values, strict=True)]
        for part, values in zip(explanation.subject.parts, found.values, strict=True)
    ]
    page: str = environment.get_template("page.html").render(
        words=WORDS[language],
        language=language,
        model=Path(explanation.subject.loaded.name).name,
        explanation=explanation,
        parts=parts,
        layers=[_layer(layer) for layer in explanation.layers],
        shown=sum(len(layer.heads) for layer in explanation.layers),
        cell=CELL,
    )
    return page


def _layer(layer: Layer) -> dict[str, Any]:
    queries, keys = ([_short(token) for token in tokens] for tokens in (layer.queries, layer.keys))
    return {
        "kind": layer.kind,
        "number": layer.number,
        "queries": queries,
        "keys": keys,
        "left": CELL + CHARACTER * max(map(len, queries)),
        "top": CELL + CHARACTER * max(map(len, keys)),
        "mean": _picture(layer, layer.weights.mean(0)),
        "heads": [
            {"number": number, **_picture(layer, weights)}
            for number, weights in zip(layer.heads, layer.weights, strict=True)
        ],
    }


def _picture(layer: Layer, weights: Tensor) -> dict[str, Any]:
    scale = float(weights.max())
    return {"image": _png(weights / scale), "scale": scale, "reads": list(_reads(layer, weights))}


def _reads(layer: Layer, weights: Tensor) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Each reading token with the tokens that it reads most and their weights."""
    values, places = weights.topk(min(READ_MOST, weights.shape[1]))
    for token, row, keys in zip(layer.queries, values.tolist(), places.tolist(), strict=True):
        pairs = zip(row, keys, strict=True)
        yield token, [(layer.keys[key], value) for value, key in pairs if value >= SHOWN_FROM]


def _png(values: Tensor) -> str:
    """[rows, columns] in [0, 1] as the address of an image that holds itself: blue, as opaque as the value."""
    pixels = (values * 255).round().to(torch.uint8)
    rows = b"".join(b"\0" + bytes(row.tolist()) for row in pixels)
    height, width = pixels.shape
    parts = (
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 3, 0, 0, 0)),  # 8 bits, colours from a palette
        (b"PLTE", bytes(BLUE) * 256),
        (b"tRNS", bytes(range(256))),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    image = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _short(token: str) -> str:
    return token if len(token) <= LABEL else f"{token[: LABEL - 1]}…"
