"""The lines of a file's patch, each with its numbers before and after."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise, takewhile
from typing import Literal

HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")

Side = Literal["old", "new"]


@dataclass(frozen=True)
class Line:
    """A line of a patch: `text` without the sign before it; the header of a hunk has no numbers.

    `changed` is where its text differs from that of the line in whose place it came, or that came in its place.
    """

    text: str
    old: int | None = None
    new: int | None = None
    changed: tuple[int, int] = (0, 0)

    def number(self, side: Side) -> int | None:
        """Where the line is on one side; None where it is not."""
        return self.old if side == "old" else self.new

    @property
    def parts(self) -> tuple[str, str, str]:
        """The text before what changed, that, and the text after it."""
        begin, end = self.changed
        return self.text[:begin], self.text[begin:end], self.text[end:]

    @property
    def kind(self) -> Literal["hunk", "added", "removed", "same"]:
        """What happened to it."""
        if self.old is None:
            return "hunk" if self.new is None else "added"
        return "removed" if self.new is None else "same"


def lines(patch: str) -> list[Line]:
    """The lines of one file's patch in git's unified text (`Change.patch`), without those about the file."""
    start = patch.find("\n@@")
    found: list[Line] = []
    old = new = 0
    for line in patch[start + 1 :].removesuffix("\n").split("\n") if start >= 0 else ():
        if header := HUNK.match(line):
            old, new = int(header[1]), int(header[2])
            found.append(Line(line))
        elif line.startswith("+"):
            found.append(Line(line[1:], None, new))
            new += 1
        elif line.startswith("-"):
            found.append(Line(line[1:], old, None))
            old += 1
        elif not line.startswith("\\"):  # where git says that the last line has no end
            found.append(Line(line[1:], old, new))
            old, new = old + 1, new + 1
    return found


def marked(patch: Sequence[Line]) -> list[Line]:
    """The lines with what changed in those that stand against each other: as many removed as added, and much alike."""
    runs = [list(run) for _, run in groupby(patch, lambda line: line.kind)]
    for removed, added in pairwise(runs):
        if (removed[0].kind, added[0].kind) == ("removed", "added") and len(removed) == len(added):
            for at, (old, new) in enumerate(zip(removed, added, strict=True)):
                before, after = _same(old.text, new.text)
                if 2 * (before + after) >= max(len(old.text), len(new.text)):
                    removed[at] = replace(old, changed=(before, len(old.text) - after))
                    added[at] = replace(new, changed=(before, len(new.text) - after))
    return [line for run in runs for line in run]


def _same(one: str, other: str) -> tuple[int, int]:
    """How many characters of two texts are the same at the beginning, and at the end of what is left."""
    begin = _alike(one, other)
    return begin, _alike(one[begin:][::-1], other[begin:][::-1])


def _alike(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def follow(patch: Sequence[Line], number: int) -> int | None:
    """Where the line of that number before is after the patch; None where it was removed, or nothing is known."""
    if not patch:
        return None
    moved = 0
    for line in patch:
        if line.old == number:
            return line.new
        if line.old is not None and line.old > number:
            break
        moved += {"added": 1, "removed": -1}.get(line.kind, 0)
    return number + moved
