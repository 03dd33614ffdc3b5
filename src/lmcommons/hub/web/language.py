"""The languages of the pages: which one a visitor reads, and the words in it.

Words stand in the templates in English, as gettext's message ids; `locales/zh/*.po` hold them in Chinese.
"""

from functools import cache
from io import BytesIO
from pathlib import Path

from babel import negotiate_locale
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from starlette.requests import Request

LANGUAGES = {"en": "English", "zh": "中文"}
SOURCE = "en"  # the language of the message ids
COOKIE = "lmc_language"
LOCALES = Path(__file__).parent / "locales"
MAX_ACCEPTED = 50  # ranges of an Accept-Language header that are looked at


def language_of(request: Request) -> str:
    """What the visitor chose, else what the browser prefers (RFC 9110, 12.5.4), else English."""
    chosen = request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return str(chosen)
    accepted = _by_preference(request.headers.get("accept-language", ""))
    return negotiate_locale(accepted, list(LANGUAGES), sep="-") or SOURCE


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


def _by_preference(header: str) -> list[str]:
    ranges: list[tuple[float, int, str]] = []
    for part in header.split(",")[:MAX_ACCEPTED]:
        name, _, quality = part.partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=") or 1)
        except ValueError:
            weight = 0.0
        if weight > 0:
            ranges.append((-weight, len(ranges), name.strip()))
    return [name for _, _, name in sorted(ranges)]
