"""What the tensors of safetensors files hold: their statistics, and how those of two files differ.

Values are read in blocks, in a bounded number: past the limit they are a sample of blocks at equal distances.
Types are those of https://github.com/huggingface/safetensors#format whose values numpy has, or that are a part of a
type that it has: bfloat16 is the upper half of float32; the two kinds of 8-bit floats are those of "FP8 Formats for
Deep Learning" (Micikevicius et al., 2022, https://arxiv.org/abs/2209.05433), table 1.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lmcommons.hub.errors import Malformed
from lmcommons.hub.repos import safetensors

BLOCK = 1 << 16  # values read at a time
PART = 1 << 13  # values computed with at a time, so that what is made of them stays in the processor's cache
SAMPLE_LIMIT = 1 << 22  # values of a tensor that its statistics are made of
DIFFERENCE_LIMIT = 1 << 26  # values of each of two files that are compared
TENSORS_LIMIT = 4_000  # of a file that are compared
BINS = 40
REACH = 5  # standard deviations around the mean that a histogram shows

Values = NDArray[Any]


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: its values are the bytes from `start` to before `stop`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def count(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Histogram:
    """Counts of values between `edges`, of which there is one more; `below` and `above` lie outside of them."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    above: int


@dataclass(frozen=True)
class Statistics:
    """Of `read` values, which are a sample where the tensor has more; all but the last three of the finite ones.

    What cannot be computed is None: no value is finite, or their squares are not.
    """

    read: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    histogram: Histogram | None
    zeros: int
    nans: int
    infinities: int


@dataclass(frozen=True)
class Changed:
    """A tensor whose values differ: Δ is after − before, of `read` values, which are a sample where it has more.

    `relative_l2` is ‖Δ‖₂ / ‖before‖₂, None where the latter is zero. Values of which either is not finite are counted
    in `not_finite` where they differ, and are in no other number.
    """

    before: Tensor
    after: Tensor
    read: int
    max_abs: float
    mean_abs: float
    relative_l2: float | None
    not_finite: int


@dataclass(frozen=True)
class Difference:
    """How the tensors of a file differ from those of another.

    `unread` were not compared, being too many or of a type that cannot be read. Where `fraction` is below 1, about that
    part of the values was compared, and in it `same` tensors are the same.
    """

    added: list[Tensor]
    removed: list[Tensor]
    reshaped: list[tuple[Tensor, Tensor]]
    changed: list[Changed]
    same: int
    unread: int
    fraction: float


def layout(file: BinaryIO) -> dict[str, Tensor]:
    """The tensors of a file by name, in the file's order.

    Raises:
        ValueError: this is no safetensors file, or a tensor does not lie in it.
    """
    file.seek(0)
    header = safetensors.header(file)
    begin, size = file.tell(), file.seek(0, 2)
    found = {}
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        start, stop = (begin + offset for offset in tensor["data_offsets"])
        made = Tensor(name, tensor["dtype"], tuple(tensor["shape"]), start, stop)
        width = safetensors.WIDTHS.get(made.dtype)
        if not start <= stop <= size or (width is not None and made.count * width != (stop - start) * 8):
            raise Malformed(
                "tensor {name!a} is not where the header says: the file is damaged or cut off", name=name[:100]
            )
        found[name] = made
    return found


def statistics(file: BinaryIO, tensor: Tensor) -> Statistics:
    """Statistics of a tensor's values, which are read from the file.

    Raises:
        ValueError: values of its type cannot be read, or the file ends before them.
    """
    if tensor.dtype not in _DECODERS:
        raise Malformed("values of type {dtype!a} cannot be read here", dtype=tensor.dtype[:40])
    decode = _DECODERS[tensor.dtype]
    parts = list(_parts(file, tensor, SAMPLE_LIMIT))
    read = zeros = nans = infinities = finite = 0
    total = squares = 0.0
    low, high = math.inf, -math.inf
    for part in parts:
        values = decode(part)
        read += len(values)
        zeros += int(np.count_nonzero(values == 0))
        nans += int(np.count_nonzero(np.isnan(values)))
        values = values[np.isfinite(values)].astype(np.float64)
        finite += len(values)
        low, high = float(values.min(initial=low)), float(values.max(initial=high))
        with np.errstate(over="ignore"):
            total += float(values.sum())
            squares += float(values @ values)
    infinities = read - nans - finite
    if not finite or not math.isfinite(squares):  # none, or too large to be squared
        return Statistics(read, None, None, None, None, None, zeros, nans, infinities)
    mean = total / finite
    std = math.sqrt(max(0.0, squares / finite - mean * mean))
    histogram = _histogram(map(decode, parts), max(low, mean - REACH * std), min(high, mean + REACH * std))
    return Statistics(read, low, high, mean, std, histogram, zeros, nans, infinities)


def difference(before: BinaryIO, after: BinaryIO) -> Difference:
    """How the tensors of `after` differ from those of `before`, both of which are read at the same time.

    Raises:
        ValueError: one of them is no safetensors file, or is damaged.
    """
    old, new = layout(before), layout(after)
    both = [(tensor, new[name]) for name, tensor in old.items() if name in new]
    same_shape = [(one, other) for one, other in both if one.shape == other.shape]
    readable = [pair for pair in same_shape if all(tensor.dtype in _DECODERS for tensor in pair)][:TENSORS_LIMIT]
    values = sum(one.count for one, _ in readable)
    fraction = min(1.0, DIFFERENCE_LIMIT / values) if values else 1.0
    compared = [_compare(before, after, one, other, math.ceil(fraction * one.count)) for one, other in readable]
    changed = [found for found in compared if found is not None]
    return Difference(
        added=[tensor for name, tensor in new.items() if name not in old],
        removed=[tensor for name, tensor in old.items() if name not in new],
        reshaped=[(one, other) for one, other in both if one.shape != other.shape],
        changed=changed,
        same=len(compared) - len(changed),
        unread=len(same_shape) - len(compared),
        fraction=fraction,
    )


def _compare(before: BinaryIO, after: BinaryIO, one: Tensor, other: Tensor, limit: int) -> Changed | None:
    """How two tensors of one shape differ in about `limit` values; None where they do not, in values and type."""
    read = not_finite = counted = 0
    largest = total = squares = norm = 0.0
    for former, present in zip(_parts(before, one, limit), _parts(after, other, limit), strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            old = _DECODERS[one.dtype](former).astype(np.float64)
            new = _DECODERS[other.dtype](present).astype(np.float64)
            read += len(old)
            delta = new - old
            delta[(old == new) | (np.isnan(old) & np.isnan(new))] = 0
            comparable = np.isfinite(delta)
            finite, delta = old[np.isfinite(old)], np.abs(delta[comparable])
            not_finite += len(old) - len(delta)
            counted += len(delta)
            largest = max(largest, float(delta.max(initial=0)))
            total += float(delta.sum())
            squares += float(delta @ delta)
            norm += float(finite @ finite)
    if one.dtype == other.dtype and not largest and not not_finite:
        return None
    relative = math.sqrt(squares) / math.sqrt(norm) if norm else None
    return Changed(one, other, read, largest, total / counted if counted else 0.0, relative, not_finite)


def _parts(file: BinaryIO, tensor: Tensor, limit: int) -> Iterator[memoryview]:
    """The values of a tensor in parts; of more than about `limit`, blocks at equal distances."""
    blocks = math.ceil(tensor.count / BLOCK)
    wanted = min(blocks, max(1, math.ceil(limit / BLOCK)))
    width = safetensors.WIDTHS[tensor.dtype] // 8
    for number in range(wanted):
        start = tensor.start + number * blocks // wanted * BLOCK * width
        size = min(BLOCK * width, tensor.stop - start)
        file.seek(start)
        block = memoryview(file.read(size))
        if len(block) != size:
            raise Malformed("the file ends within tensor {name!a}", name=tensor.name[:100])
        yield from (block[part : part + PART * width] for part in range(0, size, PART * width))


def _histogram(parts: Iterator[Values], low: float, high: float) -> Histogram:
    """Counts in equal bins between two values; around them where no bins fit between."""
    width = (high - low) / (2 * BINS)
    if low + width == low or high - width == high or width < np.finfo(np.float64).tiny:
        margin = max(1.0, abs(low)) / 2
        low, high = low - margin, high + margin
    counts = np.zeros(BINS, np.int64)
    edges = np.linspace(low, high, BINS + 1)
    below = above = 0
    for values in parts:
        below += int(np.count_nonzero(values < low))
        above += int(np.count_nonzero(values > high))
        counts += np.histogram(values[np.isfinite(values)].astype(np.float64), BINS, (low, high))[0]
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()), below, above)


def _small_floats(exponent_bits: int, bias: int, *, has_infinities: bool) -> Callable[[memoryview], Values]:
    """A reader of 8-bit floats by a table of all of them: sign, exponent, and what is left of the bits."""
    mantissa_bits = 7 - exponent_bits
    table = np.empty(256, np.float32)
    for code in range(256):
        sign = -1.0 if code & 128 else 1.0
        exponent, mantissa = (code & 127) >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
        fraction = mantissa / (1 << mantissa_bits)
        value = fraction * 2.0 ** (1 - bias) if exponent == 0 else (1 + fraction) * 2.0 ** (exponent - bias)
        if exponent == (1 << exponent_bits) - 1:
            if has_infinities:
                value = math.nan if mantissa else math.inf
            elif mantissa == (1 << mantissa_bits) - 1:
                value = math.nan
        table[code] = sign * value
    return lambda content: table[np.frombuffer(content, np.uint8)]


def _bfloat16(content: memoryview) -> Values:
    return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)


def _plain(dtype: str) -> Callable[[memoryview], Values]:
    return lambda content: np.frombuffer(content, dtype)


_DECODERS: dict[str, Callable[[memoryview], Values]] = {
    "BOOL": _plain("u1"),
    "BF16": _bfloat16,
    "F8_E4M3": _small_floats(4, 7, has_infinities=False),
    "F8_E5M2": _small_floats(5, 15, has_infinities=True),
    **{f"{kind.upper()}{size * 8}": _plain(f"<{kind}{size}") for kind in "ui" for size in (1, 2, 4, 8)},
    **{f"F{size * 8}": _plain(f"<f{size}") for size in (2, 4, 8)},
}
