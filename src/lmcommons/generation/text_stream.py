"""Tokens come in as bytes, text goes out: never half a character, never a part of a stop text."""

import codecs
from collections.abc import Iterable


class TextStream:
    """Decodes UTF-8 as tokens arrive and ends at the first of the `stop` texts, which may span tokens.

    Bytes that are not UTF-8 become U+FFFD. `decoded` counts all characters decoded so far (held back ones included),
    `stopped_at` is the character at which a stop text began, or None.
    """

    def __init__(self, stop: Iterable[str] = ()) -> None:
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # may be the beginning of a stop text
        self.decoded = 0
        self.released = 0
        self.stopped_at: int | None = None

    def push(self, token: bytes) -> str:
        """Add one token's bytes; return the text that can be shown now."""
        return self._take(self._decoder.decode(token), final=False)

    def finish(self) -> str:
        """End the text; return what was still held back."""
        return self._take(self._decoder.decode(b"", True), final=True)

    def _take(self, text: str, final: bool) -> str:
        if self.stopped_at is not None:
            return ""
        self.decoded += len(text)
        text = self._held + text
        found = [position for stop in self._stop if (position := text.find(stop)) >= 0]
        if found:
            shown, self._held = text[: min(found)], ""
            self.stopped_at = self.released + len(shown)
        else:
            keep = 0 if final else self._possible_stop(text)
            shown, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self.released += len(shown)
        return shown

    def _possible_stop(self, text: str) -> int:
        """Length of the longest end of `text` that a stop text begins with."""
        longest = max(map(len, self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0
