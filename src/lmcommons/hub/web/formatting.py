"""Numbers and sizes for people, in three digits; the same in every language."""


def count(number: int) -> str:
    """A number of things in three digits: 950, 12.3k, 4.1M, 7B."""
    return _scaled(number, ("", "k", "M", "B", "T"), "")


def size(number: int) -> str:
    """A number of bytes in three digits and decimal units: 950 B, 12.3 kB, 4.1 MB."""
    return _scaled(number, ("B", "kB", "MB", "GB", "TB", "PB"), " ")


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
