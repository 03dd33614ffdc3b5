"""The header of a GGUF file: what the model is, and the names, types and shapes of its tensors, without their values.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from lmcommons.hub.errors import Malformed
from lmcommons.hub.repos.cards import printable

HEADER_LIMIT = 16 << 20  # bytes; vocabularies are in it
ITEMS_LIMIT = 2_000_000  # entries and values of arrays
TENSORS_LIMIT = 100_000
DIMENSIONS_LIMIT = 8  # ggml itself has 4
TEXT, ARRAY = 8, 9
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# Of ggml.h; numbers that are left out were types once.
TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4"}
TYPES |= enumerate(
    (
        *("Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"),
        *("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS"),
        *("I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"),
    ),
    6,
)


@dataclass(frozen=True)
class Values:
    """An array of the metadata: how many values it has, which are passed over."""

    count: int


@dataclass(frozen=True)
class TensorInfo:
    """A tensor: its shape as other formats write it, the dimension that lies together in memory last."""

    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """What a file says of itself by name, and its tensors in its order."""

    metadata: dict[str, Any]
    tensors: list[TensorInfo]


def read(file: BinaryIO) -> Header:
    """The header of a file; of arrays only their lengths.

    Raises:
        ValueError: this is no GGUF file, or its header is too long.
    """
    reader = _Reader(file.read(HEADER_LIMIT))
    try:
        if reader.content[:4] != b"GGUF" or reader.number("<I") not in (2, 3):
            raise Malformed("not GGUF of version 2 or 3")
        tensors, entries = reader.number("<Q"), reader.number("<Q")
        if tensors > TENSORS_LIMIT:
            raise Malformed("more than {limit:,} tensors", limit=TENSORS_LIMIT)
        found: dict[str, Any] = {}
        for _ in range(reader.items(entries)):
            name = reader.text()
            found[name] = reader.value(reader.number("<I"))
        return Header(found, [reader.tensor() for _ in range(tensors)])
    except struct.error as error:
        raise Malformed("the header ends early, or has more than {limit:,} bytes", limit=HEADER_LIMIT) from error


def summary(file: BinaryIO) -> dict[str, Any]:
    """`architecture`, `context_length`, `chat_template`, as far as the file says them, and `total` parameters.

    Raises:
        ValueError: as `read`.
    """
    header = read(file)
    architecture = header.metadata.get("general.architecture")
    said = {
        "total": sum(math.prod(tensor.shape) for tensor in header.tensors),
        "architecture": architecture,
        "context_length": header.metadata.get(f"{architecture}.context_length"),
        "chat_template": header.metadata.get("tokenizer.chat_template"),
    }
    return {name: value for name, value in said.items() if value is not None and not isinstance(value, Values)}


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
        return printable(self.content[self._at - length : self._at].decode(errors="replace"))

    def items(self, count: int) -> int:
        """How many items follow, if they are not too many."""
        self._left -= count
        if self._left < 0:
            raise Malformed("more than {limit:,} values", limit=ITEMS_LIMIT)
        return count

    def value(self, kind: int) -> Any:
        """The next value; of an array, how many it has."""
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
        return Values(count)

    def tensor(self) -> TensorInfo:
        """The next tensor."""
        name, dimensions = self.text(), self.number("<I")
        if dimensions > DIMENSIONS_LIMIT:
            raise Malformed("a tensor of {dimensions} dimensions", dimensions=dimensions)
        shape = tuple(self.number("<Q") for _ in range(dimensions))
        kind, _ = self.number("<I"), self.number("<Q")  # its type, and where it begins
        return TensorInfo(name, TYPES.get(kind, str(kind)), shape[::-1])
