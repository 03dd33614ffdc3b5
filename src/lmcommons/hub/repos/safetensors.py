"""The header of a safetensors file: names, types and shapes of tensors, without their values.

Source: https://github.com/huggingface/safetensors#format
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, BinaryIO

from lmcommons.hub.errors import Malformed
from lmcommons.hub.repos.details import parse_object

HEADER_LIMIT = 25_000_000  # bytes; what the client reads at most
INDEX_LIMIT = 32 << 20  # bytes
SHARDS_LIMIT = 500
DIMENSIONS_LIMIT = 64  # what torch has; the product of millions would take long
HEADERS_LIMIT = 64 << 20  # bytes of all headers of an answer
WIDTHS = {  # bits of a value
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


def header(file: BinaryIO) -> dict[str, Any]:
    """The header: `{tensor: {dtype, shape, data_offsets}}`, and text under `__metadata__`.

    Raises:
        ValueError: this is no safetensors file.
    """
    return _read(file)[0]


def headers(index: BinaryIO, open_shard: Callable[[str], BinaryIO]) -> dict[str, Any]:
    """What an index says beside its map of tensors, and the headers of its shards: `{index, headers}`.

    Args:
        open_shard: opens the file of a name in the index.

    Raises:
        ValueError: the index or a shard is not what it should be, or they are too large to answer.
    """
    text = index.read(INDEX_LIMIT + 1)
    if len(text) > INDEX_LIMIT:
        raise Malformed("an index of more than {limit:,} bytes", limit=INDEX_LIMIT)
    found = parse_object(text)
    tensors = found.pop("weight_map", None)
    if not isinstance(tensors, dict) or not all(isinstance(shard, str) for shard in tensors.values()):
        raise Malformed("the index has no `weight_map` of tensors to files")
    shards = sorted(set(tensors.values()))
    if len(shards) > SHARDS_LIMIT:
        raise Malformed("{count:,} shards; at most {limit} are read", count=len(shards), limit=SHARDS_LIMIT)
    answer: dict[str, Any] = {}
    left = HEADERS_LIMIT
    for shard in shards:
        with open_shard(shard) as file:
            try:
                answer[shard], size = _read(file)
            except ValueError as error:
                raise Malformed("{shard!a}: {reason}", shard=shard, reason=error) from error
        left -= size
        if left < 0:
            raise Malformed("headers of more than {limit:,} bytes", limit=HEADERS_LIMIT)
    return {"index": found, "headers": answer}


def parameters(found: dict[str, Any]) -> Counter[str]:
    """How many numbers of each dtype the tensors of a header hold."""
    counts: Counter[str] = Counter()
    for name, tensor in found.items():
        if name != "__metadata__":
            counts[tensor["dtype"]] += math.prod(tensor["shape"])
    return counts


def _read(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header and its length in bytes."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= HEADER_LIMIT:
        raise Malformed("a header of {length} bytes is not one of safetensors", length=length)
    found = parse_object(file.read(length))
    for name, tensor in found.items():
        if name != "__metadata__" and not _is_tensor(tensor):
            raise Malformed("tensor {name!a} has no dtype, shape or data_offsets", name=name[:100])
    return found, length


def _is_tensor(tensor: Any) -> bool:
    return (
        isinstance(tensor, dict)
        and isinstance(tensor.get("dtype"), str)
        and _are_sizes(tensor.get("shape"))
        and _are_sizes(tensor.get("data_offsets"))
        and len(tensor["data_offsets"]) == 2
    )


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= DIMENSIONS_LIMIT
        and all(type(size) is int and 0 <= size < 1 << 63 for size in value)
    )
