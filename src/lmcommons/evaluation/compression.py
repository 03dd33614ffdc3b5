"""What a general compressor makes of a text: `xz -9`, the strongest that is installed everywhere."""

import lzma
from collections.abc import Sequence

PRESET = 9
DICTIONARY = 64 << 20  # bytes; what preset 9 looks back at


def xz_bytes(texts: Sequence[str]) -> int:
    """The size of the texts under `xz -9`, in bytes; a line end stands after each, as an end token does for a model."""
    return len(lzma.compress(_joined(texts), preset=PRESET))


def xz_bytes_given(known: Sequence[str], texts: Sequence[str]) -> int:
    """How much larger `xz -9` makes the `known` texts when `texts` follow them, in bytes.

    Of the known texts the last 64 MiB count: farther back the compressor does not look.
    """
    before = _joined(known)[-DICTIONARY:]
    return len(lzma.compress(before + _joined(texts), preset=PRESET)) - len(lzma.compress(before, preset=PRESET))


def _joined(texts: Sequence[str]) -> bytes:
    return "".join(text + "\n" for text in texts).encode()
