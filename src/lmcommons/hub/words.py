"""The languages of the hub, and what is said in them.

Words stand in templates and rooms in English, as gettext's message ids; `locales/zh/*.po` hold them in Chinese. A room
does not know who will read what it says: it makes `Words`, which are English text, and can be said again in another
language by whoever knows the reader.
"""

import json
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

LANGUAGES = {"en": "English", "zh": "中文"}
SOURCE = "en"  # the language of the message ids
LOCALES = Path(__file__).parent / "locales"
LINE_LIMIT = 2_000  # characters of Words, which may repeat what a stranger sent
VALUE_LIMIT = 1_500  # characters of one value, so that what is said about it is not cut off
KEPT = "\n"  # stands before Words that are kept as JSON; a text of one line never begins so


class Words(str):
    """A line in English, made of a `template` and the `values` at its places, as `str.format` understands them.

    A template without values is text as it stands. Values that are Words, or errors made of Words, are translated with
    the text around them.
    """

    __slots__ = ("template", "values")
    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, /, **values: Any) -> "Words":
        """Words; those that are Words already stay what they are, where there are no values."""
        if isinstance(template, Words) and not values:
            return template
        values = {name: str(value) if isinstance(value, Exception) else value for name, value in values.items()}
        made = super().__new__(cls, _line(template, values))
        made.template, made.values = template, values
        return made

    def __str__(self) -> str:
        return self  # so that the text of an error made of Words is Words still

    def __reduce__(self) -> Any:
        return _again, (self.template, self.values)


def translated(text: Any, language: str) -> Any:
    """What `text` says, in a language: Words, that is; everything else stays as it is."""
    if not isinstance(text, Words) or language == SOURCE:
        return text
    template = translations(language).gettext(text.template)
    return _line(template, {name: translated(value, language) for name, value in text.values.items()})


def kept(text: str, longest: int) -> str:
    """A text as a database keeps it in `longest` characters; Words, where they fit, so that `said_again` makes them."""
    made = text if isinstance(text, Words) else Words(text)
    written = KEPT + json.dumps(_parts(made), ensure_ascii=False).encode(errors="backslashreplace").decode()
    return written if len(written) <= longest else made[:longest]


def said_again(written: str) -> str:
    """The text of which `kept` made this; any other text as it is."""
    return _whole(json.loads(written)) if written.startswith(KEPT) else written


def catalogue(language: str) -> Catalog:
    """All messages of a language, from the files of its topics."""
    found = Catalog(locale=language)
    for path in sorted((LOCALES / language).glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=language, abort_invalid=True):
                if message.id:
                    found[message.id] = message
    return found


@cache
def translations(language: str) -> NullTranslations:
    """The words of a language, for templates."""
    if language == SOURCE:
        return NullTranslations()
    compiled = BytesIO()
    write_mo(compiled, catalogue(language))
    compiled.seek(0)
    return Translations(compiled)


def _line(template: str, values: dict[str, Any]) -> str:
    """The text as one line that can be written, whatever it repeats."""
    text = template.format(**{name: _cut(value) for name, value in values.items()}) if values else template
    line = " ".join(text.encode(errors="backslashreplace").decode().split())
    return line if len(line) <= LINE_LIMIT else f"{line[:LINE_LIMIT]}…"


def _cut(value: Any) -> Any:
    """A value, or the beginning of a long text."""
    return f"{value[:VALUE_LIMIT]}…" if isinstance(value, str) and len(value) > VALUE_LIMIT else value


def _parts(value: Any) -> Any:
    if isinstance(value, Words):
        return {"template": value.template, "values": {name: _parts(part) for name, part in value.values.items()}}
    return value if isinstance(value, str | int | float) else str(value)


def _whole(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return Words(part["template"], **{name: _whole(value) for name, value in part["values"].items()})


def _again(template: str, values: dict[str, Any]) -> Words:
    return Words(template, **values)
