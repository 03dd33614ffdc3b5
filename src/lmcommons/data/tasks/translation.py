"""Translations: LibreOffice's help, and the Debian handbook as a test on text of another kind."""

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import html

from lmcommons.data.tasks import help_pages
from lmcommons.data.tasks.packages import Package, members
from lmcommons.data.tasks.source import UTF8, Example, Read, Removed, TaskSource, clean
from lmcommons.data.words import words

HANDBOOK = Package(
    "debian",
    "debian-handbook",
    "11.20220922",
    "3d5dbeac1f1afc9c094eab9d0f701f6ecff99c4927d5a4794cf6c85678134faa",
)
HANDBOOK_SPLIT = "test_handbook"
LOCALES = {"en": "en-US", "zh": "zh-CN", "de": "de-DE"}
LONGEST = 600  # characters of either side
MOST_COPIED = 0.5  # of the words of a translation that stand in the source: formulas, and what was left in English
HANDBOOK_BLOCK = "//*[self::h1 or self::h2 or self::h3 or self::h4][@class='title'] | //div[@class='para']"
NUMBER = re.compile(r"^(?:第\s*[\d.]+\s*章|(?:Chapter|Kapitel)\s+[\d.]+|[\d.]+)\s*")  # of a chapter or section


def source(target: str) -> TaskSource:
    """Translation from English into the language `target`."""
    return TaskSource(
        task="translation",
        summary=f"The help of LibreOffice, English and `{target}`: headings and paragraphs that have the same "
        f"identifier in both. The split `{HANDBOOK_SPLIT}` is the Debian Administrator's Handbook: text of another "
        "kind, paired where a page has the same structure in both languages.",
        packages=(help_pages.ENGLISH, help_pages.TRANSLATED[target], HANDBOOK),
        read=_read(target),
        licence="MPL-2.0",
        language=("en", target),
        limits="Short texts about one program, by professional and volunteer translators; some translations are wrong "
        "or older than the English. Rows of a page stand in one split. The handbook's rows are under GPL-2.0-or-later "
        "or CC-BY-SA-3.0, not MPL-2.0. Rows with more than half of a translation's words in the source are removed: "
        "formulas, and paragraphs that were left in English.",
        split=help_pages.SPLIT,
        most={"validation": 1000, "test": 2000},
    )


def _read(target: str) -> Read:
    def read(packages: list[Path], removed: Removed) -> Iterator[Example]:
        english, translated, handbook = packages
        others = dict(help_pages.pages(translated))
        for page, blocks in help_pages.pages(english):
            texts = {block.identifier: block.text for block in others.get(page, [])}
            for block in blocks:
                if block.identifier not in texts:
                    removed["without a translation"] += 1
                elif _is_pair(block.text, texts[block.identifier], removed):
                    yield Example({"source": block.text, "target": texts[block.identifier]}, page)
        yield from _handbook(handbook, target, removed)

    return read


def _handbook(package: Path, target: str, removed: Removed) -> Iterator[Example]:
    def page_of(name: str, language: str) -> str | None:
        _, found, page = name.partition(f"debian-handbook/html/{LOCALES[language]}/")
        return page if found and page.endswith(".html") and "/" not in page else None

    both = ("en", target)
    texts: dict[str, dict[str, list[str]]] = {language: {} for language in both}
    for name, content in members(package, lambda name: any(page_of(name, language) for language in both)):
        for language in both:
            if page := page_of(name, language):
                blocks = html.document_fromstring(content, UTF8).xpath(HANDBOOK_BLOCK)
                texts[language][page] = [NUMBER.sub("", clean(block.text_content())) for block in blocks]
    for page, sources in texts["en"].items():
        targets = texts[target].get(page, [])
        if len(sources) != len(targets):
            removed["handbook pages of different structure"] += len(sources)
            continue
        for text, translation in zip(sources, targets, strict=True):
            if _is_pair(text, translation, removed):
                yield Example({"source": text, "target": translation}, page, HANDBOOK_SPLIT)


def _is_pair(text: str, translation: str, removed: Removed) -> bool:
    if text == translation:
        removed["equal in both languages"] += 1
    elif not (found := words(translation)) or not any(map(str.isalpha, text)):
        removed["without a letter"] += 1
    elif len(set(words(text)).intersection(found)) > MOST_COPIED * len(set(found)):
        removed["mostly copied from the source"] += 1
    elif max(len(text), len(translation)) > LONGEST:
        removed[f"longer than {LONGEST} characters"] += 1
    else:
        return True
    return False
