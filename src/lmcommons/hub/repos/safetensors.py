"""The header of a safetensors file: names, types and shapes of tensors, without their values.

Source: https://github.com/huggingface/safetensors#format
"""

import json
import math
from collections import Counter
from typing import Any, BinaryIO

HEADER_LIMIT = 25_000_000  # bytes; what the client reads at most


def header(file: BinaryIO) -> dict[str, Any]:
    """The header: `{tensor: {dtype, shape, data_offsets}}`, and text under `__metadata__`.

    Raises:
        ValueError: this is no safetensors file.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= HEADER_LIMIT:
        raise ValueError(f"a header of {length} bytes is not one of safetensors")
    found = json.loads(file.read(length))
    if not isinstance(found, dict):
        raise ValueError("the header is not a JSON object")
    return found


def parameters(found: dict[str, Any]) -> Counter[str]:
    """How many numbers of each dtype the tensors of a header hold.

    Raises:
        ValueError: a tensor without dtype or shape.
    """
    counts: Counter[str] = Counter()
    for name, tensor in found.items():
        if name == "__metadata__":
            continue
        try:
            counts[str(tensor["dtype"])] += math.prod(int(size) for size in tensor["shape"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"tensor {name} has no dtype or shape") from error
    return counts
