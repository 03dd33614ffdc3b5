"""Numbers and sizes for people; the same in every language."""

import re
from decimal import Decimal

BYTES = ("B", "kB", "MB", "GB", "TB", "PB")
WRITTEN_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([kmgtp]?b|)", re.ASCII | re.IGNORECASE)


def count(number: int) -> str:
    """A number of things in three digits: 950, 12.3k, 4.1M, 7B."""
    return _scaled(number, ("", "k", "M", "B", "T"), "")


def size(number: int) -> str:
    """A number of bytes in three digits and decimal units: 950 B, 12.3 kB, 4.1 MB."""
    return _scaled(number, BYTES, " ")


def exact_size(number: int) -> str:
    """A number of bytes in decimal units with all its digits, of which `parse_size` makes the same number."""
    power = min((len(str(number)) - 1) // 3, len(BYTES) - 1)
    return f"{(Decimal(number) / 1000**power).normalize():f} {BYTES[power]}"


def parse_size(text: str) -> int:
    """The number of bytes that `50 GB`, `1.5TB` or `1000` says.

    Raises:
        ValueError: it says none.
    """
    found = WRITTEN_SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    units = [unit.lower() for unit in BYTES]
    return int(Decimal(found[1]) * 1000 ** units.index(found[2].lower() or "b"))


def _scaled(number: float, units: tuple[str, ...], space: str) -> str:
    power = 0
    while round(number) >= 1000 and power < len(units) - 1:
        number /= 1000
        power += 1
    digits = f"{number:.1f}" if number < 99.95 else f"{number:.0f}"
    return f"{digits.removesuffix('.0')}{space}{units[power]}"


def initials(name: str) -> str:
    """One or two letters that stand for a name in its picture: the first of its first and last word."""
    words = name.replace("-", " ").replace("_", " ").replace(".", " ").split() or ["?"]
    return "".join(word[0] for word in (words[0], *words[1:][-1:])).upper()
