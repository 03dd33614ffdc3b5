"""Jupyter notebooks as Markdown: what is written in them, their code, and below it what it printed and drew.

Source: nbformat 4, https://nbformat.readthedocs.io/en/latest/format_description.html
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from markupsafe import Markup

from lmcommons.hub.errors import Malformed
from lmcommons.hub.repos.details import parse_object
from lmcommons.hub.web import markdown

FILE_LIMIT = 16 << 20  # bytes
OUTPUT_LIMIT = 10_000  # characters of what one piece of code printed
IMAGES_LIMIT, DRAWN_LIMIT = 100, 4 << 20  # images, and characters of all of them as a page has them
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours of a terminal


def notebook(file: BinaryIO, place: markdown.Place) -> tuple[Markup, bool]:
    """The cells of a notebook as HTML, and whether that is all of it.

    Raises:
        ValueError: it is too long, or no notebook of version 4.
    """
    content = file.read(FILE_LIMIT + 1)
    if len(content) > FILE_LIMIT:
        raise Malformed("longer than {limit:,} bytes", limit=FILE_LIMIT)
    found = parse_object(content)
    cells = found.get("cells")
    if found.get("nbformat") != 4 or not isinstance(cells, list):
        raise Malformed("no notebook of version 4")
    drawn: list[str] = []
    sign = hashlib.sha256(content).hexdigest()  # around the number of an image: nobody can write it into a notebook
    text = "\n\n".join(part for cell in cells for part in _cell(cell, _language(found), drawn, sign))
    html = re.sub(
        f"{sign}([0-9]+){sign}",
        lambda number: f'<img alt="" src="{drawn[int(number[1])]}">',
        markdown.render(text, place),
    )
    return Markup(html), len(markdown.beginning(text)) == len(text)  # noqa: S704 - sanitised; images are checked


def _cell(cell: Any, language: str, drawn: list[str], sign: str) -> Iterator[str]:
    """The parts of a cell as Markdown; images, too long for it, are put into `drawn`, and a sign stands for each."""
    kind, source = _field(cell, "cell_type"), _text(_field(cell, "source"))
    if kind == "markdown":
        yield source
        return
    yield _fenced(source, language if kind == "code" else "")
    outputs = _field(cell, "outputs")
    for output in outputs if isinstance(outputs, list) else ():
        made = _output(output, drawn, sign).strip("\n")
        if made:
            yield "\n".join(f"> {line}" for line in made.split("\n"))


def _output(output: Any, drawn: list[str], sign: str) -> str:
    """What is shown of an output: of the forms that it has, the first of image, Markdown, HTML, formula and text."""
    kind = _field(output, "output_type")
    if kind == "stream":
        return _printed(_text(_field(output, "text")))
    if kind == "error":
        return _printed(_text(_field(output, "traceback"), "\n") or _text(_field(output, "evalue")))
    data = _field(output, "data")
    for form in IMAGES:
        address = f"data:{form};base64,{''.join(_text(_field(data, form)).split())}"
        if markdown.EMBEDDED_IMAGE.fullmatch(address):
            if len(drawn) == IMAGES_LIMIT or sum(map(len, drawn)) + len(address) > DRAWN_LIMIT:
                return _printed("[…]")
            drawn.append(address)
            return f"{sign}{len(drawn) - 1}{sign}"
    for form in ("text/markdown", "text/html", "text/latex"):
        if text := _text(_field(data, form)):
            return text
    return _printed(_text(_field(data, "text/plain")))


def _printed(text: str) -> str:
    plain = ESCAPES.sub("", text).rstrip("\n")
    return _fenced(plain if len(plain) <= OUTPUT_LIMIT else f"{plain[:OUTPUT_LIMIT]}…", "") if plain else ""


def _fenced(text: str, language: str) -> str:
    """A block of code in a fence that is longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _language(notebook: dict[str, Any]) -> str:
    name = _text(_field(_field(notebook.get("metadata"), "language_info"), "name"))
    return name if re.fullmatch(r"[\w+#-]{1,30}", name) else "python"


def _field(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else None


def _text(value: Any, between: str = "") -> str:
    """A text, which may be a list of its parts."""
    parts = value if isinstance(value, list) else [value]
    return between.join(part for part in parts if isinstance(part, str))
