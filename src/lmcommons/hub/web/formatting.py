"""Numbers, sizes and times for people. Words stay in the templates: these return figures and units."""

from datetime import UTC, datetime


def count(number: int) -> str:
    """A number of things in three digits: 950, 12.3k, 4.1M, 7B."""
    return _scaled(number, 1000, ("", "k", "M", "B", "T"), "")


def size(number: int) -> str:
    """A number of bytes in three digits and decimal units: 950 B, 12.3 kB, 4.1 MB."""
    return _scaled(number, 1000, ("B", "kB", "MB", "GB", "TB", "PB"), " ")


def age(then: datetime, now: datetime | None = None) -> tuple[int, str]:
    """How long ago `then` was, in the largest unit that is at least one: (3, "day"); (0, "second") below a minute."""
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for unit, length in (("year", 31_557_600), ("month", 2_629_800), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return int(seconds // length), unit
    return 0, "second"


def _scaled(number: float, base: int, units: tuple[str, ...], space: str) -> str:
    for unit in units[:-1]:  # noqa: B007 - the unit is used after the loop
        # 999.5 would round to "1000": the next unit says it better.
        if round(number, 1 if number < 99.95 else 0) < base:
            break
        number /= base
    else:
        unit = units[-1]
    digits = f"{number:.1f}" if number < 99.95 else f"{number:.0f}"
    return f"{digits.removesuffix('.0')}{space}{unit}"
