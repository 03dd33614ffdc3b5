"""The lines of a file's patch, each with its numbers before and after."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")

Side = Literal["old", "new"]


@dataclass(frozen=True)
class Line:
    """A line of a patch: `text` without the sign before it; the header of a hunk has no numbers."""

    text: str
    old: int | None = None
    new: int | None = None

    def number(self, side: Side) -> int | None:
        """Where the line is on one side; None where it is not."""
        return self.old if side == "old" else self.new

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
