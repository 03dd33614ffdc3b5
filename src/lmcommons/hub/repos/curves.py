"""Curves of training runs: the numbers in metrics files and TensorBoard's event files, thinned to what is drawn.

`metrics.jsonl` is what `lmc` writes, an object a line with its `step`; `trainer_state.json` is what the trainer of
`transformers` writes, with such objects in `log_history`. Event files are TFRecords
(https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details) of the messages `Event` and `Summary`
(https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto), of which the scalars are read.
"""

import json
import math
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from lmcommons.hub.errors import Malformed
from lmcommons.hub.repos.cards import printable
from lmcommons.hub.repos.details import parse_object

FILE_LIMIT = 16 << 20  # bytes that are read
EVENT_LIMIT = 1 << 16  # bytes of an event with scalars; images and histograms are longer, and passed over
EVENTS_LIMIT = 100_000
TAGS_LIMIT, TAG_LIMIT = 200, 200  # tags, and characters of each
POINTS = 400  # of a curve; more would not be seen
CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, RFC 3720 appendix B.4, its bits reversed

TOKENS = ("tokens", "num_input_tokens_seen")  # how many were read by a step, as `lmc` and `transformers` call it
METRICS = re.compile(r"(.*[._-])?metrics\.jsonl|trainer_state\.json")
EVENTS = re.compile(r".*\btfevents\b.*")

Points = dict[str, dict[int, float]]  # by tag, the value at each step


@dataclass(frozen=True)
class Series:
    """A curve of `count` points, thinned: each is the mean of its share of them. `last` is the last value itself.

    `tokens` stand beside `steps` where the run says how many it had read at each.
    """

    steps: tuple[float, ...]
    values: tuple[float, ...]
    tokens: tuple[float, ...] | None
    count: int
    last_step: int
    last: float


def is_curves(name: str) -> bool:
    """Whether a file of this name should have curves."""
    return bool(METRICS.fullmatch(name) or EVENTS.fullmatch(name))


def read(name: str, file: BinaryIO) -> dict[str, Series]:
    """The curves in a file, by tag in the order of the file; later values of a step replace those before them.

    Raises:
        ValueError: it is damaged, too long, or has no numbers by step.
    """
    found: Points = {}
    for step, tag, value in _of_events(file) if EVENTS.fullmatch(name) else _of_rows(name, file):
        if tag in found or len(found) < TAGS_LIMIT:
            found.setdefault(tag, {})[step] = value
    tokens = next((found.pop(tag) for tag in TOKENS if tag in found), {})
    if not found:
        raise Malformed("no numbers by step in it")
    return {tag: _series(points, tokens) for tag, points in found.items()}


def _series(points: dict[int, float], tokens: dict[int, float]) -> Series:
    ordered = sorted(points.items())
    size = math.ceil(len(ordered) / POINTS)
    shares = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    read = None
    if all(step in tokens for step in points):
        read = tuple(_mean([tokens[step] for step, _ in share]) for share in shares)
    return Series(
        tuple(_mean([step for step, _ in share]) for share in shares),
        tuple(_mean([value for _, value in share]) for share in shares),
        read,
        len(ordered),
        *ordered[-1],
    )


def _mean(numbers: list[Any]) -> float:
    return math.fsum(number / len(numbers) for number in numbers)


def _of_rows(name: str, file: BinaryIO) -> Iterator[tuple[int, str, float]]:
    """Step, tag and value of each number in rows of JSON."""
    content = file.read(FILE_LIMIT + 1)
    if len(content) > FILE_LIMIT:
        raise Malformed("longer than {limit:,} bytes", limit=FILE_LIMIT)
    if name.endswith(".jsonl"):
        rows = _lines(content)
    else:
        history = parse_object(content).get("log_history")
        rows = iter(history) if isinstance(history, list) else iter(())
    for row in rows:
        step = row.get("step") if isinstance(row, dict) else None
        if type(step) is not int or abs(step) >= 1 << 63:
            continue
        for tag, value in row.items():
            if tag != "step" and type(value) in (int, float) and abs(value) <= sys.float_info.max:
                yield step, printable(tag)[:TAG_LIMIT], float(value)


def _lines(content: bytes) -> Iterator[Any]:
    """The rows of lines; the last one may be unfinished, as a run that still goes on leaves it."""
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise Malformed("line {number:,} is not JSON", number=number) from error


def _of_events(file: BinaryIO) -> Iterator[tuple[int, str, float]]:
    """Step, tag and value of each scalar in TensorBoard's events."""
    for event in _records(file):
        fields = list(_fields(event))
        step = next((_signed(value) for number, value in fields if number == 2 and isinstance(value, int)), 0)
        for number, summary in fields:
            if number == 5 and isinstance(summary, bytes):
                for inner, value in _fields(summary):
                    if inner == 1 and isinstance(value, bytes):
                        yield from ((step, tag, scalar) for tag, scalar in _scalar(value) if math.isfinite(scalar))


def _scalar(value: bytes) -> Iterator[tuple[str, float]]:
    """The tag and number of a summary's value, where it is a scalar: as `simple_value`, or as a tensor of one."""
    tag, scalar = "", None
    for number, field in _fields(value):
        if number == 1 and isinstance(field, bytes):
            tag = field.decode(errors="replace")[:TAG_LIMIT]
        elif number == 2 and isinstance(field, bytes):
            scalar = _number(field)
        elif number == 8 and isinstance(field, bytes):
            packed = [content for inner, content in _fields(field) if inner in (4, 5, 6) and isinstance(content, bytes)]
            scalar = _number(packed[0]) if len(packed) == 1 else None
    if scalar is not None:
        yield tag, scalar


def _number(content: bytes) -> float | None:
    """A float32 or float64, by its length."""
    kind = {4: "<f", 8: "<d"}.get(len(content))
    return float(struct.unpack(kind, content)[0]) if kind else None


def _records(file: BinaryIO) -> Iterator[bytes]:
    """The short records of a TFRecord file; the last one may be unfinished.

    Raises:
        ValueError: a checksum does not match, or there are too many.
    """
    position = number = size = 0
    while True:
        file.seek(position)
        head = file.read(12)
        if len(head) < 12:
            return
        number += 1
        if number > EVENTS_LIMIT or size > FILE_LIMIT:
            raise Malformed(
                "more than {limit:,} events, or {size:,} bytes of them", limit=EVENTS_LIMIT, size=FILE_LIMIT
            )
        length = int.from_bytes(head[:8], "little")
        if _checksum(head[:8]) != head[8:]:
            raise Malformed("event {number:,} is damaged: the checksum of its length does not match", number=number)
        position += 12 + length + 4
        if length > EVENT_LIMIT:
            continue
        size += length
        content, checksum = file.read(length), file.read(4)
        if len(checksum) < 4:
            return
        if _checksum(content) != checksum:
            raise Malformed("event {number:,} is damaged: its checksum does not match", number=number)
        yield content


def _checksum(content: bytes) -> bytes:
    """The masked CRC-32C of a record."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (CASTAGNOLI if value & 1 else 0) for value in table]
    return table


_TABLE = _table()


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: numbers of their kinds, as they come.

    Source: https://protobuf.dev/programming-guides/encoding/. Raises ValueError for what is none.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        match key & 7:
            case 0:
                value, position = _varint(message, position)
                yield key >> 3, value
                continue
            case 1:
                length = 8
            case 2:
                length, position = _varint(message, position)
            case 5:
                length = 4
            case kind:
                raise Malformed("an event with a field of type {kind}", kind=kind)
        if position + length > len(message):
            raise Malformed("an event with a field that goes past its end")
        yield key >> 3, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise Malformed("an event with a number that does not end")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
