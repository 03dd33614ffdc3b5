"""A page as a browser parses it, for tests: its elements, their text, and whether its tags are balanced."""

from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser

BLOCKS = {"td", "th", "tr", "li", "p", "dd", "dt", "h1", "h2", "h3", "div"}  # words in two of these are apart
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Element:
    """An element: its tag, attributes and the text in it, which is a part of the page's."""

    tag: str
    attributes: dict[str, str]
    words: list[str]
    start: int
    stop: int | None = None

    @property
    def text(self) -> str:
        return "".join(self.words[self.start : self.stop])


@dataclass
class Page(HTMLParser):
    """Parsed HTML; `problems` names unbalanced tags and ids that occur twice."""

    html: str
    elements: list[Element] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []
        self.feed(self.html)
        self.close()
        self.problems += [f"<{element.tag}> is not closed" for element in self._open]
        ids = Counter(self.attributes("id"))
        self.problems += [f"id {name} occurs {count} times" for name, count in ids.items() if count > 1]

    def __hash__(self) -> int:
        return id(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, self.words, len(self.words))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open[-1].tag != tag:
            self.problems.append(f"</{tag}> closes <{self._open[-1].tag if self._open else 'nothing'}>")
            return
        self._open.pop().stop = len(self.words)
        if tag in BLOCKS:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[Element]:
        """The elements with this tag."""
        return [element for element in self.elements if element.tag == tag]

    def attributes(self, name: str) -> list[str]:
        """The values of an attribute, whatever element has it."""
        return [element.attributes[name] for element in self.elements if name in element.attributes]

    def foreign_scripts(self) -> list[str]:
        """The scripts that are not files of the hub's own: one that a visitor got into a page is here."""
        scripts = [script.attributes.get("src", script.text or "empty") for script in self.all("script")]
        return [source for source in scripts if not source.startswith("/static/")]

    @property
    def text(self) -> str:
        """The words of the page, with single spaces."""
        return " ".join(self.all("html")[0].text.split()) if self.all("html") else self.html
