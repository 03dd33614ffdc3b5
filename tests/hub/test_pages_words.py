"""Every word of the pages is said in both languages: of their templates, and of the rooms behind them."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter

import pytest
import spoken
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from jinja2 import Environment

from lmcommons.hub import web
from lmcommons.hub.words import LANGUAGES, LOCALES, SOURCE, catalogue

TEMPLATES = Path(web.__file__).parent / "templates"
FILES = ("**.html", "**.md")
OPTIONS = {"extensions": "jinja2.ext.i18n", "silent": "false", "newstyle_gettext": "true"}
OTHERS = [language for language in LANGUAGES if language != SOURCE]
# Names, file names, units and abbreviations that are the same in every language.
NAMES = re.compile(
    r"\b(LM Commons|HF_\w+|README\.md|LFS|Xet|CSV|HTTP|URL|JSON|YAML|Markdown|MathML|GitHub|SHA-?256"
    r"|sentence-transformers|transformers|datasets|DuckDB|vLLM|lmc|git|hf|curl|top-p)\b"
)
EXAMPLE = re.compile(r"\S*[-/.]\S*")  # my-model, data/train
SPOKEN = ("aria-label", "title", "placeholder", "alt")
UNSPOKEN = {"code", "pre", "script", "style", "svg"}
PLACE = re.compile(r"%\(\w+\)s|%%|%|\{\w+")  # of templates of pages, and of rooms


def wanted() -> Catalog:
    """The messages of all templates, and of all that rooms say."""
    found = Catalog()
    for filename, line, message, comments, context in extract_from_dir(
        TEMPLATES,
        [(files, "jinja2") for files in FILES],
        dict.fromkeys(FILES, OPTIONS),
        keywords={"_": None, "gettext": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2)},
    ):
        found.add(message, locations=[(filename, line)], auto_comments=comments, context=context)
    for said in spoken.said():
        if said.template:
            found.add(said.template, locations=[(said.path, said.line)])
    return found


def texts(message: Message) -> tuple[str, ...]:
    return tuple(message.string) if isinstance(message.string, list | tuple) else (message.string,)


def keys(found: Catalog) -> set[object]:
    return {message.id for message in found if message.id}


def test_what_rooms_say_stands_in_the_code_as_a_template():
    wrong = [f"{said.path}:{said.line}" for said in spoken.said() if said.template is None]
    assert not wrong, "\n".join(["give a template and its values (hub/words.py):", *wrong])


def test_commands_of_the_hub_that_pages_print_name_its_directory():
    text = "\n".join(path.read_text() for path in TEMPLATES.rglob("*.html"))
    printed = re.findall(r"(?:<code>|^)(lmc hub [^<\n]*)", text, re.MULTILINE)
    assert len(printed) >= 5
    assert [command for command in printed if "--data DIR" not in command] == []


def test_each_place_of_a_template_has_its_value():
    wrong = [
        f"{said.path}:{said.line}: {place}"
        for said in spoken.said()
        for _, place, _, _ in Formatter().parse(said.template or "")
        if place and said.values is not None and place not in said.values
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("language", OTHERS)
def test_every_message_is_translated(language: str):
    there = catalogue(language)
    missing = [
        f"{message.locations[0][0]}:{message.locations[0][1]}: {message.id!r}"
        for message in wanted()
        if message.id and (message.id not in there or not all(texts(there[message.id])))
    ]
    assert not missing, "\n".join(["not translated:", *missing])


@pytest.mark.parametrize("language", OTHERS)
def test_no_translation_is_left_of_words_that_are_gone(language: str):
    gone = keys(catalogue(language)) - keys(wanted())
    assert not gone, "\n".join(["used nowhere:", *map(repr, gone)])


@pytest.mark.parametrize("language", OTHERS)
def test_translations_have_the_places_of_their_messages(language: str):
    wrong = []
    for message in catalogue(language):
        ids = message.id if isinstance(message.id, tuple) else (message.id,)
        allowed = {place for text in ids for place in PLACE.findall(text)}
        said = texts(message) if message.id else ()
        wrong += [f"{message.id!r}: {text!r}" for text in said if set(PLACE.findall(text)) != allowed]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("language", OTHERS)
def test_one_message_has_one_translation_whatever_file_it_is_in(language: str):
    seen: dict[object, tuple[str, object]] = {}
    wrong = []
    for path in sorted((LOCALES / language).glob("*.po")):
        for message in read_po(path.read_bytes().decode().splitlines(), locale=language, abort_invalid=True):
            if message.fuzzy and message.id:
                wrong.append(f"{path.name}: {message.id!r} is marked as fuzzy")
            former, said = seen.setdefault(message.id, (path.name, message.string))
            if message.id and said != message.string:
                wrong.append(f"{message.id!r} is {said!r} in {former} and {message.string!r} in {path.name}")
    assert not wrong, "\n".join(wrong)


def test_chinese_pages_address_their_reader_in_one_way():
    formal = [message.id for message in catalogue("zh") if any("您" in text for text in texts(message))]
    assert not formal, "\n".join(["write 你, as all the others do:", *map(repr, formal)])


class Bare(HTMLParser):
    """The words of a template that are not in a message."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[tuple[int, str]] = []
        self._silent = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in UNSPOKEN
        for name, value in attrs:
            if name in SPOKEN and not EXAMPLE.fullmatch(value or ""):
                self._note(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in UNSPOKEN

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._note(data)

    def _note(self, text: str) -> None:
        if found := re.search(r"[A-Za-z]{2,}[^<\n]*", NAMES.sub("", text)):
            self.words.append((self.getpos()[0], found[0].strip()))


def outside_of_messages(source: str) -> Iterator[str]:
    """A template's text, with an empty place for each expression and message, and its line breaks."""
    within = False
    for _, kind, text in Environment(extensions=["jinja2.ext.i18n"]).lex(source):
        if kind == "name" and text in ("trans", "endtrans"):
            within = text == "trans"
        yield text if kind == "data" and not within else "\n" * text.count("\n")


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.stem)
def test_no_word_of_a_template_is_outside_of_a_message(path: Path):
    found = Bare("".join(outside_of_messages(path.read_text()))).words
    assert not found, "\n".join(f"{path.relative_to(TEMPLATES)}:{line}: {words!r}" for line, words in found)
