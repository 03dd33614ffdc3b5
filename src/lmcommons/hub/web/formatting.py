"""Numbers, sizes and times for people. Words stay in the templates: these return figures and units."""

from datetime import UTC, datetime


def count(number: int) -> str:
    """A number of things in three digits: 950, 12.3k, 4.1M, 7B."""
    return _scaled(number, ("", "k", "M", "B", "T"), "")


def size(number: int) -> str:
    """A number of bytes in three digits and decimal units: 950 B, 12.3 kB, 4.1 MB."""
    return _scaled(number, ("B", "kB", "MB", "GB", "TB", "PB"), " ")


def age(then: datetime, now: datetime | None = None) -> tuple[int, str]:
    """How long ago `then` was, in the largest unit that is at least one: (3, "day"); (0, "second") below a minute."""
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for unit, length in (("year", 31_557_600), ("month", 2_629_800), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return int(seconds // length), unit
    return 0, "second"


def _scaled(number: float, units: tuple[str, ...], space: str) -> str:
    power = 0
    while round(number) >= 1000 and power < len(units) - 1:
        number /= 1000
        power += 1
    digits = f"{number:.1f}" if number < 99.95 else f"{number:.0f}"
    return f"{digits.removesuffix('.0')}{space}{units[power]}"
