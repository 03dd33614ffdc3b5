"""The header of a GGUF file: what the model is, and how many numbers its tensors hold, without their values.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from typing import Any, BinaryIO

from lmcommons.hub.errors import Malformed

HEADER_LIMIT = 16 << 20  # bytes; vocabularies are in it
ITEMS_LIMIT = 2_000_000  # entries and values of arrays
DIMENSIONS_LIMIT = 8  # ggml itself has 4
TEXT, ARRAY = 8, 9
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


def header(file: BinaryIO) -> dict[str, Any]:
    """`architecture`, `context_length`, `chat_template`, as far as the file says them, and `total` parameters.

    Raises:
        ValueError: this is no GGUF file, or its header is too long.
    """
    reader = _Reader(file.read(HEADER_LIMIT))
    try:
        if reader.content[:4] != b"GGUF" or reader.number("<I") not in (2, 3):
            raise Malformed("not GGUF of version 2 or 3")
        tensors, entries = reader.number("<Q"), reader.number("<Q")
        found: dict[str, Any] = {}
        for _ in range(reader.items(entries)):
            name = reader.text()
            found[name] = reader.value(reader.number("<I"))
        total = sum(reader.tensor() for _ in range(reader.items(tensors)))
    except struct.error as error:
        raise Malformed("the header ends early, or has more than {limit:,} bytes", limit=HEADER_LIMIT) from error
    architecture = found.get("general.architecture")
    said = {
        "total": total,
        "architecture": architecture,
        "context_length": found.get(f"{architecture}.context_length"),
        "chat_template": found.get("tokenizer.chat_template"),
    }
    return {name: value for name, value in said.items() if value is not None}


class _Reader:
    """The values of a header, one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._at = 4
        self._left = ITEMS_LIMIT

    def number(self, form: str) -> Any:
        """The next number, as `struct` names its form."""
        (found,) = struct.unpack_from(form, self.content, self._at)
        self._at += struct.calcsize(form)
        return found

    def text(self) -> str:
        """The next text."""
        length = self.number("<Q")
        if length > len(self.content) - self._at:
            raise struct.error
        self._at += length
        return self.content[self._at - length : self._at].decode(errors="replace")

    def items(self, count: int) -> int:
        """How many items follow, if they are not too many."""
        self._left -= count
        if self._left < 0:
            raise Malformed("more than {limit:,} values", limit=ITEMS_LIMIT)
        return count

    def value(self, kind: int) -> Any:
        """The next value; None of an array, which is passed over."""
        if kind == TEXT:
            return self.text()
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind != ARRAY:
            raise Malformed("a value of the unknown type {kind}", kind=kind)
        inner, count = self.number("<I"), self.items(self.number("<Q"))
        if inner in NUMBERS:
            self._at += count * struct.calcsize(NUMBERS[inner])
        elif inner == TEXT:
            for _ in range(count):
                self.text()
        else:
            raise Malformed("an array of the type {kind}", kind=inner)
        return None

    def tensor(self) -> int:
        """How many numbers the next tensor holds."""
        self.text()
        dimensions = self.number("<I")
        if dimensions > DIMENSIONS_LIMIT:
            raise Malformed("a tensor of {dimensions} dimensions", dimensions=dimensions)
        shape = [self.number("<Q") for _ in range(dimensions)]
        self.number("<I"), self.number("<Q")  # its type, and where it begins
        return math.prod(shape)
