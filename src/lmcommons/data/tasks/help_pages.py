"""The pages of LibreOffice's help: blocks of text whose identifiers are the same in every language."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lxml import html

from lmcommons.data.tasks.packages import Package, members
from lmcommons.data.tasks.source import UTF8, clean
from lmcommons.recipe import SplitRecipe

VERSION = "4:7.4.7-1+deb12u14"
ENGLISH = Package(
    "debian",
    "libreoffice-help-en-us",
    VERSION,
    "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
)
TRANSLATED = {
    "zh": Package(
        "debian",
        "libreoffice-help-zh-cn",
        VERSION,
        "db867cdece4c2f9c7eebe65e519c6cf386fdcf49d6e061db3dffec893b3e1dee",
    ),
    "de": Package(
        "debian",
        "libreoffice-help-de",
        VERSION,
        "00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f",
    ),
}
# One for all tasks, so that what is trained on a page's text for one is not tested on that page for another.
SPLIT = SplitRecipe(validation=0.06, test=0.15)
PAGE = re.compile(r"libreoffice/help/[^/]+/(text/.+\.html)$")
BLOCK = re.compile(r"(?:hd|par)_id")


@dataclass(frozen=True)
class Block:
    """A heading or paragraph."""

    identifier: str
    text: str
    element: html.HtmlElement

    @property
    def is_heading(self) -> bool:
        return str(self.element.tag).startswith("h")

    @property
    def description(self) -> str | None:
        """What the page's authors wrote as the short help of the heading above it, if this block is one."""
        found = self.element.xpath('./span[@class="avis"]')
        return clean(found[0].text_content()) if len(found) == 1 else None


def pages(package: Path) -> Iterator[tuple[str, list[Block]]]:
    """Names, the same in every language, and blocks with text of the pages.

    Blocks whose identifier stands more than once in the page are left out: they could not be told apart.
    """
    for name, content in members(package, lambda name: PAGE.search(name) is not None):
        match = PAGE.search(name)
        area = html.document_fromstring(content, UTF8).get_element_by_id("DisplayArea", None)
        if match is None or area is None:
            continue
        _choose_variants(area)
        elements = [element for element in area.iter("p", "h1", "h2", "h3", "h4", "h5", "h6") if _identifier(element)]
        count = Counter(map(_identifier, elements))
        blocks = [
            Block(identifier, text, element)
            for element in elements
            if count[identifier := _identifier(element)] == 1 and (text := clean(element.text_content()))
        ]
        yield match[1], blocks


def _identifier(element: html.HtmlElement) -> str:
    identifier = str(element.get("id", ""))
    return identifier if BLOCK.match(identifier) else ""


def _choose_variants(area: html.HtmlElement) -> None:
    """Of inline text that depends on the system or program, keep the default, else the first."""
    for switch in area.xpath('.//span[@class="switchinline"]'):
        variants = list(switch)
        default = next((variant for variant in variants if variant.get("id", "").startswith("default")), variants[0])
        for variant in variants:
            if variant is not default:
                variant.drop_tree()
