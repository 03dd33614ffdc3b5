"""Which language of the hub a visitor reads."""

from babel import negotiate_locale
from starlette.requests import Request

from lmcommons.hub.web.visitors import visitor_known
from lmcommons.hub.words import LANGUAGES, SOURCE

COOKIE = "lmc_language"
MAX_ACCEPTED = 50  # ranges of an Accept-Language header that are looked at


def language_of(request: Request) -> str:
    """What the visitor chose in this browser, else for the account, else what the browser prefers, else English.

    What a browser prefers it says as in RFC 9110, 12.5.4.
    """
    for chosen in (request.cookies.get(COOKIE), visitor_known(request).language):
        if chosen in LANGUAGES:
            return str(chosen)
    accepted = _by_preference(request.headers.get("accept-language", ""))
    return negotiate_locale(accepted, list(LANGUAGES), sep="-") or SOURCE


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
